/** What each field of the schema reads and does. A level of the answer takes one read, however many objects it has. */
import { createHash, randomUUID } from 'node:crypto';
import DataLoader from 'dataloader';
import { GraphQLError } from 'graphql';
import type { z } from 'zod';
import { type Caller, sees } from '../../contracts/caller.ts';
import {
  type ChatCommands,
  conversationTitle,
  type Issuer,
  conversationId as knownConversationId,
  messageContent,
  requestedModel,
} from '../../contracts/commands/conversation.ts';
import type { Position } from '../../contracts/envelope.ts';
import { Refusal, refuse } from '../../contracts/errors.ts';
import type { RateLimitClass } from '../../contracts/http/route.ts';
import type { TurnEnd } from '../../contracts/live/feeds.ts';
import { frameId } from '../../contracts/live/frames.ts';
import type { Agents } from '../../contracts/read-models/agents.ts';
import type {
  AgentDocument,
  ConversationDocument,
  MessageDocument,
  TurnDocument,
} from '../../contracts/read-models/documents.ts';
import type { ReadModels, Stored } from '../../infra/read-models/port.ts';
import type { Metrics } from '../../infra/telemetry/port.ts';
import { visibleOwner } from '../http/visible.ts';
import type { Cursor } from '../live/cursor.ts';
import { conversationFeed, type Start } from '../live/feed.ts';
import type { Hub } from '../live/hub.ts';
import type { Logins } from '../live/logins.ts';
import type { ProgressFeeds } from '../live/progress.ts';
import { type AnswerId, answers, statusOf } from '../live/socket-io/formats.ts';
import { reader } from '../live/streams.ts';
import { fromNow } from '../live/zerg.ts';
import type { Search } from '../search.ts';
import { graphql, iterate } from './feeds.ts';
import { LONGEST_LIST } from './schema.ts';
import {
  conversationFields,
  type ShownConversation,
  type ShownMessage,
  shown,
  shownMessage,
  usageOf,
} from './shown.ts';

export interface ResolverDependencies {
  readonly readModels: ReadModels;
  readonly commands: ChatCommands;
  readonly agents: Pick<Agents, 'find' | 'get' | 'list'>;
  readonly hub: Hub;
  readonly logins: Logins;
  readonly progress: Pick<ProgressFeeds, 'feed'>;
  readonly resume: (id: string | undefined, begin: Cursor) => Promise<Start>;
  /** Null where this process does not search. */
  readonly search: Search | null;
  /** Waits, bounded, until the read models show everything up to the position. */
  readonly settled: (position: Position) => Promise<unknown>;
  /** @throws Refusal RATE_LIMIT_EXCEEDED */
  readonly limit: (kind: RateLimitClass, caller: Caller, address: string) => Promise<void>;
  readonly answerId: AnswerId;
  readonly metrics: Pick<Metrics, 'liveClient'>;
  /** What answers where no model was asked for. */
  readonly defaultModel: string;
  /** How long sendMessage waits for the answer. */
  readonly answerTimeoutMs: number;
}

/** Of one operation. */
export interface Context {
  readonly caller: Caller;
  readonly address: string;
  readonly correlationId: string;
  /** Aborted when the client goes away. */
  readonly signal: AbortSignal;
  readonly loaders: Loaders;
}

// ── lists of one level in one read ────────────────────────────────────────
interface MessagesOf {
  readonly conversation: ConversationDocument;
  readonly limit: number;
}
export interface Loaders {
  readonly messages: DataLoader<MessagesOf, readonly MessageDocument[], string>;
  readonly answers: DataLoader<string, MessageDocument | null>;
}

/** What was sent meanwhile: the number of messages and the messages are two read models. */
const SLACK = 4;

