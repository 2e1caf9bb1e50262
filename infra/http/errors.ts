/** What became of a request that failed, and how each surface says it. */
import { cannotAnswer, type EngineName } from '../../contracts/engines.ts';
import { type Issue, type RateLimit, Refusal, type RefusalCode, refusals } from '../../contracts/errors.ts';
import type { RouteSurface } from '../../contracts/http/route.ts';
import { StoreUnavailable } from '../event-store/port.ts';
import type { JsonAnswer } from './port.ts';

/** So that a hostile body cannot make an answer long. */
const MAX_ISSUES = 20;
const MAX_MESSAGE = 300;
const ENGINE_RETRY_SECONDS = 5;

export interface Failure {
  readonly status: number;
  readonly code: RefusalCode | 'INTERNAL_ERROR';
  readonly message: string;
  readonly issues: readonly Issue[];
  readonly retryAfterSeconds: number | undefined;
  readonly rateLimit?: RateLimit | undefined;
  /** In Trinity's words, where a text is not enough. */
  readonly detail?: Readonly<Record<string, unknown>> | undefined;
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
      code: error.code,
      message: error.message,
      issues: error.issues,
      retryAfterSeconds: error.retryAfterSeconds,
      rateLimit: error.rateLimit,
      detail: error.detail,
      internal: false,
    };
  }
  if (error instanceof StoreUnavailable) {
    return {
      status: refusals.SERVICE_UNAVAILABLE,
      code: 'SERVICE_UNAVAILABLE',
      message: cannotAnswer(error.engine),
      issues: [],
      retryAfterSeconds: ENGINE_RETRY_SECONDS,
      internal: false,
    };
  }
  return {
    status: 500,
    code: 'INTERNAL_ERROR',
    message: 'Internal error',
    issues: [],
    retryAfterSeconds: undefined,
    internal: true,
  };
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

/** FastAPI's `{detail}`: a text, an object where the refusal has one, or for what is not valid a list of `{type, loc, msg, input}`. */
const trinity: Render = (failure, issues) => ({
  detail:
    issues.length === 0
      ? (failure.detail ?? failure.message)
      : issues.map((issue) => ({ type: 'value_error', loc: issue.path, msg: issue.message, input: null })),
});

/** `{success: false, error, details, code, timestamp}`; for a rate limit as its document shows that. */
const agentChat: Render = (failure, issues) => ({
  success: false,
  error: failure.message,
  details: issues.length > 0 ? issues.map(describe).join('; ') : failure.message,
  code: failure.code,
  timestamp: new Date().toISOString(),
  ...(failure.rateLimit !== undefined && {
    error: 'Rate limit exceeded',
    limit: failure.rateLimit.limit,
    window: `${failure.rateLimit.windowSeconds / 60}m`,
    retry_after: Math.ceil(failure.retryAfterSeconds ?? 0),
  }),
});

const openAiTypes: Readonly<Record<number, string>> = {
  401: 'authentication_error',
  403: 'permission_error',
  404: 'not_found_error',
  409: 'conflict_error',
  429: 'rate_limit_error',
};
/** Agent Chat's body, with `error` as the clients of OpenAI's API read it. */
const openai: Render = (failure, issues) => {
  const body = agentChat(failure, issues);
  const type =
    openAiTypes[failure.status] ?? (failure.status >= 500 ? 'server_error' : 'invalid_request_error');
  const param = issues[0]?.path.slice(1).join('.') || null;
  const message = issues.length > 0 ? String(body.details) : failure.message;
  return { ...body, error: { message, type, param, code: failure.code } };
};

/** The words that GraphQL's clients look for, where they are others than Agent Chat's. */
const graphqlCodes: Readonly<Record<string, string>> = {
  UNAUTHORIZED: 'UNAUTHENTICATED',
  INTERNAL_ERROR: 'INTERNAL',
};
/** Agent Chat's body, with `errors` as GraphQL's clients read them. */
const graphql: Render = (failure, issues) => {
  const body = agentChat(failure, issues);
  const { success: _, error: message, code, ...details } = body;
  const extensions = { code: graphqlCodes[failure.code] ?? code, ...details };
  return { ...body, errors: [{ message, extensions }] };
};

/** In whose words a refusal is said. */
export type ErrorStyle = RouteSurface | 'openai' | 'graphql';
const styles: Readonly<Record<ErrorStyle, Render>> = {
  luna,
  odeon: luna,
  zerg,
  trinity,
  'agent-chat': agentChat,
  openai,
  graphql,
};

export function renderFailure(style: ErrorStyle, failure: Failure, correlationId: string): JsonAnswer {
  const issues = failure.issues
    .slice(0, MAX_ISSUES)
    .map((issue) => ({ ...issue, path: issue.path.map(shortenPart), message: shorten(issue.message) }));
  const body = styles[style](failure, issues);
  // As FastAPI has it: what does not fit the schema is 422, and 400 what is no sound request at all.
  const status = style === 'trinity' && issues.length > 0 ? refusals.UNPROCESSABLE : failure.status;
  return {
    status,
    body: failure.internal ? { ...body, correlationId } : body,
    headers: {
      ...(failure.retryAfterSeconds === undefined
        ? {}
        : { 'Retry-After': String(Math.ceil(failure.retryAfterSeconds)) }),
      ...rateLimitHeaders(failure),
      ...(style === 'openai' && !maySucceedSoon(failure) ? { 'x-should-retry': 'false' } : {}),
      ...(failure.status === refusals.UNAUTHORIZED ? { 'WWW-Authenticate': 'Bearer' } : {}),
    },
  };
}

/** OpenAI's client tries 409, 429 and 5xx again by itself, whatever they say, unless it is told not to. */
const maySucceedSoon = ({ status, retryAfterSeconds = 0 }: Failure): boolean =>
  status !== refusals.CONFLICT && !(status === refusals.RATE_LIMIT_EXCEEDED && retryAfterSeconds > 60);

const shortenPart = (part: string | number): string | number =>
  typeof part === 'string' ? shorten(part) : part;

/** As the IETF draft had them until version 6, which Luna's clients read: the reset is in seconds from now. */
function rateLimitHeaders({ rateLimit, retryAfterSeconds = 0 }: Failure): Record<string, string> {
  // Of limits on requests the exchange tells.
  if (rateLimit === undefined || rateLimit.policy !== undefined) return {};
  return {
    'RateLimit-Policy': `${rateLimit.limit};w=${rateLimit.windowSeconds}`,
    'RateLimit-Limit': String(rateLimit.limit),
    'RateLimit-Remaining': '0',
    'RateLimit-Reset': String(Math.ceil(retryAfterSeconds)),
  };
}
