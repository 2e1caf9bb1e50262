/**
 * What has happened in a turn so far, folded from the conversation's stream. It is all that a worker needs to
 * go on where another (or itself, before a crash) left off.
 */
import type {
  ClientPrompt,
  FinishReason,
  ProviderTry,
  RouterDecision,
  Run,
  TokenUsage,
  ToolRequest,
} from '../../../contracts/events/conversation.ts';
import { estimateTokens } from '../../../infra/models/port.ts';
import type { ConversationEvent } from '../../domain/conversation.ts';

export interface ToolOutcome {
  readonly tool: string;
  readonly result: unknown;
  readonly isError: boolean;
}

/** One answered model call and what became of the tools it asked for. */
export interface Round {
  readonly callId: string;
  readonly text: string;
  readonly toolRequests: readonly ToolRequest[];
  readonly finishReason: FinishReason;
  /** By toolCallId. */
  readonly outcomes: Readonly<Record<string, ToolOutcome>>;
  /** The ToolCalled events of the calls that were begun, by toolCallId. */
  readonly begun: Readonly<Record<string, string>>;
}

/** A call that cost something and gave no answer: it broke off after its first words. */
export interface BrokenCall {
  readonly provider: string;
  readonly model: string;
  /** Estimated: a provider tells no usage of such a call. */
  readonly usage: TokenUsage;
}

export interface Transcript {
  readonly turnId: string;
  readonly messageId: string;
  readonly content: string;
  /** The model asked for with the message. */
  readonly messageModel: string | null;
  /** What the request adds to the system prompt. */
  readonly instructions: string | null;
  /** When an agent answers. */
  readonly run: Run | null;
  /** When the client says how the model is to be asked. */
  readonly prompt: ClientPrompt | null;
  readonly requestedAtMs: number;
  readonly startedAtMs: number | null;
  /** From when on a run's time is counted: its first start, or that of the attempt after it had run out of time. */
  readonly timedFromMs: number | null;
  readonly decision: RouterDecision | null;
  readonly context: { readonly system: string; readonly tools: readonly string[] } | null;
  readonly rounds: readonly Round[];
  /** A call that was begun and neither answered nor failed. */
  readonly openCall: {
    readonly callId: string;
    readonly provider: string;
    readonly model: string;
    readonly promptTokens: number;
  } | null;
  /** Who gave the last answer. */
  readonly answeredBy: { readonly provider: string; readonly model: string } | null;
  readonly tried: readonly ProviderTry[];
  readonly usage: TokenUsage;
  /** Null when a call's price is not known. */
  readonly costUsd: number | null;
  readonly calls: number;
  /** Of the calls, those that were refused before their first word. */
  readonly refusedCalls: number;
  readonly brokenCalls: readonly BrokenCall[];
  /** What the last call had said when it broke off. */
  readonly brokenText: string;
  /** Of the answered calls whose price is known, US dollars. */
  readonly knownCostUsd: number;
  /** Of calls whose worker ended before they did: their prompts. */
  readonly lostTokens: number;
  /** Revision of the last event folded. */
  readonly revision: number;
}

export function begin(event: Extract<ConversationEvent, { type: 'MessageSent' }>): Transcript {
  return {
    turnId: event.data.turnId,
    messageId: event.data.messageId,
    content: event.data.content,
    messageModel: event.data.model,
    instructions: event.data.instructions,
    run: event.data.run,
    prompt: event.data.prompt,
    requestedAtMs: Date.parse(event.time),
    startedAtMs: null,
    timedFromMs: null,
    decision: null,
    context: null,
    rounds: [],
    openCall: null,
    answeredBy: null,
    tried: [],
    usage: { promptTokens: 0, completionTokens: 0, cachedTokens: 0 },
    costUsd: 0,
    calls: 0,
    refusedCalls: 0,
    brokenCalls: [],
    brokenText: '',
    knownCostUsd: 0,
    lostTokens: 0,
    revision: event.revision,
  };
}

/** The id of the command that begins an attempt after the one before had run out of time. */
export const afterTimeout = (turnId: string, attempt: number): string => `${turnId}/${attempt}/timed out`;

