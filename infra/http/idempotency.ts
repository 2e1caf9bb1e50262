/**
 * Requests that may be repeated. A command route with an `Idempotency-Key` is carried out once: the key is bound
 * to the request before its handler runs, the answer is recorded before it is sent, and a repetition gets that
 * answer. A process that died in between left a key without an answer: the handler then runs again under the
 * same command id, which appends nothing twice.
 */
import { createHash, createHmac } from 'node:crypto';
import { RateLimiterMemory, RateLimiterRes } from 'rate-limiter-flexible';
import { v5 as uuidV5 } from 'uuid';
import type { Caller } from '../../contracts/caller.ts';
import type { Position } from '../../contracts/envelope.ts';
import { Refusal } from '../../contracts/errors.ts';
import type { IdempotencyPort, KeyedRequest } from './port.ts';

const COMMAND_IDS = '3b1f5d0e-7c1c-4d3a-9e4b-6a0d2c8f9b55';
const KEY = /^[\x21-\x7e]{1,255}$/;

export function checkKey(key: string): void {
  if (KEY.test(key)) return;
  throw new Refusal('VALIDATION_ERROR', 'The Idempotency-Key is not valid.', {
    issues: [{ path: ['headers', 'Idempotency-Key'], message: 'must be 1 to 255 visible ASCII characters' }],
  });
}

/**
 * Names the record of a key: the same key of another caller is another key, and so it is within something else.
 * @param within empty where a key counts for all that its caller does
 */
export function recordId(
  caller: Caller | null,
  address: string,
  route: string,
  key: string,
  within = '',
): string {
  const scope =
    caller === null ? `${address} ${route}` : `${caller.actor.kind} ${caller.userId} ${caller.actor.id}`;
  return createHash('sha256')
    .update(`${scope}${within === '' ? '' : `\n${within}`}\n${key}`)
    .digest('hex');
}

/**
 * Bounds the keys that one address may use without being logged in: each leaves a record in the log, and nobody
 * may fill it anonymously.
 */
export function createAnonymousKeyLimit(perMinute: number): (address: string) => Promise<void> {
  const limiter = new RateLimiterMemory({ points: perMinute, duration: 60 });
  return async (address) => {
    try {
      await limiter.consume(address);
    } catch (rejected) {
      if (!(rejected instanceof RateLimiterRes)) throw rejected;
      throw new Refusal(
        'RATE_LIMIT_EXCEEDED',
        'Too many requests with an Idempotency-Key: try again later.',
        {
          retryAfterSeconds: Math.ceil(rejected.msBeforeNext / 1_000),
        },
      );
    }
  };
}

/** The command id of every try of a request. */
export const commandIdOf = (id: string): string => uuidV5(id, COMMAND_IDS);

const sortKeys = (_key: string, value: unknown): unknown =>
  typeof value === 'object' && value !== null && !Array.isArray(value)
    ? Object.fromEntries(Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1)))
    : value;

/** Keyed, because bodies hold passwords and the log keeps fingerprints for ever. */
export const fingerprintOf = (secret: string, method: string, url: string, body: unknown): string =>
  createHmac('sha256', secret)
    .update(`${method} ${url}\n${JSON.stringify(body, sortKeys) ?? ''}`)
    .digest('hex');

/** An answer that is ready to be sent. */
export interface RenderedAnswer {
  readonly status: number;
  /** JSON; empty for an empty answer. */
  readonly text: string;
  readonly headers?: Readonly<Record<string, string | readonly string[]>>;
  /** What the handler says of it itself. */
  readonly replayed?: boolean;
}

export interface KeyedWork<Stream> {
  /** Streams and secrets are not recorded, but made again. */
  readonly derived: boolean;
  /** `retried`: an earlier try may have done it already. */
  run(retried: boolean): Promise<RenderedAnswer | Stream>;
  reached(position: Position): void;
  /** What a repetition is refused with while the first try runs. Left out: it waits for it. */
  readonly inProgress?: () => Refusal | Promise<Refusal>;
}

export interface IdempotencyOptions {
  readonly port: IdempotencyPort;
  /** How long a repetition waits for the first try, which is still running. */
  readonly maxWaitMs: number;
}

export type CarryOutOnce = <Stream extends object>(
  request: KeyedRequest,
  work: KeyedWork<Stream>,
) => Promise<{ answer: RenderedAnswer | Stream; replayed: boolean }>;

/** Not decisions about the command: the same request may fare better later. */
const UNDECIDED: ReadonlySet<number> = new Set([400, 401, 403, 408, 429]);
const isFinal = (answer: RenderedAnswer): boolean =>
  answer.status < 500 && !UNDECIDED.has(answer.status) && answer.headers?.['Retry-After'] === undefined;

const isRendered = (answer: object): answer is RenderedAnswer => 'text' in answer;

export function createIdempotency({ port, maxWaitMs }: IdempotencyOptions): CarryOutOnce {
  const running = new Map<string, { readonly fingerprint: string; readonly ended: Promise<void> }>();

  /** Until no other try of the request runs in this process. */
  async function waitForTurn(
    request: KeyedRequest,
    inProgress: KeyedWork<never>['inProgress'],
  ): Promise<void> {
    const deadline = performance.now() + maxWaitMs;
    for (;;) {
      const other = running.get(request.id);
      if (other === undefined) return;
      if (other.fingerprint !== request.fingerprint) throw taken();
      if (inProgress !== undefined) throw await inProgress();
      if (!(await endsWithin(other.ended, deadline - performance.now()))) {
        throw new Refusal('CONFLICT', 'The first request with this Idempotency-Key is still running.', {
          retryAfterSeconds: 1,
        });
      }
    }
  }

  async function carryOut<Stream extends object>(request: KeyedRequest, work: KeyedWork<Stream>) {
    const acceptance = await port.accept(request);
    if (acceptance.status === 'taken') throw taken();
    if (acceptance.status === 'answered') {
      const { status, body } = acceptance.answer;
      work.reached(acceptance.position);
      return { answer: body === null ? await work.run(true) : { status, text: body }, replayed: true };
    }
    const answer = await work.run(acceptance.status === 'unanswered');
    if (!isRendered(answer)) {
      await port.answered(request, { status: 200, body: null });
    } else if (isFinal(answer)) {
      const body = work.derived && answer.status < 400 ? null : answer.text;
      await port.answered(request, { status: answer.status, body });
    }
    return { answer, replayed: false };
  }

  return async (request, work) => {
    await waitForTurn(request, work.inProgress);
    const { promise: ended, resolve } = Promise.withResolvers<void>();
    running.set(request.id, { fingerprint: request.fingerprint, ended });
    try {
      return await carryOut(request, work);
    } finally {
      running.delete(request.id);
      resolve();
    }
  };
}

const taken = (): Refusal =>
  new Refusal('UNPROCESSABLE', 'This Idempotency-Key belongs to another request: use a new one.');

function endsWithin(ended: Promise<void>, timeoutMs: number): Promise<boolean> {
  return new Promise((resolve) => {
    const timer = setTimeout(() => resolve(false), Math.max(timeoutMs, 0));
    void ended.then(() => {
      clearTimeout(timer);
      resolve(true);
    });
  });
}
