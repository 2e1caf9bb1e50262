/** A small app of every kind of route, for the tests of this folder. */
import { once } from 'node:events';
import { type AddressInfo, connect } from 'node:net';
import { Writable } from 'node:stream';
import { z } from 'zod';
import type { Caller } from '../../contracts/caller.ts';
import { isAfter, laterOf, type Position } from '../../contracts/envelope.ts';
import { Refusal, refuse } from '../../contracts/errors.ts';
import { type RouteContract, rolePermissions, route } from '../../contracts/http/route.ts';
import type { Authenticator } from '../auth/port.ts';
import { StoreUnavailable } from '../event-store/port.ts';
import { createLogger } from '../telemetry/logger.ts';
import { createMetrics } from '../telemetry/metrics.ts';
import { createHttpServer, type HttpServerLimits } from './node-server.ts';
import { type Endpoint, endpoint, type IdempotencyPort, type RecordedAnswer } from './port.ts';
import { createHttpApp, type HttpAppOptions } from './server.ts';

export const caller = (userId: string, permissions: Caller['permissions']): Caller => ({
  userId,
  email: `${userId}@example.org`,
  displayName: userId,
  role: 'user',
  actor: { kind: 'user', id: userId },
  permissions,
  sessionId: null,
  expiresAtMs: null,
});

const callers: Readonly<Record<string, Caller>> = {
  ada: caller('ada', new Set(rolePermissions.user)),
  bob: caller('bob', new Set(rolePermissions.user)),
  reader: caller('reader', new Set(['chat:read'])),
};

/** `Bearer <name>`, `X-API-Key: <name>` or the cookie `session=<name>`. */
export const authenticator: Authenticator = {
  async authenticate({ authorization, apiKey, cookie }) {
    const name = authorization?.replace(/^Bearer /, '') ?? apiKey ?? /session=(\w+)/.exec(cookie ?? '')?.[1];
    if (name === undefined) return null;
    return callers[name] ?? refuse('UNAUTHORIZED', 'Invalid or expired token');
  },
  recheck: async (caller) => caller,
};

/** Records of keys in memory, which outlive an app as the log does. */
export function memoryRecords(): IdempotencyPort & { readonly answers: Map<string, RecordedAnswer> } {
  const fingerprints = new Map<string, string>();
  const answers = new Map<string, RecordedAnswer>();
  return {
    answers,
    async accept({ id, fingerprint }) {
      const first = fingerprints.get(id);
      if (first === undefined) {
        fingerprints.set(id, fingerprint);
        return { status: 'accepted' };
      }
      if (first !== fingerprint) return { status: 'taken' };
      const answer = answers.get(id);
      return answer === undefined ? { status: 'unanswered' } : { status: 'answered', answer, position: '5' };
    },
    async answered({ id }, answer) {
      if (!answers.has(id)) answers.set(id, answer);
    },
  };
}

/** Projections that stand where the test puts them. */
export function manualSettle(timeoutMs = 2_000) {
  let reached: Position = '0';
  let head: Position = '0';
  const waiting = new Set<() => void>();
  return {
    timeoutMs,
    position: () => reached,
    head: async () => head,
    /** How many wait. */
    waiters: () => waiting.size,
    /** What the log holds, whether or not the projections have seen it. */
    append(upTo: Position) {
      head = laterOf(head, upTo);
    },
    advance(to: Position) {
      reached = laterOf(reached, to);
      for (const check of waiting) check();
    },
    waitFor: (position: Position, boundMs: number) =>
      new Promise<boolean>((resolve) => {
        const done = (value: boolean): void => {
          clearTimeout(timer);
          waiting.delete(check);
          resolve(value);
        };
        const check = (): void => {
          if (laterOf(reached, position) === reached) done(true);
        };
        const timer = setTimeout(() => done(false), boundMs);
        waiting.add(check);
        check();
      }),
  };
}

const message = z.strictObject({
  message: z
    .string()
    .min(1)
    .max(32_000)
    .refine((text) => text.isWellFormed(), 'holds a lone surrogate'),
});
const anything = { 200: z.unknown() };
type Shape = Pick<RouteContract, 'surface' | 'method' | 'path' | 'access'>;
const shape = (
  surface: Shape['surface'],
  method: Shape['method'],
  path: string,
  access: Shape['access'],
) => ({
  surface,
  method,
  path,
  access,
  summary: path,
  answers: anything,
});

