/**
 * Agent Chat's conversations (seeds/agent-chat.txt, api-notes A3): snake_case, bare objects. Beside the keys of its
 * document, answers have some more, which say what the document's cannot.
 */
import { z } from 'zod';
import { conversationTitle, requestedModel } from '../commands/conversation.ts';
import { finishReason } from '../events/conversation.ts';
import {
  type ConversationDocument,
  conversationDocument,
  type MessageDocument,
  messageDocument,
} from '../read-models/documents.ts';
import { asOf, idParams, limit, messagePage, NOT_BOTH, notBoth, offset } from './parameters.ts';
import { route } from './route.ts';

// ── conversations ─────────────────────────────────────────────────────────
export const agentChatConversation = z.strictObject({
  id: z.string(),
  title: z.string().nullable(),
  created_at: z.string(),
  updated_at: z.string(),
  message_count: z.int(),
  /** As asked for, `agent:<name>` where an agent answers, or the default's name. */
  model: z.string(),
  user_id: z.string(),
  /** `ended`: it takes no more messages. */
  status: conversationDocument.shape.status,
  archived: z.boolean(),
});
export type AgentChatConversation = z.infer<typeof agentChatConversation>;

export const renderConversation = (
  doc: ConversationDocument,
  defaultModel: string,
): AgentChatConversation => ({
  id: doc.id,
  title: doc.title,
  created_at: doc.createdAt,
  updated_at: doc.updatedAt,
  message_count: doc.messageCount,
  model: doc.agentName === null ? (doc.model ?? defaultModel) : `agent:${doc.agentName}`,
  user_id: doc.owner,
  status: doc.status,
  archived: doc.archived,
});

// ── messages ──────────────────────────────────────────────────────────────
export const agentChatUsage = z.strictObject({
  prompt_tokens: z.int(),
  completion_tokens: z.int(),
  total_tokens: z.int(),
});

const messageFields = {
  id: z.string(),
  content: z.string(),
  timestamp: z.string(),
  turn_id: z.string(),
  status: messageDocument.shape.status,
};
export const agentChatMessage = z.discriminatedUnion('role', [
  z.strictObject({ ...messageFields, role: z.literal('user') }),
  z.strictObject({
    ...messageFields,
    role: z.literal('assistant'),
    /** Who really answered; null when nobody did. */
    model: z.string().nullable(),
    provider: z.string().nullable(),
    usage: agentChatUsage,
    /** US dollars; null when a model without a known price took part. */
    cost_usd: z.number().nullable(),
    finish_reason: finishReason.nullable(),
    /** Tools that the client was asked to run. */
    tool_calls: z
      .array(z.strictObject({ id: z.string(), name: z.string(), arguments: z.unknown() }))
      .optional(),
    /** Why it failed. */
    error: z.string().optional(),
  }),
]);
export type AgentChatMessage = z.infer<typeof agentChatMessage>;

export function renderMessage(doc: MessageDocument): AgentChatMessage {
  const { id, content, createdAt: timestamp, turnId: turn_id, status, answer } = doc;
  const fields = { id, content, timestamp, turn_id, status };
  if (answer === null) return { ...fields, role: 'user' };
  const { promptTokens, completionTokens } = answer.usage;
  return {
    ...fields,
    role: 'assistant',
    model: answer.model,
    provider: answer.provider,
    usage: {
      prompt_tokens: promptTokens,
      completion_tokens: completionTokens,
      total_tokens: promptTokens + completionTokens,
    },
    cost_usd: answer.costUsd,
    finish_reason: answer.finishReason,
    ...(answer.toolRequests.length > 0 && {
      tool_calls: answer.toolRequests.map(({ toolCallId, tool, arguments: given }) => ({
        id: toolCallId,
        name: tool,
        arguments: given,
      })),
    }),
    ...(doc.reason !== null && { error: doc.reason }),
  };
}

// ── routes ────────────────────────────────────────────────────────────────
export const listConversations = route({
  surface: 'agent-chat',
  method: 'GET',
  path: '/api/conversations',
  summary:
    "The caller's conversations, the one that changed last first; admins and auditors see all. `total` counts those " +
    'of all pages. Archived ones come with `archived=true`.',
  access: 'chat:read',
  rateLimit: 'default',
  query: z.object({
    limit: limit(100, 20),
    offset,
    archived: z
      .enum(['true', 'false'])
      .default('false')
      .transform((value) => value === 'true'),
    asOf,
  }),
  answers: {
    200: z.strictObject({
      conversations: z.array(agentChatConversation),
      total: z.int(),
      limit: z.int(),
      offset: z.int(),
    }),
  },
});

export const createConversation = route({
  surface: 'agent-chat',
  method: 'POST',
  path: '/api/conversations',
  summary: 'Begins a conversation; with the model `agent:<name>` that agent answers in it.',
  access: 'chat:write',
  rateLimit: 'default',
  example: { body: { title: 'Help with Python' } },
  body: z
    .object({ title: conversationTitle.nullish(), model: requestedModel.nullish() })
    .prefault({})
    .meta({ description: 'What is left out is null: no title, the default model.' }),
  answers: { 201: agentChatConversation },
});

export const getConversation = route({
  surface: 'agent-chat',
  method: 'GET',
  path: '/api/conversations/:id',
  summary:
    'A conversation with its history, oldest message first: all of it, or as much as fits (1,000 messages, a mebibyte ' +
    'of text), from its end. `has_more` says whether there are others: pass the id of the first one as `before` (or ' +
    'of the last one as `after`).',
  access: 'chat:read',
  rateLimit: 'default',
  params: idParams,
  query: z.object({ limit: limit(1_000, 1_000), ...messagePage, asOf }).refine(notBoth, NOT_BOTH),
  answers: {
    200: agentChatConversation.extend({ messages: z.array(agentChatMessage), has_more: z.boolean() }),
  },
});

export const renameConversation = route({
  surface: 'agent-chat',
  method: 'PATCH',
  path: '/api/conversations/:id',
  summary: 'Renames a conversation.',
  access: 'chat:write',
  rateLimit: 'default',
  params: idParams,
  example: { body: { title: 'CSV files in Python' } },
  body: z.object({ title: conversationTitle }),
  answers: { 200: agentChatConversation },
});

export const deleteConversation = route({
  surface: 'agent-chat',
  method: 'DELETE',
  path: '/api/conversations/:id',
  summary: 'Deletes a conversation: it is gone from every read, except of the past before (`asOf`).',
  access: 'chat:write',
  rateLimit: 'default',
  params: idParams,
  answers: {
    200: z.strictObject({ success: z.literal(true), message: z.literal('Conversation deleted') }),
  },
});

export const agentChatRoutes = [
  listConversations,
  createConversation,
  getConversation,
  renameConversation,
  deleteConversation,
] as const;
