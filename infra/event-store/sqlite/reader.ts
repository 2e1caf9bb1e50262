/**
 * Reads the log in bounded pages on a connection of its own. A page is read in one synchronous step, so each
 * is kept to a few milliseconds: by its number of events, its bytes, and the stretch of the log it looks at.
 */
import { performance } from 'node:perf_hooks';
import Database from 'better-sqlite3';
import type { EventEnvelope } from '../../../contracts/envelope.ts';
import { type EventFilter, StoreUnavailable } from '../port.ts';
import { COLUMNS, envelopeOf, openForReading, type Row, reasonOf } from './schema.ts';

export const PAGE_EVENTS = 500;
const PAGE_CHARACTERS = 1024 * 1024;

/** How many positions the first page of a filtered read looks at. */
const FIRST_WINDOW = 1_024;
/** A page that took less looks at more next time, one that took more at less. */
const SHORT_MS = 1;
const LONG_MS = 4;

export type Direction = 'forwards' | 'backwards';

export interface Page {
  readonly events: readonly EventEnvelope[];
  /** About what they weigh. */
  readonly characters: number;
  /** The bounds, exclusive and inclusive, of the stretch of the range that is still to be read. */
  readonly after: number;
  readonly upTo: number;
}

/** Walks the positions (after, upTo] of the log page by page. */
export interface Walk {
  next(after: number, upTo: number, limit: number): Page;
}

export interface Reader {
  /** The position of the last event in the file; 0 when there is none. */
  head(): number;
  walk(filter: EventFilter | undefined, direction: Direction): Walk;
  /**
   * One page of a stream: events of revisions from..to (both included) at or before the position `upTo`.
   * `full` when there may be more.
   */
  stream(
    stream: string,
    from: number,
    to: number,
    direction: Direction,
    upTo: number,
    limit: number,
  ): { readonly events: readonly EventEnvelope[]; readonly full: boolean };
  /** Counts the events of (after, upTo] that pass, in steps; the caller lets others run between them. */
  counting(filter: EventFilter, after: number, upTo: number): Iterable<number>;
  /** The last position in 0..head whose event is not later than `timeMs`. */
  positionAt(timeMs: number, head: number): number;
  close(): void;
}

/** @throws StoreUnavailable, as its methods do, when the file cannot be read */
export function openReader(directory: string): Reader {
  return attempt(directory, () => readerOf(openForReading(directory), directory));
}

function attempt<Result>(directory: string, work: () => Result): Result {
  try {
    return work();
  } catch (error) {
    if (!(error instanceof Database.SqliteError)) throw error;
    throw new StoreUnavailable(`the event store could not read: ${reasonOf(error, directory)}`, {
      cause: error,
    });
  }
}