export function createLoaders({ readModels }: Pick<ResolverDependencies, 'readModels'>): Loaders {
  /** Of conversations that are not longer than what is asked for, all in one read; of each other, its end. */
  async function messages(keys: readonly MessagesOf[]): Promise<(readonly MessageDocument[])[]> {
    const found = new Map<string, MessageDocument[]>();
    const short = keys.filter(({ conversation, limit }) => conversation.messageCount <= limit);
    const long = keys.filter(({ conversation, limit }) => conversation.messageCount > limit);
    const orderBy = { field: 'revision', direction: 'descending' } as const;
    const number = short.reduce((sum, { conversation }) => sum + conversation.messageCount + SLACK, 0);
    const reads = [
      ...(short.length === 0
        ? []
        : [
            {
              where: { conversationId: short.map(({ conversation }) => conversation.id) },
              orderBy,
              limit: number,
            },
          ]),
      ...long.map(({ conversation, limit }) => ({
        where: { conversationId: conversation.id },
        orderBy,
        limit,
      })),
    ];
    const pages = await Promise.all(
      reads.map((query) => readModels.find<MessageDocument>('messages', query)),
    );
    for (const { body } of pages.flatMap(({ documents }) => documents)) {
      const list = found.get(body.conversationId);
      if (list === undefined) found.set(body.conversationId, [body]);
      else list.push(body);
    }
    return keys.map(({ conversation, limit }) =>
      (found.get(conversation.id) ?? []).slice(0, limit).reverse(),
    );
  }

  return {
    messages: new DataLoader(messages, {
      cacheKeyFn: ({ conversation, limit }) => `${conversation.id} ${limit}`,
    }),
    answers: new DataLoader(async (ids) => {
      const { documents } = await readModels.find<MessageDocument>('messages', {
        where: { id: [...ids] },
        limit: ids.length,
      });
      const byId = new Map(documents.map(({ body }) => [body.id, body]));
      return ids.map((id) => byId.get(id) ?? null);
    }),
  };
}

// ── agents' health ────────────────────────────────────────────────────────
interface Health {
  readonly status: 'healthy' | 'degraded' | 'unhealthy';
  readonly uptime: number;
  readonly requestCount: number;
  readonly errorRate: number;
  readonly metrics: { readonly latency: number; readonly throughput: number; readonly tokenUsage: number };
}

/** Of an agent's runs, so many of the latest are looked at. */
const LATEST_RUNS = 100;
const DEGRADED = 0.1;
const UNHEALTHY = 0.5;
const HOUR_MS = 3_600_000;

async function healthOf(readModels: ReadModels, caller: Caller, agentId: string): Promise<Health> {
  const where = { agentId, ...visibleOwner(caller) };
  const [requestCount, failed, completed, interrupted, latest] = await Promise.all([
    readModels.count('turns', where),
    readModels.count('turns', { ...where, status: 'failed' }),
    readModels.count('turns', { ...where, status: 'completed' }),
    readModels.count('turns', { ...where, status: 'interrupted' }),
    readModels.find<TurnDocument>('turns', {
      where,
      orderBy: { field: 'runAt', direction: 'descending' },
      limit: LATEST_RUNS,
    }),
  ]);
  const ended = latest.documents.flatMap(({ body }) =>
    body.endedAt === null ? [] : [{ ...body, endedMs: Date.parse(body.endedAt) }],
  );
  const since = Date.now() - HOUR_MS;
  const durations = ended.flatMap(({ startedAt, endedMs }) =>
    startedAt === null ? [] : [endedMs - Date.parse(startedAt)],
  );
  const failing = ended.filter(({ status }) => status === 'failed').length / Math.max(1, ended.length);
  const all = failed + completed + interrupted;
  return {
    status: failing >= UNHEALTHY ? 'unhealthy' : failing >= DEGRADED ? 'degraded' : 'healthy',
    uptime: Math.round(process.uptime() * 1_000) / 1_000,
    requestCount,
    errorRate: all === 0 ? 0 : failed / all,
    metrics: {
      latency: durations.reduce((sum, ms) => sum + ms, 0) / Math.max(1, durations.length),
      throughput: ended.filter(({ endedMs }) => endedMs >= since).length / 60,
      tokenUsage: ended.reduce((sum, { usage }) => sum + (usageOf(usage)?.totalTokens ?? 0), 0),
    },
  };
}

