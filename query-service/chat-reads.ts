/** The present, from the read models. */
import { comparePositions, type Position } from '../contracts/envelope.ts';
import type { ActivityEntry, ActivityFilter, ChatReads } from '../contracts/read-models/chat-reads.ts';
import {
  type ActivityDocument,
  activityDocument,
  type ConversationDocument,
  type MessageDocument,
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

    countConversations: (filter) => readModels.count('conversations', equal(filter)),

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
      const { conversationId, owner, category, level } = filter;
      const range = rangeBetween(after, before);
      if (conversationId !== undefined) return activityOf(conversationId, filter, range, limit);
      const whose = owner === undefined ? {} : { owner };
      // The indexes hold category and level together: where one was given, a list for each value of the other.
      const kinds =
        category === undefined && level === undefined
          ? [whose]
          : among(categories, category).flatMap((one) =>
              among(levels, level).map((other) => ({ ...whose, category: one, level: other })),
            );
      const bounded = kinds.length === 1 ? range : await upToNow(whose, range);
      if (bounded === null) return [];
      const lists = await Promise.all(kinds.map((where) => newest({ where, ...bounded, limit })));
      return lists
        .flatMap(({ entries }) => entries)
        .sort((a, b) => comparePositions(b.position, a.position))
        .slice(0, limit);
    },
  };

  /**
   * The range, ended at the newest row that there is. Lists that are read one by one may be of different moments:
   * without a common end one could lack a row that is older than a row of another, and who asks for what comes
   * `after` that one would never see it.
   */
  async function upToNow(
    where: NonNullable<Query['where']>,
    { range }: Pick<Query, 'range'>,
  ): Promise<Pick<Query, 'range'> | null> {
    const [last] = (await newest({ where, ...(range !== undefined && { range }), limit: 1 })).entries;
    return last === undefined ? null : { range: { ...range, field: 'position', upTo: last.position } };
  }

  async function newest(query: Pick<Query, 'where' | 'range' | 'limit' | 'cursor'>) {
    const { documents, next } = await readModels.find<ActivityDocument>('activity', {
      ...query,
      orderBy: { field: 'position', direction: 'descending' },
    });
    return { entries: documents.map(({ position, body }): ActivityEntry => ({ position, row: body })), next };
  }

  /** What is wanted of a conversation's rows is picked out here: asked for more, a database may choose another index. */
  async function activityOf(
    conversationId: string,
    wanted: ActivityFilter,
    range: Pick<Query, 'range'>,
    limit: number,
  ): Promise<readonly ActivityEntry[]> {
    const fields = Object.entries(equal(wanted)) as [keyof ActivityDocument, Scalar][];
    const found: ActivityEntry[] = [];
    let cursor: string | null = null;
    do {
      const page: Awaited<ReturnType<typeof newest>> = await newest({
        where: { conversationId },
        ...range,
        limit: Math.max(limit, LOOKED_THROUGH),
        ...(cursor !== null && { cursor }),
      });
      found.push(...page.entries.filter(({ row }) => fields.every(([field, value]) => row[field] === value)));
      cursor = page.next;
    } while (cursor !== null && found.length < limit);
    return found.slice(0, limit);
  }
}

/** How many rows of a conversation are read at once. */
const LOOKED_THROUGH = 200;
const categories = activityDocument.shape.category.options;
const levels = activityDocument.shape.level.options;
const among = <Value>(all: readonly Value[], chosen: Value | undefined): readonly Value[] =>
  chosen === undefined ? all : [chosen];

/** Both ends excluded. */
function rangeBetween(after: Position | undefined, before: Position | undefined): Pick<Query, 'range'> {
  const ends = { ...(after !== undefined && { after }), ...(before !== undefined && { before }) };
  return after === undefined && before === undefined ? {} : { range: { field: 'position', ...ends } };
}

const bodyOf = <Body>(stored: Stored<Body>): Body => stored.body;

const equal = (filter: object): NonNullable<Query['where']> =>
  Object.fromEntries(
    Object.entries(filter).filter((entry): entry is [string, Scalar] => entry[1] !== undefined),
  );
