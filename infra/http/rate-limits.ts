/**
 * Limits on requests, in fixed windows of a minute: for each user (their logins together), each API key, and each
 * address for what comes without a login (refused ones as well). Ten times as many may come from an address whoever
 * sends them, and from a user through all keys together. Counted in the memory of this process: of several behind
 * one address each counts for itself, and a start begins anew.
 */
import { LRUCache } from 'lru-cache';
import { RateLimiterMemory, RateLimiterRes } from 'rate-limiter-flexible';
import type { Caller } from '../../contracts/caller.ts';
import { Refusal } from '../../contracts/errors.ts';
import type { RateLimitClass } from '../../contracts/http/route.ts';
import { network } from './port.ts';

/** Where a caller stands after a request of a class was counted. */
export interface RateLimitState {
  readonly kind: RateLimitClass;
  readonly limit: number;
  readonly remaining: number;
  readonly windowSeconds: number;
  /** From now, and as Unix seconds: the same instant, when the count begins anew. */
  readonly resetSeconds: number;
  readonly resetAt: number;
  /** The request is one too many. */
  readonly exceeded: boolean;
}

export interface RateLimits {
  /** Counts a request of an address, whoever it is from. Null: there is no such limit. */
  arrive(kind: RateLimitClass, address: string): Promise<RateLimitState | null>;
  /** Counts a request for who it is from; for its address where nobody is logged in. Null: there is no such limit. */
  consume(kind: RateLimitClass, caller: Caller | null, address: string): Promise<RateLimitState | null>;
}

const WINDOW_SECONDS = 60;
/** What an address, or a user with all keys, may send in all. */
const IN_ALL = 10;
/** So many are counted in a class; whoever was not heard of for the longest is forgotten then. */
const MOST_COUNTED = 50_000;

/** @param perMinute by class; 0 for no limit */
export function createRateLimits(perMinute: Readonly<Record<RateLimitClass, number>>): RateLimits {
  const each = counters(perMinute, 1);
  const inAll = counters(perMinute, IN_ALL);
  return {
    arrive: async (kind, address) => (await inAll[kind]?.(`address ${network(address)}`)) ?? null,
    async consume(kind, caller, address) {
      if (caller === null) return (await each[kind]?.(`address ${network(address)}`)) ?? null;
      const total = await inAll[kind]?.(`user ${caller.userId}`);
      if (total?.exceeded) return total;
      const { actor } = caller;
      return (await each[kind]?.(`${actor.kind} ${actor.id}`)) ?? null;
    },
  };
}

type Counter = (key: string) => Promise<RateLimitState>;

const counters = (perMinute: Readonly<Record<RateLimitClass, number>>, factor: number) =>
  Object.fromEntries(
    Object.entries(perMinute)
      .filter(([, limit]) => limit > 0)
      .map(([kind, limit]) => [kind, counter(kind as RateLimitClass, limit * factor)]),
  ) as { readonly [Kind in RateLimitClass]?: Counter };

function counter(kind: RateLimitClass, limit: number): Counter {
  const limiter = new RateLimiterMemory({ points: limit, duration: WINDOW_SECONDS });
  const counted = new LRUCache<string, true>({
    max: MOST_COUNTED,
    dispose: (_value, key, reason) => {
      if (reason === 'evict') void limiter.delete(key);
    },
  });
  return async (key) => {
    if (counted.get(key) === undefined) counted.set(key, true);
    const result = await limiter.consume(key).catch((rejected: unknown) => {
      if (rejected instanceof RateLimiterRes) return rejected;
      throw rejected;
    });
    const leftMs = Math.max(1, result.msBeforeNext);
    return {
      kind,
      limit,
      remaining: result.remainingPoints,
      windowSeconds: WINDOW_SECONDS,
      resetSeconds: Math.ceil(leftMs / 1_000),
      resetAt: Math.ceil((Date.now() + leftMs) / 1_000),
      exceeded: result.consumedPoints > limit,
    };
  };
}

/** Those that clients have read for long, and those of the IETF draft (from version 8 on). */
export const rateLimitHeaders = (state: RateLimitState): Readonly<Record<string, string>> => ({
  'X-RateLimit-Limit': String(state.limit),
  'X-RateLimit-Remaining': String(state.remaining),
  'X-RateLimit-Reset': String(state.resetAt),
  'RateLimit-Policy': `"${state.kind}";q=${state.limit};w=${state.windowSeconds}`,
  RateLimit: `"${state.kind}";r=${state.remaining};t=${state.resetSeconds}`,
});

/** What a request that is one too many is refused with. */
export const tooMany = ({ kind, limit, windowSeconds, resetSeconds }: RateLimitState): Refusal =>
  new Refusal('RATE_LIMIT_EXCEEDED', 'Rate limit exceeded', {
    retryAfterSeconds: resetSeconds,
    rateLimit: { limit, windowSeconds, policy: kind },
  });
