/** The environment variables that choose and tune models, and the configuration that they add up to. */
import { z } from 'zod';
import type { ModelRoute } from '../../contracts/events/conversation.ts';
import type { Price } from './port.ts';

export interface ProviderConfig {
  readonly apiKey?: string | undefined;
  readonly baseUrl?: string | undefined;
  /** The provider's models, the default one first; empty: those of the catalogue. */
  readonly models: readonly string[];
}

export interface ModelsConfig {
  /** A provider that is left out is not used. */
  readonly openai?: ProviderConfig | undefined;
  readonly anthropic?: ProviderConfig | undefined;
  readonly zai?: ProviderConfig | undefined;
  readonly ollama?: ProviderConfig | undefined;
  /** By route, `provider/model` in the order to try them; a route left out has the default order. */
  readonly order: { readonly [Route in ModelRoute]?: readonly string[] | undefined };
  readonly firstPartTimeoutMs: number;
  readonly pauseTimeoutMs: number;
  /** The built-in assistant's pause after each word; undefined: its own default. */
  readonly builtInDelayMs: number | undefined;
  /** By `provider/model` or model name; these win over the catalogue. */
  readonly prices: Readonly<Record<string, Price>>;
  /** Tokens, by `provider/model` or model name; these win over the catalogue. */
  readonly contextWindows: Readonly<Record<string, number>>;
}

/** A variable that is set to nothing counts as not set. */
const set = <Schema extends z.ZodType>(schema: Schema) =>
  z.preprocess(
    (value) => (typeof value === 'string' && value.trim() === '' ? undefined : value),
    schema.optional(),
  );

const word = z.string().trim();
const url = z.url({ protocol: /^https?$/, error: 'must be an http or https URL' });
const names = z
  .string()
  .transform((value) =>
    value
      .split(',')
      .map((name) => name.trim())
      .filter((name) => name !== ''),
  )
  .refine((list) => list.length > 0, 'must name at least one model');
const milliseconds = (least: number) => z.coerce.number().int().min(least).max(3_600_000);

const json = <Schema extends z.ZodType>(schema: Schema) =>
  z
    .string()
    .transform((value, context): unknown => {
      try {
        return JSON.parse(value);
      } catch {
        context.addIssue({ code: 'custom', message: 'must be JSON' });
        return z.NEVER;
      }
    })
    .pipe(schema);

const usd = z.number().nonnegative();

export const modelsEnvironment = z.object({
  OPENAI_API_KEY: set(word),
  OPENAI_BASE_URL: set(url),
  /** One name or several with commas between them, the default first. */
  OPENAI_MODEL: set(names),
  ANTHROPIC_API_KEY: set(word),
  ANTHROPIC_BASE_URL: set(url),
  ANTHROPIC_MODEL: set(names),
  ZAI_API_KEY: set(word),
  ZAI_BASE_URL: set(url),
  ZAI_MODEL: set(names),
  OLLAMA_BASE_URL: set(url),
  OLLAMA_MODEL: set(names),
  /** `provider/model`, with commas between them, in the order to try them. */
  MODELS_NANO: set(names),
  MODELS_PRO: set(names),
  MODELS_TOOLS: set(names),
  MODEL_FIRST_TOKEN_TIMEOUT_MS: set(milliseconds(1)),
  MODEL_PAUSE_TIMEOUT_MS: set(milliseconds(1)),
  /** `{"provider/model": {"input": 3, "cachedInput": 0.3, "output": 15}}`, US dollars for a million tokens. */
  MODEL_PRICES: set(
    json(z.record(z.string(), z.strictObject({ input: usd, cachedInput: usd, output: usd }))),
  ),
  /** `{"provider/model": 32768}`, tokens. */
  MODEL_CONTEXT_WINDOWS: set(json(z.record(z.string(), z.int().min(1_024)))),
  BUILTIN_DELAY_MS: set(milliseconds(0)),
});
export type ModelsEnvironment = z.output<typeof modelsEnvironment>;

/** A provider is used when it has a key, or a URL of its own: local servers need no key. */
export function modelsConfigFrom(env: ModelsEnvironment): ModelsConfig {
  const provider = (apiKey: string | undefined, baseUrl: string | undefined, models: string[] = []) =>
    apiKey === undefined && baseUrl === undefined ? undefined : { apiKey, baseUrl, models };
  return {
    openai: provider(env.OPENAI_API_KEY, env.OPENAI_BASE_URL, env.OPENAI_MODEL),
    anthropic: provider(env.ANTHROPIC_API_KEY, env.ANTHROPIC_BASE_URL, env.ANTHROPIC_MODEL),
    zai: provider(env.ZAI_API_KEY, env.ZAI_BASE_URL, env.ZAI_MODEL),
    ollama: provider(undefined, env.OLLAMA_BASE_URL, env.OLLAMA_MODEL),
    order: { nano: env.MODELS_NANO, pro: env.MODELS_PRO, tools: env.MODELS_TOOLS },
    firstPartTimeoutMs: env.MODEL_FIRST_TOKEN_TIMEOUT_MS ?? 30_000,
    pauseTimeoutMs: env.MODEL_PAUSE_TIMEOUT_MS ?? 60_000,
    builtInDelayMs: env.BUILTIN_DELAY_MS,
    prices: env.MODEL_PRICES ?? {},
    contextWindows: env.MODEL_CONTEXT_WINDOWS ?? {},
  };
}
