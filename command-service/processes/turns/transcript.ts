/**
 * What has happened in a turn so far, folded from the conversation's stream. It is all that a worker needs to
 * go on where another (or itself, before a crash) left off.
 */
import type {
  ProviderTry,
  RouterDecision,
  TokenUsage,
  ToolRequest,
} from '../../../contracts/events/conversation.ts';
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
  /** By toolCallId. */
  readonly outcomes: Readonly<Record<string, ToolOutcome>>;
  /** The calls that were recorded as begun. */
  readonly begun: readonly string[];
}

export interface Transcript {
  readonly turnId: string;
  readonly messageId: string;
  readonly content: string;
  /** The model asked for with the message. */
  readonly messageModel: string | null;
  readonly requestedAtMs: number;
  readonly startedAtMs: number | null;
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
  /** Revision of the last event folded. */
  readonly revision: number;
}

export function begin(event: Extract<ConversationEvent, { type: 'MessageSent' }>): Transcript {
  return {
    turnId: event.data.turnId,
    messageId: event.data.messageId,
    content: event.data.content,
    messageModel: event.data.model,
    requestedAtMs: Date.parse(event.time),
    startedAtMs: null,
    decision: null,
    context: null,
    rounds: [],
    openCall: null,
    answeredBy: null,
    tried: [],
    usage: { promptTokens: 0, completionTokens: 0, cachedTokens: 0 },
    costUsd: 0,
    calls: 0,
    revision: event.revision,
  };
}

/** Events of other turns change nothing but the revision. */
export function fold(transcript: Transcript, event: ConversationEvent): Transcript {
  const next = { ...transcript, revision: event.revision };
  if (!('turnId' in event.data) || event.data.turnId !== transcript.turnId) return next;
  switch (event.type) {
    case 'TurnStarted':
      return {
        ...next,
        startedAtMs: transcript.startedAtMs ?? Date.parse(event.time),
        openCall: null,
        tried: tried(transcript, 'failed', 'the worker ended during the call'),
      };
    case 'MessageRouted':
      return { ...next, decision: event.data.decision };
    case 'ContextPrepared':
      return { ...next, context: { system: event.data.system, tools: event.data.tools } };
    case 'ModelCalled': {
      const { callId, provider, model, promptTokens } = event.data;
      return { ...next, openCall: { callId, provider, model, promptTokens }, calls: transcript.calls + 1 };
    }
    case 'ModelAnswered': {
      const { callId, provider, model, text, toolRequests, usage, costUsd } = event.data;
      return {
        ...next,
        openCall: null,
        answeredBy: { provider, model },
        tried: tried(transcript, 'answered', null),
        rounds: [...transcript.rounds, { callId, text, toolRequests, outcomes: {}, begun: [] }],
        usage: addUsage(transcript.usage, usage),
        costUsd: addUsd(transcript.costUsd, costUsd),
      };
    }
    case 'ModelFailed':
      return { ...next, openCall: null, tried: tried(transcript, 'failed', event.data.reason) };
    case 'ToolCalled':
      return lastRound(next, (round) => ({ ...round, begun: [...round.begun, event.data.toolCallId] }));
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
