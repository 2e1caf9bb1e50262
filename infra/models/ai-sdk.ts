/** One call of a language model through the Vercel AI SDK: no retries, tools only described. */
import {
  APICallError,
  jsonSchema,
  type LanguageModel,
  type LanguageModelUsage,
  type ModelMessage as SdkMessage,
  streamText,
  type TextStreamPart,
  type ToolSet,
  tool,
} from 'ai';
import type { TokenUsage, ToolRequest } from '../../contracts/events/conversation.ts';
import { estimateTokens, ModelError, type ModelPart, type Prompt, type ToolChoice } from './port.ts';

export interface SdkCallOptions {
  readonly provider: string;
  readonly model: string;
  readonly languageModel: LanguageModel;
  /** Until the first part of an answer. */
  readonly firstPartTimeoutMs: number;
  /** Between two parts. */
  readonly pauseTimeoutMs: number;
  /** Never to be seen in an error. */
  readonly apiKey: string | undefined;
}

// The SDK warns on the console of settings that a provider does not take; errors reach the caller by themselves.
globalThis.AI_SDK_LOG_WARNINGS = false;

/** As `ChatModel.stream` has it. */
export async function* callSdk(
  options: SdkCallOptions,
  prompt: Prompt,
  signal: AbortSignal,
): AsyncGenerator<ModelPart> {
  signal.throwIfAborted();
  const { firstPartTimeoutMs, pauseTimeoutMs } = options;
  const connection = new AbortController();
  const waiting = interruptible();
  const within = (ms: number, what: string) =>
    setTimeout(() => waiting.interrupt(new BrokenStream(`${what} within ${ms} ms`)), ms);
  const onAbort = () => waiting.interrupt(signal.reason);
  signal.addEventListener('abort', onAbort, { once: true });
  let timer = within(firstPartTimeoutMs, 'no first token');
  let parts: AsyncIterator<TextStreamPart<ToolSet>> | undefined;
  try {
    parts = open(options, prompt, connection.signal);
    let said = '';
    for (;;) {
      const next = await waiting.for(parts.next());
      if (next.done) throw new BrokenStream(UNFINISHED);
      const part = next.value;
      if (part.type === 'error') throw part.error;
      if (part.type === 'finish-step') {
        // The SDK ends a stream that was cut like this, with no word from the server about the end.
        if (part.finishReason === 'error' || part.rawFinishReason === undefined)
          throw new BrokenStream(UNFINISHED);
        const finishReason = finishReasons[part.finishReason] ?? 'other';
        yield { type: 'finish', finishReason, usage: usageOf(part.usage, prompt, said) };
        return;
      }
      if (!progress.has(part.type)) continue;
      clearTimeout(timer); // the time that the reader takes is not the provider's
      const mapped = partOf(part);
      if (mapped !== null) {
        said += mapped.type === 'tool request' ? JSON.stringify(mapped.request) : mapped.text;
        yield mapped;
      }
      timer = within(pauseTimeoutMs, 'no further token');
    }
  } catch (error) {
    signal.throwIfAborted();
    throw modelError(options, error);
  } finally {
    clearTimeout(timer);
    signal.removeEventListener('abort', onAbort);
    connection.abort();
    parts?.return?.().catch(() => {}); // the failure that counts was thrown above
  }
}

/** Lets a wait be given up at once, whether or not what is waited for takes notice. */
function interruptible() {
  let interruption: { readonly reason: unknown } | null = null;
  let giveUp: (reason: unknown) => void = () => {};
  return {
    interrupt(reason: unknown): void {
      interruption ??= { reason };
      giveUp(reason);
    },
    for: <Value>(value: Promise<Value>): Promise<Value> =>
      new Promise((resolve, reject) => {
        giveUp = reject;
        if (interruption !== null) reject(interruption.reason);
        value.then(resolve, reject);
      }),
  };
}

/** The parts of one call. The SDK's promises beside the stream are not used; errors arrive as parts. */
function open(
  options: SdkCallOptions,
  prompt: Prompt,
  abortSignal: AbortSignal,
): AsyncIterator<TextStreamPart<ToolSet>> {
  const result = streamText({
    model: options.languageModel,
    ...(prompt.system === '' ? {} : { instructions: prompt.system }),
    messages: prompt.messages.map(messageOf),
    tools: Object.fromEntries(
      prompt.tools.map(({ name, description, parameters }) => [
        name,
        tool({ description, inputSchema: jsonSchema(parameters) }),
      ]),
    ),
    ...(prompt.tools.length > 0 && prompt.toolChoice !== undefined
      ? { toolChoice: toolChoiceOf(prompt.toolChoice) }
      : {}),
    ...settingsOf(prompt),
    maxRetries: 0,
    abortSignal,
    telemetry: { isEnabled: false },
    onError: () => {}, // the default writes to the console
  });
  return result.stream[Symbol.asyncIterator]();
}

const toolChoiceOf = (choice: ToolChoice) =>
  typeof choice === 'object' ? { type: 'tool' as const, toolName: choice.tool } : choice;

