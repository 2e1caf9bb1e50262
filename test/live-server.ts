/** A server with the live feeds and nothing else, on a log of its own; its answers are scripted. */
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Caller } from '../contracts/caller.ts';
import type { Issuer } from '../contracts/commands/conversation.ts';
import type { EventEnvelope, Position } from '../contracts/envelope.ts';
import { Refusal, refuse } from '../contracts/errors.ts';
import type { EventType, OdeonEvent } from '../contracts/events/catalogue.ts';
import type { Role } from '../contracts/events/identity.ts';
import type { RateLimitClass, RouteContract } from '../contracts/http/route.ts';
import { rolePermissions } from '../contracts/http/route.ts';
import type { AgentDocument, ConversationDocument } from '../contracts/read-models/documents.ts';
import type { Authenticator } from '../infra/auth/port.ts';
import { createInProcessSignalBus } from '../infra/bus/in-process.ts';
import type { SignalBus } from '../infra/bus/port.ts';
import type { EventStore } from '../infra/event-store/port.ts';
import { openSqliteEventStore } from '../infra/event-store/sqlite.ts';
import type { Endpoint, HandlerInput, RequestContext } from '../infra/http/port.ts';
import { createRateLimits } from '../infra/http/rate-limits.ts';
import { refuseForeign } from '../infra/http/security.ts';
import { createTwoWay } from '../infra/http/two-way.ts';
import type { Page, ReadModels, Stored } from '../infra/read-models/port.ts';
import type { Logger } from '../infra/telemetry/port.ts';
import { createLive, type Live, type LiveTiming } from '../query-service/live/live.ts';
import { newEvent, type Step } from './live-scenario.ts';

export interface LiveServer {
  readonly store: EventStore;
  readonly bus: SignalBus;
  readonly live: Live;
  readonly server: Server;
  readonly url: string;
  readonly port: number;
  /** What was logged as an error. */
  readonly errors: string[];
  /** Issued over WebSocket. */
  readonly issued: { command: string; input: unknown; issuer: Issuer }[];
  /** The ids that the next messages are given; without them `m` and `t`. */
  readonly answers: { messageId: string; turnId: string }[];
  /** An agent that everybody may use: `agent_<name>`. */
  addAgent(name: string): void;
  /** The positions that reads waited for. */
  readonly settled: Position[];
  /** Who is logged in, by session; a test may end sessions. A session's token is its id. */
  readonly logins: Map<string, Caller>;
  /** Tokens that are taken no more, whatever has become of their session. */
  readonly expired: Set<string>;
  /** More paths, for what is answered by others with the help of the live feeds. */
  readonly handlers: Map<string, (response: ServerResponse) => void>;
  /** Starts a conversation; its events belong to `owner`. */
  start(conversationId: string, owner: string): Promise<void>;
  play(conversationId: string, owner: string, step: Step): Promise<void>;
  append(stream: string, owner: string, type: EventType, data: unknown): Promise<EventEnvelope>;
  /** Resolves when the hub has seen everything. */
  caughtUp(): Promise<void>;
  close(): Promise<void>;
}

const caller = (userId: string, role: Role): Caller => ({
  userId,
  email: `${userId}@example.org`,
  displayName: userId,
  role,
  actor: { kind: 'user', id: userId },
  permissions: new Set(rolePermissions[role]),
  sessionId: userId,
  expiresAtMs: null,
});