export const contracts = {
  read: route({
    ...shape('luna', 'GET', '/api/things/:id', 'public'),
    params: z.object({ id: z.string().max(200) }),
    query: z.object({
      limit: z.coerce.number().int().min(1).max(100).default(50),
      after: z.string().optional(),
    }),
  }),
  mine: route(shape('luna', 'GET', '/api/mine', 'authenticated')),
  send: route({ ...shape('luna', 'POST', '/api/send', 'chat:write'), body: message }),
  open: route({ ...shape('luna', 'POST', '/api/open', 'public'), body: message }),
  nested: route({
    ...shape('luna', 'POST', '/api/nested', 'public'),
    body: z.looseObject({ items: z.array(z.object({ name: z.string() })).optional() }),
  }),
  form: route({
    ...shape('luna', 'POST', '/api/form', 'public'),
    body: z.looseObject({ name: z.union([z.string(), z.array(z.string())]) }),
    bodyType: 'form',
  }),
  bare: route(shape('luna', 'POST', '/api/bare/:id', 'chat:write')),
  zergSend: route({
    ...shape('zerg', 'POST', '/api/v1/send', 'chat:write'),
    body: z.object({ content: z.string().min(1) }),
  }),
  secret: route({ ...shape('luna', 'POST', '/api/secret', 'chat:write'), repeat: 'derived' }),
  streamed: route({ ...shape('luna', 'POST', '/api/streamed', 'chat:write'), repeat: 'derived' }),
  failing: route({ ...shape('luna', 'POST', '/api/failing/:how', 'chat:write') }),
  zergFailing: route({ ...shape('zerg', 'GET', '/api/v1/failing/:how', 'public') }),
  feed: route(shape('luna', 'GET', '/api/feed/:how', 'public')),
  waiting: route(shape('luna', 'GET', '/api/waiting', 'public')),
  address: route(shape('luna', 'GET', '/api/address', 'public')),
  written: route(shape('luna', 'GET', '/api/written', 'public')),
};

function fail(how: string): never {
  if (how === 'conflict') refuse('CONFLICT', 'The conversation has ended.');
  if (how === 'missing') refuse('NOT_FOUND', 'Thing not found');
  if (how === 'limit')
    throw new Refusal('RATE_LIMIT_EXCEEDED', 'Rate limit exceeded', { retryAfterSeconds: 7 });
  if (how === 'store') throw new StoreUnavailable('the disk is full');
  throw new TypeError('a bug with a secret: hunter2');
}

export interface Call {
  readonly commandId: string;
  readonly retried: boolean;
  readonly input: unknown;
}

export interface Fixture {
  readonly url: string;
  readonly port: number;
  /** What the handlers of `send`, `secret` and `streamed` were called with. */
  readonly calls: Call[];
  readonly logged: string[];
  readonly settle: ReturnType<typeof manualSettle>;
  readonly records: ReturnType<typeof memoryRecords>;
  /** Handlers wait for it before they answer. */
  hold: Promise<void>;
  /** Aborted signals of `waiting`. */
  readonly abandoned: Promise<void>;
  readonly metrics: ReturnType<typeof createMetrics>;
  close(): Promise<void>;
}

