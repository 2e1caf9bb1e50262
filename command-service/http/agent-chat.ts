/** Agent Chat's commands on conversations. */
import type { ChatCommands } from '../../contracts/commands/conversation.ts';
import { Refusal, refuse } from '../../contracts/errors.ts';
import * as agentChat from '../../contracts/http/agent-chat.ts';
import type { ConversationDocument } from '../../contracts/read-models/documents.ts';
import { type Endpoint, endpoint } from '../../infra/http/port.ts';
import type { ReadModels } from '../../infra/read-models/port.ts';
import { agentIn } from '../chat.ts';
import type { CommandBus } from '../command.ts';
import { changeConversation, deleteConversation } from '../domain/conversation.ts';
import { carryOut, existingId, issuerOf } from './conversations.ts';

export interface AgentChatCommandDependencies {
  readonly bus: CommandBus;
  readonly commands: Pick<ChatCommands, 'startConversation'>;
  readonly readModels: Pick<ReadModels, 'get'>;
  /** What answers where no model was asked for. */
  readonly defaultModel: string;
}

export function agentChatCommandEndpoints(deps: AgentChatCommandDependencies): Endpoint[] {
  const { bus, commands, readModels, defaultModel } = deps;
  return [
    endpoint(agentChat.createConversation, async ({ body, context }) => {
      const { title = null, model = null } = body;
      const { conversation, position } = await commands
        .startConversation({ title, model }, issuerOf(context))
        .catch((error: unknown) => {
          // There is nothing else that could be missing.
          if (error instanceof Refusal && error.code === 'NOT_FOUND') throw noSuchAgent(model);
          throw error;
        });
      context.reached(position);
      return { status: 201, body: agentChat.renderConversation(conversation, defaultModel) };
    }),

    endpoint(agentChat.renameConversation, async ({ params, body: { title }, context }) => {
      const conversationId = existingId(params.id);
      const { events, state } = await carryOut(bus, changeConversation, { conversationId, title }, context);
      await context.settled();
      const stored = await readModels.get<ConversationDocument>('conversations', conversationId);
      if (stored === null) {
        refuse('SERVICE_UNAVAILABLE', 'The change is recorded, but cannot be shown yet: read it later.');
      }
      const conversation = {
        ...stored.body,
        // As the command left it, even where the read model is behind.
        title: state.title,
        updatedAt: events.at(-1)?.time ?? stored.body.updatedAt,
      };
      return { status: 200, body: agentChat.renderConversation(conversation, defaultModel) };
    }),

    endpoint(agentChat.deleteConversation, async ({ params, context }) => {
      await carryOut(bus, deleteConversation, { conversationId: existingId(params.id) }, context);
      return { status: 200, body: { success: true, message: 'Conversation deleted' } };
    }),
  ];
}

const noSuchAgent = (model: string | null): Refusal =>
  new Refusal('VALIDATION_ERROR', 'The request is not valid.', {
    issues: [{ path: ['body', 'model'], message: `there is no agent ${agentIn(model) ?? ''}` }],
  });
