/** A log in memory, for tests that begin with events: each is checked against the catalogue and gets its place. */
import { randomUUID } from 'node:crypto';
import { catalogue, type EventData, type EventType, type OdeonEvent } from '../contracts/events/catalogue.ts';

export interface Log {
  readonly events: OdeonEvent[];
  /** Appends an event a second after the one before it, and returns it. */
  add<Type extends EventType>(
    stream: string,
    type: Type,
    data: EventData<Type>,
    envelope?: Partial<Pick<OdeonEvent, 'owner' | 'time' | 'surface' | 'actor'>>,
  ): OdeonEvent<Type>;
}

export function createLog(owner = 'ada', begin = '2026-03-01T10:00:00.000Z'): Log {
  const events: OdeonEvent[] = [];
  const revisions = new Map<string, number>();
  return {
    events,
    add(stream, type, data, envelope = {}) {
      const revision = (revisions.get(stream) ?? -1) + 1;
      revisions.set(stream, revision);
      const commandId = randomUUID();
      const event = {
        id: randomUUID(),
        type,
        schemaVersion: catalogue[type].version,
        stream,
        revision,
        position: String(events.length + 1),
        time: new Date(Date.parse(begin) + events.length * 1_000).toISOString(),
        owner,
        actor: { kind: 'user', id: owner },
        correlationId: commandId,
        causationId: null,
        commandId,
        surface: 'luna',
        ...envelope,
        data: catalogue[type].schema.parse(data),
      } as unknown as OdeonEvent<typeof type>;
      events.push(event as OdeonEvent);
      return event;
    },
  };
}

/** How a turn ended, for the events that say so. */
export const outcome = (
  turnId: string,
  changes: Partial<EventData<'TurnCompleted'>> = {},
): EventData<'TurnCompleted'> => ({
  turnId,
  messageId: `msg_of_${turnId}`,
  content: 'Six times seven is 42.',
  provider: 'openai',
  model: 'gpt-5',
  requestedModel: null,
  decision: { route: 'tools' as const, class: 'actionable' as const, confidence: 'verified' as const },
  tried: [{ provider: 'openai', model: 'gpt-5', outcome: 'answered' as const, reason: null }],
  toolsUsed: ['calculate'],
  usage: { promptTokens: 100, completionTokens: 20, cachedTokens: 10 },
  costUsd: 0.002,
  durationMs: 2_000,
  finishReason: 'stop' as const,
  toolRequests: [],
  ...changes,
});

export const decision: EventData<'MessageRouted'>['decision'] = {
  class: 'actionable',
  route: 'tools',
  confidence: 'verified',
  needsFreshData: false,
  needsTools: true,
  riskIfWrong: 'low',
  decisionSource: 'regex',
  matchedPatterns: ['arithmetic'],
  decisionTimeMs: 0.2,
};

export const answered = (
  turnId: string,
  changes: Partial<EventData<'ModelAnswered'>> = {},
): EventData<'ModelAnswered'> => ({
  turnId,
  callId: `${turnId}_call`,
  provider: 'openai',
  model: 'gpt-5',
  text: 'Six times seven is 42.',
  reasoning: '',
  toolRequests: [],
  finishReason: 'stop',
  usage: { promptTokens: 100, completionTokens: 20, cachedTokens: 10 },
  costUsd: 0.002,
  durationMs: 1_500,
  firstTokenMs: 200,
  ...changes,
});
