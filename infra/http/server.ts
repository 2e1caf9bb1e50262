/**
 * Serves the route table: for each request correlation, origin and access checks, validation, idempotency, the
 * handler, the wait for the projections, and an answer in the surface's format.
 */
import type { IncomingMessage, ServerResponse } from 'node:http';
import express, { type Express } from 'express';
import createRouter from 'find-my-way';
import proxyaddr from 'proxy-addr';
import type { EngineName } from '../../contracts/engines.ts';
import { START } from '../../contracts/envelope.ts';
import { Refusal, refuse } from '../../contracts/errors.ts';
import {
  admits,
  isCommand,
  type RateLimitClass,
  type RouteContract,
  type RouteSurface,
} from '../../contracts/http/route.ts';
import type { Authenticator, ServiceTokens } from '../auth/port.ts';
import type { Logger, Metrics, RouteMetrics } from '../telemetry/port.ts';
import { type BodyLimits, ClientGone, isFormEncoded, parseJson, readBody } from './body.ts';
import { createBudget } from './budget.ts';
import { type ErrorStyle, engineAway, failureOf, renderFailure } from './errors.ts';
import { Exchange, type Settle } from './exchange.ts';
import {
  checkKey,
  commandIdOf,
  createAnonymousKeyLimit,
  createIdempotency,
  fingerprintOf,
  type RenderedAnswer,
  recordId,
} from './idempotency.ts';
import type { Answer, Endpoint, IdempotencyPort, JsonAnswer, StreamAnswer } from './port.ts';
import { type RateLimitState, type RateLimits, tooMany } from './rate-limits.ts';
import { allowOrigin, preflightHeaders, refuseForeign, securityHeaders } from './security.ts';
import { parseQuery, validatorOf } from './validation.ts';

export interface HttpAppOptions {
  readonly endpoints: readonly Endpoint[];
  /**
   * Every route of the deployment, where other processes have some of them: OPTIONS, which pages of other origins
   * ask before a command, tells of those, too. Default: those of `endpoints`.
   */
  readonly routes?: readonly RouteContract[];
  readonly authenticator: Authenticator;
  readonly settle: Settle;
  readonly idempotency: IdempotencyPort;
  /** Keys the fingerprints of requests; the same at every start. */
  readonly fingerprintSecret: string;
  readonly logger: Logger;
  readonly metrics: Metrics;
  readonly limits?: Partial<HttpLimits>;
  /** Origins whose pages may call, as browsers name them (`https://chat.example.org`). Default: none. */
  readonly corsOrigins?: readonly string[];
  /** Addresses and networks (`10.0.0.0/8`) of proxies whose `X-Forwarded-For` is believed. Default: none. */
  readonly trustedProxies?: readonly string[];
  /** Lets other processes of the deployment call the routes that are for services; without it nobody can. */
  readonly services?: Pick<ServiceTokens, 'verify'>;
  /** An engine that is known to be away: commands are refused with 503 before anything is done. Null: none. */
  readonly unavailable?: () => EngineName | null;
  /** Counts the requests of routes that name a class of limits. Default: nobody does. */
  readonly rateLimits?: RateLimits;
  /** The other endpoints come later: until then all that matches none of these is answered with 503. */
  readonly starting?: boolean;
}

export interface HttpLimits {
  readonly bodyBytes: number;
  readonly bodyDepth: number;
  /** Of all bodies that are on their way, apart from small ones. */
  readonly bodyBytesAtOnce: number;
  /** Of all answers that their clients have not read yet, apart from small ones. */
  readonly unreadBytes: number;
  /** A client that reads nothing of its answer for so long is cut off. Streams have bounds of their own. */
  readonly unreadMs: number;
  /** How long a repeated request waits for the first one with its Idempotency-Key. */
  readonly repeatWaitMs: number;
  /** Requests with an Idempotency-Key that an address may send in a minute without being logged in. */
  readonly anonymousKeysPerMinute: number;
}

const DEFAULT_LIMITS: HttpLimits = {
  bodyBytes: 1024 * 1024,
  bodyDepth: 64,
  bodyBytesAtOnce: 64 * 1024 * 1024,
  unreadBytes: 128 * 1024 * 1024,
  unreadMs: 30_000,
  repeatWaitMs: 30_000,
  anonymousKeysPerMinute: 60,
};
/** So much the operating system takes whether it is read or not. */
const SMALL_ANSWER_BYTES = 64 * 1024;
/** Forms are read without bounds on their fields, and hold a login. */
const MAX_FORM_BYTES = 16 * 1024;
/** Longer path parameters match no route. */
const MAX_PARAM_LENGTH = 512;
const METHODS = ['GET', 'POST', 'PUT', 'PATCH', 'DELETE'] as const;
/** What proxies log for a client that went away before its answer. */
const CLIENT_GONE = 499;

