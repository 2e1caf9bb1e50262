/** What a route's handler gets and gives. The adapter (`server.ts`) does everything else from the route table. */
import type { IncomingMessage, ServerResponse } from 'node:http';
import { isIPv6 } from 'node:net';
import type { z } from 'zod';
import type { Caller } from '../../contracts/caller.ts';
import type { Position, Surface } from '../../contracts/envelope.ts';
import type { Refusal } from '../../contracts/errors.ts';
import type { RouteContract } from '../../contracts/http/route.ts';

export interface RequestContext {
  readonly surface: Surface;
  /** Null on public routes. */
  readonly caller: Caller | null;
  /** From `X-Correlation-Id` (or `X-Request-Id`) when the client sent a sound one, else made. */
  readonly correlationId: string;
  /** Derived from the Idempotency-Key where there is one: the same for every try. */
  readonly commandId: string;
  /** True when the commands of this request may have been carried out by an earlier try of it. */
  readonly retried: boolean;
  readonly address: string;
  readonly userAgent: string;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  /** Aborted when the client goes away. */
  readonly signal: AbortSignal;
  /** Notes what the request appended: the answer waits for the projections and carries the latest position. */
  reached(position: Position): void;
  /** Waits, bounded, until the projections show what was noted with `reached`. Done before every answer. */
  settled(): Promise<void>;
}

export interface JsonAnswer {
  readonly status: number;
  /** Left out for an empty answer. */
  readonly body?: unknown;
  readonly headers?: Readonly<Record<string, string | readonly string[]>>;
  /** Whether it repeats an earlier answer. Left out: as the record of the Idempotency-Key has it. */
  readonly replayed?: boolean;
}

/**
 * An answer that the handler writes itself, e.g. server-sent events: it must begin with `writeHead`. Routes without a
 * body schema may read the request's body themselves.
 */
export interface StreamAnswer {
  readonly stream: (response: ServerResponse, request: IncomingMessage) => void | Promise<void>;
}

export type Answer = JsonAnswer | StreamAnswer;

export interface HandlerInput<Contract extends RouteContract> {
  readonly params: Contract extends RouteContract<infer P, z.ZodType, z.ZodType> ? z.output<P> : never;
  readonly query: Contract extends RouteContract<z.ZodType, infer Q, z.ZodType> ? z.output<Q> : never;
  readonly body: Contract extends RouteContract<z.ZodType, z.ZodType, infer B> ? z.output<B> : never;
  readonly context: RequestContext;
}

export interface Endpoint {
  readonly contract: RouteContract;
  readonly handle: (input: HandlerInput<RouteContract>) => Answer | Promise<Answer>;
  /**
   * What a repeated request is refused with while the first one with its Idempotency-Key is carried out in this
   * process. Left out: it waits for that one.
   */
  readonly inProgress?: (context: RequestContext) => Refusal | Promise<Refusal>;
}

/** Binds a handler to its route. */
export function endpoint<Contract extends RouteContract>(
  contract: Contract,
  handle: (input: HandlerInput<Contract>) => Answer | Promise<Answer>,
  more: Pick<Endpoint, 'inProgress'> = {},
): Endpoint {
  return { contract, handle: handle as Endpoint['handle'], ...more };
}

/** The caller of a route that is not public. */
export function callerOf(context: RequestContext): Caller {
  if (context.caller === null) throw new Error('A public route has no caller.');
  return context.caller;
}

/** A request as its Idempotency-Key knows it. */
export interface KeyedRequest {
  /** SHA-256 (hexadecimal) of who asks and the key. */
  readonly id: string;
  /** Keyed SHA-256 (hexadecimal) of method, path and body. */
  readonly fingerprint: string;
  readonly caller: Caller | null;
  readonly surface: Surface;
  readonly correlationId: string;
}

export type Acceptance =
  /** This call bound the key to the request: nobody did before. */
  | { readonly status: 'accepted' }
  /** The same request was accepted before; how it was answered is not recorded. */
  | { readonly status: 'unanswered' }
  | {
      readonly status: 'answered';
      readonly answer: RecordedAnswer;
      /** Of the record, so past everything that the request appended. */
      readonly position: Position;
    }
  /** The key belongs to a request with another fingerprint. */
  | { readonly status: 'taken' };

export interface RecordedAnswer {
  readonly status: number;
  /** JSON text, empty for an empty answer; null where it is not stored but derived again. */
  readonly body: string | null;
}

/** Remembers requests by their Idempotency-Key, durably. Of two that come at once, one is accepted. */
export interface IdempotencyPort {
  accept(request: KeyedRequest): Promise<Acceptance>;
  /** The first answer that is recorded stays. */
  answered(request: KeyedRequest, answer: RecordedAnswer): Promise<void>;
}

/** Who is counted as one where requests are limited: an IPv4 address, or the /64 network of an IPv6 address. */
export function network(address: string): string {
  const mapped = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i.exec(address)?.[1];
  if (mapped !== undefined) return mapped;
  if (!isIPv6(address)) return address;
  const [head = '', tail] = (address.split('%')[0] ?? '').toLowerCase().split('::');
  const groups = (part: string) => (part === '' ? [] : part.split(':'));
  const before = groups(head);
  const after = tail === undefined ? [] : groups(tail);
  const zeros = Array.from({ length: tail === undefined ? 0 : 8 - before.length - after.length }, () => '0');
  const first = [...before, ...zeros, ...after].slice(0, 4).map((group) => Number.parseInt(group, 16));
  return `${first.map((group) => group.toString(16)).join(':')}::/64`;
}
