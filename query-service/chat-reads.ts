/** The present, from the read models. */
import type { ChatReads } from '../contracts/read-models/chat-reads.ts';
import type {
  ActivityDocument,
  ConversationDocument,
  MessageDocument,
} from '../contracts/read-models/documents.ts';
import type { Query, ReadModels, Scalar, Stored } from '../infra/read-models/port.ts';

export function presentReads(readModels: ReadModels): ChatReads {
  return {
    async conversation(id) {
      return (await readModels.get<ConversationDocument>('conversations', id))?.body ?? null;
    },

    async conversations(filter, { limit, offset }) {
      const { documents } = await readModels.find<ConversationDocument>('conversations', {
        where: equal(filter),
        orderBy: { field: 'position', direction: 'descending' },
        limit,
        offset,
      });
      return documents.map(bodyOf);
    },

    async messages(conversationId, { before, after, limit }) {
      const range: { after?: number; before?: number } = {};
      const beside = after ?? before;
      if (beside !== undefined) {
        const message = await readModels.get<MessageDocument>('messages', beside);
        if (message?.body.conversationId !== conversationId) return null;
        range[after === undefined ? 'before' : 'after'] = message.body.revision;
      }
      const { documents, next } = await readModels.find<MessageDocument>('messages', {
        where: { conversationId },
        ...(beside !== undefined && { range: { field: 'revision', ...range } }),
        orderBy: { field: 'revision', direction: after === undefined ? 'descending' : 'ascending' },
        limit,
      });
      const messages = documents.map(bodyOf);
      return { messages: after === undefined ? messages.reverse() : messages, more: next !== null };
    },

    async activity(filter, { after, before, limit }) {
      const range: { after?: string; before?: string } = {};
      if (after !== undefined) range.after = after;
      if (before !== undefined) range.before = before;
      const { documents } = await readModels.find<ActivityDocument>('activity', {
        where: equal(filter),
        ...(Object.keys(range).length > 0 && { range: { field: 'position', ...range } }),
        orderBy: { field: 'position', direction: 'descending' },
        limit,
      });
      return documents.map(({ position, body }) => ({ position, row: body }));
    },
  };
}

const bodyOf = <Body>(stored: Stored<Body>): Body => stored.body;

const equal = (filter: object): NonNullable<Query['where']> =>
  Object.fromEntries(
    Object.entries(filter).filter((entry): entry is [string, Scalar] => entry[1] !== undefined),
  );
