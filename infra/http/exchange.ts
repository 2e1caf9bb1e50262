/** One request on its way through the server: what its handler may know, and what its answer must say. */
import { randomUUID } from 'node:crypto';
import type { IncomingHttpHeaders, IncomingMessage, ServerResponse } from 'node:http';
import proxyaddr from 'proxy-addr';
import type { Caller } from '../../contracts/caller.ts';
import { isAfter, laterOf, type Position } from '../../contracts/envelope.ts';
import { Refusal } from '../../contracts/errors.ts';
import type { RouteSurface } from '../../contracts/http/route.ts';
import type { ErrorStyle } from './errors.ts';
import type { RequestContext } from './port.ts';
import { type RateLimitState, rateLimitHeaders } from './rate-limits.ts';

/** How far the projections are, as the projection runtime knows it. */
export interface Settle {
  /** What every projection has reached. */
  position(): Position;
  /** The end of the log. */
  head(): Promise<Position>;
  /** True once every projection has reached `position`, false after `timeoutMs`. */
  waitFor(position: Position, timeoutMs: number): Promise<boolean>;
  readonly timeoutMs: number;
  /** Whether it is known, whatever a request did, that they are behind the log and will stay so. Default: no. */
  isBehind?(): boolean;
}

/** Whether what a proxy at this address says of its client is believed. */
export type TrustsProxy = (address: string) => boolean;
const trustNobody: TrustsProxy = () => false;

const CORRELATION_ID = /^[\w.:@/+=-]{1,128}$/;

function correlationIdOf(headers: IncomingHttpHeaders): string {
  const given = headers['x-correlation-id'] ?? headers['x-request-id'];
  return typeof given === 'string' && CORRELATION_ID.test(given) ? given : randomUUID();
}

export class Exchange implements RequestContext {
  readonly surface: RouteSurface;
  /** In whose words a refusal is said. */
  readonly errorStyle: ErrorStyle;
  readonly headers: IncomingHttpHeaders;
  readonly correlationId: string;
  caller: Caller | null = null;
  commandId: string = randomUUID();
  retried = false;
  /** How the limit on requests stands that counted this one; null where none does. */
  rateLimit: RateLimitState | null = null;

  readonly #request: IncomingMessage;
  readonly #response: ServerResponse;
  readonly #settle: Settle;
  readonly #trusts: TrustsProxy;
  /** Read before the handler runs, so that its answer is at least so fresh. */
  readonly #begunAt: Position;
  #reached: Position | null = null;
  #waitedFor: Position | null = null;
  #controller: AbortController | null = null;

  constructor(
    { surface, errors }: { readonly surface: RouteSurface; readonly errors: ErrorStyle },
    request: IncomingMessage,
    response: ServerResponse,
    settle: Settle,
    trusts: TrustsProxy = trustNobody,
  ) {
    this.#trusts = trusts;
    this.surface = surface;
    this.errorStyle = errors;
    this.headers = request.headers;
    this.correlationId = correlationIdOf(request.headers);
    this.#request = request;
    this.#response = response;
    this.#settle = settle;
    this.#begunAt = settle.position();
  }

  /** Of the client; behind proxies that are trusted, as the last of them that is not says it. */
  get address(): string {
    // A client that is gone has no address any more, and proxyaddr wants one.
    if (this.#request.socket.remoteAddress === undefined) return '';
    const address = proxyaddr(this.#request, this.#trusts);
    return address.startsWith('::ffff:') ? address.slice('::ffff:'.length) : address;
  }

  get userAgent(): string {
    return this.headers['user-agent'] ?? '';
  }

  get signal(): AbortSignal {
    if (this.#controller === null) {
      this.#controller = new AbortController();
      if (this.isAbandoned) this.#controller.abort();
    }
    return this.#controller.signal;
  }

  /** The client went away before it had the whole answer. */
  get isAbandoned(): boolean {
    return this.#response.destroyed && !this.#response.writableFinished;
  }

  /** To be called when the response is closed. */
  closed(): void {
    if (this.isAbandoned) this.#controller?.abort();
  }

  reached(position: Position): void {
    this.#reached = this.#reached === null ? position : laterOf(this.#reached, position);
  }

  get #isBehind(): boolean {
    return this.#reached !== null && isAfter(this.#reached, this.#settle.position());
  }

  async settled(): Promise<void> {
    // Once for each position: a handler that has waited in vain does not make its answer wait again.
    if (!this.#isBehind || this.#waitedFor === this.#reached) return;
    this.#waitedFor = this.#reached;
    await this.#settle.waitFor(this.#reached!, this.#settle.timeoutMs);
  }

  /**
   * Whether the read models have come further since the request came. What was not there then may be there now.
   * @throws Refusal SERVICE_UNAVAILABLE when they are still behind the log
   */
  async caughtUp(): Promise<boolean> {
    const head = await this.#settle.head();
    if (!isAfter(head, this.#begunAt)) return false;
    if (await this.#settle.waitFor(head, this.#settle.timeoutMs)) return true;
    throw new Refusal('SERVICE_UNAVAILABLE', 'What was written last cannot be read yet: try again.', {
      retryAfterSeconds: 1,
    });
  }

  /** The headers that every answer has. */
  freshness(): Record<string, string> {
    return {
      'X-Correlation-Id': this.correlationId,
      'X-Request-Id': this.correlationId,
      'X-Event-Position': this.#reached === null ? this.#begunAt : laterOf(this.#begunAt, this.#reached),
      ...(this.#isBehind || this.#settle.isBehind?.() ? { 'X-Read-Model': 'behind' } : {}),
      ...(this.rateLimit === null ? {} : rateLimitHeaders(this.rateLimit)),
    };
  }
}
