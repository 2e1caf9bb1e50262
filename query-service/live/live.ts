/**
 * The live feeds over HTTP and WebSocket: their routes, and what the write side needs of them.
 *
 * Decisions:
 * - Without a cursor, activity and log begin now, a turn begins with its first event, and a conversation begins
 *   now with what is there of the answer that is being written.
 * - A frame id beyond the end of the log is of another log: the reader is told (`resync`), and begins as without it.
 * - A stream goes on as long as the login that opened it, however soon its access token expires, and ends within a
 *   minute after it (`logins.ts`). The client comes again with its cursor and is told 401. A turn's answer to the
 *   request that began it ends with the turn instead.
 */
import type { IncomingHttpHeaders, Server } from 'node:http';
import { type Caller, sees } from '../../contracts/caller.ts';
import type { ChatCommands } from '../../contracts/commands/conversation.ts';
import type { Position } from '../../contracts/envelope.ts';
import { refuse } from '../../contracts/errors.ts';
import type { OdeonEvent } from '../../contracts/events/catalogue.ts';
import * as routes from '../../contracts/http/live.ts';
import type { TurnFeeds } from '../../contracts/live/feeds.ts';
import type { Agents } from '../../contracts/read-models/agents.ts';
import type {
  ActivityDocument,
  ConversationDocument,
  TurnDocument,
} from '../../contracts/read-models/documents.ts';
import type { Authenticator } from '../../infra/auth/port.ts';
import type { SignalBus } from '../../infra/bus/port.ts';
import type { EventFilter, EventStore } from '../../infra/event-store/port.ts';
import {
  type Answer,
  callerOf,
  type Endpoint,
  endpoint,
  type RequestContext,
} from '../../infra/http/port.ts';
import type { ReadModels } from '../../infra/read-models/port.ts';
import type { Logger, Metrics } from '../../infra/telemetry/port.ts';
import { activityConnected, activityFeeds } from './activity.ts';
import { BEGINNING, type Cursor, formatCursor } from './cursor.ts';
import { conversationFeed, type Feed, sse } from './feed.ts';
import { createHub, type Hub, type HubStats } from './hub.ts';
import { logFeeds } from './log.ts';
import { hasRead } from './log-reading.ts';
import { createLogins, type Logins } from './logins.ts';
import { lunaTurn } from './luna.ts';
import { createProgress, type ProgressFeeds } from './progress.ts';
import { createSocketIo, type SocketIoOptions, type SocketIoServer } from './socket-io/server.ts';
import { createStreams, invalid, reader, type Streams } from './streams.ts';
import { turnFeed } from './turn-formats.ts';
import { createWebSockets, type Upgrade } from './websocket.ts';
import { connected, fromNow, zergConversation } from './zerg.ts';

/** Milliseconds. */
export interface LiveTiming {
  /** Between the comments that keep a stream alive; Luna's `ping` goes out with every second one. */
  readonly heartbeatMs: number;
  /** A connection that takes nothing for so long is closed. */
  readonly stalledMs: number;
  /** Between the checks whether the login of a stream still holds. */
  readonly recheckMs: number;
  /** ZERG's WebSocket: between pings, between challenges to refresh the login, and for the answer to one. */
  readonly pingMs: number;
  readonly authRefreshMs: number;
  readonly authGraceMs: number;
}

export const liveTiming: LiveTiming = {
  heartbeatMs: 15_000,
  stalledMs: 60_000,
  recheckMs: 60_000,
  pingMs: 30_000,
  authRefreshMs: 300_000,
  authGraceMs: 30_000,
};