type Params = Readonly<Record<string, string | undefined>>;
type Outgoing = RenderedAnswer | StreamAnswer;
/** What a request is for: an endpoint, or being told that there is none. */
interface Target {
  readonly surface: RouteSurface;
  readonly method: string;
  readonly route: string;
  readonly errors: ErrorStyle;
  readonly metrics: RouteMetrics;
  readonly work: (
    exchange: Exchange,
    request: IncomingMessage,
    params: Params,
    search: string,
  ) => Promise<Outgoing>;
}

export function createHttpApp(options: HttpAppOptions): Express {
  const { authenticator, settle, logger, metrics } = options;
  const limits: HttpLimits = { ...DEFAULT_LIMITS, ...options.limits };
  const bodyLimits: BodyLimits = {
    maxBytes: limits.bodyBytes,
    maxDepth: limits.bodyDepth,
    budget: createBudget(limits.bodyBytesAtOnce, 'Too many large bodies are coming in at once: try again.'),
  };
  const formLimits: BodyLimits = { ...bodyLimits, maxBytes: Math.min(MAX_FORM_BYTES, limits.bodyBytes) };
  const unread = createBudget(
    limits.unreadBytes,
    'Too many large answers are waiting to be read: try again.',
  );
  const corsOrigins = new Set(options.corsOrigins);
  const trusts = proxyaddr.compile([...(options.trustedProxies ?? [])]);
  const once = createIdempotency({ port: options.idempotency, maxWaitMs: limits.repeatWaitMs });
  const limitAnonymousKeys = createAnonymousKeyLimit(limits.anonymousKeysPerMinute);

  const render = ({ status, body, headers, replayed }: JsonAnswer): RenderedAnswer => ({
    status,
    text: body === undefined ? '' : JSON.stringify(body),
    ...(headers === undefined ? {} : { headers }),
    ...(replayed === undefined ? {} : { replayed }),
  });

  function renderError(error: unknown, exchange: Exchange): RenderedAnswer {
    const failure = failureOf(error);
    const { correlationId } = exchange;
    if (failure.internal && exchange.isAbandoned) {
      // Handlers may stop with whatever error when their client has gone.
      logger.debug({ err: error, correlationId }, 'a request ended without its client');
    } else if (failure.internal) logger.error({ err: error, correlationId }, 'a request failed unexpectedly');
    else if (failure.status >= 500)
      logger.warn({ err: error, correlationId }, 'a request could not be served');
    return render(renderFailure(exchange.errorStyle, failure, correlationId));
  }

  const renderAnswer = (answer: Answer): Outgoing => ('stream' in answer ? answer : render(answer));

  /**
   * Whoever is no service gets the answer of a path that does not exist.
   * @returns what the body must pass, once it has been read
   */
  function authoriseService(
    contract: RouteContract,
    exchange: Exchange,
    path: string,
  ): (body: Uint8Array) => void {
    const refuseCall = (reason: string): never => {
      const { correlationId, address } = exchange;
      logger.warn({ correlationId, address, route: path, reason }, 'A call that is for services was refused');
      throw notFound(path);
    };
    if (options.services === undefined) return refuseCall('this process takes none');
    const { method } = contract;
    const verified = options.services.verify(exchange.headers.authorization, { method, path });
    if (typeof verified === 'string') return refuseCall(verified);
    return (body) => {
      if (!verified(body)) refuseCall('its body is not the one that was signed');
    };
  }

  async function authorise(contract: RouteContract, exchange: Exchange): Promise<void> {
    if (contract.access === 'public') return;
    const { authorization, cookie } = exchange.headers;
    const apiKey = exchange.headers['x-api-key'];
    const caller = await authenticator.authenticate({
      authorization,
      cookie,
      apiKey: typeof apiKey === 'string' ? apiKey : undefined,
    });
    if (caller === null) refuse('UNAUTHORIZED', 'No authorization provided');
    exchange.caller = caller;
    if (!admits(contract.access, caller.permissions)) {
      refuse('FORBIDDEN', `This needs the permission ${[contract.access].flat().join(' or ')}.`);
    }
  }

  /**
   * Counts a request where limits are kept for its route.
   * @throws Refusal when it is one too many
   */
  async function count(
    { rateLimit: kind }: RouteContract,
    exchange: Exchange,
    counting: (limits: RateLimits, kind: RateLimitClass) => Promise<RateLimitState | null>,
  ): Promise<void> {
    if (kind === undefined || options.rateLimits === undefined) return;
    exchange.rateLimit = await counting(options.rateLimits, kind);
    if (exchange.rateLimit?.exceeded) throw tooMany(exchange.rateLimit);
  }

  /** Requests that are refused, as nobody knows who sent them or as they may not, are counted all the same. */
  async function authoriseCounted(contract: RouteContract, exchange: Exchange): Promise<void> {
    const refused: unknown = await unlessTooEarly(exchange, () => authorise(contract, exchange)).then(
      () => null,
      (error) => error,
    );
    if (refused !== null && !(refused instanceof Refusal)) throw refused;
    await count(contract, exchange, (limits, kind) =>
      limits.consume(kind, exchange.caller, exchange.address),
    );
    if (refused !== null) throw refused;
  }

  function workOf({ contract, handle, inProgress }: Endpoint): Target['work'] {
    const command = isCommand(contract);
    const validate = validatorOf(contract);
    const route = `${contract.method} ${contract.path}`;
    const derived = contract.repeat === 'derived';

    return async (exchange, request, params, search) => {
      const isService = contract.access === 'service';
      const checkBody = isService ? authoriseService(contract, exchange, pathOf(request)) : null;
      await count(contract, exchange, (limits, kind) => limits.arrive(kind, exchange.address));
      if (command) {
        refuseForeign(request.headers, corsOrigins);
        const away = options.unavailable?.() ?? null;
        if (away !== null) throw engineAway(away);
      }
      if (!isService) await authoriseCounted(contract, exchange);
      let body: unknown;
      if (contract.body !== undefined || checkBody !== null) {
        const isForm = contract.bodyType === 'form' && isFormEncoded(request);
        const bytes = await readBody(request, isForm ? formLimits : bodyLimits, isForm);
        checkBody?.(bytes);
        if (contract.body !== undefined) {
          body = isForm ? parseQuery(bytes.toString()) : parseJson(bytes, bodyLimits);
        }
      }
      const query = contract.query === undefined ? undefined : parseQuery(search);
      const input = { ...validate({ params, query, body }), context: exchange };

      const handled = async () => handle(input as Parameters<typeof handle>[0]);
      const run = async (): Promise<Outgoing> =>
        renderAnswer(await (command ? handled() : unlessTooEarly(exchange, handled)));
      const key = command ? request.headers['idempotency-key'] : undefined;
      if (typeof key !== 'string') return run();

      checkKey(key);
      if (exchange.caller === null) await limitAnonymousKeys(exchange.address);
      const within =
        contract.keyScope === undefined ? '' : `${contract.keyScope} ${params[contract.keyScope]}`;
      const id = recordId(exchange.caller, exchange.address, route, key, within);
      exchange.commandId = commandIdOf(id);
      const { answer, replayed } = await once<StreamAnswer>(
        {
          id,
          fingerprint: fingerprintOf(options.fingerprintSecret, contract.method, request.url ?? '', body),
          caller: exchange.caller,
          surface: exchange.surface,
          correlationId: exchange.correlationId,
        },
        {
          derived,
          ...(inProgress !== undefined && { inProgress: () => inProgress(exchange) }),
          reached: (position) => exchange.reached(position),
          // A refusal is an answer, too, and may be recorded.
          run: (retried) => {
            exchange.retried = retried;
            return run().catch((error: unknown) => renderError(error, exchange));
          },
        },
      );
      return (('replayed' in answer ? answer.replayed : undefined) ?? replayed) ? asReplay(answer) : answer;
    };
  }

  const routing = { ignoreTrailingSlash: true, maxParamLength: MAX_PARAM_LENGTH };
  const router = createRouter(routing);
  for (const one of options.endpoints) {
    const { surface, method, path } = one.contract;
    const target: Target = {
      surface,
      method,
      route: path,
      errors: one.contract.errors ?? surface,
      metrics: metrics.route({ surface, method, route: path }),
      work: workOf(one),
    };
    router.on(method, path, () => undefined, target);
  }

  /** What clients are told of: nothing of what is between services. */
  const told = createRouter(routing);
  for (const contract of [...options.endpoints.map((one) => one.contract), ...(options.routes ?? [])]) {
    const { method, path, access } = contract;
    if (access !== 'service' && !told.hasRoute(method, path)) told.on(method, path, () => undefined);
  }

  function unmatched(surface: RouteSurface, method: string): Target {
    const route = '(none)';
    const known = (METHODS as readonly string[]).includes(method) ? method : 'other';
    return {
      surface,
      method: known,
      route,
      errors: surface,
      metrics: metrics.route({ surface, method: known, route }),
      work: async (exchange, request) => {
        if (options.starting) {
          throw new Refusal('SERVICE_UNAVAILABLE', 'Odeon is starting: GET /health says what it waits for.', {
            retryAfterSeconds: 2,
          });
        }
        const path = pathOf(request);
        const allowed = METHODS.filter((candidate) => told.find(candidate, path) !== null);
        if (allowed.length === 0 && request.url !== '*') throw notFound(path);
        const allow = [...allowed, ...(allowed.includes('GET') ? ['HEAD'] : []), 'OPTIONS'].join(', ');
        if (request.method === 'OPTIONS') {
          return { status: 204, text: '', headers: { Allow: allow, ...preflightHeaders(allow) } };
        }
        if ((allowed as readonly (string | undefined)[]).includes(routedMethod(request))) {
          refuse('NOT_FOUND', 'Another process serves this: send it to the address of the whole deployment.');
        }
        const failure = failureOf(new Refusal('METHOD_NOT_ALLOWED', `Allowed here: ${allow}.`));
        const answer = render(renderFailure(exchange.errorStyle, failure, exchange.correlationId));
        return { ...answer, headers: { ...answer.headers, Allow: allow } };
      },
    };
  }

  const targets = new Map<string, Target>();
  function unmatchedTarget(surface: RouteSurface, method: string): Target {
    const name = `${surface} ${method}`;
    let target = targets.get(name);
    if (target === undefined) {
      target = unmatched(surface, method);
      targets.set(name, target);
    }
    return target;
  }

  /** What is large and waits for a client that does not read is held within bounds, and not for ever. */
  function held(response: ServerResponse, exchange: Exchange, answer: RenderedAnswer): RenderedAnswer {
    const bytes = Buffer.byteLength(answer.text);
    if (bytes <= SMALL_ANSWER_BYTES) return answer;
    try {
      unread.take(bytes);
    } catch (error) {
      return renderError(error, exchange);
    }
    response.once('close', () => unread.give(bytes));
    response.setTimeout(limits.unreadMs, () => response.destroy());
    return answer;
  }

  function send(response: ServerResponse, exchange: Exchange, answer: RenderedAnswer): void {
    if (response.headersSent || response.destroyed) return;
    const { status, text, headers } = held(response, exchange, answer);
    response.writeHead(status, {
      ...(response.hasHeader('Access-Control-Allow-Origin') ? withoutPolicy : securityHeaders),
      ...exchange.freshness(),
      ...(status === 204 || status === 304
        ? {}
        : { 'Content-Type': 'application/json; charset=utf-8', 'Content-Length': Buffer.byteLength(text) }),
      ...headers,
    });
    response.end(text);
  }

  async function sendStream(
    response: ServerResponse,
    exchange: Exchange,
    answer: StreamAnswer,
    request: IncomingMessage,
  ): Promise<void> {
    for (const [name, value] of Object.entries({ ...securityHeaders, ...exchange.freshness() })) {
      if (!response.hasHeader(name)) response.setHeader(name, value);
    }
    if (request.method === 'HEAD') {
      response.end();
      return;
    }
    await answer.stream(response, request);
  }

  async function serve(
    target: Target,
    request: IncomingMessage,
    response: ServerResponse,
    params: Params,
    search: string,
  ) {
    const startedMs = performance.now();
    const exchange = new Exchange(target, request, response, settle, (address) => trusts(address, 0));
    let endStreaming: (() => void) | null = null;
    response.on('close', () => {
      exchange.closed();
      const durationMs = performance.now() - startedMs;
      const status = response.headersSent ? response.statusCode : CLIENT_GONE;
      if (endStreaming === null) target.metrics.answered(status, durationMs);
      else endStreaming();
      logger.info(
        {
          correlationId: exchange.correlationId,
          surface: target.surface,
          method: target.method,
          route: target.route,
          status,
          durationMs: Math.round(durationMs * 100) / 100,
          caller: exchange.caller?.actor.id ?? null,
          ...(exchange.isAbandoned ? { abandoned: true } : {}),
        },
        'request',
      );
    });
    allowOrigin(request, response, corsOrigins);

    let outgoing: Outgoing;
    try {
      outgoing = await target.work(exchange, request, params, search);
      await exchange.settled();
    } catch (error) {
      if (error instanceof ClientGone) return;
      outgoing = renderError(error, exchange);
    }
    if (!('stream' in outgoing)) {
      send(response, exchange, outgoing);
      return;
    }
    endStreaming = target.metrics.streaming();
    try {
      await sendStream(response, exchange, outgoing, request);
      target.metrics.answered(response.statusCode, performance.now() - startedMs);
    } catch (error) {
      const rendered = renderError(error, exchange);
      // A stream that has begun is cut off, so that its reader does not take it for complete.
      if (response.headersSent) response.socket?.destroySoon();
      else send(response, exchange, rendered);
      target.metrics.answered(response.statusCode, performance.now() - startedMs);
    }
  }

  function dispatch(request: IncomingMessage, response: ServerResponse): void {
    const url = request.url ?? '/';
    const path = pathOf(request);
    const method = routedMethod(request);
    const found = isRouted(method) ? router.find(method, path) : null;
    const target: Target = found?.store ?? unmatchedTarget(surfaceAt(path), method ?? '');
    const question = url.indexOf('?');
    serve(target, request, response, found?.params ?? {}, question < 0 ? '' : url.slice(question + 1)).catch(
      (error: unknown) => {
        logger.error({ err: error }, 'an answer could not be sent');
        response.destroy();
      },
    );
  }

  const app = express();
  app.disable('x-powered-by');
  app.use(dispatch);
  return app;
}

