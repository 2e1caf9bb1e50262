/**
 * The past: what the chat routes would have read at a position, folded from the log with the projections' own
 * functions, and only from the events that the answer depends on.
 */
import { comparePositions, type EventEnvelope, isAfter, type Position } from '../contracts/envelope.ts';
import type { EventType } from '../contracts/events/catalogue.ts';
import type {
  ActivityEntry,
  ActivityFilter,
  ChatReads,
  ConversationFilter,
  History,
} from '../contracts/read-models/chat-reads.ts';
import { CONVERSATION_STREAM } from '../contracts/read-models/conversation.ts';
import type { MessageDocument } from '../contracts/read-models/documents.ts';
import type { EventFilter, EventStore, ReadAllOptions } from '../infra/event-store/port.ts';
import { activityRow, activityTypes } from './activity.ts';
import { conversations } from './conversations.ts';
import { applierOf, type Folding, foldingOf } from './fold.ts';
import { messages } from './messages.ts';
import type { Projection } from './projection.ts';

/** @param store as the projections read it: upcast to the newest schemas */
export const createHistory =
  (store: EventStore): History =>
  (upTo) =>
    pastReads(store, upTo);

function pastReads(store: EventStore, upTo: Position): ChatReads {
  async function* read(options: ReadAllOptions): AsyncGenerator<EventEnvelope> {
    for await (const page of store.readAll({ upTo, ...options })) yield* page.events;
  }

  async function conversationsOf(wanted: ConversationFilter) {
    const filter = {
      streamPrefix: CONVERSATION_STREAM,
      types: typesOf(conversations),
      ...(wanted.owner !== undefined && { owner: wanted.owner }),
    };
    const documents = (await foldAll(conversations, read({ filter }))).values();
    return [...documents].filter(({ body }) => matches(body, wanted));
  }

  return {
    async conversation(id) {
      const filter = { stream: CONVERSATION_STREAM + id, types: typesOf(conversations) };
      return (await foldAll(conversations, read({ filter }))).get(id)?.body ?? null;
    },

    async conversations(wanted, { limit, offset }) {
      return (await conversationsOf(wanted))
        .sort(newestFirst)
        .slice(offset, offset + limit)
        .map(({ body }) => body);
    },

    countConversations: async (wanted) => (await conversationsOf(wanted)).length,

    async messages(conversationId, { before, after, limit }) {
      const direction = after === undefined ? 'backwards' : 'forwards';
      const filter = { stream: CONVERSATION_STREAM + conversationId, types: typesOf(messages) };
      const beside = after ?? before;
      let reached = beside === undefined;
      const found: MessageDocument[] = [];
      // A message comes from one event, so that no other has to be read to make it.
      for await (const event of read({ filter, direction })) {
        if (reached) found.push(messageOf.next(null, event) as MessageDocument);
        else reached = messageOf.idOf(event) === beside;
        if (found.length > limit) break;
      }
      if (!reached) return null;
      const page = found.slice(0, limit);
      return { messages: after === undefined ? page.reverse() : page, more: found.length > limit };
    },

    async activity(wanted, { after, before, limit }) {
      const rows = async (filter: EventFilter): Promise<ActivityEntry[]> => {
        const found: ActivityEntry[] = [];
        const range = {
          ...(after !== undefined && { after }),
          ...(before !== undefined && { upTo: isAfter(before, upTo) ? upTo : before }),
        };
        for await (const event of read({ filter, direction: 'backwards', ...range })) {
          if (event.position === before) continue;
          const row = activityRow(event);
          if (row !== null && matches(row, wanted)) found.push({ position: event.position, row });
          if (found.length === limit) break;
        }
        return found;
      };
      const found = await Promise.all(activityFilters(wanted).map(rows));
      return found.flat().sort(newestFirst).slice(0, limit);
    },
  };
}

/** What is in other streams, and whose data name the conversation that it belongs to. */
const namingConversations = new Set<EventType>(['FactRemembered', 'StepStarted']);

/** Which events can have rows that are wanted: a conversation's are in its stream, and those that name it. */
function activityFilters({ owner, conversationId, category }: ActivityFilter): readonly EventFilter[] {
  const types = activityTypes(category);
  const owned = owner === undefined ? {} : { owner };
  const filters =
    conversationId === undefined
      ? [{ types, ...owned }]
      : [
          { types, stream: CONVERSATION_STREAM + conversationId, ...owned },
          { types: types.filter((type) => namingConversations.has(type)), ...owned },
        ];
  return filters.filter((filter) => filter.types.length > 0);
}

const typesOf = (projection: Pick<Projection, 'on'>): EventType[] =>
  Object.keys(projection.on) as EventType[];

const messageOf = applierOf(messages);

async function foldAll<Document>(
  projection: Projection<Document>,
  events: AsyncIterable<EventEnvelope>,
): Promise<Folding<Document>['documents']> {
  const folding = foldingOf(projection);
  for await (const event of events) folding.add(event);
  return folding.documents;
}

/** Every field that is wanted has the value that is wanted. */
const matches = <Document extends object>(
  document: Document,
  wanted: Partial<Document> | ConversationFilter | ActivityFilter,
): boolean =>
  Object.entries(wanted).every(([field, value]) => (document as Record<string, unknown>)[field] === value);

const newestFirst = (a: { position: Position }, b: { position: Position }): number =>
  comparePositions(b.position, a.position);