/** Events of other turns change nothing but the revision. */
export function fold(transcript: Transcript, event: ConversationEvent): Transcript {
  const next = { ...transcript, revision: event.revision };
  if (!('turnId' in event.data) || event.data.turnId !== transcript.turnId) return next;
  switch (event.type) {
    case 'TurnStarted': {
      const atMs = Date.parse(event.time);
      const hasTimeAnew = event.commandId === afterTimeout(transcript.turnId, event.data.attempt);
      return {
        ...next,
        startedAtMs: transcript.startedAtMs ?? atMs,
        timedFromMs: hasTimeAnew ? atMs : (transcript.timedFromMs ?? atMs),
        lostTokens: transcript.lostTokens + (transcript.openCall?.promptTokens ?? 0),
        openCall: null,
        tried: tried(transcript, 'failed', 'the worker ended during the call'),
      };
    }
    case 'MessageRouted':
      return { ...next, decision: event.data.decision };
    case 'ContextPrepared':
      return { ...next, context: { system: event.data.system, tools: event.data.tools } };
    case 'ModelCalled': {
      const { callId, provider, model, promptTokens } = event.data;
      const openCall = { callId, provider, model, promptTokens };
      return { ...next, openCall, calls: transcript.calls + 1, brokenText: '' };
    }
    case 'ModelAnswered': {
      const { callId, provider, model, text, toolRequests, finishReason, usage, costUsd } = event.data;
      const round = { callId, text, toolRequests, finishReason, outcomes: {}, begun: {} };
      return {
        ...next,
        openCall: null,
        answeredBy: { provider, model },
        tried: tried(transcript, 'answered', null),
        rounds: [...transcript.rounds, round],
        usage: addUsage(transcript.usage, usage),
        costUsd: addUsd(transcript.costUsd, costUsd),
        knownCostUsd: addUsd(transcript.knownCostUsd, costUsd ?? 0)!,
      };
    }
    case 'ModelFailed': {
      const { provider, model, reason, text } = event.data;
      const failed = { ...next, openCall: null, tried: tried(transcript, 'failed', reason) };
      if (text === '') return { ...failed, refusedCalls: transcript.refusedCalls + 1 };
      const promptTokens = transcript.openCall?.promptTokens ?? 0;
      const usage = { promptTokens, completionTokens: estimateTokens(text), cachedTokens: 0 };
      return {
        ...failed,
        brokenCalls: [...transcript.brokenCalls, { provider, model, usage }],
        brokenText: text,
      };
    }
    case 'ToolCalled': {
      const called = { [event.data.toolCallId]: event.id };
      return lastRound(next, (round) => ({ ...round, begun: { ...round.begun, ...called } }));
    }
    case 'ToolReturned': {
      const { toolCallId, tool, result, isError } = event.data;
      return lastRound(next, (round) => ({
        ...round,
        outcomes: { ...round.outcomes, [toolCallId]: { tool, result, isError } },
      }));
    }
    default:
      return next;
  }
}

/** The answer as far as it got: the texts of all calls. */
export const answerText = (transcript: Transcript): string =>
  transcript.rounds.map((round) => round.text).join('');

/** Dollars are summed in units of 10⁻¹² so that sums do not depend on the order. */
export const addUsd = (a: number | null, b: number | null): number | null =>
  a === null || b === null ? null : Math.round((a + b) * 1e12) / 1e12;

export const addUsage = (a: TokenUsage, b: TokenUsage): TokenUsage => ({
  promptTokens: a.promptTokens + b.promptTokens,
  completionTokens: a.completionTokens + b.completionTokens,
  cachedTokens: a.cachedTokens + b.cachedTokens,
});

export function tried(
  { tried: before, openCall }: Transcript,
  outcome: ProviderTry['outcome'],
  reason: string | null,
): readonly ProviderTry[] {
  if (openCall === null) return before;
  return [...before, { provider: openCall.provider, model: openCall.model, outcome, reason }];
}

function lastRound(transcript: Transcript, change: (round: Round) => Round): Transcript {
  const last = transcript.rounds.at(-1);
  return last === undefined
    ? transcript
    : { ...transcript, rounds: [...transcript.rounds.slice(0, -1), change(last)] };
}
