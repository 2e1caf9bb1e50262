/**
 * Appends with the port's promises on a server that checks less: it looks for ids that are there already only where
 * it expects them. So an append is sent with the exact revision that the stream had when its ids were compared with
 * all before it; when another came first, the server refuses, and what is new is compared, too.
 */
import { setTimeout as pause } from 'node:timers/promises';
import type { EventEnvelope, NewEvent } from '../../../contracts/envelope.ts';
import { checkAppend, checkImported } from '../input.ts';
import {
  type AppendResult,
  EventIdConflict,
  type ExpectedRevision,
  type Imported,
  StoreUnavailable,
  WrongExpectedRevision,
  WrongLogEnd,
} from '../port.ts';
import { joined, type KnownEvent, type KnownIds, type KnownStream } from './known-ids.ts';
import type { Log } from './log.ts';
import type { LogPosition } from './log-position.ts';
import { envelopeOf, isSystemName, type ProposedEvent, proposed } from './record.ts';
import { PAGE_RECORDS, type Server } from './server.ts';

/** So often another append may come first. */
const ATTEMPTS = 30;
const LONGEST_PAUSE_MS = 50;

export interface Appender {
  append(
    stream: string,
    events: readonly NewEvent[],
    expected: ExpectedRevision,
    imported?: Imported,
  ): Promise<AppendOutcome>;
}

export interface AppendOutcome {
  readonly result: AppendResult;
  /** False when the events were in the stream before. */
  readonly added: boolean;
}