// ── arguments ─────────────────────────────────────────────────────────────
const invalid = (field: string, message: string): Refusal =>
  new Refusal('VALIDATION_ERROR', `${field}: ${message}.`, { issues: [{ path: [field], message }] });

/** @throws Refusal VALIDATION_ERROR */
function parse<Schema extends z.ZodType>(schema: Schema, field: string, value: unknown): z.output<Schema> {
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  throw invalid(field, parsed.error.issues[0]!.message);
}

interface Page {
  readonly limit: number;
  readonly offset?: number;
}
const LARGEST_OFFSET = 1_000_000;
/** @throws Refusal VALIDATION_ERROR. Null is what a variable may be that has a default. */
function page({ limit, offset = 0 }: { limit: number | null; offset?: number | null }): Required<Page> {
  if (limit === null || limit < 1 || limit > LONGEST_LIST)
    throw invalid('limit', `is from 1 to ${LONGEST_LIST}`);
  if (offset === null || offset < 0 || offset > LARGEST_OFFSET) {
    throw invalid('offset', `is from 0 to ${LARGEST_OFFSET}`);
  }
  return { limit, offset };
}

interface MessageInput {
  readonly conversationId?: string | null;
  readonly content: string;
  readonly model?: string | null;
  readonly stream?: boolean | null;
  readonly id?: string | null;
}

type Args<Given> = (parent: unknown, args: Given, context: Context) => unknown;

