/** Agent Chat's reads of conversations. */
import * as agentChat from '../../contracts/http/agent-chat.ts';
import { callerOf, type Endpoint, endpoint } from '../../infra/http/port.ts';
import { type AsOfDependencies, readsAsOf } from './as-of.ts';
import { messagesOf, visibleConversation, visibleOwner } from './visible.ts';

export interface AgentChatQueryDependencies extends AsOfDependencies {
  /** What answers where no model was asked for. */
  readonly defaultModel: string;
}

export function agentChatQueryEndpoints(deps: AgentChatQueryDependencies): Endpoint[] {
  const { defaultModel } = deps;
  return [
    endpoint(agentChat.listConversations, async ({ query, context }) => {
      const { limit, offset, archived } = query;
      const { reads, headers } = await readsAsOf(query.asOf, deps);
      const filter = { ...visibleOwner(callerOf(context)), kind: 'chat', archived } as const;
      const [found, total] = await Promise.all([
        reads.conversations(filter, { limit, offset }),
        reads.countConversations(filter),
      ]);
      const conversations = found.map((doc) => agentChat.renderConversation(doc, defaultModel));
      return { status: 200, headers, body: { conversations, total, limit, offset } };
    }),

    endpoint(agentChat.getConversation, async ({ params, query, context }) => {
      const { reads, headers } = await readsAsOf(query.asOf, deps);
      const conversation = await visibleConversation(reads, callerOf(context), params.id);
      const { messages, more } = await messagesOf(reads, conversation.id, query);
      return {
        status: 200,
        headers,
        body: {
          ...agentChat.renderConversation(conversation, defaultModel),
          messages: messages.map(agentChat.renderMessage),
          has_more: more,
        },
      };
    }),
  ];
}
