/**
 * The event store against raw SQLite on the same file system: durable appends by 64 callers and by one, and
 * reading the log. Floor and ours run in turns, and medians are compared, so that the machine's moods cancel.
 */
import { randomUUID } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type Database from 'better-sqlite3';
import { type NewEvent, START } from '../contracts/envelope.ts';
import type { EventStore } from '../infra/event-store/port.ts';
import { COLUMNS, INSERT, openForReading, openForWriting } from '../infra/event-store/sqlite/schema.ts';
import { openSqliteEventStore } from '../infra/event-store/sqlite.ts';
import { type ComparedResult, median } from './result.ts';

const ROUNDS = 7;
const STREAMS = 64;

/** Many callers at once against raw transactions of 100 events. */
export const benchAppends64 = (): Promise<ComparedResult> =>
  benchAppends({
    name: 'durable appends, 64 callers / raw SQLite at 100 events a transaction',
    target: 0.8,
    callers: 64,
    eventsPerTransaction: 100,
    eventsPerRound: 12_800,
  });

/** One caller that waits for each append against raw transactions of one event. */
export const benchAppendsOne = (): Promise<ComparedResult> =>
  benchAppends({
    name: 'durable appends, one caller / raw SQLite at one event a transaction',
    target: 0.7,
    callers: 1,
    eventsPerTransaction: 1,
    eventsPerRound: 1_000,
  });

interface AppendBench {
  readonly name: string;
  readonly target: number;
  readonly callers: number;
  readonly eventsPerTransaction: number;
  readonly eventsPerRound: number;
}

async function benchAppends(bench: AppendBench): Promise<ComparedResult> {
  const { name, target, callers, eventsPerTransaction, eventsPerRound } = bench;
  await using rawFolder = await temporaryFolder();
  await using ourFolder = await temporaryFolder();
  using database = disposable(openForWriting(rawFolder.path));
  await using store = disposable(await openSqliteEventStore({ directory: ourFolder.path }));
  const writeRaw = rawWriter(database.value);
  const compared = await inTurns(eventsPerRound, {
    floor: () => {
      for (let n = 0; n < eventsPerRound; n += eventsPerTransaction) writeRaw(n, eventsPerTransaction);
    },
    ours: () => append(store.value, callers, eventsPerRound),
  });
  return { name, unit: 'events/s', target, ...compared };
}

/** The log read from its beginning to its end, every envelope made, against the same rows read and parsed raw. */
export async function benchReadLog(events = 50_000): Promise<ComparedResult> {
  await using folder = await temporaryFolder();
  const database = openForWriting(folder.path);
  const writeRaw = rawWriter(database);
  for (let n = 0; n < events; n += 1_000) writeRaw(n, 1_000);
  database.close();
  using reading = disposable(openForReading(folder.path));
  await using store = disposable(await openSqliteEventStore({ directory: folder.path }));
  const compared = await inTurns(events, {
    floor: () => readRaw(reading.value, events),
    ours: () => readAll(store.value, events),
  });
  return {
    name: 'reading the log / raw paged read with JSON.parse',
    unit: 'events/s',
    target: 0.6,
    ...compared,
  };
}

const eventNumber = (n: number): NewEvent => ({
  id: randomUUID(),
  type: n % 3 === 0 ? 'MessageSent' : n % 3 === 1 ? 'ModelAnswered' : 'TurnCompleted',
  schemaVersion: 1,
  owner: `user-${n % 16}`,
  actor: { kind: 'user', id: `user-${n % 16}` },
  correlationId: randomUUID(),
  causationId: null,
  commandId: randomUUID(),
  surface: 'luna',
  data: {
    messageId: `message-${n}`,
    turnId: `turn-${n}`,
    content: 'What did the committee decide about the position in gold, and who voted against it?',
    model: null,
  },
});

const streamOf = (n: number): string => `conversation-${n % STREAMS}`;

async function append(store: EventStore, callers: number, events: number): Promise<void> {
  let next = 0;
  const caller = async () => {
    while (next < events) {
      const n = next;
      next += 1;
      await store.append(streamOf(n), [eventNumber(n)], { expectedRevision: 'any' });
    }
  };
  await Promise.all(Array.from({ length: callers }, caller));
}

/** A loop as one would write it by hand: rows made, inserted and committed, and nothing else. */
function rawWriter(database: Database.Database): (from: number, events: number) => void {
  const insert = database.prepare(INSERT);
  const revisions = new Map<string, number>();
  let position = 0;
  return database.transaction((from: number, events: number) => {
    const time = new Date().toISOString();
    for (let n = from; n < from + events; n += 1) {
      const { id, type, schemaVersion, owner, correlationId, data, ...rest } = eventNumber(n);
      const meta = JSON.stringify(rest);
      const stream = streamOf(n);
      const revision = (revisions.get(stream) ?? -1) + 1;
      revisions.set(stream, revision);
      position += 1;
      insert.run(
        position,
        id,
        stream,
        revision,
        type,
        schemaVersion,
        owner,
        correlationId,
        time,
        meta,
        JSON.stringify(data),
      );
    }
  });
}

async function readAll(store: EventStore, expected: number): Promise<void> {
  let read = 0;
  for await (const page of store.readAll({ after: START })) read += page.events.length;
  if (read !== expected) throw new Error(`read ${read} events instead of ${expected}`);
}

function readRaw(database: Database.Database, expected: number): void {
  const page = database.prepare<[number], { position: number; meta: string; data: string }>(
    `SELECT ${COLUMNS} FROM events WHERE position > ? ORDER BY position LIMIT 500`,
  );
  let read = 0;
  for (let after = 0; ; ) {
    const rows = page.all(after);
    if (rows.length === 0) break;
    const events = rows.map((row) => ({ ...row, meta: JSON.parse(row.meta), data: JSON.parse(row.data) }));
    read += events.length;
    after = rows.at(-1)!.position;
  }
  if (read !== expected) throw new Error(`read ${read} events instead of ${expected}`);
}

/** Rates of both, taken in turns after one round of each that warms up. */
async function inTurns(
  events: number,
  sides: { floor: () => void; ours: () => Promise<void> },
): Promise<{ floor: number; ours: number; ratio: number }> {
  const rates = { floor: [] as number[], ours: [] as number[] };
  for (let round = 0; round <= ROUNDS; round += 1) {
    for (const side of ['floor', 'ours'] as const) {
      const began = performance.now();
      await sides[side]();
      if (round > 0) rates[side].push((events / (performance.now() - began)) * 1_000);
    }
  }
  const [floor, ours] = [median(rates.floor), median(rates.ours)];
  return { floor, ours, ratio: ours / floor };
}

async function temporaryFolder(): Promise<AsyncDisposable & { path: string }> {
  const path = await mkdtemp(join(tmpdir(), 'odeon-bench-'));
  return { path, [Symbol.asyncDispose]: () => rm(path, { recursive: true }) };
}

interface Closing<Value> extends Disposable, AsyncDisposable {
  readonly value: Value;
}
const disposable = <Value extends { close(): unknown }>(value: Value): Closing<Value> => ({
  value,
  [Symbol.dispose]: () => void value.close(),
  [Symbol.asyncDispose]: async () => void (await value.close()),
});

if (import.meta.main) {
  for (const bench of [benchAppends64, benchAppendsOne, benchReadLog]) {
    const { name, floor, ours, unit, ratio, target } = await bench();
    console.log(
      `${name}: ${Math.round(ours)} / ${Math.round(floor)} ${unit} = ${ratio.toFixed(2)} (target ${target})`,
    );
  }
}
