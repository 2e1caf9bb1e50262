/** Agent Chat's commands on conversations. */
import type { Caller } from '../../contracts/caller.ts';
import type { NewConversation } from '../../contracts/commands/conversation.ts';
import { Refusal, refuse } from '../../contracts/errors.ts';
import * as agentChat from '../../contracts/http/agent-chat.ts';
import type { Agents } from '../../contracts/read-models/agents.ts';
import type { ConversationDocument } from '../../contracts/read-models/documents.ts';
import { callerOf, type Endpoint, endpoint } from '../../infra/http/port.ts';
import type { ReadModels } from '../../infra/read-models/port.ts';
import type { CommandBus } from '../command.ts';
import { changeConversation, deleteConversation } from '../domain/conversation.ts';
import { begin, carryOut, existingId } from './conversations.ts';

export interface AgentChatCommandDependencies {
  readonly bus: CommandBus;
  readonly readModels: Pick<ReadModels, 'get'>;
  readonly agents: Pick<Agents, 'find'>;
  /** What answers where no model was asked for. */
  readonly defaultModel: string;
}

export function agentChatCommandEndpoints(deps: AgentChatCommandDependencies): Endpoint[] {
  const { bus, readModels, agents, defaultModel } = deps;
  return [
    endpoint(agentChat.createConversation, async ({ body, context }) => {
      const { title = null, model = null } = body;
      const answering = await answeredBy(agents, callerOf(context), model);
      const conversation = await begin(bus, { title, ...answering }, context);
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

const AGENT = 'agent:';

/** The agent's name in `agent:<name>`; null for what names a model or route. */
export const agentNameIn = (model: string): string | null =>
  model.startsWith(AGENT) ? model.slice(AGENT.length) : null;

/**
 * Who answers in a conversation that is begun with this model.
 * @throws Refusal VALIDATION_ERROR for an agent that the caller may not use
 */
async function answeredBy(
  agents: Pick<Agents, 'find'>,
  caller: Caller,
  model: string | null,
): Promise<Pick<NewConversation, 'agent' | 'model'>> {
  const name = model === null ? null : agentNameIn(model);
  if (name === null) return { model };
  try {
    const agent = await agents.find(caller, name);
    return { model: null, agent: { id: agent.id, name: agent.name } };
  } catch (error) {
    if (!(error instanceof Refusal) || error.code !== 'NOT_FOUND') throw error;
    throw new Refusal('VALIDATION_ERROR', 'The request is not valid.', {
      issues: [{ path: ['body', 'model'], message: `there is no agent ${name}` }],
    });
  }
}