function readerOf(database: Database.Database, directory: string): Reader {
  const statements = new Map<string, Database.Statement>();
  const prepare = (sql: string): Database.Statement => {
    let statement = statements.get(sql);
    if (statement === undefined) {
      statement = database.prepare(sql).raw();
      statements.set(sql, statement);
    }
    return statement;
  };

  const lastRevisionOf = prepare('SELECT max(revision) FROM events WHERE stream = ?').pluck();
  const positionOf = prepare('SELECT position FROM events WHERE stream = ? AND revision = ?').pluck();
  const lastPosition = prepare('SELECT max(position) FROM events').pluck();
  const timeOf = prepare('SELECT time FROM events WHERE position = ?').pluck();
  const lastRevision = (stream: string): number => (lastRevisionOf.get(stream) as number | null) ?? -1;

  /** The rows of a statement up to the page's bounds, as envelopes; `full` when there may be more. */
  function take(statement: Database.Statement, values: unknown[], limit: number) {
    const events: EventEnvelope[] = [];
    let characters = 0;
    for (const row of statement.iterate(...values) as IterableIterator<Row>) {
      events.push(envelopeOf(row));
      characters += row[10].length;
      if (characters >= PAGE_CHARACTERS || events.length === limit) {
        return { events, characters, full: true };
      }
    }
    return { events, characters, full: false };
  }

  /** The revision of the stream's last event at or before a position, by bisection; -1 when there is none. */
  const revisionAt = (stream: string, position: number): number =>
    bisect(-1, lastRevision(stream), (revision) => (positionOf.get(stream, revision) as number) <= position);

  function condition(filter: EventFilter, after: number, upTo: number, plan: 'scan' | 'index') {
    const index = plan === 'index' ? indexFor(filter) : undefined;
    const terms = ['position > ?', 'position <= ?'];
    const values: unknown[] = [after, upTo];
    if (filter.stream !== undefined) {
      terms.push('stream = ?');
      values.push(filter.stream);
      if (index === 'events_by_stream') {
        terms.push('revision > ?', 'revision <= ?');
        values.push(revisionAt(filter.stream, after), revisionAt(filter.stream, upTo));
      }
    }
    if (filter.streamPrefix !== undefined) {
      terms.push('substr(stream, 1, length(?)) = ?');
      values.push(filter.streamPrefix, filter.streamPrefix);
    }
    if (filter.types !== undefined) {
      terms.push('type IN (SELECT value FROM json_each(?))');
      values.push(JSON.stringify(filter.types));
    }
    if (filter.owner !== undefined) {
      terms.push('owner = ?');
      values.push(filter.owner);
    }
    if (filter.correlationId !== undefined) {
      terms.push('correlation_id = ?');
      values.push(filter.correlationId);
    }
    const source = `events ${index === undefined ? 'NOT INDEXED' : `INDEXED BY ${index}`}`;
    // Within a stream the revision's order is the position's, and it is the one that the index has.
    const order = index === 'events_by_stream' ? 'revision' : 'position';
    return { from: `FROM ${source} WHERE ${terms.join(' AND ')}`, values, order };
  }

  function walk(filter: EventFilter | undefined, direction: Direction): Walk {
    const filtered = filter !== undefined && Object.values(filter).some((value) => value !== undefined);
    const forwards = direction === 'forwards';
    const suffix = forwards ? '' : ' DESC';
    const selective = filtered && indexFor(filter) !== undefined;
    let window = filtered ? FIRST_WINDOW : PAGE_EVENTS;
    let plan: 'scan' | 'index' = 'scan';

    return {
      next(after, upTo, limit) {
        const low = forwards ? after : Math.max(after, upTo - window);
        const high = forwards ? Math.min(upTo, after + window) : upTo;
        const { from, values, order } = condition(filter ?? {}, low, high, plan);
        const sql = `SELECT ${COLUMNS} ${from} ORDER BY ${order}${suffix} LIMIT ?`;
        const most = Math.min(limit, PAGE_EVENTS);
        const began = performance.now();
        const { events, characters, full } = take(prepare(sql), [...values, most], most);
        const tookMs = performance.now() - began;

        const last = full ? Number(events.at(-1)!.position) : forwards ? high : low + 1;
        const page = forwards
          ? { events, characters, after: last, upTo }
          : { events, characters, after, upTo: last - 1 };
        if (filtered) {
          const looked = forwards ? last - low : high - last + 1;
          if (full) window = Math.min(window, looked * 2);
          else if (tookMs > LONG_MS) window /= 2;
          else if (tookMs < SHORT_MS) window *= 4;
          window = Math.max(FIRST_WINDOW, Math.ceil(window));
          // Where most events pass, walking the log itself is quickest; where few do, an index is.
          if (selective) plan = events.length * 8 < looked ? 'index' : 'scan';
        }
        return page;
      },
    };
  }

  return {
    head: () => attempt(directory, () => (lastPosition.get() as number | null) ?? 0),
    walk(filter, direction) {
      const { next } = walk(filter, direction);
      return { next: (after, upTo, limit) => attempt(directory, () => next(after, upTo, limit)) };
    },
    stream(stream, from, to, direction, upTo, limit) {
      const sql = `SELECT ${COLUMNS} FROM events
        WHERE stream = ? AND revision >= ? AND revision <= ? AND position <= ?
        ORDER BY revision ${direction === 'forwards' ? 'ASC' : 'DESC'} LIMIT ?`;
      const most = Math.min(limit, PAGE_EVENTS);
      return attempt(directory, () => take(prepare(sql), [stream, from, to, upTo, most], most));
    },
    *counting(filter, after, upTo) {
      let window = FIRST_WINDOW;
      const plan = indexFor(filter) === undefined ? 'scan' : 'index';
      for (let low = after; low < upTo; ) {
        const high = Math.min(upTo, low + window);
        const began = performance.now();
        const [counted] = attempt(directory, () => {
          const { from, values } = condition(filter, low, high, plan);
          return prepare(`SELECT count(*) ${from}`).get(...values) as [number];
        });
        const tookMs = performance.now() - began;
        if (tookMs > LONG_MS) window = Math.max(FIRST_WINDOW, Math.ceil(window / 2));
        else if (tookMs < SHORT_MS) window *= 4;
        low = high;
        yield counted;
      }
    },
    positionAt: (timeMs, head) =>
      attempt(directory, () =>
        bisect(0, head, (position) => Date.parse(timeOf.get(position) as string) <= timeMs),
      ),
    close() {
      database.close();
    },
  };
}

/** The index that leaves the least to read for a filter; none when only the log itself will do. */
function indexFor(filter: EventFilter): string | undefined {
  if (filter.correlationId !== undefined) return 'events_by_correlation';
  if (filter.stream !== undefined) return 'events_by_stream';
  if (filter.owner !== undefined) return 'events_by_owner';
  if (filter.types !== undefined) return 'events_by_type';
  return undefined;
}

/** The last number in low..high that is `low` or for which `holds` (true up to some number, then false). */
function bisect(low: number, high: number, holds: (value: number) => boolean): number {
  let from = low;
  let to = high;
  while (from < to) {
    const middle = from + Math.ceil((to - from) / 2);
    if (holds(middle)) from = middle;
    else to = middle - 1;
  }
  return from;
}
