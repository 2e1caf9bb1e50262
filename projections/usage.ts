/** `usage`: what models cost an owner on a day (UTC), a document `<owner>:<YYYY-MM-DD>`. */
import type { OdeonEvent } from '../contracts/events/catalogue.ts';
import type { TokenUsage } from '../contracts/events/conversation.ts';
import type { Voice } from '../contracts/events/deliberation.ts';
import { type UsageDocument, usageDocument } from '../contracts/read-models/documents.ts';
import { type EventHandler, projection } from './projection.ts';

type ModelCallEnd = OdeonEvent<'ModelAnswered' | 'ModelFailed'>;
/** A member of the Council said something, through a model or by rule. */
type Speech = OdeonEvent<'MemberSpoke' | 'VoteCast' | 'DecisionReached'>;

const dayOf = (event: { time: string }): string => event.time.slice(0, 'YYYY-MM-DD'.length);
const id = (event: { readonly owner: string; readonly time: string }): string =>
  `${event.owner}:${dayOf(event)}`;

const NOTHING: TokenUsage = { promptTokens: 0, completionTokens: 0, cachedTokens: 0 };

function withCall(
  doc: UsageDocument | null,
  event: { readonly owner: string; readonly time: string },
  call: { name: string; durationMs: number; usage: TokenUsage; costUsd: number; failed: boolean },
): UsageDocument {
  const { name, durationMs } = call;
  const before = doc?.models[name];
  return {
    owner: event.owner,
    day: dayOf(event),
    requests: (doc?.requests ?? 0) + 1,
    errors: (doc?.errors ?? 0) + (call.failed ? 1 : 0),
    totalDurationMs: (doc?.totalDurationMs ?? 0) + durationMs,
    models: {
      ...doc?.models,
      [name]: {
        requests: (before?.requests ?? 0) + 1,
        inputTokens: (before?.inputTokens ?? 0) + call.usage.promptTokens,
        outputTokens: (before?.outputTokens ?? 0) + call.usage.completionTokens,
        cachedTokens: (before?.cachedTokens ?? 0) + call.usage.cachedTokens,
        costUsd: (before?.costUsd ?? 0) + call.costUsd,
      },
    },
  };
}

const called = ({ data: { provider, model, durationMs } }: ModelCallEnd) => ({
  name: `${provider}/${model}`,
  durationMs,
});

/** What a rule says costs nothing and is no call. */
const withVoice: EventHandler<UsageDocument, Speech> = {
  id: (event) => (modelOf(event.data.voice) === null ? null : id(event)),
  apply: (doc, event) => {
    const name = modelOf(event.data.voice);
    const { durationMs = 0, usage = NOTHING, costUsd = 0 } = event.data.voice ?? {};
    if (name === null) return doc;
    return withCall(doc, event, { name, durationMs, usage, costUsd: costUsd ?? 0, failed: false });
  },
};
const modelOf = (voice: Voice | null): string | null => voice?.model ?? null;

export const usage = projection<UsageDocument>('usage', {
  version: 2,
  document: usageDocument,
  indexes: [['day']],
  on: {
    ModelAnswered: {
      id,
      apply: (doc, event) =>
        withCall(doc, event, {
          ...called(event),
          usage: event.data.usage,
          costUsd: event.data.costUsd ?? 0,
          failed: false,
        }),
    },
    MemberSpoke: withVoice,
    VoteCast: withVoice,
    DecisionReached: withVoice,
    ModelFailed: {
      id,
      apply: (doc, event) =>
        withCall(doc, event, { ...called(event), usage: NOTHING, costUsd: 0, failed: true }),
    },
  },
});
