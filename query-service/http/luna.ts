/** Luna Chat's reads: conversations, facts, activity, metrics. */
import { type Caller, sees } from '../../contracts/caller.ts';
import * as luna from '../../contracts/http/luna.ts';
import type { ActivityEntry } from '../../contracts/read-models/chat-reads.ts';
import type { FactDocument, UsageDocument } from '../../contracts/read-models/documents.ts';
import { callerOf, type Endpoint, endpoint } from '../../infra/http/port.ts';
import type { ReadModels } from '../../infra/read-models/port.ts';
import { type AsOfDependencies, readsAsOf } from './as-of.ts';
import { messagesOf, visibleConversation, visibleOwner } from './visible.ts';

export interface LunaQueryDependencies extends AsOfDependencies {
  readonly readModels: ReadModels;
  readonly machine: () => Promise<luna.SystemMetrics>;
}

export function lunaChatQueryEndpoints(deps: LunaQueryDependencies): Endpoint[] {
  const { readModels, machine } = deps;
  return [
    endpoint(luna.listSessions, async ({ query, context }) => {
      const { limit, offset, archived } = query;
      const { reads, headers } = await readsAsOf(query.asOf, deps);
      const owner = chosenOwner(callerOf(context), query.userId);
      const found =
        owner === null
          ? []
          : await reads.conversations({ ...owner, kind: 'chat', archived }, { limit, offset });
      return {
        status: 200,
        headers,
        body: { sessions: found.map(luna.renderSession), limit, offset },
      };
    }),

    endpoint(luna.getSession, async ({ params, query, context }) => {
      const { reads, headers } = await readsAsOf(query.asOf, deps);
      const conversation = await visibleConversation(reads, callerOf(context), params.id);
      const { messages, more } = await messagesOf(reads, conversation.id, query);
      return {
        status: 200,
        headers,
        body: {
          ...luna.renderSession(conversation),
          messages: messages.map(luna.renderMessage),
          hasMoreMessages: more,
        },
      };
    }),

    endpoint(luna.listFacts, async ({ query, context }) => {
      const { category, limit, offset } = query;
      const { documents } = await readModels.find<FactDocument>('facts', {
        where: { owner: callerOf(context).userId, ...(category !== undefined && { category }) },
        orderBy: { field: 'position', direction: 'descending' },
        limit,
        offset,
      });
      return { status: 200, body: documents.map(({ body }) => luna.renderFact(body)) };
    }),

    endpoint(luna.listActivity, async ({ query, context }) => {
      const { reads, headers } = await readsAsOf(query.asOf, deps);
      const owner = chosenOwner(callerOf(context), query.userId);
      const found = owner === null ? [] : await reads.activity({ ...owner, ...kinds(query) }, query);
      return { status: 200, headers, body: logs(found) };
    }),

    endpoint(luna.listSessionActivity, async ({ params, query, context }) => {
      const { reads, headers } = await readsAsOf(query.asOf, deps);
      const { id, owner } = await visibleConversation(reads, callerOf(context), params.id);
      const found = await reads.activity({ owner, conversationId: id, ...kinds(query) }, query);
      return { status: 200, headers, body: logs(found) };
    }),

    endpoint(luna.getMetrics, async ({ context }) => {
      const now = new Date().toISOString();
      const day = now.slice(0, 'YYYY-MM-DD'.length);
      const [system, usage] = await Promise.all([machine(), usageOf(readModels, callerOf(context), day)]);
      return { status: 200, body: { ...system, llm: luna.renderUsage(usage), timestamp: now } };
    }),
  ];
}

/** Whose things are listed: the chosen user's, or all that the caller sees. Null: that user's are hidden. */
function chosenOwner(caller: Caller, userId: string | undefined): { readonly owner?: string } | null {
  if (userId === undefined) return visibleOwner(caller);
  return sees(caller, userId) ? { owner: userId } : null;
}

type Given<Fields> = { [Name in keyof Fields]?: Exclude<Fields[Name], undefined> };
const given = <Fields extends object>(fields: Fields): Given<Fields> =>
  Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined)) as Given<Fields>;

const kinds = <Category, Level>({ category, level }: { category?: Category; level?: Level }) =>
  given({ category, level });

const logs = (found: readonly ActivityEntry[]) => ({
  logs: found.map(({ row, position }) => luna.renderActivity(row, position)),
});

const USAGE_PAGE = 500;

async function usageOf(readModels: ReadModels, caller: Caller, day: string): Promise<UsageDocument[]> {
  if (!caller.permissions.has('all:read')) {
    const own = await readModels.get<UsageDocument>('usage', `${caller.userId}:${day}`);
    return own === null ? [] : [own.body];
  }
  const found: UsageDocument[] = [];
  for (let cursor: string | null | undefined; cursor !== null; ) {
    const page = await readModels.find<UsageDocument>('usage', {
      where: { day },
      limit: USAGE_PAGE,
      ...(cursor !== undefined && { cursor }),
    });
    found.push(...page.documents.map(({ body }) => body));
    cursor = page.next;
  }
  return found;
}
