/** `deliberations`: what the Council was asked, what was said and voted, and what was decided and done. */
import { isAfter, type Position } from '../contracts/envelope.ts';
import type { EventType, OdeonEvent } from '../contracts/events/catalogue.ts';
import type { Voice } from '../contracts/events/deliberation.ts';
import { type DeliberationDocument, deliberationDocument } from '../contracts/read-models/documents.ts';
import type { EventStore } from '../infra/event-store/port.ts';
import { foldingOf } from './fold.ts';
import { type EventHandler, projection } from './projection.ts';

const id = (event: { readonly stream: string }): string => event.stream.slice('deliberation-'.length);

/** Changes one that was opened. */
const change = <Type extends EventType>(
  changes: (doc: DeliberationDocument, event: OdeonEvent<Type>) => Partial<DeliberationDocument>,
): EventHandler<DeliberationDocument, OdeonEvent<Type>> => ({
  id: (event) => id(event as { stream: string }),
  apply: (doc, event) => doc && { ...doc, ...changes(doc, event) },
});

type Spent = Pick<DeliberationDocument, 'usage' | 'costUsd'>;
/** What a voice cost is added as the decider adds it: in units of 10⁻¹². */
const withSpent = ({ usage, costUsd }: Spent, voice: Voice | null): Spent =>
  voice === null
    ? { usage, costUsd }
    : {
        usage: {
          promptTokens: usage.promptTokens + voice.usage.promptTokens,
          completionTokens: usage.completionTokens + voice.usage.completionTokens,
          cachedTokens: usage.cachedTokens + voice.usage.cachedTokens,
        },
        costUsd:
          costUsd === null || voice.costUsd === null
            ? null
            : (Math.round(costUsd * 1e12) + Math.round(voice.costUsd * 1e12)) / 1e12,
      };

const trouble = (doc: DeliberationDocument, message: string, loop: number, at: string) => ({
  troubles: [...doc.troubles, { message, loop, at }],
});

export const deliberations = projection<DeliberationDocument>('deliberations', {
  version: 1,
  document: deliberationDocument,
  indexes: [
    ['status'],
    ['owner', 'openedAt'],
    ['owner', 'purpose', 'openedAt'],
    ['purpose', 'openedAt'],
    ['openedAt'],
  ],
  on: {
    DeliberationOpened: {
      id,
      apply: (_none, event) => {
        const { material, ...opened } = event.data;
        return {
          id: id(event),
          owner: event.owner,
          ...opened,
          status: 'queued',
          stopRequested: false,
          worker: null,
          attempt: 0,
          loop: 0,
          toolUses: 0,
          material: material.map((piece) => ({ ...piece, isError: false })),
          phases: [],
          said: [],
          votes: [],
          troubles: [],
          decision: null,
          actions: [],
          usage: { promptTokens: 0, completionTokens: 0, cachedTokens: 0 },
          costUsd: 0,
          reason: null,
          durationMs: null,
          openedPosition: event.position,
          openedAt: event.time,
          startedAt: null,
          endedAt: null,
        };
      },
    },
    DeliberationStarted: change<'DeliberationStarted'>((doc, { data, time }) => ({
      status: 'running',
      worker: data.worker,
      attempt: data.attempt,
      startedAt: doc.startedAt ?? time,
    })),
    DeliberationReleased: change<'DeliberationReleased'>(() => ({ status: 'paused', worker: null })),
    PhaseStarted: change<'PhaseStarted'>((doc, { data, time }) => ({
      loop: data.loop,
      phases: [...doc.phases, { ...data, startedAt: time, endedAt: null }],
    })),
    PhaseEnded: change<'PhaseEnded'>((doc, { data, time }) => ({
      phases: doc.phases.map((one) =>
        one.phase === data.phase && one.loop === data.loop ? { ...one, endedAt: time } : one,
      ),
    })),
    MaterialSought: change<'MaterialSought'>((doc) => ({ toolUses: doc.toolUses + 1 })),
    MaterialGathered: change<'MaterialGathered'>((doc, { data }) => ({
      material: [...doc.material, { ...data.material, isError: data.isError }],
    })),
    DeliberationLimited: change<'DeliberationLimited'>((doc, { data, time }) =>
      trouble(doc, data.message, data.loop, time),
    ),
    VoiceFailed: change<'VoiceFailed'>((doc, { data, time }) =>
      trouble(doc, `No model answered for ${data.member}: ${data.reason}`, data.loop, time),
    ),
    MemberSpoke: change<'MemberSpoke'>((doc, { data: { voice, ...said }, time }) => ({
      said: [...doc.said, { ...said, model: voice.model, at: time }],
      ...withSpent(doc, voice),
    })),
    VoteCast: change<'VoteCast'>((doc, { data: { voice, ...vote }, time }) => ({
      votes: [...doc.votes, { ...vote, model: voice.model, at: time }],
      ...withSpent(doc, voice),
    })),
    DecisionReached: change<'DecisionReached'>(
      (doc, { id: eventId, data: { voice, ...decision }, time }) => ({
        decision: { ...decision, id: eventId, at: time },
        ...withSpent(doc, voice),
      }),
    ),
    ActionTaken: change<'ActionTaken'>((doc, { data, time }) => ({
      actions: [...doc.actions, { ...data, at: time }],
    })),
    DeliberationStopRequested: change<'DeliberationStopRequested'>(() => ({ stopRequested: true })),
    DeliberationEnded: change<'DeliberationEnded'>((_doc, { data, time }) => ({
      status: data.outcome,
      worker: null,
      reason: data.reason,
      usage: data.usage,
      costUsd: data.costUsd,
      durationMs: data.durationMs,
      endedAt: time,
    })),
  },
});

/** @param store as the projections read it @returns a deliberation as it was at a position; null when there was none */
export const deliberationsInThePast =
  (store: Pick<EventStore, 'readStream'>) =>
  async (deliberationId: string, at: Position): Promise<DeliberationDocument | null> => {
    const folding = foldingOf(deliberations);
    for await (const page of store.readStream(`deliberation-${deliberationId}`)) {
      for (const event of page) if (!isAfter(event.position, at)) folding.add(event);
    }
    return folding.documents.get(deliberationId)?.body ?? null;
  };