export function createResolvers(deps: ResolverDependencies) {
  const { readModels, commands, agents, hub, search } = deps;

  // ── reads ───────────────────────────────────────────────────────────────
  function mayRead({ caller }: Context): Caller {
    if (!caller.permissions.has('chat:read')) refuse('FORBIDDEN', 'This needs the permission chat:read.');
    return caller;
  }
  function issuerOf({ caller, correlationId }: Context, command: string, id?: string | null): Issuer {
    if (!caller.permissions.has('chat:write')) refuse('FORBIDDEN', 'This needs the permission chat:write.');
    const mine = id ?? null;
    if (mine !== null && (mine === '' || mine.length > 200))
      throw invalid('id', 'has from 1 to 200 characters');
    const commandId =
      mine === null
        ? randomUUID()
        : createHash('sha256')
            .update(JSON.stringify(['graphql', caller.userId, command, mine]))
            .digest('hex');
    return { caller, commandId, correlationId, surface: 'agent-chat', retried: mine !== null };
  }

  async function conversationOf(caller: Caller, id: string): Promise<ConversationDocument | null> {
    if (!knownConversationId.safeParse(id).success) return null;
    const found = await readModels.get<ConversationDocument>('conversations', id);
    return found !== null && sees(caller, found.body.owner) ? found.body : null;
  }
  const existing = async (caller: Caller, id: string): Promise<ConversationDocument> =>
    (await conversationOf(caller, id)) ?? refuse('NOT_FOUND', 'Conversation not found.');

  async function agentOf(caller: Caller, nameOrId: string): Promise<AgentDocument> {
    try {
      return await agents.find(caller, nameOrId);
    } catch (error) {
      if (!(error instanceof Refusal) || error.code !== 'NOT_FOUND') throw error;
      return agents.get(caller, nameOrId);
    }
  }

  const conversations: Args<Parameters<typeof page>[0] & { archived: boolean | null }> = async (
    _,
    args,
    context,
  ) => {
    const caller = mayRead(context);
    const { documents } = await readModels.find<ConversationDocument>('conversations', {
      where: { ...visibleOwner(caller), kind: 'chat', archived: args.archived ?? false },
      orderBy: { field: 'position', direction: 'descending' },
      ...page(args),
    });
    return documents.map(({ body }) => shown(body));
  };

  const searchConversations: Args<{ query: string; limit: number | null; minScore: number | null }> = async (
    _,
    { query, limit, minScore },
    context,
  ) => {
    const caller = mayRead(context);
    await deps.limit('search', caller, context.address);
    if (query.trim() === '' || query.length > 32_768) throw invalid('query', 'says what to look for');
    if (search === null) refuse('SERVICE_UNAVAILABLE', 'This process does not search.');
    const least = minScore ?? 0;
    if (least < 0 || least > 1) throw invalid('minScore', 'is from 0 to 1');
    const { limit: most } = page({ limit });
    const { hits } = await search.searchMessages(query, caller, { limit: LONGEST_LIST, minScore: least });
    const byConversation = Map.groupBy(hits, (hit) => hit.conversationId);
    const ids = [...byConversation.keys()].slice(0, most);
    if (ids.length === 0) return [];
    const { documents } = await readModels.find<ConversationDocument>('conversations', {
      where: { id: ids },
      limit: ids.length,
    });
    const known = new Map(documents.map(({ body }) => [body.id, body]));
    return ids.flatMap((id): ShownConversation[] => {
      const document = known.get(id);
      // Deleted since.
      if (document === undefined || !sees(caller, document.owner)) return [];
      const found = byConversation.get(id)!;
      return [
        {
          document,
          relevanceScore: found[0]!.score,
          found: found.map((hit) => ({
            ...{ id: hit.id, conversationId: id, turnId: '', role: hit.role, content: hit.content },
            ...{ model: hit.model, provider: null, timestamp: hit.time, status: 'complete', error: null },
            ...{ usage: null, costUsd: null, seq: null },
          })),
        },
      ];
    });
  };

  const executions: Args<Parameters<typeof page>[0] & { agentId?: string | null }> = async (
    _,
    args,
    context,
  ) => {
    const caller = mayRead(context);
    const agentId = args.agentId ?? null;
    const agent = agentId === null ? {} : { agentId: (await agentOf(caller, agentId)).id };
    const { documents } = await readModels.find<TurnDocument>('turns', {
      where: { ...visibleOwner(caller), ...agent },
      // Turns that are no runs have none.
      range: { field: 'runAt', from: '' },
      orderBy: { field: 'runAt', direction: 'descending' },
      ...page(args),
    });
    return documents.map(({ body }) => body);
  };

  // ── commands ────────────────────────────────────────────────────────────
  const sendMessage: Args<{ input: MessageInput }> = async (_, { input }, context) => {
    await deps.limit('chat', context.caller, context.address);
    const content = parse(messageContent, 'content', input.content);
    const model = parse(requestedModel.nullable(), 'model', input.model ?? null);
    const issuer = issuerOf(context, 'send message', input.id);
    let conversationId = input.conversationId ?? null;
    if (conversationId === null) {
      const begun = await commands.startConversation({}, issuerOf(context, 'start conversation', input.id));
      conversationId = begun.conversation.id;
    } else if (!knownConversationId.safeParse(conversationId).success) {
      refuse('NOT_FOUND', 'Conversation not found.');
    }
    const { turnId, position } = await commands.sendMessage({ conversationId, content, model }, issuer);
    await deps.settled(position);
    const of = { id: deps.answerId(turnId), conversationId, turnId, role: 'assistant' };
    if (input.stream) {
      return {
        ...{ ...of, content: '', model: null, provider: null, timestamp: new Date().toISOString() },
        ...{ status: 'running', error: null, usage: null, costUsd: null, seq: position },
      } satisfies ShownMessage;
    }
    const end = await ended({ conversationId, turnId, after: position }, context.signal);
    await deps.settled(end.position);
    const { data } = end;
    if (end.type === 'TurnFailed') {
      throw new GraphQLError(end.data.reason, {
        extensions: {
          code: 'PROVIDER_ERROR',
          details: end.data.reason,
          messageId: of.id,
          turnId,
          conversationId,
        },
      });
    }
    return {
      ...{ ...of, content: data.content, model: data.model, provider: data.provider, timestamp: end.time },
      ...{
        status: statusOf[end.type],
        error: null,
        usage: usageOf(data.usage),
        costUsd: data.costUsd,
        seq: null,
      },
    } satisfies ShownMessage;
  };

  /** @throws Refusal TIMEOUT, SERVICE_UNAVAILABLE */
  async function ended(
    { conversationId, ...turn }: { conversationId: string; turnId: string; after: Position },
    clientGone: AbortSignal,
  ): Promise<TurnEnd> {
    const patience = AbortSignal.timeout(deps.answerTimeoutMs);
    try {
      const stream = `conversation-${conversationId}`;
      return await hub.turnEnded({ stream, ...turn }, AbortSignal.any([clientGone, patience]));
    } catch (error) {
      if (!patience.aborted) throw error;
      const message = 'The answer takes long: follow it with messageStream, or read the conversation later.';
      throw new GraphQLError(message, {
        extensions: {
          code: 'TIMEOUT',
          details: message,
          turnId: turn.turnId,
          conversationId,
          seq: turn.after,
        },
      });
    }
  }

  const createConversation: Args<{ title?: string | null; model?: string | null }> = async (
    _,
    args,
    context,
  ) => {
    const title = parse(conversationTitle.nullable(), 'title', args.title ?? null);
    const model = parse(requestedModel.nullable(), 'model', args.model ?? null);
    const issuer = issuerOf(context, 'start conversation');
    const { conversation, position } = await commands.startConversation({ title, model }, issuer);
    await deps.settled(position);
    return shown(conversation);
  };

  const renameConversation: Args<{ id: string; title: string }> = async (_, args, context) => {
    const title = parse(conversationTitle, 'title', args.title);
    const issuer = issuerOf(context, 'rename conversation');
    const document = await existing(context.caller, args.id);
    const { position } = await commands.renameConversation({ conversationId: args.id, title }, issuer);
    if (position !== null) await deps.settled(position);
    const now = await conversationOf(context.caller, args.id);
    return shown({ ...(now ?? document), title });
  };

  const deleteConversation: Args<{ id: string }> = async (_, { id }, context) => {
    const issuer = issuerOf(context, 'delete conversation');
    await existing(context.caller, id);
    const { position } = await commands.deleteConversation({ conversationId: id }, issuer);
    if (position !== null) await deps.settled(position);
    return true;
  };

  const interrupt: Args<{ conversationId: string }> = async (_, { conversationId }, context) => {
    const issuer = issuerOf(context, 'interrupt');
    await existing(context.caller, conversationId);
    const { turnId } = await commands.interrupt({ conversationId, turnId: null }, issuer);
    return turnId !== null;
  };

  // ── subscriptions ───────────────────────────────────────────────────────
  /** A seq of Socket.IO's events is as good. */
  function frameOf(lastSeq: string | null | undefined): string | undefined {
    if (lastSeq === null || lastSeq === undefined || lastSeq === '') return undefined;
    return parse(frameId, 'lastSeq', lastSeq.replace(/@.*$/, ''));
  }
  const left = () => deps.metrics.liveClient('graphql');

  /** No generator: while one waits for the next frame, it cannot be ended. */
  const renamed = <Shown>(
    frames: AsyncIterableIterator<object>,
    field: string,
    rename: (frame: never) => Shown,
  ): AsyncIterableIterator<object> => ({
    [Symbol.asyncIterator]() {
      return this;
    },
    async next() {
      const { done, value } = await frames.next();
      return done ? { done, value } : { done: false, value: { [field]: rename(value as never) } };
    },
    return: () => frames.return!(),
    throw: (error) => frames.throw!(error),
  });

  const messageStream = async (
    _: unknown,
    args: { conversationId: string; lastSeq?: string | null },
    context: Context,
  ) => {
    const caller = mayRead(context);
    const { id, owner } = await existing(caller, args.conversationId);
    const start = await deps.resume(frameOf(args.lastSeq), fromNow(hub.position()));
    const feed = conversationFeed(answers(id, deps.answerId), graphql, id, null);
    const frames = iterate(feed, start, { caller, may: reader(owner) }, { ...deps, left: left() });
    return renamed(frames, 'messageStream', (frame: Record<string, unknown>) => ({
      ...frame,
      id: frame.message_id ?? '',
      token: frame.token ?? '',
      finished: frame.finished ?? false,
      conversationId: id,
      resync: frame.reason ?? null,
    }));
  };

  const progressOf =
    (field: string, kind: 'agent' | 'orchestration') =>
    async (
      _: unknown,
      args: { agentId?: string; orchestrationId?: string; lastSeq?: string | null },
      context: Context,
    ) => {
      const caller = mayRead(context);
      const id = (args.agentId ?? args.orchestrationId)!;
      const start = await deps.resume(frameOf(args.lastSeq), { position: hub.position(), read: null });
      const feed = await deps.progress.feed({ kind, id }, caller, start.cursor.position, graphql);
      const may = (now: Caller) =>
        now.permissions.has('chat:read') &&
        now.permissions.has('all:read') === caller.permissions.has('all:read');
      const frames = iterate(feed, start, { caller, may }, { ...deps, left: left() });
      return renamed(frames, field, (frame: Record<string, unknown>) => ({
        agentId: frame.agent_id ?? id,
        taskId: frame.task_id ?? '',
        progress: frame.progress ?? 0,
        status: frame.status ?? 'resync',
        message: frame.message ?? '',
        seq: frame.seq,
        resync: frame.reason ?? null,
      }));
    };

  return {
    Query: {
      conversations,
      conversation: async (_: unknown, { id }: { id: string }, context: Context) => {
        const document = await conversationOf(mayRead(context), id);
        return document && shown(document);
      },
      searchConversations,
      agentHealth: async (_: unknown, { agentId }: { agentId: string }, context: Context) => {
        const agent = await agentOf(mayRead(context), agentId);
        return healthOf(readModels, context.caller, agent.id);
      },
      agents: (_: unknown, args: Parameters<typeof page>[0], context: Context) =>
        agents.list(mayRead(context), page(args)),
      executions,
      execution: async (_: unknown, { id }: { id: string }, context: Context) => {
        const caller = mayRead(context);
        const found: Stored<TurnDocument> | null = await readModels.get<TurnDocument>('turns', id);
        return found !== null && found.body.run !== null && sees(caller, found.body.owner)
          ? found.body
          : null;
      },
    },
    Mutation: { sendMessage, createConversation, renameConversation, deleteConversation, interrupt },
    Subscription: {
      messageStream: { subscribe: messageStream },
      agentProgress: { subscribe: progressOf('agentProgress', 'agent') },
      orchestrationProgress: { subscribe: progressOf('orchestrationProgress', 'orchestration') },
    },
    Conversation: {
      ...conversationFields(deps.defaultModel),
      messages: async (
        { document, found }: ShownConversation,
        args: { limit: number | null },
        context: Context,
      ) => {
        const { limit } = page(args);
        if (found !== null) return found.slice(0, limit);
        return (await context.loaders.messages.load({ conversation: document, limit })).map(shownMessage);
      },
    },
    Execution: {
      agentName: ({ run }: TurnDocument) => run!.agentName,
      trigger: ({ run }: TurnDocument) => run!.trigger,
      message: ({ run }: TurnDocument) => run!.message,
      error: ({ reason }: TurnDocument) => reason,
      response: async ({ answerId }: TurnDocument, _args: unknown, { loaders }: Context) =>
        answerId === null ? null : ((await loaders.answers.load(answerId))?.content ?? null),
      usage: ({ usage }: TurnDocument) => usageOf(usage),
    },
  };
}
