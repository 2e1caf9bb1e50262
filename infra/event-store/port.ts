/**
 * The event store: streams of events with one total order. `conformance.ts` holds every adapter to what is
 * written here.
 */
import type { EngineName } from '../../contracts/engines.ts';
import type { EventEnvelope, NewEvent, Position } from '../../contracts/envelope.ts';

/**
 * What the stream must look like for the append to happen: absent or empty (`no stream`), with at least one
 * event (`exists`), anything (`any`), or with exactly this as the revision of its last event.
 */
export type ExpectedRevision = 'no stream' | 'exists' | 'any' | number;

export interface EventFilter {
  /** Streams whose name begins so, e.g. `conversation-`. */
  readonly streamPrefix?: string;
  readonly stream?: string;
  readonly types?: readonly string[];
  readonly owner?: string;
  readonly correlationId?: string;
}

/** Whether an event passes a filter, for those who filter in memory. */
export function passes(event: EventEnvelope, filter: EventFilter): boolean {
  return (
    (filter.stream === undefined || event.stream === filter.stream) &&
    (filter.streamPrefix === undefined || event.stream.startsWith(filter.streamPrefix)) &&
    (filter.types === undefined || filter.types.includes(event.type)) &&
    (filter.owner === undefined || event.owner === filter.owner) &&
    (filter.correlationId === undefined || event.correlationId === filter.correlationId)
  );
}

export interface AppendResult {
  /** The events as they stand in the log. */
  readonly events: readonly EventEnvelope[];
  /** The revision and position of the last of them. */
  readonly revision: number;
  readonly position: Position;
}

/** Events that stood in another log before and are moved here, so that both tell the same in the same order. */
export interface Imported {
  /**
   * When each was committed there, as envelopes say it: kept in place of the time of this commit. Not earlier than
   * the time of the event before it.
   */
  readonly times: readonly string[];
  /**
   * The id of the event that the log must end with, or null when it must be empty. So an append that fails stops
   * those that were sent after it, and nobody else's events come in between.
   */
  readonly previous: string | null;
}

export interface EventPage {
  /** In the order asked for; may be empty when the filter skipped everything. */
  readonly events: readonly EventEnvelope[];
  /**
   * Everything up to here was read or skipped by the filter, this one included: forwards the highest position
   * looked at, backwards the lowest.
   */
  readonly position: Position;
  /** True when, at the time of reading, `position` was the head of the whole log, whatever range was asked for. */
  readonly caughtUp: boolean;
}

export interface ReadStreamOptions {
  readonly direction?: 'forwards' | 'backwards';
  /** The first revision to read (forwards default: 0; backwards default: the last). */
  readonly from?: number;
  readonly limit?: number;
}

export interface ReadAllOptions {
  readonly direction?: 'forwards' | 'backwards';
  /** Exclusive lower bound of the range, whichever way it is read. */
  readonly after?: Position;
  /** Inclusive upper bound of the range, whichever way it is read. */
  readonly upTo?: Position;
  readonly filter?: EventFilter;
  /** At most so many events. */
  readonly limit?: number;
}

export interface SubscribeOptions {
  /** The first event delivered is the first one after this. */
  readonly after: Position;
  readonly filter?: EventFilter;
  /** Ends the subscription; the iteration then returns, it does not throw. */
  readonly signal: AbortSignal;
}

export interface EventStore {
  /**
   * Appends all events or none, and answers when they are on disk. Idempotent by event id: the same batch to
   * the same stream again answers what it answered the first time, whatever was expected; a batch of which
   * some ids exist, or exist elsewhere, is refused with `EventIdConflict`.
   * @throws WrongExpectedRevision | EventIdConflict | StoreUnavailable | RangeError (no events, a bad name) |
   * WrongLogEnd (`imported` only)
   */
  append(
    stream: string,
    events: readonly NewEvent[],
    options: { readonly expectedRevision: ExpectedRevision; readonly imported?: Imported },
  ): Promise<AppendResult>;

  /** Pages of one stream. A stream that does not exist yields nothing. */
  readStream(stream: string, options?: ReadStreamOptions): AsyncIterable<readonly EventEnvelope[]>;

  /** Pages of the log between two positions. Ends at the head (forwards) or at the beginning (backwards). */
  readAll(options?: ReadAllOptions): AsyncIterable<EventPage>;

  /**
   * Catches up from `after`, then goes on with what is committed, woken by commits. Reads only as fast as it
   * is iterated, and holds no more than a page. Begun at the head it yields nothing until the next commit.
   */
  subscribe(options: SubscribeOptions): AsyncIterable<EventPage>;

  /** The position of the last event, `START` when there is none. */
  head(): Promise<Position>;

  /**
   * No position that was ever given out lies beyond this one: not before `head`, and after it where the store
   * keeps records of its own in the log, which pages may count as looked at.
   */
  end(): Promise<Position>;

  /** How many events lie in (after, upTo] and pass the filter. */
  count(options?: { after?: Position; upTo?: Position; filter?: EventFilter }): Promise<number>;

  /** The position of the last event committed at or before `time` (RFC 3339); `START` when there is none. */
  positionAt(time: string): Promise<Position>;

  close(): Promise<void>;
}

export class WrongExpectedRevision extends Error {
  readonly stream: string;
  readonly expected: ExpectedRevision;
  /** The revision of the stream's last event; null when the stream does not exist. */
  readonly actual: number | null;
  constructor(stream: string, expected: ExpectedRevision, actual: number | null) {
    super(`Stream ${stream}: expected revision ${expected}, found ${actual ?? 'no stream'}`);
    this.name = 'WrongExpectedRevision';
    this.stream = stream;
    this.expected = expected;
    this.actual = actual;
  }
}

/** The log does not end with the event that an import was to follow: somebody else appended, or an append failed. */
export class WrongLogEnd extends Error {
  constructor(expected: string | null, actual: string | null) {
    const name = (id: string | null) => (id === null ? 'no event at all' : `event ${id}`);
    super(`The log ends with ${name(actual)}, not with ${name(expected)}`);
    this.name = 'WrongLogEnd';
  }
}

export class EventIdConflict extends Error {
  constructor(stream: string, id: string) {
    super(`Stream ${stream}: event id ${id} is already taken by another append`);
    this.name = 'EventIdConflict';
  }
}

/**
 * An engine (event store, bus, read models) cannot answer now: disk full, connection lost. Nothing was changed as
 * far as is known. `message` names the engine and its address, and says why.
 */
export class StoreUnavailable extends Error {
  /** Clients are told this much, and no address. */
  readonly engine: EngineName;
  /** @param options `engine`: which one; the event store where it is left out */
  constructor(message: string, options?: ErrorOptions & { readonly engine?: EngineName }) {
    super(message, options);
    this.name = 'StoreUnavailable';
    this.engine = options?.engine ?? 'event store';
  }
}
