/** Trinity's reads of chats with agents: sessions, history, activity. */
import type { Caller } from '../../contracts/caller.ts';
import { sees } from '../../contracts/caller.ts';
import { refuse } from '../../contracts/errors.ts';
import * as executions from '../../contracts/http/executions.ts';
import * as trinity from '../../contracts/http/trinity.ts';
import { type Agents, type Execution, isExecution } from '../../contracts/read-models/agents.ts';
import type { ChatReads, ConversationFilter } from '../../contracts/read-models/chat-reads.ts';
import type {
  AgentDocument,
  ConversationDocument,
  MessageDocument,
  TurnDocument,
  UserDocument,
} from '../../contracts/read-models/documents.ts';
import { eventsOfTurn } from '../../contracts/read-models/turn-events.ts';
import type { EventStore } from '../../infra/event-store/port.ts';
import { callerOf, type Endpoint, endpoint } from '../../infra/http/port.ts';
import type { ReadModels } from '../../infra/read-models/port.ts';
import { type AsOfDependencies, readsAsOf } from './as-of.ts';
import { messagesOf, visibleOwner } from './visible.ts';

export interface TrinityQueryDependencies extends Omit<AsOfDependencies, 'store'> {
  readonly store: AsOfDependencies['store'] & Pick<EventStore, 'readStream'>;
  readonly readModels: ReadModels;
  readonly agents: Pick<Agents, 'find'>;
  /** What answers where no model was asked for. */
  readonly defaultModel: string;
  /** How many tokens a model takes; null: the default. */
  readonly contextWindow: (model: string | null) => number;
}

/** Whose tools' uses are shown as an agent's activity: so many of the latest executions. */
const LATEST = 50;
/** So many executions are looked through for a page of the timeline. */
const LOOKED_THROUGH = 500;
const SESSIONS_AT_ONCE = 50;

