/**
 * The built-in assistant: a ChatModel that needs nothing. It understands by rules, works through the same tool
 * loop as language models, and says what it is. The same prompt always gives the same parts.
 */
import { createHash } from 'node:crypto';
import { setImmediate as nextTurn, setTimeout as sleep } from 'node:timers/promises';
import type { ToolRequest } from '../../../contracts/events/conversation.ts';
import { type ChatModel, estimateTokens, type ModelMessage, type ModelPart, type Prompt } from '../port.ts';
import { answerFrom, notUnderstood, partlyUnderstood, say, type ToolOutcome, unanswered } from './answers.ts';
import { summarise } from './summary.ts';
import { understand, type Wish } from './understanding.ts';

export interface BuiltInOptions {
  /** The pause after each piece (about a word); 0: none. */
  readonly delayMs?: number | undefined;
}

const DEFAULT_DELAY_MS = 8;
/** Without a pause, others get their turn after so many pieces. */
const PIECES_AT_ONCE = 32;
/** So many times it asks for tools in one turn. */
const ROUNDS = 2;

export function createBuiltInAssistant({ delayMs = DEFAULT_DELAY_MS }: BuiltInOptions = {}): ChatModel {
  return {
    provider: 'builtin',
    model: 'assistant',
    // Small on purpose: a conversation can be compacted within a short trial.
    contextWindow: 8_192,
    price: { input: 0, cachedInput: 0, output: 0 },
    async *stream(prompt, { signal }) {
      signal.throwIfAborted();
      const promptTokens = estimateTokens(
        JSON.stringify({ system: prompt.system, messages: prompt.messages, tools: prompt.tools }),
      );
      const { requests, text } = prompt.purpose === 'summarise' ? summaryOf(prompt) : respond(prompt);
      let sent = 0;
      let completion = '';
      for (const piece of piecesOf(text)) {
        completion += piece;
        yield { type: 'text', text: piece };
        sent += 1;
        if (delayMs > 0) await pause(delayMs, signal);
        else if (sent % PIECES_AT_ONCE === 0) await nextTurn();
        signal.throwIfAborted();
      }
      for (const request of requests) {
        completion += JSON.stringify(request);
        yield { type: 'tool request', request };
      }
      yield {
        type: 'finish',
        finishReason: requests.length > 0 ? 'tool-calls' : 'stop',
        usage: { promptTokens, completionTokens: estimateTokens(completion), cachedTokens: 0 },
      } satisfies ModelPart;
    },
  };
}

async function pause(delayMs: number, signal: AbortSignal): Promise<void> {
  try {
    await sleep(delayMs, undefined, { signal });
  } catch (error) {
    signal.throwIfAborted();
    throw error;
  }
}

interface Response {
  readonly requests: readonly ToolRequest[];
  readonly text: Iterable<string>;
}

/** The last message asks for the summary; what was summarised before stands at the end of the system prompt. */
function summaryOf({ system, messages }: Prompt): Response {
  const asks = messages.at(-1)?.role === 'user';
  const before = /\nSummary of the conversation[^\n]{0,80}:\n/.exec(system);
  const earlier = before === null ? '' : system.slice(before.index + before[0].length);
  return { requests: [], text: [summarise(asks ? messages.slice(0, -1) : messages, earlier)] };
}

/** Requests the tools that the last message calls for, or answers from what they returned. */
function respond(prompt: Prompt): Response {
  const last = prompt.messages.findLastIndex(({ role }) => role === 'user');
  const message = prompt.messages[last];
  const { wishes, rest } = understand(message?.role === 'user' ? message.content : '');
  const since = prompt.messages.slice(last + 1);
  const outcomes = outcomesIn(since);
  const offered = new Set(prompt.tools.map(({ name }) => name));
  const rounds = since.filter((m) => m.role === 'assistant' && m.toolRequests.length > 0).length;
  const open = wishes
    .filter((wish) => wish.kind === 'tool')
    .filter((wish) => offered.has(wish.tool) && !outcomes.has(keyOf(wish)));
  if (open.length > 0 && rounds < ROUNDS) {
    const digest = createHash('sha256').update(JSON.stringify(prompt.messages)).digest('hex').slice(0, 16);
    const requests = open.map((wish, index) => ({
      toolCallId: `call_${digest}_${index}`,
      tool: wish.tool,
      arguments: wish.arguments,
    }));
    return { requests, text: [] };
  }
  return { requests: [], text: answer(prompt, wishes, rest, outcomes) };
}

function* answer(
  prompt: Prompt,
  wishes: readonly Wish[],
  rest: readonly string[],
  outcomes: ReadonlyMap<string, Asked>,
): Generator<string> {
  let paragraphs = 0;
  const separator = () => (paragraphs++ === 0 ? '' : '\n\n');
  const told = new Set<string>();
  for (const wish of wishes) {
    yield separator();
    if (wish.kind !== 'tool') {
      yield* say(wish, prompt.tools);
      continue;
    }
    const asked = outcomes.get(keyOf(wish));
    told.add(keyOf(wish));
    yield asked === undefined
      ? unanswered(wish.tool, prompt.tools)
      : answerFrom(wish.tool, wish.arguments, asked.outcome);
  }
  // What another model asked for before this one took the turn over.
  for (const [key, { tool, args, outcome }] of outcomes) {
    if (!told.has(key)) yield separator() + answerFrom(tool, args, outcome);
  }
  if (paragraphs === 0) yield notUnderstood(prompt.tools);
  else if (rest.length > 0) yield separator() + partlyUnderstood(rest);
}

interface Asked {
  readonly tool: string;
  readonly args: unknown;
  readonly outcome: ToolOutcome;
}

/** The same for the same arguments, in whatever order they come back from the log. */
function keyOf(call: { readonly tool: string; readonly arguments: unknown }): string {
  const args =
    typeof call.arguments === 'object' && call.arguments !== null ? Object.entries(call.arguments) : [];
  return JSON.stringify([call.tool, args.toSorted(([a], [b]) => (a < b ? -1 : 1))]);
}

/** The tools asked for since the last message, by tool and arguments, each with what it returned. */
function outcomesIn(messages: readonly ModelMessage[]): ReadonlyMap<string, Asked> {
  const results = new Map(
    messages.flatMap((message) => (message.role === 'tool' ? [[message.toolCallId, message] as const] : [])),
  );
  const outcomes = new Map<string, Asked>();
  for (const message of messages) {
    if (message.role !== 'assistant') continue;
    for (const request of message.toolRequests) {
      const result = results.get(request.toolCallId);
      const outcome = result ?? { result: { error: 'it returned nothing' }, isError: true };
      outcomes.set(keyOf(request), { tool: request.tool, args: request.arguments, outcome });
    }
  }
  return outcomes;
}

/** Cuts text into words, each with the blanks after it; very long words into parts of them. */
function* piecesOf(text: Iterable<string>): Generator<string> {
  for (const part of text) for (const [piece] of part.matchAll(/\S{1,40}\s{0,40}|\s{1,40}/gu)) yield piece;
}
