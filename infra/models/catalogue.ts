/**
 * What is known about models without asking their providers: context windows, list prices, and the models to use
 * where the configuration names none. A model that is not listed still works; its price is then unknown.
 *
 * As of November 2026, and to be checked before bills depend on them; MODEL_PRICES and MODEL_CONTEXT_WINDOWS override
 * every row. Anthropic's Claude 5 and 5.5 rows are from its model pages (platform.claude.com/docs/models). The older
 * Claude rows, and all of OpenAI's and z.ai's, are from third-party cost tables (adk-model, openai-cost,
 * opencode.ai/data) and general knowledge of late 2026, not from the providers' own price lists. Standard tier, short
 * prompts, no batch; writing to Anthropic's cache costs more than its input price, but Odeon does not ask for it.
 * A window is what a prompt may fill at these prices, which for some models is less than their largest.
 */
import type { ModelRoute } from '../../contracts/events/conversation.ts';
import type { Price } from './port.ts';

export const providerNames = ['anthropic', 'openai', 'zai', 'ollama', 'builtin'] as const;
/** In the default failover order. */
export type ProviderName = (typeof providerNames)[number];

export interface KnownModel {
  readonly provider: ProviderName;
  /** Dated and `-latest` names of it count as the same model. */
  readonly model: string;
  /** Tokens. */
  readonly contextWindow: number;
  readonly price: Price | null;
}

const usd = (input: number, cachedInput: number, output: number): Price => ({ input, cachedInput, output });

const row = (
  provider: ProviderName,
  model: string,
  contextWindow: number,
  price: Price | null,
): KnownModel => ({ provider, model, contextWindow, price });

export const knownModels: readonly KnownModel[] = [
  row('anthropic', 'claude-opus-5-5', 1_000_000, usd(4, 0.4, 20)),
  row('anthropic', 'claude-opus-5', 1_000_000, usd(5, 0.5, 25)),
  row('anthropic', 'claude-sonnet-5-5', 1_000_000, usd(2, 0.2, 10)),
  row('anthropic', 'claude-sonnet-5', 1_000_000, usd(2, 0.2, 10)),
  row('anthropic', 'claude-opus-4-6', 200_000, usd(5, 0.5, 25)),
  row('anthropic', 'claude-sonnet-4-6', 200_000, usd(3, 0.3, 15)),
  row('anthropic', 'claude-opus-4-5', 200_000, usd(5, 0.5, 25)),
  row('anthropic', 'claude-sonnet-4-5', 200_000, usd(3, 0.3, 15)),
  row('anthropic', 'claude-haiku-4-5', 200_000, usd(1, 0.1, 5)),
  row('anthropic', 'claude-opus-4-1', 200_000, usd(15, 1.5, 75)),
  row('anthropic', 'claude-3-5-sonnet', 200_000, usd(3, 0.3, 15)),

  row('openai', 'gpt-5.4', 272_000, usd(2.5, 0.25, 15)),
  row('openai', 'gpt-5.4-mini', 272_000, usd(0.75, 0.075, 4.5)),
  row('openai', 'gpt-5.1', 272_000, usd(1.25, 0.125, 10)),
  row('openai', 'gpt-5', 272_000, usd(1.25, 0.125, 10)),
  row('openai', 'gpt-5-mini', 272_000, usd(0.25, 0.025, 2)),
  row('openai', 'gpt-5-nano', 272_000, usd(0.05, 0.005, 0.4)),
  row('openai', 'gpt-4.1', 1_047_576, usd(2, 0.5, 8)),
  row('openai', 'gpt-4.1-mini', 1_047_576, usd(0.4, 0.1, 1.6)),
  row('openai', 'gpt-4.1-nano', 1_047_576, usd(0.1, 0.025, 0.4)),
  row('openai', 'gpt-4o', 128_000, usd(2.5, 1.25, 10)),
  row('openai', 'gpt-4o-mini', 128_000, usd(0.15, 0.075, 0.6)),
  row('openai', 'gpt-4-turbo', 128_000, usd(10, 10, 30)),
  row('openai', 'o3', 200_000, usd(2, 0.5, 8)),
  row('openai', 'o4-mini', 200_000, usd(1.1, 0.275, 4.4)),

  row('zai', 'glm-4.6', 200_000, usd(0.6, 0.11, 2.2)),
  row('zai', 'glm-4.5', 128_000, usd(0.6, 0.11, 2.2)),
  row('zai', 'glm-4.5-air', 128_000, usd(0.2, 0.03, 1.1)),
];

/** For models that are not listed. Ollama cuts longer prompts off without a word: its own default is 4,096. */
export const unlistedContextWindow: Readonly<Record<ProviderName, number>> = {
  anthropic: 200_000,
  openai: 128_000,
  zai: 128_000,
  ollama: 4_096,
  builtin: 8_192,
};
/** Of a server of one's own behind OPENAI_BASE_URL. */
export const OWN_SERVER_CONTEXT_WINDOW = 8_192;

/**
 * The models used where the configuration names none. Anthropic's newest think before every answer and want
 * their thinking back with the tools' results, which Odeon's log does not keep: the defaults are models that do not.
 */
export const defaultModels: Readonly<Record<ProviderName, Readonly<Record<ModelRoute, string>>>> = {
  anthropic: { nano: 'claude-haiku-4-5', pro: 'claude-sonnet-4-6', tools: 'claude-sonnet-4-6' },
  openai: { nano: 'gpt-5-mini', pro: 'gpt-5.1', tools: 'gpt-5.1' },
  zai: { nano: 'glm-4.5-air', pro: 'glm-4.6', tools: 'glm-4.6' },
  ollama: { nano: 'llama3.2', pro: 'llama3.2', tools: 'llama3.2' },
  builtin: { nano: 'assistant', pro: 'assistant', tools: 'assistant' },
};
/** Servers of a single model (llama.cpp) answer to any name. */
export const OWN_SERVER_MODEL = 'default';

const DATED = /^-(?:\d{8}|\d{4}-\d{2}-\d{2}|latest)$/;

export const knownModel = (provider: ProviderName, model: string): KnownModel | undefined =>
  knownModels.find(
    (known) =>
      known.provider === provider &&
      model.startsWith(known.model) &&
      (model === known.model || DATED.test(model.slice(known.model.length))),
  );

/** Whether some provider has a model of this name, with the provider's name before it or without. */
export const isCatalogued = (requested: string): boolean =>
  providerNames.some(
    (provider) =>
      knownModel(provider, requested) !== undefined ||
      (requested.startsWith(`${provider}/`) &&
        knownModel(provider, requested.slice(provider.length + 1)) !== undefined),
  );

/** Whose model a name looks like, for requests that give no provider. */
const namePatterns: readonly (readonly [RegExp, ProviderName])[] = [
  [/^claude-/i, 'anthropic'],
  [/^(?:gpt-|chatgpt-|o\d(?:-|$))/i, 'openai'],
  [/^glm-/i, 'zai'],
  [/^(?:llama|qwen|mistral|mixtral|gemma|phi|deepseek)|:/i, 'ollama'],
];

export const providerOfName = (model: string): ProviderName | undefined =>
  namePatterns.find(([pattern]) => pattern.test(model))?.[1];
