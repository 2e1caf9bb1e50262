/**
 * ZERG's chat (seeds/zerg-chat.txt, api-notes A4): snake_case in `{ok: true, data}`. Its schemas, the pure
 * functions that render documents so, and its chat routes. Messages are kept for good, not for 30 days.
 */
import { z } from 'zod';
import { messageContent, requestedModel } from '../commands/conversation.ts';
import { conversationMode, providerTry } from '../events/conversation.ts';
import {
  type ConversationDocument,
  type MessageDocument,
  messageDocument,
} from '../read-models/documents.ts';
import { asOf, idParams, limit, messagePage, offset } from './parameters.ts';
import { route } from './route.ts';

const ok = <Data extends z.ZodType>(data: Data) => z.strictObject({ ok: z.literal(true), data });

/** The envelope of every answer that is not an error. */
export const zergOk = <Data>(data: Data) => ({ ok: true as const, data });

const unixSeconds = (time: string): number => Math.floor(Date.parse(time) / 1_000);

// ── sessions (conversations) ──────────────────────────────────────────────
export const zergNewSession = z.strictObject({
  id: z.string(),
  worker_id: z.string(),
  /** As asked for, or the default's name. */
  model: z.string(),
  mode: conversationMode,
  status: z.enum(['active', 'ended']),
});
export type ZergNewSession = z.infer<typeof zergNewSession>;

export const renderNewSession = (
  session: Pick<ConversationDocument, 'id' | 'model' | 'mode' | 'status'>,
  defaultModel: string,
): ZergNewSession => ({
  id: session.id,
  worker_id: `chat-${session.id}`,
  model: session.model ?? defaultModel,
  mode: session.mode,
  status: session.status,
});

export const zergSession = zergNewSession.extend({
  user_id: z.string(),
  title: z.string().nullable(),
  message_count: z.int(),
  /** Unix seconds. */
  created_at: z.int(),
  updated_at: z.int(),
});
export type ZergSession = z.infer<typeof zergSession>;

export const renderSession = (doc: ConversationDocument, defaultModel: string): ZergSession => ({
  ...renderNewSession(doc, defaultModel),
  user_id: doc.owner,
  title: doc.title,
  message_count: doc.messageCount,
  created_at: unixSeconds(doc.createdAt),
  updated_at: unixSeconds(doc.updatedAt),
});

// ── messages ──────────────────────────────────────────────────────────────
export const zergMessage = z.strictObject({
  id: z.string(),
  session_id: z.string(),
  role: z.enum(['user', 'assistant']),
  content: z.string(),
  /** Unix seconds. */
  timestamp: z.int(),
  turn_id: z.string(),
  status: messageDocument.shape.status,
  /** Who answered, what was asked for, what the answer cost (US dollars), and why it failed; else null. */
  model: z.string().nullable(),
  provider: z.string().nullable(),
  requested_model: z.string().nullable(),
  cost_usd: z.number().nullable(),
  error: z.string().nullable(),
  /** Every attempt at a provider, in order, with why it failed. */
  tried: z.array(providerTry),
});
export type ZergMessage = z.infer<typeof zergMessage>;

export const renderMessage = (doc: MessageDocument): ZergMessage => ({
  id: doc.id,
  session_id: doc.conversationId,
  role: doc.role,
  content: doc.content,
  timestamp: unixSeconds(doc.createdAt),
  turn_id: doc.turnId,
  status: doc.status,
  model: doc.answer?.model ?? null,
  provider: doc.answer?.provider ?? null,
  requested_model: doc.answer?.requestedModel ?? null,
  cost_usd: doc.answer?.costUsd ?? null,
  error: doc.reason,
  tried: doc.answer?.tried ?? [],
});

// ── routes ────────────────────────────────────────────────────────────────
export const createChat = route({
  surface: 'zerg',
  method: 'POST',
  path: '/api/v1/chat',
  example: { body: { model: 'pro', mode: 'build' } },
  summary: 'Begins a conversation.',
  access: 'chat:write',
  body: z.object({ model: requestedModel.optional(), mode: conversationMode.default('build') }).prefault({}),
  answers: { 200: ok(zergNewSession) },
});

export const listChats = route({
  surface: 'zerg',
  method: 'GET',
  path: '/api/v1/chat',
  summary: "Lists the caller's active conversations, the one that changed last first; admins see all.",
  access: 'chat:read',
  query: z.object({ limit: limit(1_000, 1_000), offset, asOf }),
  answers: { 200: ok(z.array(zergSession)) },
});

export const getChat = route({
  surface: 'zerg',
  method: 'GET',
  path: '/api/v1/chat/:id',
  summary: 'A conversation.',
  access: 'chat:read',
  params: idParams,
  query: z.object({ asOf }),
  answers: { 200: ok(zergSession) },
});

export const endChat = route({
  surface: 'zerg',
  method: 'DELETE',
  path: '/api/v1/chat/:id',
  summary: 'Ends a conversation: it can be read, and takes no more messages.',
  access: 'chat:write',
  params: idParams,
  answers: { 200: ok(z.strictObject({ id: z.string(), status: z.literal('ended') })) },
});

export const sendChatMessage = route({
  surface: 'zerg',
  method: 'POST',
  path: '/api/v1/chat/:id/message',
  example: { body: { content: 'What is 12.5% of 80?' } },
  summary: "Sends a message; its answer comes over the conversation's stream.",
  access: 'chat:write',
  params: idParams,
  body: z.object({ content: messageContent, model: requestedModel.optional() }),
  answers: {
    202: ok(
      z.strictObject({
        message_id: z.string(),
        session_id: z.string(),
        turn_id: z.string(),
        status: z.literal('accepted'),
      }),
    ),
  },
});

export const chatHistory = route({
  surface: 'zerg',
  method: 'GET',
  path: '/api/v1/chat/:id/history',
  summary:
    'The last `limit` messages (of those before the message `before`), and no more than a mebibyte of text, ' +
    'oldest first.',
  access: 'chat:read',
  params: idParams,
  query: z.object({ limit: limit(1_000, 50), before: messagePage.before, asOf }),
  answers: { 200: ok(z.array(zergMessage)) },
});

export const zergChatRoutes = [
  createChat,
  listChats,
  getChat,
  endChat,
  sendChatMessage,
  chatHistory,
] as const;
