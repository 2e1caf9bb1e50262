/** One call of one model: its parts are shown as they come, and what came of it is told at the end. */
import type { TokenUsage, ToolRequest } from '../../../contracts/events/conversation.ts';
import { type ChatModel, ModelError, type ModelPart, type Prompt } from '../../../infra/models/port.ts';

type Finish = Extract<ModelPart, { type: 'finish' }>;

export interface CallResult {
  readonly text: string;
  readonly reasoning: string;
  readonly toolRequests: readonly ToolRequest[];
  readonly durationMs: number;
  /** Null when nothing came. */
  readonly firstTokenMs: number | null;
  /** How it ended: with a finish, failed, or cut off by `signal`. */
  readonly end: Finish | ModelError | 'stopped';
}

export interface CallOptions {
  readonly signal: AbortSignal;
  /** Put before the text, when there is any. */
  readonly separator: string;
  /** Makes the id of the nth tool request. Providers' own ids need not be unique in a turn. */
  readonly toolCallId: (index: number) => string;
  readonly show: (kind: 'text' | 'reasoning', offset: number, text: string) => void;
}

export async function call(model: ChatModel, prompt: Prompt, options: CallOptions): Promise<CallResult> {
  const { signal, separator, toolCallId, show } = options;
  const began = performance.now();
  const elapsed = (): number => Math.round((performance.now() - began) * 1000) / 1000;
  const toolRequests: ToolRequest[] = [];
  let text = '';
  let reasoning = '';
  let firstTokenMs: number | null = null;
  let finish: Finish | null = null;
  const result = (end: CallResult['end']): CallResult => ({
    text,
    reasoning,
    toolRequests,
    durationMs: elapsed(),
    firstTokenMs,
    end,
  });

  try {
    for await (const part of model.stream(prompt, { signal })) {
      if (signal.aborted) return result('stopped');
      if (part.type !== 'finish') firstTokenMs ??= elapsed();
      switch (part.type) {
        case 'text': {
          const piece = text === '' ? separator + part.text : part.text;
          show('text', text.length, piece);
          text += piece;
          break;
        }
        case 'reasoning':
          show('reasoning', reasoning.length, part.text);
          reasoning += part.text;
          break;
        case 'tool request':
          toolRequests.push({ ...part.request, toolCallId: toolCallId(toolRequests.length) });
          break;
        case 'finish':
          finish = part;
          break;
      }
    }
  } catch (error) {
    if (signal.aborted) return result('stopped');
    if (error instanceof ModelError) return result(error);
    throw error;
  }
  if (signal.aborted) return result('stopped');
  if (finish === null) throw new Error(`${model.provider}/${model.model} ended without a finish part.`);
  // Cut short or filtered it may be empty with a reason; else another model may do better.
  const excused = finish.finishReason === 'length' || finish.finishReason === 'content-filter';
  if (text.trim() === '' && toolRequests.length === 0 && !excused) {
    return result(
      new ModelError(`${model.provider}/${model.model} gave an empty answer`, { retryable: true }),
    );
  }
  return result(finish);
}

/** US dollars, in units of 10⁻¹²; null when the model's price is not known. */
export function costOf(model: ChatModel, usage: TokenUsage): number | null {
  if (model.price === null) return null;
  const { input, cachedInput, output } = model.price;
  const fresh = usage.promptTokens - usage.cachedTokens;
  const millionths = fresh * input + usage.cachedTokens * cachedInput + usage.completionTokens * output;
  return Math.round(millionths * 1e6) / 1e12;
}
