/** What the adapter asks of a server, in its own terms: `../event-store-db.ts` answers it with the client. */
import type { LogPosition } from './log-position.ts';
import type { LogRecord, ProposedEvent } from './record.ts';

export type Direction = 'forwards' | 'backwards';

/** Which records a subscription wants from the server: those whose stream or type begins with one of these. */
export interface ServerFilter {
  readonly on: 'streamName' | 'eventType';
  readonly prefixes: readonly string[];
}

/** What a subscription received since the last time it was asked. */
export interface Received {
  /** In the log's order; at most a page. */
  readonly records: readonly LogRecord[];
  /** How far the server has looked, where it said so: everything before it was sent, or does not pass the filter. */
  readonly checkpoint: LogPosition | null;
  /** The server has sent all there was, and sends what is committed. */
  readonly live: boolean;
  /** Nothing more was ready to be taken. */
  readonly drained: boolean;
  /** Nothing at all was on its way in this process. */
  readonly quiet: boolean;
}

export type Appended =
  | { readonly kind: 'appended'; readonly revision: number; readonly position: LogPosition | null }
  /** Nothing was written; `actual`: the revision of the stream's last event, null without a stream. */
  | { readonly kind: 'wrong revision'; readonly actual: number | null };

/**
 * Each method rejects with StoreUnavailable when the server cannot be asked or does not answer in time, and with
 * RangeError when it refuses what was asked of it.
 */
export interface Server {
  /**
   * At most `count` records of the whole log; fewer when there are no more. Forwards the record at `from` is the
   * first, backwards the one before it.
   * @throws RangeError when no record is at `from`
   */
  readAll(from: LogPosition | 'start' | 'end', direction: Direction, count: number): Promise<LogRecord[]>;
  /** At most `count` records of a stream, the one at `from` included; null when there is no such stream (any more). */
  readStream(
    stream: string,
    from: number | 'start' | 'end',
    direction: Direction,
    count: number,
  ): Promise<LogRecord[] | null>;
  append(
    stream: string,
    events: readonly ProposedEvent[],
    expected: 'no stream' | 'any' | number,
  ): Promise<Appended>;
  /** Hides all events of a stream, whether it has any or not. */
  softDelete(stream: string): Promise<void>;
  /**
   * The records after `from` that pass the filter (without one: that are not the server's own), then those that are
   * committed. Ends when `signal` is aborted, and throws when the connection breaks.
   */
  subscribe(
    from: LogPosition | 'start' | 'end',
    filter: ServerFilter | null,
    signal: AbortSignal,
  ): AsyncGenerator<Received, void, void>;
}

export const PAGE_RECORDS = 256;