export interface LiveDependencies {
  readonly store: EventStore;
  readonly bus: SignalBus;
  readonly readModels: ReadModels;
  readonly commands: ChatCommands;
  /** Waits, bounded, until the read models show everything up to the position. */
  readonly settled: (position: Position) => Promise<unknown>;
  readonly authenticator: Authenticator;
  readonly logger: Logger;
  readonly metrics: Pick<Metrics, 'liveClient'>;
  /** The row of the activity log that an event makes; null when it makes none. */
  readonly activityRow: (event: OdeonEvent) => ActivityDocument | null;
  /** @throws Refusal FORBIDDEN for what another site's page made a browser send with the user's cookies */
  readonly refuseForeign: (headers: IncomingHttpHeaders) => void;
  readonly agents: Pick<Agents, 'find' | 'get'>;
  /** What Agent Chat's Socket.IO needs besides. */
  readonly socketIo: Pick<
    SocketIoOptions,
    'describe' | 'limit' | 'addressOf' | 'search' | 'answerId' | 'corsOrigins'
  >;
  readonly timing?: Partial<LiveTiming>;
}

export interface Live {
  readonly turnFeeds: TurnFeeds;
  /** For the surfaces that have feeds of their own. */
  readonly streams: Streams;
  readonly hub: Hub;
  readonly logins: Logins;
  readonly progress: ProgressFeeds;
  readonly socketIo: SocketIoServer;
  readonly endpoints: readonly Endpoint[];
  /** Every event up to here has been given to the live readers. */
  position(): Position;
  /** Serves ZERG's WebSocket and Socket.IO on the server's upgrades, and what `others` take; refuses other paths. */
  attachWebSockets(server: Server, others?: readonly Upgrade[]): void;
  stats(): HubStats & { readonly webSockets: number; readonly socketIo: number };
  /** Tells all clients and ends their streams. */
  close(): Promise<void>;
}