export function createAppender(server: Server, log: Log, ids: KnownIds): Appender {
  /** The last append to each stream: appends of one process take turns, they would only refuse each other. */
  const turns = new Map<string, Promise<unknown>>();

  function inTurn<Result>(stream: string, append: () => Promise<Result>): Promise<Result> {
    const appending = (turns.get(stream) ?? Promise.resolve()).then(append);
    const done = appending.then(
      () => {},
      () => {},
    );
    turns.set(stream, done);
    void done.then(() => {
      if (turns.get(stream) === done) turns.delete(stream);
    });
    return appending;
  }

  /** What the stream holds now: what is known, and what was appended since. */
  async function look(stream: string): Promise<KnownStream> {
    const cached = ids.get(stream);
    const known =
      (cached?.last == null ? null : await readOn(stream, cached, cached.last)) ??
      (await readOn(stream, { last: null, revisions: new Map() }, null));
    ids.set(stream, known!);
    return known!;
  }

  /** Reads from `last` to the end. Null when it is not there: the stream was deleted or cut meanwhile. */
  async function readOn(
    stream: string,
    known: KnownStream,
    last: KnownEvent | null,
  ): Promise<KnownStream | null> {
    let from = last?.revision ?? 0;
    let all = known;
    for (let first = true; ; first = false) {
      const records = (await server.readStream(stream, from, 'forwards', PAGE_RECORDS)) ?? [];
      const read = records.map(({ id, revision }) => ({ id, revision: Number(revision) }));
      if (first && last !== null && (read[0]?.id !== last.id || read[0].revision !== last.revision))
        return null;
      all = joined(all, from, read)!;
      if (records.length < PAGE_RECORDS) return all;
      from = read.at(-1)!.revision + 1;
    }
  }

  /** What stands in the stream from this revision on, if it is this batch. */
  async function standing(
    stream: string,
    batch: readonly ProposedEvent[],
    from: number,
  ): Promise<EventEnvelope[] | null> {
    const found: EventEnvelope[] = [];
    while (found.length < batch.length) {
      const next = from + found.length;
      const count = Math.min(PAGE_RECORDS, batch.length - found.length);
      const records = (await server.readStream(stream, next, 'forwards', count)) ?? [];
      for (const record of records) {
        const event = envelopeOf(record);
        const at = from + found.length;
        if (event === null || event.revision !== at || event.id !== batch[found.length]!.id) return null;
        found.push(event);
      }
      if (records.length < count) break;
    }
    return found.length === batch.length ? found : null;
  }

  /** What was just written, where the stream hides it at once ($maxCount, $maxAge, or deleted meanwhile). */
  async function hidden(stream: string, batch: readonly ProposedEvent[], at: LogPosition | null) {
    if (at === null) return null;
    // The batch was written in one piece, and its position is that of one of its events.
    const records = [
      ...(await server.readAll(at, 'backwards', batch.length)).reverse(),
      ...(await server.readAll(at, 'forwards', batch.length)),
    ];
    const found = records
      .filter((record) => record.streamId === stream)
      .map(envelopeOf)
      .filter((event) => event !== null && batch.some(({ id }) => id === event.id)) as EventEnvelope[];
    return found.length === batch.length ? found : null;
  }

  /** @param check throws when the events must not be appended now, and is not asked when they are there already */
  async function append(
    stream: string,
    batch: readonly ProposedEvent[],
    expected: ExpectedRevision,
    check: () => Promise<void> = async () => {},
  ): Promise<AppendOutcome> {
    // A stream that nobody has heard of is most probably new: the server says when it is not.
    let known = ids.get(stream) ?? null;
    let looked = known === null && expected !== 'no stream';
    if (looked) known = await look(stream);
    /** The revision that the server insists on while nothing can be read: that of deleted events. */
    let unseen: number | null = null;
    for (let attempt = 1; attempt <= ATTEMPTS; attempt += 1) {
      const held = known === null ? [] : batch.filter(({ id }) => known!.revisions.has(id));
      if (held.length > 0) {
        const from = known!.revisions.get(held[0]!.id)!;
        const same = batch.every(({ id }, i) => known!.revisions.get(id) === from + i);
        const events = same ? await standing(stream, batch, from) : null;
        if (events !== null) return { result: resultOf(events), added: false };
        if (looked) throw new EventIdConflict(stream, held[0]!.id);
      } else if (known !== null && !matches(expected, known.last?.revision ?? null)) {
        if (looked) throw new WrongExpectedRevision(stream, expected, known.last?.revision ?? null);
      } else {
        const current: number | null = known?.last?.revision ?? unseen;
        await check();
        const appended = await server.append(stream, batch, current ?? 'no stream');
        if (appended.kind === 'appended') {
          const first = appended.revision - batch.length + 1;
          const events =
            (await standing(stream, batch, first)) ?? (await hidden(stream, batch, appended.position));
          if (events === null) {
            ids.forget(stream);
            // The server took it for an append of events that were deleted since.
            throw new EventIdConflict(stream, batch[0]!.id);
          }
          ids.extend(stream, first, events);
          log.seen(events.at(-1)!.position);
          return { result: resultOf(events), added: true };
        }
        unseen = appended.actual === current ? null : appended.actual;
        if (attempt > 3) await pause(Math.random() * Math.min(LONGEST_PAUSE_MS, 2 ** attempt));
      }
      known = await look(stream);
      looked = true;
      if (known.last !== null) unseen = null;
    }
    throw new StoreUnavailable(
      `stream ${stream} is appended to by too many at once: ${ATTEMPTS} attempts failed`,
    );
  }

  /** What the log ended with when it was last looked at or imported to; undefined: not known. */
  let end: Pick<EventEnvelope, 'id' | 'time'> | null | undefined;
  /** Imports take turns, whatever their streams: each says what the log must end with. */
  let importing: Promise<unknown> = Promise.resolve();

  async function importInTurn(
    stream: string,
    batch: readonly ProposedEvent[],
    expected: ExpectedRevision,
    { times, previous }: Imported,
  ): Promise<AppendOutcome> {
    const check = async (): Promise<void> => {
      if (end === undefined || (end?.id ?? null) !== previous) end = await log.last();
      const found = end?.id ?? null;
      if (found !== previous) throw new WrongLogEnd(previous, found);
      if (end !== null && times[0]! < end.time) {
        throw new RangeError(`Stream ${stream}: an event of ${times[0]} cannot follow one of ${end.time}`);
      }
    };
    const run = importing.then(async () => {
      const outcome = await inTurn(stream, () => append(stream, batch, expected, check));
      if (outcome.added) end = outcome.result.events.at(-1)!;
      return outcome;
    });
    importing = run.catch(() => {}); // its caller learns of it
    return run;
  }

  return {
    async append(stream, events, expected, imported) {
      checkAppend(stream, events, expected);
      if (imported !== undefined) checkImported(events, imported);
      if (isSystemName(stream)) {
        throw new RangeError(`stream must not begin with $, as the server's own do: ${stream}`);
      }
      const batch = proposed(events, imported?.times);
      if (imported !== undefined) return importInTurn(stream, batch, expected, imported);
      return inTurn(stream, () => append(stream, batch, expected));
    },
  };
}

function matches(expected: ExpectedRevision, last: number | null): boolean {
  if (expected === 'any') return true;
  if (expected === 'no stream') return last === null;
  return expected === 'exists' ? last !== null : last === expected;
}

function resultOf(events: readonly EventEnvelope[]): AppendResult {
  const { revision, position } = events.at(-1)!;
  return { events, revision, position };
}
