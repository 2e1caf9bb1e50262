/** The document of a conversation that has just begun: for the projection, and for the answer to who began it. */
import type { OdeonEvent } from '../events/catalogue.ts';
import type { ConversationDocument } from './documents.ts';

export const CONVERSATION_STREAM = 'conversation-';

/** The id of the conversation whose stream the event is in. */
export const conversationIdOf = (event: { readonly stream: string }): string =>
  event.stream.slice(CONVERSATION_STREAM.length);

export const newConversation = (event: OdeonEvent<'ConversationStarted'>): ConversationDocument => ({
  id: conversationIdOf(event),
  owner: event.owner,
  title: event.data.title,
  mode: event.data.mode,
  model: event.data.model,
  surface: event.surface,
  status: 'active',
  archived: false,
  kind: event.data.kind,
  agentId: event.data.agent?.id ?? null,
  agentName: event.data.agent?.name ?? null,
  linkId: event.data.linkId,
  messageCount: 0,
  usage: { promptTokens: 0, completionTokens: 0, cachedTokens: 0 },
  costUsd: 0,
  contextTokens: 0,
  answeredBy: null,
  lastMessageAt: null,
  createdAt: event.time,
  updatedAt: event.time,
});