export function trinityQueryEndpoints(deps: TrinityQueryDependencies): Endpoint[] {
  const { store, readModels, agents, present, defaultModel, contextWindow } = deps;

  /** Looks up each user once. */
  function emails(caller: Caller): (userId: string) => Promise<string | null> {
    const known = new Map<string, Promise<string | null>>([[caller.userId, Promise.resolve(caller.email)]]);
    return (userId) => {
      let email = known.get(userId);
      if (email === undefined) {
        email = readModels.get<UserDocument>('users', userId).then((user) => user?.body.email ?? null);
        known.set(userId, email);
      }
      return email;
    };
  }

  function sources(agent: AgentDocument, caller: Caller) {
    const emailOf = emails(caller);
    return async (session: ConversationDocument): Promise<trinity.SessionSource> => ({
      agentName: agent.name,
      userEmail: await emailOf(session.owner),
      contextWindow: contextWindow(session.answeredBy ?? session.model ?? agent.model),
    });
  }

  async function current(caller: Caller, agent: AgentDocument): Promise<ConversationDocument | null> {
    const where = { owner: caller.userId, agentId: agent.id, kind: 'chat', status: 'active' } as const;
    return (await present.conversations(where, { limit: 1, offset: 0 }))[0] ?? null;
  }

  /** The latest executions, as far as they used tools or still may. */
  async function latestUses(caller: Caller, agent: AgentDocument) {
    const { documents } = await readModels.find<TurnDocument>('turns', {
      where: { agentId: agent.id, ...visibleOwner(caller) },
      orderBy: { field: 'runAt', direction: 'descending' },
      limit: LATEST,
    });
    const turns = await withConversation(documents.map(({ body }) => body));
    const uses = await Promise.all(turns.map(usesOf));
    return { uses: uses.flat(), running: turns.some(({ status }) => status === 'running') };
  }

  /** Turns outlive a conversation that was deleted. */
  async function withConversation(turns: readonly TurnDocument[]): Promise<readonly TurnDocument[]> {
    const ids = [...new Set(turns.map(({ conversationId }) => conversationId))];
    if (ids.length === 0) return [];
    const { documents } = await readModels.find('conversations', { where: { id: ids }, limit: ids.length });
    const there = new Set(documents.map(({ id }) => id));
    return turns.filter(({ conversationId }) => there.has(conversationId));
  }

  /** For each turn that an answer is of: the tokens of its last prompt. */
  async function lastPrompts(
    messages: readonly MessageDocument[],
  ): Promise<(turnId: string) => number | null> {
    const ids = messages.filter(({ answer }) => answer !== null).map(({ turnId }) => turnId);
    const turns = await Promise.all(ids.map((id) => readModels.get<TurnDocument>('turns', id)));
    const used = new Map(turns.map((turn, at) => [ids[at], turn && executions.contextUsed(turn.body)]));
    return (turnId) => used.get(turnId) ?? null;
  }

  async function usesOf(turn: TurnDocument): Promise<readonly trinity.ToolUse[]> {
    const mayHaveUsed = turn.tools.length > 0 || turn.status === 'running' || turn.status === 'interrupted';
    return mayHaveUsed ? trinity.toolUsesOf(await eventsOfTurn(store, turn)) : [];
  }

  return [
    endpoint(trinity.listSessions, async ({ params, query, context }) => {
      const caller = callerOf(context);
      const agent = await agents.find(caller, params.name);
      const { reads, headers } = await readsAsOf(query.asOf, deps);
      const { status, limit, offset } = query;
      const filter: ConversationFilter = {
        ...{ ...visibleOwner(caller), agentId: agent.id, kind: 'chat' },
        ...(status !== undefined && { status: trinity.conversationStatusOf[status] }),
      };
      const [count, found] = await Promise.all([
        reads.countConversations(filter),
        reads.conversations(filter, { limit, offset }),
      ]);
      const sourceOf = sources(agent, caller);
      const sessions = await Promise.all(
        found.map(async (session) => trinity.renderSession(session, await sourceOf(session))),
      );
      return { status: 200, headers, body: { agent_name: agent.name, session_count: count, sessions } };
    }),

    endpoint(trinity.getSession, async ({ params, query, context }) => {
      const caller = callerOf(context);
      const agent = await agents.find(caller, params.name);
      const { reads, headers } = await readsAsOf(query.asOf, deps);
      const session = visibleSession(await reads.conversation(params.id), caller, agent);
      const source = await sources(agent, caller)(session);
      const { messages } = await messagesOf(reads, session.id, { limit: query.limit });
      const lastPrompt = await lastPrompts(messages);
      return {
        status: 200,
        headers,
        body: {
          session: trinity.renderSession(session, source),
          message_count: messages.length,
          messages: messages.map((message) =>
            trinity.renderMessage(message, source, lastPrompt(message.turnId)),
          ),
        },
      };
    }),

    endpoint(trinity.getPersistentHistory, async ({ params, query, context }) => {
      const caller = callerOf(context);
      const agent = await agents.find(caller, params.name);
      const { reads, headers } = await readsAsOf(query.asOf, deps);
      const whose = query.user_filter ? { owner: caller.userId } : visibleOwner(caller);
      const found = await lastMessages(reads, { ...whose, agentId: agent.id, kind: 'chat' }, query.limit);
      const sourceOf = sources(agent, caller);
      const lastPrompt = await lastPrompts(found.map(({ message }) => message));
      const messages = await Promise.all(
        found.map(async ({ message, session }) =>
          trinity.renderMessage(message, await sourceOf(session), lastPrompt(message.turnId)),
        ),
      );
      return {
        status: 200,
        headers,
        body: { agent_name: agent.name, message_count: messages.length, messages },
      };
    }),

    endpoint(trinity.getHistory, async ({ params, query, context }) => {
      const caller = callerOf(context);
      const session = await current(caller, await agents.find(caller, params.name));
      const { messages } =
        session === null ? { messages: [] } : await messagesOf(present, session.id, { limit: query.limit });
      return {
        status: 200,
        body: messages.map(({ role, content, createdAt: timestamp }) => ({ role, content, timestamp })),
      };
    }),

    endpoint(trinity.getCurrentSession, async ({ params, context }) => {
      const caller = callerOf(context);
      const agent = await agents.find(caller, params.name);
      const session = await current(caller, agent);
      const model = session?.answeredBy ?? session?.model ?? agent.model;
      const window = contextWindow(model);
      const tokens = session?.contextTokens ?? 0;
      return {
        status: 200,
        body: {
          session_started: session !== null,
          session_id: session?.id ?? null,
          message_count: session?.messageCount ?? 0,
          total_cost_usd: session?.costUsd ?? 0,
          context_tokens: tokens,
          context_window: window,
          context_percent: Math.round((tokens / window) * 10_000) / 100,
          model: model ?? defaultModel,
        },
      };
    }),

    endpoint(trinity.getActivity, async ({ params, context }) => {
      const caller = callerOf(context);
      const { uses, running } = await latestUses(caller, await agents.find(caller, params.name));
      return { status: 200, body: trinity.renderActivity(uses, running) };
    }),

    endpoint(trinity.getToolActivity, async ({ params, context }) => {
      const caller = callerOf(context);
      const { uses } = await latestUses(caller, await agents.find(caller, params.name));
      const use = uses.find(({ id }) => id === params.tool_id);
      if (use === undefined) return refuse('NOT_FOUND', 'Tool call not found.');
      return { status: 200, body: trinity.renderToolCall(use) };
    }),

    endpoint(trinity.getTimeline, async ({ query, context }) => {
      const { start_time, end_time, activity_types, limit } = query;
      const types = new Set(activity_types ?? trinity.activityType.options);
      const turns = await executionsBetween(visibleOwner(callerOf(context)), start_time, end_time);
      let newest: trinity.Activity[] = [];
      for (const turn of turns) {
        const oldest = newest.length === limit ? newest.at(-1)!.started_at : null;
        if (oldest !== null && turn.endedAt !== null && turn.endedAt < oldest) continue;
        const ofTurn = types.has('tool_call')
          ? (await usesOf(turn)).map((use) => trinity.renderToolUse(turn, use))
          : [];
        if (types.has(trinity.runActivityType(turn.run))) ofTurn.push(trinity.renderRunActivity(turn));
        newest = [...newest, ...ofTurn]
          .sort((a, b) => compare(b.started_at, a.started_at) || compare(a.id, b.id))
          .slice(0, limit);
      }
      return { status: 200, body: { count: newest.length, activities: newest } };
    }),
  ];

  /** The latest that were asked for in the time, newest first. */
  async function executionsBetween(
    whose: { readonly owner?: string },
    from: string | undefined,
    upTo: string | undefined,
  ): Promise<readonly Execution[]> {
    const { documents } = await readModels.find<TurnDocument>('turns', {
      where: whose,
      // Times of the log have milliseconds; those without a run have none, and no range matches them.
      range: {
        field: 'runAt',
        from: from === undefined ? '' : new Date(from).toISOString(),
        ...(upTo !== undefined && { upTo: new Date(upTo).toISOString() }),
      },
      orderBy: { field: 'runAt', direction: 'descending' },
      limit: LOOKED_THROUGH,
    });
    return (await withConversation(documents.map(({ body }) => body))).filter(isExecution);
  }
}

