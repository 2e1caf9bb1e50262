/** ZERG's chat commands. */
import type { ChatCommands } from '../../contracts/commands/conversation.ts';
import * as zerg from '../../contracts/http/zerg.ts';
import { type Endpoint, endpoint } from '../../infra/http/port.ts';
import type { CommandBus } from '../command.ts';
import { endConversation } from '../domain/conversation.ts';
import { begin, carryOut, existingId, issuerOf } from './conversations.ts';

export interface ZergCommandDependencies {
  readonly bus: CommandBus;
  readonly commands: ChatCommands;
  /** What answers where no model was asked for. */
  readonly defaultModel: string;
}

export function zergChatCommandEndpoints(deps: ZergCommandDependencies): Endpoint[] {
  const { bus, commands, defaultModel } = deps;
  return [
    endpoint(zerg.createChat, async ({ body, context }) => {
      const { mode, model = null } = body;
      const conversation = await begin(bus, { title: null, mode, model }, context);
      return { status: 200, body: zerg.zergOk(zerg.renderNewSession(conversation, defaultModel)) };
    }),

    endpoint(zerg.endChat, async ({ params, context }) => {
      const id = existingId(params.id);
      await carryOut(bus, endConversation, { conversationId: id }, context);
      return { status: 200, body: zerg.zergOk({ id, status: 'ended' }) };
    }),

    endpoint(zerg.sendChatMessage, async ({ params, body, context }) => {
      const conversationId = existingId(params.id);
      const { content, model = null } = body;
      const sent = await commands.sendMessage({ conversationId, content, model }, issuerOf(context));
      context.reached(sent.position);
      const accepted = {
        message_id: sent.messageId,
        session_id: conversationId,
        turn_id: sent.turnId,
        status: 'accepted',
      };
      return { status: 202, headers: { 'X-Turn-Id': sent.turnId }, body: zerg.zergOk(accepted) };
    }),
  ];
}
