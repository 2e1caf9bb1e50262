/** `turns`: how the answer to each message comes about. */
import type { EventType, OdeonEvent } from '../contracts/events/catalogue.ts';
import { conversationIdOf } from '../contracts/read-models/conversation.ts';
import { type TurnDocument, turnDocument } from '../contracts/read-models/documents.ts';
import { type EventHandler, projection } from './projection.ts';

type TurnEventType = {
  [Type in EventType]: OdeonEvent<Type>['data'] extends { turnId: string } ? Type : never;
}[EventType];

const id = (event: { data: { turnId: string } }): string => event.data.turnId;

/** Changes a turn that was asked for. */
const change = <Type extends TurnEventType>(
  changes: (doc: TurnDocument, event: OdeonEvent<Type>) => Partial<TurnDocument>,
): EventHandler<TurnDocument, OdeonEvent<Type>> => ({
  id: (event) => id(event as { data: { turnId: string } }),
  apply: (doc, event) => doc && { ...doc, ...changes(doc, event) },
});

type TurnEnd = 'TurnCompleted' | 'TurnInterrupted' | 'TurnFailed';
const end = (status: TurnDocument['status']) =>
  change<TurnEnd>((_doc, event) => ({
    status,
    lastRevision: event.revision,
    answerId: event.data.messageId,
    usage: event.data.usage,
    costUsd: event.data.costUsd,
    reason: event.type === 'TurnFailed' ? event.data.reason : null,
    endedAt: event.time,
  }));

const runOf = (event: OdeonEvent<'MessageSent'>): TurnDocument['run'] => {
  const { run, content } = event.data;
  return (
    run && {
      agentName: run.agent.name,
      trigger: run.trigger,
      actor: event.actor,
      parentTurnId: run.parent?.turnId ?? null,
      sourceAgent: run.sourceAgent ?? null,
      orchestrationId: run.orchestrationId,
      message: content,
      maxAttempts: run.maxAttempts,
    }
  );
};

export const turns = projection<TurnDocument>('turns', {
  version: 3,
  document: turnDocument,
  // Of turns that are under way there are few; of an agent's, an owner's or all runs the latest are asked for.
  indexes: [
    ['status'],
    ['agentId', 'owner', 'status'],
    ['agentId', 'status'],
    ['agentId', 'owner', 'runAt'],
    ['agentId', 'runAt'],
    ['owner', 'runAt'],
    ['runAt'],
  ],
  on: {
    MessageSent: {
      id,
      apply: (_none, event) => ({
        id: event.data.turnId,
        conversationId: conversationIdOf(event),
        owner: event.owner,
        userMessageId: event.data.messageId,
        answerId: null,
        agentId: event.data.run?.agent.id ?? null,
        run: runOf(event),
        runAt: event.data.run === null ? null : event.time,
        usage: null,
        costUsd: null,
        status: 'queued',
        attempt: 0,
        firstRevision: event.revision,
        lastRevision: null,
        decision: null,
        calls: [],
        tools: [],
        reason: null,
        requestedAt: event.time,
        startedAt: null,
        endedAt: null,
      }),
    },
    TurnStarted: change<'TurnStarted'>((doc, event) => ({
      status: 'running',
      attempt: event.data.attempt,
      startedAt: doc.startedAt ?? event.time,
    })),
    TurnReleased: change<'TurnReleased'>(() => ({ status: 'queued' })),
    MessageRouted: change<'MessageRouted'>((_doc, { data }) => ({ decision: data.decision })),
    ModelAnswered: change<'ModelAnswered'>((doc, { data }) => ({
      calls: [
        ...doc.calls,
        {
          provider: data.provider,
          model: data.model,
          usage: data.usage,
          costUsd: data.costUsd,
          durationMs: data.durationMs,
          error: null,
        },
      ],
    })),
    ModelFailed: change<'ModelFailed'>((doc, { data }) => ({
      calls: [
        ...doc.calls,
        {
          provider: data.provider,
          model: data.model,
          usage: null,
          costUsd: null,
          durationMs: data.durationMs,
          error: data.reason,
        },
      ],
    })),
    ToolReturned: change<'ToolReturned'>((doc, { data }) => ({
      tools: [...doc.tools, { tool: data.tool, isError: data.isError, durationMs: data.durationMs }],
    })),
    TurnCompleted: end('completed'),
    TurnInterrupted: end('interrupted'),
    TurnFailed: end('failed'),
  },
});
