/** What the surfaces' chat commands have in common. */

import type { Issuer } from '../../contracts/commands/conversation.ts';
import { conversationId } from '../../contracts/commands/conversation.ts';
import { Refusal, refuse } from '../../contracts/errors.ts';
import type { OdeonEvent } from '../../contracts/events/catalogue.ts';
import type {
  AgentReference,
  ConversationKind,
  ConversationMode,
} from '../../contracts/events/conversation.ts';
import { newConversation } from '../../contracts/read-models/conversation.ts';
import type { ConversationDocument } from '../../contracts/read-models/documents.ts';
import { callerOf, type RequestContext } from '../../infra/http/port.ts';
import { metaOf } from '../chat.ts';
import type { Command, CommandBus, CommandMeta, CommandResult } from '../command.ts';
import {
  type ConversationEventType,
  type ConversationState,
  conversationIdFor,
  startConversation,
} from '../domain/conversation.ts';

export const issuerOf = (context: RequestContext): Issuer => ({
  caller: callerOf(context),
  commandId: context.commandId,
  correlationId: context.correlationId,
  surface: context.surface,
  retried: context.retried,
});

/** The meta of a request's own commands. */
export const requestMeta = (context: RequestContext): CommandMeta => metaOf(issuerOf(context));

/** @throws Refusal NOT_FOUND for what no conversation can be called */
export function existingId(id: string): string {
  if (!conversationId.safeParse(id).success) refuse('NOT_FOUND', 'Conversation not found.');
  return id;
}

/** Carries out one command of the request, whose answer then comes after the projections have seen it. */
export async function carryOut<Input>(
  bus: CommandBus,
  command: Command<Input, ConversationState, ConversationEventType>,
  input: NoInfer<Input>,
  context: RequestContext,
): Promise<CommandResult<ConversationState>> {
  const result = await bus.dispatch(command, input, requestMeta(context));
  if (result.position !== null) context.reached(result.position);
  return result;
}

/** 48 bits may meet an id that is taken; to do so again and again they cannot. */
const MAX_IDS = 5;

/** Begins a conversation of the caller's. */
export async function begin(
  bus: CommandBus,
  wanted: {
    title: string | null;
    mode: ConversationMode;
    model: string | null;
    kind?: ConversationKind;
    agent?: AgentReference | null;
    linkId?: string | null;
  },
  context: RequestContext,
): Promise<ConversationDocument> {
  const owner = callerOf(context).userId;
  for (let salt = 0; ; salt++) {
    const input = {
      conversationId: conversationIdFor(context.commandId, salt),
      owner,
      kind: 'chat' as const,
      agent: null,
      linkId: null,
      ...wanted,
    };
    try {
      const { events } = await carryOut(bus, startConversation, input, context);
      return newConversation(events[0] as OdeonEvent<'ConversationStarted'>);
    } catch (error) {
      if (!(error instanceof Refusal) || error.code !== 'CONFLICT' || salt === MAX_IDS) throw error;
    }
  }
}