export async function until(condition: () => boolean | Promise<boolean>, what = 'it', boundMs = 10_000) {
  const deadline = Date.now() + boundMs;
  while (!(await condition())) {
    if (Date.now() > deadline) throw new Error(`Waited ${boundMs} ms in vain for ${what}.`);
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
}

/** @param perMinute how many messages and other requests a user may send; 0 for no limit */
export async function startLiveServer(
  timing: Partial<LiveTiming> = {},
  perMinute: Partial<Record<RateLimitClass, number>> = {},
): Promise<LiveServer> {
  const directory = await mkdtemp(join(tmpdir(), 'odeon-live-'));
  const store = await openSqliteEventStore({ directory });
  const errors: string[] = [];
  const bus = createInProcessSignalBus({ onError: (error) => errors.push(String(error)) });
  const logger: Logger = {
    debug() {},
    info() {},
    warn() {},
    error: ({ err }, message) => errors.push(`${message} ${err instanceof Error ? err.stack : err}`),
    child: () => logger,
  };
  const logins = new Map([
    ['ada', caller('ada', 'user')],
    ['bob', caller('bob', 'user')],
    ['admin', caller('admin', 'admin')],
    ['auditor', caller('auditor', 'auditor')],
  ]);
  const expired: LiveServer['expired'] = new Set();
  const authenticator: Authenticator = {
    async authenticate({ authorization, cookie, apiKey, queryToken }) {
      const token = authorization?.replace('Bearer ', '') ?? apiKey ?? queryToken ?? cookie?.split('=')[1];
      if (token === undefined) return null;
      const caller = expired.has(token) ? undefined : logins.get(token);
      return caller ?? refuse('UNAUTHORIZED', 'Invalid or expired token');
    },
    recheck: async ({ sessionId }) => logins.get(sessionId!) ?? null,
  };

  const rateLimits = createRateLimits({ default: 0, chat: 0, search: 0, ...perMinute });

  const documents = {
    conversations: new Map(),
    turns: new Map(),
    messages: new Map(),
    agents: new Map(),
  } as Record<string, Map<string, Record<string, unknown>>>;
  const stored = (id: string, body: unknown): Stored<never> => ({ id, position: '1', body: body as never });
  const readModels: ReadModels = {
    async get(collection, id) {
      const body = documents[collection]!.get(id);
      return body === undefined ? null : stored(id, body);
    },
    async find(collection, { where = {}, limit }): Promise<Page<never>> {
      const found = [...documents[collection]!.entries()]
        .filter(([, body]) => Object.entries(where).every(([field, value]) => body[field] === value))
        .sort(([, a], [, b]) => (b.revision as number) - (a.revision as number))
        .slice(0, limit);
      return { documents: found.map(([id, body]) => stored(id, body)), next: null };
    },
    count: async (collection) => documents[collection]!.size,
  };

  function project(envelope: EventEnvelope): void {
    const event = envelope as OdeonEvent;
    const { owner, revision } = event;
    const conversationId = event.stream.slice('conversation-'.length);
    const message = { conversationId, owner, revision, createdAt: event.time, status: 'complete' };
    switch (event.type) {
      case 'ConversationStarted':
        documents.conversations!.set(conversationId, { id: conversationId, owner, title: event.data.title });
        break;
      case 'ConversationDeleted':
        documents.conversations!.delete(conversationId);
        break;
      case 'MessageSent': {
        const { messageId: id, turnId, content } = event.data;
        documents.messages!.set(id, { ...message, id, role: 'user', content });
        const turn = { id: turnId, conversationId, owner, firstRevision: revision, lastRevision: null };
        documents.turns!.set(turnId, turn);
        break;
      }
      case 'TurnCompleted':
      case 'TurnInterrupted':
      case 'TurnFailed': {
        const { messageId: id, turnId, content } = event.data;
        documents.messages!.set(id, { ...message, id, role: 'assistant', content });
        documents.turns!.get(turnId)!.lastRevision = revision;
        break;
      }
    }
  }

  async function append(stream: string, owner: string, type: EventType, data: unknown) {
    const result = await store.append(stream, [newEvent(type, data, owner)], { expectedRevision: 'any' });
    for (const event of result.events) project(event);
    return result.events[0]!;
  }

  const issued: LiveServer['issued'] = [];
  const answers: LiveServer['answers'] = [];
  const settled: Position[] = [];
  const live = await createLive({
    ...{ store, bus, readModels, authenticator, logger },
    metrics: { liveClient: () => () => {} },
    commands: {
      async startConversation(input, issuer) {
        issued.push({ command: 'start', input, issuer });
        const id = issuer.commandId.replace(/[^0-9a-f]/g, '').slice(0, 12);
        const { title = null } = input;
        const data = { title, mode: 'assistant', model: null, kind: 'chat', agent: null, linkId: null };
        const { position } = await append(
          `conversation-${id}`,
          issuer.caller.userId,
          'ConversationStarted',
          data,
        );
        return {
          conversation: documents.conversations!.get(id) as unknown as ConversationDocument,
          position,
        };
      },
      async sendMessage(input, issuer) {
        issued.push({ command: 'message', input, issuer });
        if (input.content === 'refuse me') refuse('CONFLICT', 'The conversation has ended.');
        const ids = answers.shift() ?? { messageId: 'm', turnId: 't' };
        return { ...ids, position: '1', waiting: 0 };
      },
      async interrupt(input, issuer) {
        issued.push({ command: 'interrupt', input, issuer });
        return { turnId: null, position: null };
      },
      renameConversation: () => Promise.reject(new Error('no live feed renames a conversation')),
      deleteConversation: () => Promise.reject(new Error('no live feed deletes a conversation')),
    },
    settled: async (position) => void settled.push(position),
    activityRow: (event) =>
      event.type === 'FactForgotten'
        ? null
        : {
            ...{
              id: event.id,
              owner: event.owner,
              conversationId: null,
              turnId: null,
              category: 'state_event',
            },
            ...{ eventType: event.type, level: 'info', title: event.type, message: null, details: {} },
            ...{ source: 'test', durationMs: null, actor: event.actor, createdAt: event.time },
          },
    refuseForeign: (headers) => refuseForeign(headers, new Set(['https://chat.example.org'])),
    agents: {
      async find(_caller, name) {
        const found = documents.agents!.get(`agent_${name}`) ?? refuse('NOT_FOUND', 'Agent not found.');
        return found as unknown as AgentDocument;
      },
      async get(_caller, id) {
        return (documents.agents!.get(id) ??
          refuse('NOT_FOUND', 'Agent not found.')) as unknown as AgentDocument;
      },
    },
    socketIo: {
      ...createTwoWay({ rateLimits, trustedProxies: [] }),
      answerId: (turnId) => turnId.replace(/^turn_/, 'msg_'),
      corsOrigins: ['https://chat.example.org'],
      search: async (query) =>
        query === 'nothing' ? [] : [{ conversationId: 'dddddddddddd', title: 'Seas', content: query }],
    },
    timing,
  });

  const handlers: LiveServer['handlers'] = new Map();
  const server = createServer((request, response) => {
    const handler = handlers.get(request.url!);
    if (handler !== undefined) return handler(response);
    if (live.socketIo.owns(request.url!)) return live.socketIo.handle(request, response);
    serve(live.endpoints, authenticator, request, response).catch((error) => {
      const status = error instanceof Refusal ? error.status : 500;
      if (status === 500) errors.push(String(error.stack));
      response.writeHead(status, { 'Content-Type': 'application/json' });
      response.end(JSON.stringify({ error: error.message, issues: error.issues }));
    });
  });
  live.attachWebSockets(server);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;

  /** The running call of each conversation, to which its signals belong. */
  const calls = new Map<string, { call: string; turnId: string }>();
  return {
    ...{
      store,
      bus,
      live,
      server,
      port,
      errors,
      issued,
      answers,
      settled,
      logins,
      expired,
      handlers,
      append,
    },
    url: `http://127.0.0.1:${port}`,
    addAgent(name) {
      documents.agents!.set(`agent_${name}`, { id: `agent_${name}`, name });
    },
    async start(conversationId, owner) {
      const data = { title: null, mode: 'assistant', model: null, kind: 'chat', agent: null, linkId: null };
      await append(`conversation-${conversationId}`, owner, 'ConversationStarted', data);
    },
    async play(conversationId, owner, step) {
      if (step.kind === 'event') {
        const event = await append(`conversation-${conversationId}`, owner, step.type, step.data);
        if (event.type !== 'ModelCalled') return;
        const { turnId } = (event as OdeonEvent<'ModelCalled'>).data;
        calls.set(conversationId, { call: event.position, turnId });
      } else {
        bus.publish({ ...step, owner, conversationId, ...calls.get(conversationId)! });
      }
    },
    async caughtUp() {
      await until(async () => live.position() === (await store.head()), 'the hub to catch up');
    },
    async close() {
      await live.close();
      server.closeAllConnections();
      await new Promise<void>((resolve) => server.close(() => resolve()));
      await bus.close();
      await store.close();
      await rm(directory, { recursive: true });
    },
  };
}

async function serve(
  endpoints: readonly Endpoint[],
  authenticator: Authenticator,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const { method, headers } = request;
  const url = new URL(request.url!, 'http://localhost');
  for (const { contract, handle } of endpoints) {
    const pattern = new RegExp(`^${contract.path.replace(/:(\w+)/g, '(?<$1>[^/]+)')}$`);
    const match = pattern.exec(url.pathname);
    if (contract.method !== method || match === null) continue;
    const credentials = { authorization: headers.authorization as string, cookie: headers.cookie as string };
    const caller = await authenticator.authenticate(credentials);
    if (caller === null) refuse('UNAUTHORIZED', 'Log in first.');
    if (!caller.permissions.has(contract.access as never)) refuse('FORBIDDEN', 'Not allowed.');
    const parse = (schema: RouteContract['query'], value: unknown) => {
      const parsed = schema?.safeParse(value);
      if (parsed?.success === false) refuse('VALIDATION_ERROR', parsed.error.message);
      return parsed?.data;
    };
    const answer = await handle({
      params: parse(contract.params, { ...match.groups }),
      query: parse(contract.query, Object.fromEntries(url.searchParams)),
      body: undefined,
      context: { caller, headers } as unknown as RequestContext,
    } as HandlerInput<RouteContract>);
    if ('stream' in answer) return answer.stream(response, request);
    response.writeHead(answer.status);
    response.end();
    return;
  }
  refuse('NOT_FOUND', 'Not found');
}
