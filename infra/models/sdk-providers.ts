/**
 * The providers' packages of the AI SDK, each set up as Odeon uses it. Heavy: `registry.ts` loads this file where a
 * provider is configured, and nowhere else.
 */
import { createAnthropic } from '@ai-sdk/anthropic';
import { createOpenAI } from '@ai-sdk/openai';
import { createOpenAICompatible } from '@ai-sdk/openai-compatible';
import type { LanguageModel } from 'ai';
import { LRUCache } from 'lru-cache';
import { callSdk } from './ai-sdk.ts';
import type { ProviderName } from './catalogue.ts';
import type { ModelsConfig, ProviderConfig } from './environment.ts';
import type { ModelPart, Prompt } from './port.ts';

type SdkProviderName = Exclude<ProviderName, 'builtin'>;

/** Callers may name models that are in no list. */
const MOST_OPEN = 100;

export interface SdkSettings extends Pick<ModelsConfig, 'firstPartTimeoutMs' | 'pauseTimeoutMs'> {
  /** True for an OpenAI-compatible server that is not OpenAI's. */
  readonly ownServer: boolean;
}

/** @returns calls a model of the provider, as `ChatModel.stream` has it */
export function sdkCalls(
  provider: SdkProviderName,
  config: ProviderConfig,
  { ownServer, firstPartTimeoutMs, pauseTimeoutMs }: SdkSettings,
): (model: string, prompt: Prompt, signal: AbortSignal) => AsyncIterable<ModelPart> {
  const languageModelOf = languageModels(provider, config, ownServer);
  /** They hold nothing of a call, and take a millisecond to make. */
  const open = new LRUCache<string, Exclude<LanguageModel, string>>({
    max: MOST_OPEN,
    memoMethod: languageModelOf,
  });
  const { apiKey } = config;
  return (model, prompt, signal) =>
    callSdk(
      { provider, model, languageModel: open.memo(model), firstPartTimeoutMs, pauseTimeoutMs, apiKey },
      prompt,
      signal,
    );
}

/** The provider package's way to one of its models. */
function languageModels(
  name: SdkProviderName,
  { apiKey, baseUrl }: ProviderConfig,
  own: boolean,
): (model: string) => Exclude<LanguageModel, string> {
  const compatible = (baseURL: string) =>
    createOpenAICompatible({
      name,
      baseURL,
      includeUsage: true,
      ...(apiKey === undefined ? {} : { apiKey }),
    });
  switch (name) {
    case 'anthropic':
      return createAnthropic({
        baseURL: withVersion(baseUrl ?? 'https://api.anthropic.com'),
        // Servers that speak its protocol without asking for a key still want the header.
        apiKey: apiKey ?? 'none',
      });
    case 'openai':
      // OpenAI's own package knows what its models refuse; other servers speak the common subset.
      return own
        ? compatible(new URL(baseUrl ?? '').pathname === '/' ? withVersion(baseUrl ?? '') : (baseUrl ?? ''))
        : createOpenAI({ baseURL: baseUrl ?? 'https://api.openai.com/v1', apiKey: apiKey ?? '' }).chat;
    case 'zai':
      return compatible(baseUrl ?? 'https://api.z.ai/api/paas/v4');
    case 'ollama':
      return compatible(withVersion(baseUrl ?? ''));
    default:
      return name satisfies never;
  }
}

/** Base URLs are given with and without the API's version. */
function withVersion(baseUrl: string): string {
  const url = baseUrl.replace(/\/{1,9}$/, '');
  return /\/v\d{1,2}$/.test(url) ? url : `${url}/v1`;
}
