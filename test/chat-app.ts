/**
 * The chat and operators' routes over real HTTP, with the embedded adapters in a temporary folder, and users who
 * are known by name. Turns are not run by a worker: a test plays the worker with `answer`. Every answer is held
 * against the schema that its route declares.
 */

import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { matchesGlob } from 'node:path/posix';
import { Writable } from 'node:stream';
import { expect } from 'chai';
import { z } from 'zod';
import { createAgents } from '../command-service/agents.ts';
import { createCommandBus } from '../command-service/bus.ts';
import { createChatCommands } from '../command-service/chat.ts';
import type { Command, CommandMeta } from '../command-service/command.ts';
import { claimTurn, recordSteps } from '../command-service/domain/conversation.ts';
import { chatCommandEndpoints } from '../command-service/http/chat.ts';
import { createIdempotencyRecords } from '../command-service/http/idempotency.ts';
import { operatorCommandEndpoints } from '../command-service/http/operators.ts';
import type { Caller } from '../contracts/caller.ts';
import type { NewEvent, Position } from '../contracts/envelope.ts';
import { refuse } from '../contracts/errors.ts';
import {
  catalogue,
  type DecidedEvent,
  type EventData,
  type EventType,
} from '../contracts/events/catalogue.ts';
import type { Role } from '../contracts/events/identity.ts';
import { agentChatRoutes } from '../contracts/http/agent-chat.ts';
import { agentRoutes } from '../contracts/http/agents.ts';
import { executionRoutes } from '../contracts/http/executions.ts';
import { lunaChatRoutes } from '../contracts/http/luna.ts';
import { operatorRoutes } from '../contracts/http/operators.ts';
import { publicLinkRoutes } from '../contracts/http/public-links.ts';
import { type RouteContract, type RouteSurface, rolePermissions } from '../contracts/http/route.ts';
import { trinityRoutes } from '../contracts/http/trinity.ts';
import { zergChatRoutes } from '../contracts/http/zerg.ts';
import type { TurnEnd, TurnFeeds } from '../contracts/live/feeds.ts';
import { createLinkTokens } from '../infra/auth/link-tokens.ts';
import type { Authenticator } from '../infra/auth/port.ts';
import { createVisitors, type VisitorLimits } from '../infra/auth/visitors.ts';
import type { SignalBus } from '../infra/bus/port.ts';
import type { EventStore } from '../infra/event-store/port.ts';
import { openSqliteEventStore } from '../infra/event-store/sqlite.ts';
import { withCatalogue } from '../infra/event-store/with-catalogue.ts';
import { createHttpServer } from '../infra/http/node-server.ts';
import { createHttpApp } from '../infra/http/server.ts';
import { openSqliteReadModels } from '../infra/read-models/sqlite.ts';
import { createLogger } from '../infra/telemetry/logger.ts';
import { createMetrics } from '../infra/telemetry/metrics.ts';
import { createHistory } from '../projections/history.ts';
import { projections as allProjections } from '../projections/list.ts';
import { startProjections } from '../projections/runtime/runtime.ts';
import { chatQueryEndpoints } from '../query-service/http/chat.ts';
import { operatorQueryEndpoints } from '../query-service/http/operators.ts';
import { outcome } from './log.ts';

export const DEFAULT_MODEL = 'builtin/assistant';
export const TOOLS = ['calculate', 'current_time'];
const WORKER = 'test';

const roles: Readonly<Record<string, Role>> = { ada: 'user', bob: 'user', audra: 'auditor', root: 'admin' };
export type Name = 'ada' | 'bob' | 'audra' | 'root';

const callerNamed = (name: string, role: Role): Caller => ({
  userId: name,
  email: `${name}@example.org`,
  displayName: name,
  role,
  actor: { kind: 'user', id: name },
  permissions: new Set(rolePermissions[role]),
  sessionId: null,
  expiresAtMs: null,
});

/** `Authorization: Bearer <name>`. */
const authenticator: Authenticator = {
  async authenticate({ authorization }) {
    const name = authorization?.replace(/^Bearer /, '');
    if (name === undefined) return null;
    const role = roles[name] ?? refuse('UNAUTHORIZED', 'Invalid or expired token');
    return callerNamed(name, role);
  },
  recheck: async (caller) => caller,
};

