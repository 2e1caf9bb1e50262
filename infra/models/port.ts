/** Language models: one call of one model, and the choice of models to try for a turn. */
import type {
  ClientPrompt,
  FinishReason,
  ModelRoute,
  ModelSettings,
  TokenUsage,
  ToolRequest,
} from '../../contracts/events/conversation.ts';

export type ModelMessage =
  | { readonly role: 'user'; readonly content: string }
  | { readonly role: 'assistant'; readonly content: string; readonly toolRequests: readonly ToolRequest[] }
  | {
      readonly role: 'tool';
      readonly toolCallId: string;
      readonly tool: string;
      readonly result: unknown;
      readonly isError: boolean;
    };

export interface ToolDescription {
  readonly name: string;
  readonly description: string;
  /** JSON Schema of the arguments. */
  readonly parameters: Readonly<Record<string, unknown>>;
}

/** Plain JSON: what is recorded as the prompt's digest is the SHA-256 of this. */
export interface Prompt {
  /** `task`: the answer of an agent that was given a task, rather than a reply in a talk. */
  readonly purpose: 'answer' | 'task' | 'summarise';
  readonly system: string;
  readonly messages: readonly ModelMessage[];
  readonly tools: readonly ToolDescription[];
  /** Left out: `auto`. */
  readonly toolChoice?: ToolChoice;
  /** Left out: the model's own. */
  readonly settings?: ModelSettings;
}

/** `auto`, `none`, `required`, or the name of the one tool to ask for. */
export type ToolChoice = ClientPrompt['toolChoice'];

export type ModelPart =
  | { readonly type: 'text'; readonly text: string }
  | { readonly type: 'reasoning'; readonly text: string }
  | { readonly type: 'tool request'; readonly request: ToolRequest }
  | {
      readonly type: 'finish';
      readonly finishReason: FinishReason;
      readonly usage: TokenUsage;
    };

/** US dollars for a million tokens. */
export interface Price {
  readonly input: number;
  readonly cachedInput: number;
  readonly output: number;
}

export interface ChatModel {
  /** `openai`, `anthropic`, `zai`, `ollama` or `builtin`. */
  readonly provider: string;
  readonly model: string;
  /** Tokens. */
  readonly contextWindow: number;
  /** Null when the price is not known. */
  readonly price: Price | null;
  /**
   * One call. Ends with exactly one `finish` part, or throws ModelError. Time-outs (no first part, or a pause
   * between parts that is too long) are the adapter's and end in ModelError. After an abort it ends at once, throwing.
   */
  stream(prompt: Prompt, options: { readonly signal: AbortSignal }): AsyncIterable<ModelPart>;
}

/**
 * A call that failed. `retryable`: the same call may succeed later (no connection, time-out, 408, 409, 425, 429,
 * 5xx, a stream that broke). Otherwise this model will go on refusing it (bad key, unknown model, a prompt it
 * does not take), which says nothing about other models: before the first token the next candidate is tried
 * either way.
 */
export class ModelError extends Error {
  readonly retryable: boolean;
  constructor(message: string, options: { retryable: boolean; cause?: unknown }) {
    super(message, { cause: options.cause });
    this.name = 'ModelError';
    this.retryable = options.retryable;
  }
}

export interface Candidates {
  /** In the order to try them; never empty. */
  readonly models: readonly ChatModel[];
  /** False when a model was asked for that no configured provider serves. */
  readonly served: boolean;
}

export interface Models {
  /**
   * The models to try for a request. `requested` is `provider/model`, a bare model name, a route, or null.
   * A requested model that is served comes first; the failover order of the route follows.
   */
  candidates(requested: string | null, route: ModelRoute): Candidates;
  /** True when `requested` names a model or a route that can be served. */
  serves(requested: string): boolean;
  /** True when `requested` is served, or is a model of the catalogue that a provider would serve were it configured. */
  knows(requested: string): boolean;
  /** Every configured model, for lists shown to people. */
  list(): readonly ChatModel[];
}

/** An estimate that needs no tokenizer: four bytes a token, rounded up. */
export const estimateTokens = (text: string): number => Math.ceil(Buffer.byteLength(text) / 4);
