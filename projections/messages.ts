/**
 * `messages`: what users sent and what was answered. Each document comes from one event: a turn that ended
 * makes an answer whatever its outcome, empty where nothing had been written. They outlive a deleted
 * conversation, so a reader asks for the conversation first.
 */
import type { OdeonEvent } from '../contracts/events/catalogue.ts';
import { conversationIdOf } from '../contracts/read-models/conversation.ts';
import { type MessageDocument, messageDocument } from '../contracts/read-models/documents.ts';
import { projection } from './projection.ts';

type TurnEnd = OdeonEvent<'TurnCompleted' | 'TurnInterrupted' | 'TurnFailed'>;

const id = (event: { data: { messageId: string } }): string => event.data.messageId;

const answer = (
  status: MessageDocument['status'],
  reason: string | null,
  event: TurnEnd,
): MessageDocument => {
  const { data } = event;
  return {
    id: data.messageId,
    conversationId: conversationIdOf(event),
    owner: event.owner,
    revision: event.revision,
    turnId: data.turnId,
    role: 'assistant',
    content: data.content,
    status,
    reason,
    createdAt: event.time,
    answer: {
      provider: data.provider,
      model: data.model,
      requestedModel: data.requestedModel,
      decision: data.decision,
      tried: data.tried,
      toolsUsed: data.toolsUsed,
      usage: data.usage,
      costUsd: data.costUsd,
      durationMs: data.durationMs,
      finishReason: data.finishReason,
      toolRequests: data.toolRequests,
    },
  };
};

export const messages = projection<MessageDocument>('messages', {
  version: 3,
  document: messageDocument,
  indexes: [['id'], ['conversationId', 'revision'], ['owner', 'position']],
  on: {
    MessageSent: {
      id,
      apply: (_none, event) => ({
        id: event.data.messageId,
        conversationId: conversationIdOf(event),
        owner: event.owner,
        revision: event.revision,
        turnId: event.data.turnId,
        role: 'user',
        content: event.data.content,
        status: 'complete',
        reason: null,
        createdAt: event.time,
        answer: null,
      }),
    },
    TurnCompleted: { id, apply: (_none, event) => answer('complete', null, event) },
    TurnInterrupted: { id, apply: (_none, event) => answer('interrupted', null, event) },
    TurnFailed: { id, apply: (_none, event) => answer('failed', event.data.reason, event) },
  },
});
