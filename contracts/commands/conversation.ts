/** The commands of a conversation. Ids are made by whoever issues the command, from its command id. */
import { z } from 'zod';
import type { Caller } from '../caller.ts';
import type { Position, Surface } from '../envelope.ts';
import {
  type AgentReference,
  agentReference,
  type ClientPrompt,
  type ConversationKind,
  type ConversationMode,
  clientPrompt,
  conversationKind,
  conversationMode,
  type Run,
  run,
} from '../events/conversation.ts';
import type { ConversationDocument } from '../read-models/documents.ts';

export const conversationId = z
  .string()
  .regex(/^[0-9a-f]{12}$/, 'a conversation id is 12 hexadecimal digits');
export const turnId = z.string().regex(/^turn_[0-9a-f]{24}$/, 'a turn id is turn_ and 24 hexadecimal digits');
export const messageContent = z
  .string()
  .min(1, 'the message is empty')
  .max(32_000, 'a message has at most 32,000 characters')
  .refine((text) => text.trim() !== '', 'the message is blank')
  .refine((text) => text.isWellFormed(), 'the message holds a lone surrogate, which is not valid Unicode');
export const conversationTitle = z
  .string()
  .min(1, 'the title is empty')
  .max(200, 'a title has at most 200 characters')
  .refine((text) => text.isWellFormed(), 'the title holds a lone surrogate, which is not valid Unicode');
/** `provider/model`, a bare model name, or a route (`nano`, `pro`, `tools`). */
export const requestedModel = z
  .string()
  .regex(/^[\w.:@/+-]{1,120}$/, 'a model is provider/model, a model name, or nano, pro or tools');

export const startConversation = z.strictObject({
  conversationId,
  owner: z.string(),
  title: conversationTitle.nullable(),
  mode: conversationMode,
  model: requestedModel.nullable(),
  kind: conversationKind,
  agent: agentReference.nullable(),
  linkId: z.string().nullable(),
});
/** What is left out stays as it is. */
export const changeConversation = z.strictObject({
  conversationId,
  title: conversationTitle.optional(),
  mode: conversationMode.optional(),
  archived: z.boolean().optional(),
});
export const endConversation = z.strictObject({ conversationId });
export const deleteConversation = z.strictObject({ conversationId });
export const sendMessage = z.strictObject({
  conversationId,
  messageId: z.string(),
  turnId,
  content: messageContent,
  model: requestedModel.nullable(),
  instructions: z.string().max(32_000, 'instructions have at most 32,000 characters').nullable(),
  run: run.nullable(),
  prompt: clientPrompt.nullable(),
});
/** `turnId` null: whichever turn runs now. */
export const requestInterrupt = z.strictObject({ conversationId, turnId: turnId.nullable() });

/** Who issues a command from outside, and under which ids. */
export interface Issuer {
  readonly caller: Caller;
  readonly commandId: string;
  readonly correlationId: string;
  readonly surface: Surface;
  readonly retried: boolean;
  /** The event that led to it, where the request names what it was part of. */
  readonly causationId?: string | null | undefined;
}

/** What a conversation is begun with. */
export interface NewConversation {
  readonly title?: string | null;
  readonly mode?: ConversationMode;
  readonly model?: string | null;
  readonly kind?: ConversationKind;
  readonly agent?: AgentReference | null;
  readonly linkId?: string | null;
}

export interface NewMessage {
  readonly conversationId: string;
  readonly content: string;
  /** `agent:<name>` asks an agent that the caller may use. Null: the conversation's own. */
  readonly model: string | null;
  readonly instructions?: string | null;
  /** How an agent is to run; without it, the conversation's agent (or that of `model`) runs as its definition says. */
  readonly run?: Run | null;
  readonly prompt?: ClientPrompt | null;
}

/** The command port for two-way transports (WebSocket, Socket.IO, GraphQL). All throw Refusal. */
export interface ChatCommands {
  startConversation(
    input: NewConversation,
    issuer: Issuer,
  ): Promise<{ conversation: ConversationDocument; position: Position }>;
  /** `waiting`: how many messages of the conversation wait for an answer now. */
  sendMessage(
    input: NewMessage,
    issuer: Issuer,
  ): Promise<{ messageId: string; turnId: string; position: Position; waiting: number }>;
  /** `turnId` of the turn that is being interrupted; null when none was running. */
  interrupt(
    input: { conversationId: string; turnId: string | null },
    issuer: Issuer,
  ): Promise<{ turnId: string | null; position: Position | null }>;
  /** `position` null: it had the title already. */
  renameConversation(
    input: { conversationId: string; title: string },
    issuer: Issuer,
  ): Promise<{ position: Position | null }>;
  deleteConversation(
    input: { conversationId: string },
    issuer: Issuer,
  ): Promise<{ position: Position | null }>;
}