export async function createLive(dependencies: LiveDependencies): Promise<Live> {
  const { store, bus, readModels, authenticator, logger, metrics } = dependencies;
  const timing = { ...liveTiming, ...dependencies.timing };
  const progress = createProgress({ store, readModels, agents: dependencies.agents });
  const hub = await createHub({ store, bus, logger, ...timing, follow: progress.follow });
  const logins = createLogins({ authenticator, logger, ...timing });
  const activityFeed = activityFeeds(dependencies.activityRow);
  const logFeed = logFeeds();

  const streams = createStreams({ store, hub, logins, metrics, logger });
  const { isBeyond, resumed, open, now } = streams;

  /** The answer of a turn from its beginning, or from where the reader was. */
  async function answerAgain(
    turnId: string,
    query: { readonly lastEventId?: string | undefined },
    context: RequestContext,
    feedOf: (turn: TurnDocument) => Feed,
  ): Promise<Answer> {
    const turn = (await readModels.get<TurnDocument>('turns', turnId))?.body;
    if (turn === undefined || !sees(callerOf(context), turn.owner)) refuse('NOT_FOUND', 'Turn not found.');
    const { conversationId, lastRevision, owner } = turn;
    // The turns outlive a deleted conversation.
    const conversation = await readModels.get<ConversationDocument>('conversations', conversationId);
    if (conversation === null) refuse('NOT_FOUND', 'Turn not found.');
    const start = await resumed(context, query, BEGINNING);
    const stream = `conversation-${conversationId}`;
    if (lastRevision !== null && (await hasRead(store, stream, lastRevision, start.cursor))) {
      return { status: 204 };
    }
    const login = { caller: callerOf(context), may: reader(owner) };
    const feed = feedOf(turn);
    return { stream: (response) => open(response, { feed, start, kind: 'turn', login }) };
  }

  // ── routes ──────────────────────────────────────────────────────────────
  const endpoints: Endpoint[] = [
    endpoint(routes.streamTurn, ({ params, query, context }) =>
      answerAgain(params.turnId, query, context, ({ id: turnId, conversationId, firstRevision }) =>
        conversationFeed(lunaTurn, sse, conversationId, { turnId, firstRevision }),
      ),
    ),

    endpoint(routes.streamCompletionAgain, ({ params, query, context }) =>
      answerAgain(params.turnId, query, context, ({ id: turnId, conversationId }) => {
        const messageId = dependencies.socketIo.answerId(turnId);
        const format = { name: 'openai', includeUsage: query.include_usage === 'true', messageId } as const;
        return turnFeed(format, { conversationId, turnId });
      }),
    ),

    endpoint(routes.streamActivity, async ({ query, context }) => {
      const caller = callerOf(context);
      const start = await resumed(context, query, now());
      const owner = caller.permissions.has('all:read') ? null : caller.userId;
      const feed = activityFeed(owner);
      const hello = activityConnected(new Date().toISOString(), formatCursor(start.cursor));
      const greeting = sse.encode(hello);
      const login = { caller, may: reader(owner) };
      return { stream: (response) => open(response, { feed, start, kind: 'activity', greeting, login }) };
    }),

    endpoint(routes.streamLog, async ({ query, context }) => {
      const begin: Cursor = query.from === undefined ? now() : { position: query.from, read: null };
      if (await isBeyond(begin.position)) {
        throw invalid(['query', 'from'], 'from lies beyond the end of the log: begin without it');
      }
      const start = await resumed(context, query, begin);
      const feed = logFeed(filterOf(query));
      const greeting = `id: ${formatCursor(start.cursor)}\n\n`;
      const login = {
        caller: callerOf(context),
        may: ({ permissions }: Caller) => permissions.has('log:read'),
      };
      return { stream: (response) => open(response, { feed, start, kind: 'log', greeting, login }) };
    }),

    endpoint(routes.streamConversation, async ({ params, query, context }) => {
      const found = await readModels.get<ConversationDocument>('conversations', params.id);
      if (found === null || !sees(callerOf(context), found.body.owner)) {
        refuse('NOT_FOUND', 'Session not found.');
      }
      const start = await resumed(context, query, fromNow(hub.position()));
      const feed = conversationFeed(zergConversation, sse, params.id, null);
      const greeting = sse.encode(connected(params.id, formatCursor(start.cursor)));
      const login = { caller: callerOf(context), may: reader(found.body.owner) };
      return { stream: (response) => open(response, { feed, start, kind: 'zerg', greeting, login }) };
    }),
  ];

  const socketIo = createSocketIo({
    ...dependencies,
    ...dependencies.socketIo,
    ...timing,
    hub,
    logins,
    progress,
    resume: streams.resume,
  });
  const webSockets = createWebSockets({ ...dependencies, ...timing, hub, logins, resume: streams.resume });

  return {
    turnFeeds: {
      async streamTurn(response, turn) {
        const { conversationId, turnId, after, headers = {}, format = { name: 'luna' }, last } = turn;
        const feed = turnFeed(format, { conversationId, turnId });
        const start = await streams.resume(turn.lastEventId, { position: after, read: null });
        open(response, { feed, start, kind: 'turn', headers, ...(last !== undefined && { last }) });
      },
      turnEnded: ({ conversationId, turnId, after }, signal) =>
        hub.turnEnded({ stream: `conversation-${conversationId}`, turnId, after }, signal),
    },
    streams,
    hub,
    logins,
    progress,
    socketIo,
    endpoints,
    position: hub.position,
    attachWebSockets: (server, others = []) =>
      webSockets.attach(server, [{ owns: socketIo.owns, take: socketIo.upgrade }, ...others]),
    stats: () => ({ ...hub.stats(), webSockets: webSockets.size(), socketIo: socketIo.size() }),
    async close() {
      streams.close();
      webSockets.close();
      socketIo.close();
      await hub.close();
      await logins.close();
    },
  };
}

function filterOf(query: {
  stream?: string | undefined;
  type?: readonly string[] | undefined;
  owner?: string | undefined;
  correlationId?: string | undefined;
}): EventFilter {
  const { stream, type, owner, correlationId } = query;
  return {
    ...(stream !== undefined && { stream }),
    ...(type !== undefined && { types: type }),
    ...(owner !== undefined && { owner }),
    ...(correlationId !== undefined && { correlationId }),
  };
}
