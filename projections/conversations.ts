/** `conversations`: what each conversation is now. A deleted one has no document. */
import type { EventType, OdeonEvent } from '../contracts/events/catalogue.ts';
import { conversationIdOf, newConversation } from '../contracts/read-models/conversation.ts';
import { type ConversationDocument, conversationDocument } from '../contracts/read-models/documents.ts';
import { type EventHandler, projection } from './projection.ts';

const id = conversationIdOf;

/** Changes a document that there is. Turns of a deleted conversation may still end: they bring nothing back. */
const change = <Type extends EventType>(
  changes: (doc: ConversationDocument, event: OdeonEvent<Type>) => Partial<ConversationDocument>,
): EventHandler<ConversationDocument, OdeonEvent<Type>> => ({
  id,
  apply: (doc, event) => doc && { ...doc, ...changes(doc, event), updatedAt: event.time },
});

const oneMoreMessage = (doc: ConversationDocument, { time }: OdeonEvent) => ({
  messageCount: doc.messageCount + 1,
  lastMessageAt: time,
});

const answered = change<'TurnCompleted' | 'TurnInterrupted' | 'TurnFailed'>((doc, event) => {
  const { usage, costUsd, provider, model } = event.data;
  return {
    ...oneMoreMessage(doc, event),
    usage: {
      promptTokens: doc.usage.promptTokens + usage.promptTokens,
      completionTokens: doc.usage.completionTokens + usage.completionTokens,
      cachedTokens: doc.usage.cachedTokens + usage.cachedTokens,
    },
    costUsd: addDollars(doc.costUsd, costUsd ?? 0),
    answeredBy: provider === null || model === null ? doc.answeredBy : `${provider}/${model}`,
  };
});

/** Sums of binary fractions would show more digits with every turn. */
const addDollars = (a: number, b: number): number => Math.round((a + b) * 1e12) / 1e12;

export const conversations = projection<ConversationDocument>('conversations', {
  version: 3,
  document: conversationDocument,
  // Lists are in the order of the events that last changed each: times have ties, positions do not. Luna asks by
  // `archived` and ZERG by `status`, for one owner or for everybody.
  indexes: [
    ['id'],
    ['owner', 'kind', 'archived', 'position'],
    ['owner', 'kind', 'status', 'position'],
    ['kind', 'archived', 'position'],
    ['kind', 'status', 'position'],
    ['owner', 'agentId', 'kind', 'status', 'position'],
    ['agentId', 'kind', 'status', 'position'],
    ['linkId', 'position'],
  ],
  on: {
    ConversationStarted: { id, apply: (_none, event) => newConversation(event) },
    ConversationRenamed: change<'ConversationRenamed'>((_doc, { data }) => ({ title: data.title })),
    ConversationModeChanged: change<'ConversationModeChanged'>((_doc, { data }) => ({ mode: data.mode })),
    ConversationArchived: change(() => ({ archived: true })),
    ConversationUnarchived: change(() => ({ archived: false })),
    ConversationEnded: change(() => ({ status: 'ended' })),
    ConversationDeleted: { id, apply: () => null },
    MessageSent: change(oneMoreMessage),
    ModelAnswered: change<'ModelAnswered'>((_doc, { data }) => ({
      contextTokens: data.usage.promptTokens + data.usage.completionTokens,
    })),
    TurnCompleted: answered,
    TurnInterrupted: answered,
    TurnFailed: answered,
  },
});
