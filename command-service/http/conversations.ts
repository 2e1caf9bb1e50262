/** What the surfaces' chat commands have in common. */

import type { Issuer, NewConversation } from '../../contracts/commands/conversation.ts';
import { conversationId } from '../../contracts/commands/conversation.ts';
import { refuse } from '../../contracts/errors.ts';
import type { ConversationDocument } from '../../contracts/read-models/documents.ts';
import { callerOf, type RequestContext } from '../../infra/http/port.ts';
import { beginConversation, metaOf } from '../chat.ts';
import type { Command, CommandBus, CommandMeta, CommandResult } from '../command.ts';
import type { ConversationEventType, ConversationState } from '../domain/conversation.ts';

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

/** Begins a conversation of the caller's; the request's answer then comes after the projections have seen it. */
export async function begin(
  bus: CommandBus,
  wanted: NewConversation,
  context: RequestContext,
): Promise<ConversationDocument> {
  const { conversation, position } = await beginConversation(bus, wanted, issuerOf(context));
  context.reached(position);
  return conversation;
}
