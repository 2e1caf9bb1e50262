/** How documents are shown in GraphQL: what its fields are rendered from, and how. */
import * as agentChat from '../../contracts/http/agent-chat.ts';
import type { ConversationDocument, MessageDocument } from '../../contracts/read-models/documents.ts';

export interface ShownConversation {
  readonly document: ConversationDocument;
  readonly relevanceScore: number | null;
  /** What a search found; null for none. */
  readonly found: readonly ShownMessage[] | null;
}
export interface ShownMessage {
  readonly id: string;
  readonly conversationId: string;
  readonly turnId: string;
  readonly role: string;
  readonly content: string;
  readonly model: string | null;
  readonly provider: string | null;
  readonly timestamp: string;
  readonly status: string;
  readonly error: string | null;
  readonly usage: Usage | null;
  readonly costUsd: number | null;
  readonly seq: string | null;
}
interface Usage {
  readonly promptTokens: number;
  readonly completionTokens: number;
  readonly totalTokens: number;
}

export const usageOf = (
  usage: { promptTokens: number; completionTokens: number } | null | undefined,
): Usage | null =>
  usage
    ? {
        promptTokens: usage.promptTokens,
        completionTokens: usage.completionTokens,
        totalTokens: usage.promptTokens + usage.completionTokens,
      }
    : null;

export const shownMessage = (body: MessageDocument): ShownMessage => ({
  id: body.id,
  conversationId: body.conversationId,
  turnId: body.turnId,
  role: body.role,
  content: body.content,
  model: body.answer?.model ?? null,
  provider: body.answer?.provider ?? null,
  timestamp: body.createdAt,
  status: body.status,
  error: body.reason,
  usage: usageOf(body.answer?.usage),
  costUsd: body.answer?.costUsd ?? null,
  seq: null,
});

export const shown = (document: ConversationDocument): ShownConversation => ({
  document,
  relevanceScore: null,
  found: null,
});

/**
 * The fields of a conversation that its document says.
 * @param defaultModel what answers where no model was asked for
 */
export function conversationFields(defaultModel: string) {
  const field =
    <Value>(of: (conversation: agentChat.AgentChatConversation) => Value) =>
    ({ document }: ShownConversation): Value =>
      of(agentChat.renderConversation(document, defaultModel));
  return {
    id: field(({ id }) => id),
    title: field(({ title }) => title),
    createdAt: field((conversation) => conversation.created_at),
    updatedAt: field((conversation) => conversation.updated_at),
    messageCount: field((conversation) => conversation.message_count),
    model: field(({ model }) => model),
    status: field(({ status }) => status),
    archived: field(({ archived }) => archived),
  };
}
