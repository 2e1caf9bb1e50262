/**
 * The embedded event store: one SQLite file, one writer in a thread of its own (group commit, durable before
 * it is acknowledged), reads on the main thread in bounded pages, and the newest events kept in memory for
 * those who follow live. Several processes of one machine may share the file: their writers take turns, and
 * each takes up what the others commit; every read sees all that was acknowledged before it, to whomever.
 */
import { existsSync } from 'node:fs';
import { setImmediate as othersRan } from 'node:timers/promises';
import { type EventEnvelope, type Position, START } from '../../contracts/envelope.ts';

import { checkAppend, checkCount, checkImported, checkName, checkPosition, parseTime } from './input.ts';
import {
  type EventFilter,
  type EventPage,
  type EventStore,
  passes,
  type ReadAllOptions,
  type ReadStreamOptions,
  StoreUnavailable,
  type SubscribeOptions,
} from './port.ts';
import { lockDirectory } from './sqlite/lock.ts';
import { followOthers, type Others } from './sqlite/others.ts';
import { openReader, PAGE_EVENTS, type Reader } from './sqlite/reader.ts';
import { logFile } from './sqlite/schema.ts';
import { createTail, type Tail } from './sqlite/tail.ts';
import { type Commit, startWriteQueue, type WriteQueue } from './sqlite/write-queue.ts';

export interface SqliteEventStoreOptions {
  /** Made when it does not exist; belongs to this process, or to those that share it, until the store is closed. */
  readonly directory: string;
  /** Whether other processes of this machine may open the directory too; all of them must say so. */
  readonly shared?: boolean;
  /** Told of each transaction that added events. */
  readonly onCommit?: (commit: Commit) => void;
}

/**
 * @throws Error when another process (or this one) has the directory open and not both share it, or when its
 * format is unknown
 */
export async function openSqliteEventStore(options: SqliteEventStoreOptions): Promise<EventStore> {
  const { directory, shared = false, onCommit } = options;
  const unlock = await lockDirectory(directory, { shared });
  try {
    let tail: Tail | undefined;
    let reader: Reader | undefined;
    let others: Others | undefined;
    const { queue, head } = await startWriteQueue({
      directory,
      shared,
      onEvent: shared
        ? (event, bytes) => others!.push(event, bytes)
        : (event, bytes) => tail!.push(event, bytes),
      onCommit: (commit) => {
        tail!.wake();
        onCommit?.(commit);
      },
      onFailure: (failure) => tail?.fail(failure),
      read: (position, count) => readRange(reader!, position - 1, position - 1 + count),
    });
    tail = createTail(head);
    try {
      reader = openReader(directory);
      if (shared) others = followOthers(directory, reader, tail);
    } catch (error) {
      await queue.close(() => reader?.close());
      throw error;
    }
    return eventStore({ queue, reader, tail, others, unlock });
  } catch (error) {
    await unlock();
    throw error;
  }
}

interface Parts {
  readonly queue: WriteQueue;
  readonly reader: Reader;
  readonly tail: Tail;
  /** Where the directory is shared. */
  readonly others: Others | undefined;
  readonly unlock: () => Promise<void>;
}

