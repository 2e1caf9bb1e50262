/** For transports that stay open and carry requests of their own (Socket.IO, GraphQL): what every route is held to. */
import type { IncomingMessage } from 'node:http';
import proxyaddr from 'proxy-addr';
import type { Caller } from '../../contracts/caller.ts';
import type { RateLimitClass } from '../../contracts/http/route.ts';
import type { ErrorEvent } from '../../contracts/live/socket-io.ts';
import { failureOf, renderFailure } from './errors.ts';
import { type RateLimits, tooMany } from './rate-limits.ts';

export interface TwoWay {
  /** In Agent Chat's words. A bug is told by its correlation id only. */
  describe(error: unknown, correlationId: string): ErrorEvent;
  /** As one of GraphQL's errors. */
  describeForGraphql(error: unknown, correlationId: string): DescribedForGraphql;
  /** @throws Refusal RATE_LIMIT_EXCEEDED */
  limit(kind: RateLimitClass, caller: Caller, address: string): Promise<void>;
  /** Where a request really came from. */
  addressOf(request: IncomingMessage): string;
}

export interface DescribedForGraphql {
  readonly message: string;
  readonly extensions: { readonly code: string } & Readonly<Record<string, unknown>>;
}

/** @param trustedProxies addresses and networks of proxies whose `X-Forwarded-For` is believed */
export function createTwoWay(options: {
  readonly rateLimits: RateLimits;
  readonly trustedProxies: readonly string[];
}): TwoWay {
  const trusts = proxyaddr.compile([...options.trustedProxies]);
  return {
    describe: (error, correlationId) =>
      renderFailure('agent-chat', failureOf(error), correlationId).body as ErrorEvent,
    describeForGraphql(error, correlationId) {
      const failure = failureOf(error);
      const { errors } = renderFailure('graphql', failure, correlationId).body as {
        errors: [DescribedForGraphql];
      };
      const [{ message, extensions }] = errors;
      return { message, extensions: failure.internal ? { ...extensions, correlationId } : extensions };
    },
    async limit(kind, caller, address) {
      const state = await options.rateLimits.consume(kind, caller, address);
      if (state?.exceeded) throw tooMany(state);
    },
    addressOf: (request) => proxyaddr(request, trusts),
  };
}