/** Follows the log only; the frames are the live feeds' matter. */
function logFeeds(store: EventStore): TurnFeeds {
  const turnEnded: TurnFeeds['turnEnded'] = async ({ conversationId, turnId, after }, signal) => {
    const filter = { stream: `conversation-${conversationId}` };
    for await (const page of store.subscribe({ after, filter, signal })) {
      for (const event of page.events) {
        const data = event.data as { turnId?: string };
        const ends = ['TurnCompleted', 'TurnInterrupted', 'TurnFailed'].includes(event.type);
        if (ends && data.turnId === turnId) return event as TurnEnd;
      }
    }
    throw signal.reason;
  };
  return {
    turnEnded,
    streamTurn(response, { headers, ...turn }) {
      response.writeHead(200, { 'Content-Type': 'text/event-stream', ...headers });
      response.flushHeaders();
      const gone = new AbortController();
      response.on('close', () => gone.abort());
      turnEnded(turn, gone.signal).then(
        (end) => response.end(`data: ${JSON.stringify({ content: end.data.content })}\n\n`),
        () => response.destroy(),
      );
    },
  };
}

export interface Reply {
  readonly status: number;
  readonly headers: Headers;
  // biome-ignore lint/suspicious/noExplicitAny: held against the route's schema; tests read what they name
  readonly body: any;
}

interface CallOptions {
  readonly body?: unknown;
  readonly headers?: Record<string, string>;
  readonly signal?: AbortSignal;
}

const routes: readonly RouteContract[] = [
  ...agentRoutes,
  ...executionRoutes,
  ...lunaChatRoutes,
  ...zergChatRoutes,
  ...agentChatRoutes,
  ...operatorRoutes,
  ...trinityRoutes,
  ...publicLinkRoutes,
];
const issue = z.object({ type: z.string(), loc: z.array(z.unknown()), msg: z.string().min(1) });
const failures: Readonly<Record<RouteSurface, z.ZodType>> = {
  luna: z.object({ error: z.string().min(1) }).loose(),
  odeon: z.object({ error: z.string().min(1) }).loose(),
  zerg: z.strictObject({ ok: z.literal(false), error: z.string().min(1) }),
  trinity: z.strictObject({ detail: z.union([z.string().min(1), z.array(issue.loose()).min(1)]) }),
  'agent-chat': z
    .object({
      success: z.literal(false),
      // An object on the routes that speak OpenAI's words.
      error: z.union([z.string().min(1), z.object({ message: z.string().min(1), type: z.string() }).loose()]),
      details: z.string(),
      code: z.string(),
      timestamp: z.string(),
    })
    .loose(),
};

function hold(method: string, path: string, status: number, body: unknown): void {
  const pathname = path.split('?')[0]!;
  const matching = routes.filter(
    (route) => route.method === method && matchesGlob(pathname, route.path.replace(/:\w+/g, '*')),
  );
  // A fixed path goes before one with parameters.
  const contract = matching.find((route) => route.path === pathname) ?? matching[0];
  if (contract === undefined) throw new Error(`No route ${method} ${pathname}`);
  const schema = contract.answers[status] ?? (status >= 400 ? failures[contract.surface] : undefined);
  if (schema === undefined || typeof schema === 'string') {
    throw new Error(`${method} ${contract.path} does not declare ${status}`);
  }
  expect(schema.parse(body), `${method} ${path}`).to.deep.equal(body);
}

export interface ChatAppOptions {
  readonly answerTimeoutMs?: number;
  readonly feeds?: Partial<TurnFeeds>;
  /** For links that expire. */
  readonly now?: () => number;
  readonly visitorLimits?: Partial<VisitorLimits>;
}