/**
 * @throws Refusal NOT_FOUND for what is no session that the caller may see; FORBIDDEN for one that they may, with
 * another agent
 */
function visibleSession(
  session: ConversationDocument | null,
  caller: Caller,
  agent: AgentDocument,
): ConversationDocument {
  if (session === null || !sees(caller, session.owner)) return refuse('NOT_FOUND', 'Session not found.');
  if (session.agentId !== agent.id) return refuse('FORBIDDEN', `The session is not with ${agent.name}.`);
  return session;
}

interface Found {
  readonly message: MessageDocument;
  readonly session: ConversationDocument;
}

/** The last messages of several conversations together, oldest first. */
async function lastMessages(
  reads: ChatReads,
  filter: ConversationFilter,
  limit: number,
): Promise<readonly Found[]> {
  let found: Found[] = [];
  for (let offset = 0; ; offset += SESSIONS_AT_ONCE) {
    const sessions = await reads.conversations(filter, { limit: SESSIONS_AT_ONCE, offset });
    for (const session of sessions) {
      // They come by their last change, so that neither this one nor those after it have later messages.
      const earliest = found[0]?.message.createdAt;
      if (found.length === limit && earliest !== undefined && session.updatedAt < earliest) return found;
      const { messages } = await messagesOf(reads, session.id, { limit });
      found = [...found, ...messages.map((message) => ({ message, session }))]
        .sort((a, b) => compare(a.message.createdAt, b.message.createdAt))
        .slice(-limit);
    }
    if (sessions.length < SESSIONS_AT_ONCE) return found;
  }
}

const compare = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0);