/** What is served until the rest can be: `endpoints` are public and change nothing. */
export const createStartingApp = (
  options: Pick<HttpAppOptions, 'endpoints' | 'logger' | 'metrics' | 'corsOrigins'>,
): Express =>
  createHttpApp({
    ...options,
    starting: true,
    authenticator: { authenticate: async () => null, recheck: async () => null },
    settle: { position: () => START, head: async () => START, waitFor: async () => false, timeoutMs: 0 },
    idempotency: { accept: async () => ({ status: 'taken' }), answered: async () => {} },
    fingerprintSecret: '',
  });

const { 'Cross-Origin-Resource-Policy': _policy, ...withoutPolicy } = securityHeaders;

/** In whose words it is said that there is no such path: those of the surface that has others like it. */
const surfacesByPath: readonly (readonly [prefix: string, surface: RouteSurface])[] = [
  ['/api/v1/', 'zerg'],
  ['/api/agents', 'trinity'],
  ['/api/public/', 'trinity'],
  ['/api/activities/', 'trinity'],
  ['/api/executions', 'trinity'],
  ['/api/token', 'trinity'],
  ['/api/chat/completions', 'agent-chat'],
  ['/api/chat/stream', 'agent-chat'],
  ['/api/conversations', 'agent-chat'],
  ['/api/search', 'agent-chat'],
  ['/api/models', 'agent-chat'],
  ['/api/info', 'agent-chat'],
  ['/api/cli/', 'agent-chat'],
  ['/graphql', 'agent-chat'],
];
const surfaceAt = (path: string): RouteSurface =>
  surfacesByPath.find(([prefix]) => path.startsWith(prefix))?.[1] ?? 'luna';