function eventStore({ queue, reader, tail, others, unlock }: Parts): EventStore {
  let closed: Promise<void> | undefined;

  function refuseWhenClosed(): void {
    if (closed !== undefined) throw new StoreUnavailable('the event store is closed');
  }

  /** What reads are bounded by: all that is committed when they begin. */
  function currentHead(): number {
    refuseWhenClosed();
    others?.catchUp();
    return tail.head;
  }

  async function* readStream(
    stream: string,
    { direction = 'forwards', from, limit = Number.POSITIVE_INFINITY }: ReadStreamOptions,
  ): AsyncGenerator<readonly EventEnvelope[]> {
    const upTo = currentHead();
    let first = direction === 'forwards' ? (from ?? 0) : 0;
    let last = direction === 'forwards' ? Number.MAX_SAFE_INTEGER : (from ?? Number.MAX_SAFE_INTEGER);
    let left = limit;
    while (left > 0) {
      const { events, full } = reader.stream(stream, first, last, direction, upTo, left);
      if (events.length > 0) yield events;
      if (!full) return;
      left -= events.length;
      if (direction === 'forwards') first = events.at(-1)!.revision + 1;
      else last = events.at(-1)!.revision - 1;
      await othersRan();
      refuseWhenClosed();
    }
  }

  async function* subscribe(options: SubscribeOptions): AsyncGenerator<EventPage> {
    const { filter, signal } = options;
    const walk = reader.walk(filter, 'forwards');
    const waiter = tail.waiter();
    let position = numberOf(options.after);
    signal.addEventListener('abort', waiter.wake);
    try {
      while (!signal.aborted && closed === undefined) {
        if (position >= tail.head) {
          await waiter.wait();
          continue;
        }
        const recent = tail.after(position, PAGE_EVENTS);
        let events: readonly EventEnvelope[];
        if (recent === null) {
          const page = walk.next(position, tail.head, PAGE_EVENTS);
          events = page.events;
          position = page.after;
        } else {
          events = filter === undefined ? recent : recent.filter((event) => passes(event, filter));
          position += recent.length;
        }
        yield { events, position: String(position), caughtUp: position >= tail.head };
        if (recent === null) await othersRan();
      }
    } finally {
      signal.removeEventListener('abort', waiter.wake);
    }
  }

  return {
    async append(stream, events, { expectedRevision, imported }) {
      checkAppend(stream, events, expectedRevision);
      if (imported !== undefined) checkImported(events, imported);
      return queue.append(stream, events, expectedRevision, imported);
    },
    readStream(stream, options = {}) {
      checkName('stream', stream);
      if (options.from !== undefined) checkCount('from', options.from);
      if (options.limit !== undefined) checkCount('limit', options.limit);
      return readStream(stream, options);
    },
    readAll(options = {}) {
      checkRange(options);
      if (options.limit !== undefined) checkCount('limit', options.limit);
      return readAll(reader, currentHead, options);
    },
    subscribe(options) {
      checkRange(options);
      return subscribe(options);
    },
    async head() {
      return String(currentHead());
    },
    async end() {
      return String(currentHead());
    },
    async count(options = {}) {
      checkRange(options);
      const head = currentHead();
      const after = numberOf(options.after ?? START);
      const upTo = options.upTo === undefined ? head : Math.min(head, numberOf(options.upTo));
      if (!isSelective(options.filter)) return Math.max(0, upTo - after);
      let count = 0;
      for (const counted of reader.counting(options.filter, after, upTo)) {
        count += counted;
        await othersRan();
        refuseWhenClosed();
      }
      return count;
    },
    async positionAt(time) {
      return String(reader.positionAt(parseTime(time), currentHead()));
    },
    close() {
      closed ??= (async () => {
        await queue.close(() => {
          others?.close();
          reader.close();
        });
        await unlock();
      })();
      tail.wake();
      return closed;
    },
  };
}

/** @param currentHead of all that is committed; throws when nothing may be read any more */
async function* readAll(
  reader: Reader,
  currentHead: () => number,
  options: ReadAllOptions,
): AsyncGenerator<EventPage> {
  const { direction = 'forwards', filter, limit = Number.POSITIVE_INFINITY } = options;
  const head = currentHead();
  let after = numberOf(options.after ?? START);
  let upTo = options.upTo === undefined ? head : Math.min(head, numberOf(options.upTo));
  let left = limit;
  const walk = reader.walk(filter, direction);
  while (after < upTo && left > 0) {
    const page = walk.next(after, upTo, left);
    after = page.after;
    upTo = page.upTo;
    left -= page.events.length;
    yield direction === 'forwards'
      ? { events: page.events, position: String(after), caughtUp: after >= currentHead() }
      : { events: page.events, position: String(upTo + 1), caughtUp: upTo === 0 };
    await othersRan();
    currentHead();
  }
}

/**
 * The log as it is now, for reading only, whoever else has it open: takes no lock and holds up nobody.
 * @returns `events`: how many it holds
 * @throws Error when there is no log in the directory, or its format is unknown; StoreUnavailable
 */
export async function readSqliteLog(
  directory: string,
): Promise<Pick<EventStore, 'readAll' | 'head' | 'close'> & { readonly events: number }> {
  if (!existsSync(logFile(directory))) throw new Error(`there is no log.db in ${directory}`);
  const reader = openReader(directory);
  try {
    // What is committed from now on is not looked at: positions are 1, 2, 3, … without a gap.
    const head = reader.head();
    return {
      events: head,
      head: async () => String(head),
      readAll(options = {}) {
        checkRange(options);
        return readAll(reader, () => head, options);
      },
      close: async () => reader.close(),
    };
  } catch (error) {
    reader.close();
    throw error;
  }
}

function checkRange(range: { readonly after?: Position; readonly upTo?: Position }): void {
  if (range.after !== undefined) checkPosition(range.after);
  if (range.upTo !== undefined) checkPosition(range.upTo);
}

/** Positions are single numbers here (of a pair, as another store gives it, the first), and all are safe ones. */
const numberOf = (position: Position): number =>
  Math.min(Number.parseInt(position, 10), Number.MAX_SAFE_INTEGER);

const isSelective = (filter: EventFilter | undefined): filter is EventFilter =>
  filter !== undefined && Object.values(filter).some((value) => value !== undefined);

function readRange(reader: Reader, after: number, upTo: number): EventEnvelope[] {
  const walk = reader.walk(undefined, 'forwards');
  const events: EventEnvelope[] = [];
  for (let from = after; from < upTo; ) {
    const page = walk.next(from, upTo, PAGE_EVENTS);
    events.push(...page.events);
    from = page.after;
  }
  return events;
}