export async function serveFixture(
  options: Partial<HttpAppOptions> & {
    readonly records?: ReturnType<typeof memoryRecords>;
    readonly server?: Partial<HttpServerLimits>;
    readonly settleMs?: number;
  } = {},
): Promise<Fixture> {
  const calls: Call[] = [];
  const logged: string[] = [];
  const settle = manualSettle(options.settleMs);
  const records = options.records ?? memoryRecords();
  const metrics = createMetrics();
  const abandoned = Promise.withResolvers<void>();
  const state = { hold: Promise.resolve() };

  const note = async (input: { body?: unknown; params?: unknown }, context: Omit<Call, 'input'>) => {
    const { commandId, retried } = context;
    calls.push({ commandId, retried, input: input.body ?? input.params });
    await state.hold;
  };

  const endpoints: Endpoint[] = [
    // Written by the event at 7.
    endpoint(contracts.written, () => {
      if (isAfter('7', settle.position())) refuse('NOT_FOUND', 'Thing not found');
      return { status: 200, body: 'written' };
    }),
    endpoint(contracts.address, ({ context }) => ({ status: 200, body: context.address })),
    endpoint(contracts.read, ({ params, query }) => ({ status: 200, body: { params, query } })),
    endpoint(contracts.mine, ({ context }) => ({ status: 200, body: { user: context.caller?.userId } })),
    endpoint(contracts.send, async ({ body, context }) => {
      await note({ body }, context);
      context.reached('5');
      return { status: 201, body: { said: body.message, number: calls.length } };
    }),
    endpoint(contracts.open, async ({ body, context }) => {
      await note({ body }, context);
      return { status: 200, body: { said: body.message } };
    }),
    endpoint(contracts.nested, ({ body }) => ({ status: 200, body })),
    endpoint(contracts.form, ({ body }) => ({ status: 200, body })),
    endpoint(contracts.bare, async ({ params, context }) => {
      await note({ params }, context);
      return { status: 204 };
    }),
    endpoint(contracts.zergSend, async ({ body, context }) => {
      await note({ body }, context);
      return { status: 200, body: { ok: true, data: body.content } };
    }),
    endpoint(contracts.secret, async ({ context }) => {
      await note({}, context);
      return { status: 201, body: { key: `secret of ${context.commandId}` } };
    }),
    endpoint(contracts.streamed, async ({ context }) => {
      await note({}, context);
      return {
        stream: (response) => {
          response.writeHead(200, { 'Content-Type': 'text/event-stream' });
          response.end(`data: ${context.retried}\n\n`);
        },
      };
    }),
    endpoint(contracts.failing, async ({ params, context }) => {
      await note({ params }, context);
      fail((params as { how: string }).how);
    }),
    endpoint(contracts.zergFailing, ({ params }) => fail((params as { how: string }).how)),
    endpoint(contracts.feed, ({ params }) => ({
      stream: async (response) => {
        const { how } = params as { how: string };
        if (how === 'refused') refuse('NOT_FOUND', 'No such feed');
        response.writeHead(200, { 'Content-Type': 'text/event-stream' });
        response.write('data: 1\n\n');
        if (how === 'broken') throw new Error('the feed broke');
        if (how === 'ended') response.end();
      },
    })),
    endpoint(contracts.waiting, async ({ context }) => {
      calls.push({ commandId: context.commandId, retried: context.retried, input: null });
      await new Promise<void>((resolve) => context.signal.addEventListener('abort', () => resolve()));
      abandoned.resolve();
      context.signal.throwIfAborted();
      return { status: 200 };
    }),
  ];

  const destination = new Writable({
    write(chunk, _encoding, done) {
      logged.push(String(chunk));
      done();
    },
  });
  const app = createHttpApp({
    endpoints,
    authenticator,
    settle,
    idempotency: records,
    fingerprintSecret: 'a secret',
    logger: createLogger({ level: 'debug', destination }),
    metrics,
    ...options,
  });
  const server = createHttpServer(app, options.server);
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;

  return Object.assign(state, {
    url: `http://127.0.0.1:${port}`,
    port,
    calls,
    logged,
    settle,
    records,
    metrics,
    abandoned: abandoned.promise,
    async close() {
      server.closeAllConnections();
      server.close();
      await once(server, 'close');
    },
  });
}

/** Sends bytes as they are and returns what comes until the other side closes, or `until` is seen. */
export async function raw(port: number, bytes: string | Buffer, until?: string): Promise<string> {
  const socket = connect(port, '127.0.0.1');
  const chunks: Buffer[] = [];
  const received = (): string => Buffer.concat(chunks).toString();
  try {
    return await new Promise<string>((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error(`No end of the answer: ${received()}`)), 10_000);
      const done = (): void => {
        clearTimeout(timer);
        resolve(received());
      };
      socket.on('data', (chunk) => {
        chunks.push(chunk);
        if (until !== undefined && received().includes(until)) done();
      });
      socket.on('close', done);
      // What was received before a reset still counts; `close` follows.
      socket.on('error', () => undefined);
      socket.write(bytes);
    });
  } finally {
    socket.destroy();
  }
}

/** Resolves once `condition` holds; fails when it does not within the bound. */
export async function eventually(
  condition: () => boolean | Promise<boolean>,
  boundMs = 5_000,
): Promise<void> {
  const deadline = performance.now() + boundMs;
  while (!(await condition())) {
    if (performance.now() > deadline) throw new Error('The condition did not come true in time.');
    await new Promise((resolve) => setImmediate(resolve));
  }
}

export const json = (body: unknown, headers: Record<string, string> = {}): RequestInit => ({
  method: 'POST',
  headers: { 'Content-Type': 'application/json', ...headers },
  body: typeof body === 'string' ? body : JSON.stringify(body),
});

export const as = (name: string): Record<string, string> => ({ Authorization: `Bearer ${name}` });

export interface FailureBody {
  readonly ok?: boolean;
  readonly error: string;
  readonly details: readonly { readonly path: readonly (string | number)[]; readonly message: string }[];
}
export const failureOf = async (answer: Response): Promise<FailureBody> =>
  (await answer.json()) as FailureBody;
