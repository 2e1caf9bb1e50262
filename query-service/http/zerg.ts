/** ZERG's reads of conversations. */
import * as zerg from '../../contracts/http/zerg.ts';
import { callerOf, type Endpoint, endpoint } from '../../infra/http/port.ts';
import { type AsOfDependencies, readsAsOf } from './as-of.ts';
import { messagesOf, visibleConversation, visibleOwner } from './visible.ts';

export interface ZergQueryDependencies extends AsOfDependencies {
  /** What answers where no model was asked for. */
  readonly defaultModel: string;
}

export function zergChatQueryEndpoints(deps: ZergQueryDependencies): Endpoint[] {
  const { defaultModel } = deps;
  return [
    endpoint(zerg.listChats, async ({ query, context }) => {
      const { limit, offset } = query;
      const owner = visibleOwner(callerOf(context));
      const { reads, headers } = await readsAsOf(query.asOf, deps);
      const found = await reads.conversations(
        { ...owner, kind: 'chat', status: 'active' },
        { limit, offset },
      );
      const sessions = found.map((doc) => zerg.renderSession(doc, defaultModel));
      return { status: 200, headers, body: zerg.zergOk(sessions) };
    }),

    endpoint(zerg.getChat, async ({ params, query, context }) => {
      const { reads, headers } = await readsAsOf(query.asOf, deps);
      const conversation = await visibleConversation(reads, callerOf(context), params.id);
      return {
        status: 200,
        headers,
        body: zerg.zergOk(zerg.renderSession(conversation, defaultModel)),
      };
    }),

    endpoint(zerg.chatHistory, async ({ params, query, context }) => {
      const { reads, headers } = await readsAsOf(query.asOf, deps);
      const conversation = await visibleConversation(reads, callerOf(context), params.id);
      const { messages } = await messagesOf(reads, conversation.id, query);
      return { status: 200, headers, body: zerg.zergOk(messages.map(zerg.renderMessage)) };
    }),
  ];
}