/** What the prompt sets, in the SDK's words. */
function settingsOf({ settings }: Prompt) {
  if (settings === undefined) return {};
  const { temperature, topP, maxTokens, stop, seed, presencePenalty, frequencyPenalty } = settings;
  return {
    ...(temperature !== null && { temperature }),
    ...(topP !== null && { topP }),
    ...(maxTokens !== null && { maxOutputTokens: maxTokens }),
    ...(stop.length > 0 && { stopSequences: stop }),
    ...(seed !== null && { seed }),
    ...(presencePenalty !== null && { presencePenalty }),
    ...(frequencyPenalty !== null && { frequencyPenalty }),
  };
}

function messageOf(message: Prompt['messages'][number]): SdkMessage {
  switch (message.role) {
    case 'user':
      return { role: 'user', content: message.content };
    case 'assistant':
      return {
        role: 'assistant',
        content: [
          ...(message.content === '' ? [] : [{ type: 'text' as const, text: message.content }]),
          ...message.toolRequests.map((request) => ({
            type: 'tool-call' as const,
            toolCallId: request.toolCallId,
            toolName: request.tool,
            input: argumentsOf(request),
          })),
        ],
      };
    default: {
      const value = JSON.parse(JSON.stringify(message.result ?? null));
      return {
        role: 'tool',
        content: [
          {
            type: 'tool-result',
            toolCallId: message.toolCallId,
            toolName: message.tool,
            // Text as it is: what clients' own tools return is no JSON to be quoted.
            output:
              typeof value === 'string'
                ? { type: message.isError ? 'error-text' : 'text', value }
                : { type: message.isError ? 'error-json' : 'json', value },
          },
        ],
      };
    }
  }
}

/** Providers take back objects only, also where the model itself had written something else. */
const argumentsOf = ({ arguments: given }: ToolRequest): object =>
  typeof given === 'object' && given !== null && !Array.isArray(given) ? given : { invalidArguments: given };

/** What shows that the provider is at work; the SDK's own marks do not. */
const progress = new Set<TextStreamPart<ToolSet>['type']>([
  'text-delta',
  'reasoning-delta',
  'tool-input-start',
  'tool-input-delta',
  'tool-call',
]);

function partOf(part: TextStreamPart<ToolSet>): Exclude<ModelPart, { type: 'finish' }> | null {
  switch (part.type) {
    case 'text-delta':
      return part.text === '' ? null : { type: 'text', text: part.text };
    case 'reasoning-delta':
      return part.text === '' ? null : { type: 'reasoning', text: part.text };
    case 'tool-call': {
      // Arguments that are no JSON, or do not fit the tool, come as they are: the tool's schema refuses them.
      const request: ToolRequest = {
        toolCallId: part.toolCallId,
        tool: part.toolName,
        arguments: part.input,
      };
      return { type: 'tool request', request };
    }
    default:
      return null;
  }
}

const finishReasons: Readonly<Record<string, 'stop' | 'length' | 'tool-calls' | 'content-filter'>> = {
  stop: 'stop',
  length: 'length',
  'tool-calls': 'tool-calls',
  'content-filter': 'content-filter',
};

/** What the server counted; estimated where it did not. */
const usageOf = (usage: LanguageModelUsage, prompt: Prompt, said: string): TokenUsage => ({
  promptTokens: usage.inputTokens || estimateTokens(JSON.stringify(prompt)),
  completionTokens: usage.outputTokens || estimateTokens(said),
  cachedTokens: usage.inputTokenDetails.cacheReadTokens ?? 0,
});

/** The provider went silent, or away. */
class BrokenStream extends Error {}
const UNFINISHED = 'the stream ended without a finish';

const RETRYABLE = new Set([408, 409, 425, 429]);
const REASON_LENGTH = 1_000;

/** Names provider, model, status and what the provider said; never the key. */
function modelError({ provider, model, apiKey }: SdkCallOptions, error: unknown): ModelError {
  const status = statusOf(error);
  const said = `${status === undefined ? '' : `HTTP ${status}: `}${reasonOf(error)}`;
  const safe = apiKey === undefined || apiKey === '' ? said : said.replaceAll(apiKey, '[key]');
  return new ModelError(`${provider}/${model}: ${safe.slice(0, REASON_LENGTH)}`, {
    // Without a status it is the connection, the time, or a stream that broke.
    retryable: status === undefined || status >= 500 || RETRYABLE.has(status),
    cause: error,
  });
}

function statusOf(error: unknown): number | undefined {
  const status = APICallError.isInstance(error) || hasStatus(error) ? error.statusCode : undefined;
  // A success that turned out broken is no status worth naming.
  return status !== undefined && status >= 400 ? status : undefined;
}

const hasStatus = (error: unknown): error is { statusCode: number } =>
  error instanceof Error && 'statusCode' in error && typeof error.statusCode === 'number';

function reasonOf(error: unknown): string {
  if (error instanceof AggregateError && error.errors.length > 0)
    return error.errors.map(reasonOf).join('; ');
  if (error instanceof Error) {
    const body =
      APICallError.isInstance(error) && error.message === '' ? error.responseBody?.trim() : undefined;
    const message = error.message || body || error.name;
    const cause = error.cause instanceof Error ? reasonOf(error.cause) : '';
    return message.includes(cause) ? message : `${message}: ${cause}`;
  }
  return typeof error === 'string' ? error : (JSON.stringify(error) ?? 'no reason given');
}
