/**
 * The writer's thread: owns the connection that writes, and puts everything that waits into one
 * transaction (group commit), so that concurrent appends share one fsync.
 */
import { performance } from 'node:perf_hooks';
import { receiveMessageOnPort, workerData } from 'node:worker_threads';
import type { ExpectedRevision } from '../port.ts';
import { lockFile } from './lock.ts';
import { INSERT, openForWriting, reasonOf } from './schema.ts';
import { alone, sharing, untilFree } from './turns.ts';
import type {
  AppendRequest,
  EventValues,
  Outcome,
  WriterData,
  WriterReply,
  WriterRequest,
} from './writer-protocol.ts';

/** A group that has so many events is committed even when more wait: those before must not wait for ever. */
const MAX_GROUP_EVENTS = 2_000;
const MAX_CACHED_STREAMS = 10_000;
/** How long to look for the next request before going to sleep: about what waking from sleep costs. */
const SPIN_MS = 0.1;

const { directory, shared, port, wakeups } = workerData as WriterData;
const database = openForWriting(directory, shared);
const turns = shared ? sharing(database, lockFile(directory)) : alone(database);
const commit = database.prepare('COMMIT');
const insert = database.prepare(`${INSERT} ON CONFLICT (id) DO NOTHING`);
const removeFrom = database.prepare('DELETE FROM events WHERE position >= ?');
const findId = database.prepare<[string], { stream: string; position: number }>(
  'SELECT stream, position FROM events WHERE id = ?',
);
const findLastRevision = database
  .prepare<[string], number | null>('SELECT max(revision) FROM events WHERE stream = ?')
  .pluck();
const findLast = database.prepare<[], { position: number; id: string; time: string }>(
  'SELECT position, id, time FROM events ORDER BY position DESC LIMIT 1',
);

/** Last revision by stream (-1: no such stream), the least recently appended to first. */
const lastRevisions = new Map<string, number>();
let lastPosition = 0;
let lastId: string | null = null;
let lastTimeMs = 0;

/** False after a transaction that failed: what is remembered here may not be in the log. */
let current = false;

/** Takes up what the file holds. */
function resume(): void {
  const last = findLast.get();
  lastPosition = last?.position ?? 0;
  lastId = last?.id ?? null;
  lastTimeMs = last === undefined ? 0 : Date.parse(last.time);
  lastRevisions.clear();
  current = true;
}

function lastRevisionOf(stream: string): number {
  return lastRevisions.get(stream) ?? findLastRevision.get(stream) ?? -1;
}

function remember(stream: string, revision: number): void {
  lastRevisions.delete(stream);
  lastRevisions.set(stream, revision);
  if (lastRevisions.size > MAX_CACHED_STREAMS) {
    for (const oldest of lastRevisions.keys()) {
      lastRevisions.delete(oldest);
      break;
    }
  }
}

const fits = (expected: ExpectedRevision, actual: number): boolean =>
  expected === 'any' ||
  (expected === 'no stream' ? actual === -1 : expected === 'exists' ? actual >= 0 : actual === expected);

interface Time {
  readonly ms: number;
  readonly text: string;
}
const timeOf = (ms: number): Time => ({ ms, text: new Date(ms).toISOString() });

/**
 * Writes one append into the open transaction, all of it or nothing.
 * @param now that of the transaction
 */
function append([stream, expected, events, imported]: AppendRequest, now: Time): Outcome {
  if (imported !== undefined) {
    const misfit: Outcome | null =
      imported.previous !== lastId
        ? { kind: 'wrong end', actual: lastId }
        : Date.parse(imported.times[0]!) < lastTimeMs
          ? { kind: 'too early', last: timeOf(lastTimeMs).text }
          : null;
    if (misfit !== null) return earlierAppend(stream, events) ?? misfit;
  }
  // Later than now only after an import of what was written by a clock that is ahead.
  const time = lastTimeMs > now.ms ? timeOf(lastTimeMs) : now;
  const actual = lastRevisionOf(stream);
  if (!fits(expected, actual)) {
    return earlierAppend(stream, events) ?? { kind: 'wrong revision', actual: actual === -1 ? null : actual };
  }
  const position = lastPosition + 1;
  const revision = actual + 1;
  for (let i = 0; i < events.length; i += 1) {
    const [id, type, schemaVersion, owner, correlationId, meta, data] = events[i]!;
    const { changes } = insert.run(
      position + i,
      id,
      stream,
      revision + i,
      type,
      schemaVersion,
      owner,
      correlationId,
      imported?.times[i] ?? time.text,
      meta,
      data,
    );
    if (changes === 0) {
      // The id is taken. What this append wrote are the last rows of the table: take them back.
      if (i > 0) removeFrom.run(position);
      return earlierAppend(stream, events) ?? { kind: 'id conflict', id };
    }
  }
  lastPosition += events.length;
  lastId = events.at(-1)![0];
  lastTimeMs = imported === undefined ? time.ms : Date.parse(imported.times.at(-1)!);
  remember(stream, actual + events.length);
  return time === now
    ? { kind: 'appended', position, revision }
    : { kind: 'appended', position, revision, time: time.text };
}

/** What an append is told of whose ids some or all are in the log already; null when none of them is. */
function earlierAppend(stream: string, events: readonly EventValues[]): Outcome | null {
  const found = events.map(([id]) => findId.get(id));
  const taken = found.findIndex((row) => row !== undefined);
  if (taken === -1) return null;
  const position = found[taken]!.position;
  const same = found.every((row, i) => row?.stream === stream && row.position === position + i);
  return same ? { kind: 'replayed', position } : { kind: 'id conflict', id: events[taken]![0] };
}

/** Puts `first` and what came meanwhile into one transaction, and answers all of it. */
function commitGroup(first: WriterRequest): void {
  const began = performance.now();
  const outcomes: Outcome[] = [];
  let appends = first.length;
  try {
    if (turns.begin() || !current) resume();
    const now = timeOf(Math.max(lastTimeMs, Date.now()));
    let events = 0;
    for (let batch: WriterRequest | undefined = first; batch !== undefined; ) {
      for (const request of batch) {
        events += request[2].length;
        outcomes.push(append(request, now));
      }
      batch = events < MAX_GROUP_EVENTS ? nextRequest() : undefined;
      appends += batch?.length ?? 0;
    }
    commit.run();
    answer({ kind: 'committed', outcomes, time: now.text, durationMs: performance.now() - began });
  } catch (error) {
    if (database.inTransaction) database.exec('ROLLBACK');
    current = false;
    answer({ kind: 'failed', appends, reason: reasonOf(error, directory) });
    return;
  }
  turns.committed();
}

const answer = (reply: WriterReply): void => port.postMessage(reply);

const nextRequest = (): WriterRequest | undefined =>
  (receiveMessageOnPort(port) as { message: WriterRequest } | undefined)?.message;

/** Returns when a request came after `seen` was read. */
function sleep(seen: number): void {
  const until = performance.now() + SPIN_MS;
  while (Atomics.load(wakeups, 0) === seen) {
    if (performance.now() > until) {
      Atomics.wait(wakeups, 0, seen);
      return;
    }
  }
}

if (shared) untilFree(database.name, resume);
else resume();
answer({ kind: 'ready', head: lastPosition });
for (;;) {
  const seen = Atomics.load(wakeups, 0);
  const request = nextRequest();
  if (request === undefined) sleep(seen);
  else if (request.length > 0) commitGroup(request);
  else break;
}
turns.close();
port.close();
