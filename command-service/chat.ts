/** The chat commands: for transports that carry both directions (WebSocket, Socket.IO, GraphQL), and for routes. */
import type { ChatCommands, Issuer, NewConversation } from '../contracts/commands/conversation.ts';
import type { Position } from '../contracts/envelope.ts';
import { Refusal } from '../contracts/errors.ts';
import type { OdeonEvent } from '../contracts/events/catalogue.ts';
import { newConversation } from '../contracts/read-models/conversation.ts';
import type { ConversationDocument } from '../contracts/read-models/documents.ts';
import type { SignalBus } from '../infra/bus/port.ts';
import type { CommandBus, CommandMeta } from './command.ts';
import {
  conversation,
  conversationIdFor,
  messageIdFor,
  requestInterrupt,
  sendMessage,
  startConversation,
  turnIdFor,
} from './domain/conversation.ts';

/** A command that a request from outside began. */
export const metaOf = (issuer: Issuer): CommandMeta => ({
  commandId: issuer.commandId,
  correlationId: issuer.correlationId,
  causationId: null,
  surface: issuer.surface,
  actor: issuer.caller.actor,
  caller: issuer.caller,
  retried: issuer.retried,
});

/** 48 bits may meet an id that is taken; to do so again and again they cannot. */
const MAX_IDS = 5;

/**
 * Begins a conversation of the issuer's.
 * @returns it as it is now, and the position of its start
 * @throws Refusal
 */
export async function beginConversation(
  bus: CommandBus,
  {
    title = null,
    mode = 'assistant',
    model = null,
    kind = 'chat',
    agent = null,
    linkId = null,
  }: NewConversation,
  issuer: Issuer,
): Promise<{ conversation: ConversationDocument; position: Position }> {
  const owner = issuer.caller.userId;
  for (let salt = 0; ; salt++) {
    const conversationId = conversationIdFor(issuer.commandId, salt);
    try {
      const { events } = await bus.dispatch(
        startConversation,
        { conversationId, owner, title, mode, model, kind, agent, linkId },
        metaOf(issuer),
      );
      const started = events[0] as OdeonEvent<'ConversationStarted'>;
      return { conversation: newConversation(started), position: started.position };
    } catch (error) {
      if (!(error instanceof Refusal) || error.code !== 'CONFLICT' || salt === MAX_IDS) throw error;
    }
  }
}

export function createChatCommands(bus: CommandBus, signals: SignalBus): ChatCommands {
  return {
    startConversation: (input, issuer) => beginConversation(bus, input, issuer),

    async sendMessage(
      { conversationId, content, model, instructions = null, run = null, prompt = null },
      issuer,
    ) {
      const messageId = messageIdFor(issuer.commandId);
      const turnId = turnIdFor(issuer.commandId);
      const { events, state } = await bus.dispatch(
        sendMessage,
        { conversationId, messageId, turnId, content, model, instructions, run, prompt },
        metaOf(issuer),
      );
      return { messageId, turnId, position: events[0]!.position, waiting: state.waiting.length };
    },

    async interrupt({ conversationId, turnId }, issuer) {
      const { events, position, state } = await bus.dispatch(
        requestInterrupt,
        { conversationId, turnId },
        metaOf(issuer),
      );
      const interrupted = events.length > 0 ? (turnId ?? state.running?.turnId ?? null) : null;
      if (interrupted !== null) {
        // The worker follows the log as well; the signal only saves it the way through the subscription.
        const stream = `${conversation.category}-${conversationId}`;
        signals.publish({ kind: 'interrupt', stream, workId: interrupted });
      }
      return { turnId: interrupted, position };
    },
  };
}
