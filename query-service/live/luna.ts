/** A turn in Luna Chat's frames (api-notes A2.2): data-only server-sent events, at the end `[DONE]`. */
import type { RouterDecision } from '../../contracts/events/conversation.ts';
import { type LunaAnswer, renderAnswer, type TurnSteps } from '../../contracts/http/luna.ts';
import type { TurnEnd } from '../../contracts/live/feeds.ts';
import type { LunaFrame, RouterMetadata } from '../../contracts/live/frames.ts';
import type { ConversationEvent, Item } from './answer.ts';
import type { AnswerFormat, Frame } from './feed.ts';

export const routerMetadata = (decision: RouterDecision): RouterMetadata => ({
  class: decision.class,
  route: decision.route,
  needs_fresh_data: decision.needsFreshData,
  needs_tools: decision.needsTools,
  risk_if_wrong: decision.riskIfWrong,
  confidence: decision.confidence,
  decision_source: decision.decisionSource,
  decision_time_ms: decision.decisionTimeMs,
  matched_patterns: decision.matchedPatterns,
});

const dataOnly = (data: LunaFrame): Omit<Frame, 'id'> => ({ name: null, data });

export const lunaTurn: AnswerFormat<TurnSteps> = {
  name: 'luna',
  initial: { decision: null, calls: [] },

  fold(fold, event) {
    switch (event.type) {
      case 'MessageRouted':
        return { ...fold, decision: event.data.decision };
      case 'ModelAnswered': {
        const { provider, model, usage, costUsd, durationMs } = event.data;
        const call = { provider, model, usage, costUsd, durationMs, error: null };
        return { ...fold, calls: [...fold.calls, call] };
      }
      case 'ModelFailed': {
        const { provider, model, durationMs, reason } = event.data;
        const call = { provider, model, usage: null, costUsd: null, durationMs, error: reason };
        return { ...fold, calls: [...fold.calls, call] };
      }
      default:
        return fold;
    }
  },

  render(item, fold) {
    switch (item.kind) {
      case 'content':
        return dataOnly({ type: 'content', content: item.text });
      case 'reasoning':
        return dataOnly({ type: 'reasoning', content: item.text });
      case 'restarted':
        return dataOnly({ type: 'status', status: 'restarted' });
      case 'event': {
        const frame = eventFrame(item, fold);
        return frame && dataOnly(frame);
      }
    }
  },

  end: (event) => (isTurnEnd(event) ? [{ id: null, name: null, data: '[DONE]' }] : null),
  resync: (reason) => ({ id: null, ...dataOnly({ type: 'resync', reason }) }),
  farewell: () => ({ id: null, ...dataOnly({ type: 'status', status: 'server_shutdown' }) }),
};

function eventFrame({ event }: Extract<Item, { kind: 'event' }>, fold: TurnSteps): LunaFrame | null {
  switch (event.type) {
    case 'TurnStarted':
      return { type: 'status', status: 'thinking' };
    case 'MessageRouted':
      return { type: 'router_metadata', router_metadata: routerMetadata(event.data.decision) };
    case 'ToolCalled': {
      const { toolCallId, tool } = event.data;
      return { type: 'tool_call', id: toolCallId, name: tool, arguments: event.data.arguments };
    }
    case 'ToolReturned': {
      const { toolCallId, tool, result, isError, durationMs } = event.data;
      return { type: 'tool_result', id: toolCallId, name: tool, result, isError, durationMs };
    }
    case 'TurnCompleted':
      return { type: 'done', ...doneOf(event, 'complete', fold) };
    case 'TurnInterrupted':
      return { type: 'done', ...doneOf(event, 'interrupted', fold), interrupted: true };
    case 'TurnFailed':
      return { type: 'error', error: event.data.reason, messageId: event.data.messageId };
    default:
      return null;
  }
}

function doneOf(end: TurnEnd, status: LunaAnswer['status'], steps: TurnSteps) {
  const { content: _shown, ...answer } = renderAnswer(end.data, status, steps);
  const { decision } = steps;
  return { ...answer, ...(decision !== null && { router_metadata: routerMetadata(decision) }) };
}

export const isTurnEnd = (event: ConversationEvent): event is TurnEnd & ConversationEvent =>
  event.type === 'TurnCompleted' || event.type === 'TurnInterrupted' || event.type === 'TurnFailed';