/** HEAD is answered as GET, without the body. */
const routedMethod = ({ method }: IncomingMessage): string | undefined =>
  method === 'HEAD' ? 'GET' : method;

/**
 * Read models show what was written a moment later, and other processes may be further than those of this one: who or
 * what is not there is looked for again once all that the log holds can be seen.
 */
async function unlessTooEarly<Result>(exchange: Exchange, work: () => Promise<Result>): Promise<Result> {
  try {
    return await work();
  } catch (error) {
    const isAbsence =
      error instanceof Refusal && (error.code === 'NOT_FOUND' || error.code === 'UNAUTHORIZED');
    if (!isAbsence || !(await exchange.caughtUp())) throw error;
    return work();
  }
}

const isRouted = (method: string | undefined): method is (typeof METHODS)[number] =>
  (METHODS as readonly (string | undefined)[]).includes(method);

const pathOf = ({ url = '/' }: IncomingMessage): string => {
  const question = url.indexOf('?');
  return question < 0 ? url : url.slice(0, question);
};

function notFound(path: string): Refusal {
  try {
    decodeURIComponent(path);
  } catch {
    return new Refusal('VALIDATION_ERROR', 'The path is not valid percent-encoded UTF-8.');
  }
  return new Refusal('NOT_FOUND', 'Not found');
}

const REPLAY_HEADERS = { 'Idempotent-Replay': 'true', 'X-Idempotent-Replay': 'true' } as const;

function asReplay(answer: Outgoing): Outgoing {
  if (!('stream' in answer)) return { ...answer, headers: { ...answer.headers, ...REPLAY_HEADERS } };
  return {
    stream: (response, request) => {
      for (const [name, value] of Object.entries(REPLAY_HEADERS)) response.setHeader(name, value);
      return answer.stream(response, request);
    },
  };
}