export async function serveChat(options: ChatAppOptions = {}) {
  const directory = await mkdtemp(join(tmpdir(), 'odeon-chat-'));
  const store = withCatalogue(await openSqliteEventStore({ directory }));
  const readModels = await openSqliteReadModels({ file: join(directory, 'read-models.db') });
  const logged: string[] = [];
  const bus = createCommandBus({
    store,
    snapshots: readModels.snapshots,
    onSnapshotError: (error) => logged.push(String(error)),
  });
  const projections = await startProjections({
    store,
    readModels,
    projections: allProjections,
    onError: (error) => logged.push(String(error)),
  });
  const signals: SignalBus = {
    publish: () => undefined,
    subscribe: () => () => undefined,
    close: async () => {},
  };
  const agents = createAgents({ readModels });
  const commands = createChatCommands(bus, signals, agents);
  const feeds = { ...logFeeds(store), ...options.feeds };
  const { answerTimeoutMs = 10_000 } = options;
  const history = createHistory(store);
  const { now = Date.now, visitorLimits = {} } = options;
  const linkTokens = createLinkTokens({ secret: Buffer.alloc(32, 7) });
  const visitors = createVisitors({ tokens: linkTokens, readModels, limits: visitorLimits, now });
  const serves = (model: string) => [DEFAULT_MODEL, 'nano', 'pro', 'tools'].includes(model);
  const shared = { linkTokens, visitors, contextWindow: () => 8_192 };
  const app = createHttpApp({
    endpoints: [
      ...chatCommandEndpoints({
        bus,
        commands,
        readModels,
        feeds,
        agents,
        store,
        ...{ toolNames: TOOLS, serves, knows: serves },
        answerTimeoutMs,
        defaultModel: DEFAULT_MODEL,
        ...{ ...shared, history, now },
      }),
      ...chatQueryEndpoints({
        readModels,
        store,
        history,
        ...shared,
        agents,
        ...{ modelNames: [DEFAULT_MODEL], serves },
        defaultModel: DEFAULT_MODEL,
        dataDir: directory,
      }),
      ...operatorCommandEndpoints({ bus, projections }),
      ...operatorQueryEndpoints({ store, projections }),
    ],
    authenticator,
    settle: {
      position: () => projections.position(),
      head: () => store.head(),
      waitFor: (position, timeoutMs) => projections.waitFor(position, timeoutMs),
      timeoutMs: 5_000,
    },
    idempotency: createIdempotencyRecords(bus),
    fingerprintSecret: 'a secret',
    logger: createLogger({
      level: 'warn',
      destination: new Writable({
        write(chunk, _encoding, done) {
          logged.push(String(chunk));
          done();
        },
      }),
    }),
    metrics: createMetrics(),
  });
  const server = createHttpServer(app);
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;

  const request = (name: Name, method: string, path: string, { body, headers, signal }: CallOptions = {}) =>
    fetch(url + path, {
      method,
      headers: {
        Authorization: `Bearer ${name}`,
        ...(body !== undefined && { 'Content-Type': 'application/json' }),
        ...headers,
      },
      ...(body !== undefined && { body: JSON.stringify(body) }),
      ...(signal !== undefined && { signal }),
    });

  const metaOf = (): CommandMeta => ({
    commandId: randomUUID(),
    correlationId: randomUUID(),
    causationId: null,
    surface: 'luna',
    actor: { kind: 'system', id: 'worker' },
    caller: null,
    retried: false,
  });
  const dispatch = async <Input, State, Type extends EventType>(
    command: Command<Input, State, Type>,
    input: NoInfer<Input>,
  ) => {
    const { position } = await bus.dispatch(command, input, metaOf());
    if (position !== null) await projections.waitFor(position, 5_000);
    return position;
  };

  const claim = (conversationId: string, turnId: string) =>
    dispatch(claimTurn, { conversationId, turnId, worker: WORKER, takeOverFrom: null });

  return {
    url,
    bus,
    store,
    readModels,
    projections,
    /** What was logged as a warning or worse. */
    logged,
    /** The raw answer. */
    request,

    /** The answer, held against its route's schema. */
    async call(name: Name, method: string, path: string, options: CallOptions = {}): Promise<Reply> {
      const response = await request(name, method, path, options);
      const body: unknown = await response.json();
      hold(method, path, response.status, body);
      return { status: response.status, headers: response.headers, body };
    },

    /** Plays the worker: takes the turn. */
    claim,

    /** Plays the worker: takes the turn, records the steps, and ends it. */
    async answer(
      conversationId: string,
      turnId: string,
      end: Partial<EventData<'TurnFailed'>> & { type?: TurnEnd['type'] } = {},
      steps: readonly DecidedEvent[] = [],
    ): Promise<Position> {
      const { type = 'TurnCompleted', reason = 'nobody answered', ...changes } = end;
      await claim(conversationId, turnId);
      const data = { ...outcome(turnId, changes), ...(type === 'TurnFailed' && { reason }) };
      const input = { conversationId, turnId, worker: WORKER, attempt: 1, steps: [...steps, { type, data }] };
      return (await dispatch(recordSteps, input as z.infer<typeof recordSteps.schema>)) ?? '0';
    },

    /** Puts an event into the log as it is. */
    async append<Type extends EventType>(
      stream: string,
      type: Type,
      data: EventData<Type>,
      owner: string,
    ): Promise<Position> {
      const commandId = randomUUID();
      const event: NewEvent = {
        id: randomUUID(),
        type,
        schemaVersion: catalogue[type].version,
        owner,
        actor: { kind: 'system', id: 'test' },
        correlationId: commandId,
        causationId: null,
        commandId,
        surface: 'odeon',
        data,
      };
      const { position } = await store.append(stream, [event], { expectedRevision: 'any' });
      await projections.waitFor(position, 5_000);
      return position;
    },

    async close() {
      server.closeAllConnections();
      server.close();
      await once(server, 'close');
      await projections.stop();
      await readModels.close();
      await store.close();
      await rm(directory, { recursive: true, force: true });
    },
  };
}

export type ChatApp = Awaited<ReturnType<typeof serveChat>>;
