/** What became of a request that failed, and how each surface says it. */
import { cannotAnswer, type EngineName } from '../../contracts/engines.ts';
import { type Issue, type RateLimit, Refusal, refusals } from '../../contracts/errors.ts';
import type { RouteSurface } from '../../contracts/http/route.ts';
import { StoreUnavailable } from '../event-store/port.ts';
import type { JsonAnswer } from './port.ts';

/** So that a hostile body cannot make an answer long. */
const MAX_ISSUES = 20;
const MAX_MESSAGE = 300;
const ENGINE_RETRY_SECONDS = 5;

export interface Failure {
  readonly status: number;
  readonly message: string;
  readonly issues: readonly Issue[];
  readonly retryAfterSeconds: number | undefined;
  readonly rateLimit?: RateLimit | undefined;
  /** A bug: to be logged with its stack, and told to the client only by its correlation id. */
  readonly internal: boolean;
}

/** For what is refused before anything is done, because an engine is known to be away. */
export const engineAway = (engine: EngineName): Refusal =>
  new Refusal('SERVICE_UNAVAILABLE', cannotAnswer(engine), { retryAfterSeconds: ENGINE_RETRY_SECONDS });

export function failureOf(error: unknown): Failure {
  if (error instanceof Refusal) {
    return {
      status: error.status,
      message: error.message,
      issues: error.issues,
      retryAfterSeconds: error.retryAfterSeconds,
      rateLimit: error.rateLimit,
      internal: false,
    };
  }
  if (error instanceof StoreUnavailable) {
    return {
      status: refusals.SERVICE_UNAVAILABLE,
      message: cannotAnswer(error.engine),
      issues: [],
      retryAfterSeconds: ENGINE_RETRY_SECONDS,
      internal: false,
    };
  }
  return { status: 500, message: 'Internal error', issues: [], retryAfterSeconds: undefined, internal: true };
}

const shorten = (text: string): string =>
  text.length <= MAX_MESSAGE ? text : `${text.slice(0, MAX_MESSAGE - 1).toWellFormed()}…`;

const describe = ({ path, message }: Issue): string =>
  path.length === 0 ? message : `${path.join('.')}: ${message}`;

type Render = (failure: Failure, issues: readonly Issue[]) => Record<string, unknown>;

/** `{error, details?}`. */
const luna: Render = (failure, issues) => ({
  error:
    failure.status === refusals.VALIDATION_ERROR && issues.length > 0 ? 'Validation error' : failure.message,
  ...(issues.length > 0 ? { details: issues } : {}),
  ...(failure.status === refusals.RATE_LIMIT_EXCEEDED && failure.retryAfterSeconds !== undefined
    ? { retryAfter: failure.retryAfterSeconds }
    : {}),
});

/** `{ok:false, error}`. */
const zerg: Render = (failure, issues) => ({
  ok: false,
  error: issues.length > 0 ? issues.map(describe).join('; ') : failure.message,
});

const surfaces: Readonly<Record<RouteSurface, Render>> = { luna, odeon: luna, zerg };

export function renderFailure(surface: RouteSurface, failure: Failure, correlationId: string): JsonAnswer {
  const issues = failure.issues
    .slice(0, MAX_ISSUES)
    .map((issue) => ({ ...issue, path: issue.path.map(shortenPart), message: shorten(issue.message) }));
  const body = surfaces[surface](failure, issues);
  return {
    status: failure.status,
    body: failure.internal ? { ...body, correlationId } : body,
    headers: {
      ...(failure.retryAfterSeconds === undefined
        ? {}
        : { 'Retry-After': String(Math.ceil(failure.retryAfterSeconds)) }),
      ...rateLimitHeaders(failure),
      ...(failure.status === refusals.UNAUTHORIZED ? { 'WWW-Authenticate': 'Bearer' } : {}),
    },
  };
}

const shortenPart = (part: string | number): string | number =>
  typeof part === 'string' ? shorten(part) : part;

/** As the IETF draft had them until version 6, which Luna's clients read: the reset is in seconds from now. */
function rateLimitHeaders({ rateLimit, retryAfterSeconds = 0 }: Failure): Record<string, string> {
  if (rateLimit === undefined) return {};
  return {
    'RateLimit-Policy': `${rateLimit.limit};w=${rateLimit.windowSeconds}`,
    'RateLimit-Limit': String(rateLimit.limit),
    'RateLimit-Remaining': '0',
    'RateLimit-Reset': String(Math.ceil(retryAfterSeconds)),
  };
}
