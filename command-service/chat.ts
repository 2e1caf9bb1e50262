/** The chat commands for transports that carry both directions (WebSocket, Socket.IO, GraphQL). */
import type { ChatCommands, Issuer } from '../contracts/commands/conversation.ts';
import type { SignalBus } from '../infra/bus/port.ts';
import type { CommandBus, CommandMeta } from './command.ts';
import { messageIdFor, requestInterrupt, sendMessage, turnIdFor } from './domain/conversation.ts';

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

export function createChatCommands(bus: CommandBus, signals: SignalBus): ChatCommands {
  return {
    async sendMessage({ conversationId, content, model }, issuer) {
      const messageId = messageIdFor(issuer.commandId);
      const turnId = turnIdFor(issuer.commandId);
      const { events, state } = await bus.dispatch(
        sendMessage,
        { conversationId, messageId, turnId, content, model, instructions: null, run: null, prompt: null },
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
        signals.publish({ kind: 'interrupt', conversationId, turnId: interrupted });
      }
      return { turnId: interrupted, position };
    },
  };
}
