/** `usage`: what models cost an owner on a day (UTC), a document `<owner>:<YYYY-MM-DD>`. */
import type { OdeonEvent } from '../contracts/events/catalogue.ts';
import type { TokenUsage } from '../contracts/events/conversation.ts';
import { type UsageDocument, usageDocument } from '../contracts/read-models/documents.ts';
import { projection } from './projection.ts';

type ModelCallEnd = OdeonEvent<'ModelAnswered' | 'ModelFailed'>;

const dayOf = (event: { time: string }): string => event.time.slice(0, 'YYYY-MM-DD'.length);
const id = (event: ModelCallEnd): string => `${event.owner}:${dayOf(event)}`;

const NOTHING: TokenUsage = { promptTokens: 0, completionTokens: 0, cachedTokens: 0 };

function withCall(
  doc: UsageDocument | null,
  event: ModelCallEnd,
  call: { usage: TokenUsage; costUsd: number; failed: boolean },
): UsageDocument {
  const { provider, model, durationMs } = event.data;
  const name = `${provider}/${model}`;
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

export const usage = projection<UsageDocument>('usage', {
  version: 1,
  document: usageDocument,
  indexes: [['day']],
  on: {
    ModelAnswered: {
      id,
      apply: (doc, event) =>
        withCall(doc, event, {
          usage: event.data.usage,
          costUsd: event.data.costUsd ?? 0,
          failed: false,
        }),
    },
    ModelFailed: {
      id,
      apply: (doc, event) => withCall(doc, event, { usage: NOTHING, costUsd: 0, failed: true }),
    },
  },
});
