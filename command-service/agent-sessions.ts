/** A user's current session with an agent: the conversation of theirs that changed last and is active. */
import type { Issuer } from '../contracts/commands/conversation.ts';
import { Refusal } from '../contracts/errors.ts';
import type { AgentDocument, ConversationDocument } from '../contracts/read-models/documents.ts';
import type { ReadModels } from '../infra/read-models/port.ts';
import { metaOf } from './chat.ts';
import type { CommandBus } from './command.ts';
import { conversation, startConversation } from './domain/conversation.ts';
import { derivedId } from './domain/derived-id.ts';

export interface AgentSessions {
  /** Null when none is active. */
  current(owner: string, agentId: string): Promise<ConversationDocument | null>;
  /** The id of the current one; where there is none, of one that is begun now. @throws Refusal */
  open(agent: AgentDocument, issuer: Issuer): Promise<string>;
}

/** Sessions that were deleted, whose ids are tried and found taken, one after the other. */
const MAX_IDS = 100;

export function createAgentSessions({
  bus,
  readModels,
}: {
  readonly bus: CommandBus;
  readonly readModels: Pick<ReadModels, 'find'>;
}): AgentSessions {
  async function newest(owner: string, agentId: string, status: ConversationDocument['status']) {
    const { documents } = await readModels.find<ConversationDocument>('conversations', {
      where: { owner, agentId, kind: 'chat', status },
      orderBy: { field: 'position', direction: 'descending' },
      limit: 1,
    });
    return documents[0]?.body ?? null;
  }

  const isActive = async (id: string) => (await bus.load(conversation, id)).state.status === 'active';

  /** False when there is such a conversation already. */
  async function begun(conversationId: string, agent: AgentDocument, issuer: Issuer): Promise<boolean> {
    const { id, name, model } = agent;
    const start = {
      ...{ conversationId, owner: issuer.caller.userId, title: null, mode: 'assistant' as const, model },
      ...{ kind: 'chat' as const, agent: { id, name }, linkId: null },
    };
    try {
      await bus.dispatch(startConversation, start, metaOf(issuer));
      return true;
    } catch (error) {
      if (!(error instanceof Refusal) || error.code !== 'CONFLICT') throw error;
      return false;
    }
  }

  return {
    current: (owner, agentId) => newest(owner, agentId, 'active'),

    async open(agent, issuer) {
      const owner = issuer.caller.userId;
      const active = await newest(owner, agent.id, 'active');
      // The read model may be behind.
      if (active !== null && (await isActive(active.id))) return active.id;
      // The new one's id follows from the one before, so that two messages at once begin one session.
      const last = active ?? (await newest(owner, agent.id, 'ended'));
      for (let salt = 0; salt < MAX_IDS; salt++) {
        const id = derivedId(12, 'agent session', owner, agent.id, last?.id ?? '', salt);
        if ((await begun(id, agent, issuer)) || (await isActive(id))) return id;
      }
      // Whoever has deleted so many begins one of their own with each first message.
      const id = derivedId(12, 'agent session', owner, agent.id, issuer.commandId);
      await begun(id, agent, issuer);
      return id;
    },
  };
}
