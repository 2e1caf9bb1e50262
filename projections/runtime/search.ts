/**
 * Feeds the search index from the log. It stands beside the other projections and looks like one of them, but goes at
 * its own pace: making vectors takes longer than all of them together, so commands do not wait for it, and a search
 * waits by itself (`waitFor`).
 *
 * Every process that searches has one. Of those that share an index one writes, and the others wait for their turn.
 */
import { randomUUID } from 'node:crypto';
import { setImmediate as othersRan, setTimeout as pause } from 'node:timers/promises';
import { type EventEnvelope, isAfter, type Position, START } from '../../contracts/envelope.ts';
import { Refusal } from '../../contracts/errors.ts';
import type { ProjectionRuntime, ProjectionStatus, SetAsideEvent } from '../../contracts/projections.ts';
import type { SignalBus } from '../../infra/bus/port.ts';
import type { EventStore } from '../../infra/event-store/port.ts';
import {
  type Embedder,
  EmbedderUnavailable,
  type IndexChange,
  type IndexCopy,
  type SearchIndex,
} from '../../infra/search/port.ts';
import { type SearchChange, searchChange, searchTypes } from '../search.ts';
import { toError } from './feed.ts';
import { positionWaiters } from './position-waiters.ts';
import { eventAt } from './retry.ts';
import { LISTED_FAILURES, oneAtATime, type Trouble } from './runtime.ts';

export const SEARCH = 'search';
/** Raised with the layout of the index. */
const VERSION = 1;
/** Events of a batch, at most. */
const BATCH_SIZE = 16;
const FIRST_PAUSE_MS = 50;
const LONGEST_PAUSE_MS = 5_000;
/** Between two looks at an index that another process writes. */
const WATCH_MS = 200;
/** What was read and had nothing for the index is put down as read so much later. */
const CHECKPOINT_MS = 1_000;
/** How long the processes that have an index have to tell what came of a retry. */
const RETRY_ANSWERS_MS = 1_500;

export interface SearchIndexingOptions {
  readonly store: EventStore;
  readonly index: SearchIndex;
  readonly embedder: Embedder;
  /** By it, processes with indexes of their own learn of rebuilds and retries. */
  readonly signals: SignalBus;
  readonly onError: (error: Error, trouble: Trouble) => void;
}

/** What an operator may ask of one projection. */
export interface ProjectionPart {
  readonly name: string;
  status(): Promise<ProjectionStatus>;
  rebuild(): Promise<void>;
  failures(): Promise<readonly SetAsideEvent[]>;
  retry(): Promise<{ applied: number; failed: number; waiting: number }>;
  stop(): Promise<void>;
}

export interface SearchIndexing extends ProjectionPart {
  /** True once everything up to there can be found; false after the timeout. */
  waitFor(position: Position, timeoutMs: number): Promise<boolean>;
}

/** The projections and one more, which commands do not wait for. */
export function withPart(runtime: ProjectionRuntime, part: ProjectionPart): ProjectionRuntime {
  return {
    waitFor: (position, timeoutMs) => runtime.waitFor(position, timeoutMs),
    position: () => runtime.position(),
    status: async () => {
      const [those, own] = await Promise.all([runtime.status(), part.status()]);
      return [...those, own];
    },
    rebuild: (name) => (name === part.name ? part.rebuild() : runtime.rebuild(name)),
    failures: (name) => (name === part.name ? part.failures() : runtime.failures(name)),
    retry: (name) => (name === part.name ? part.retry() : runtime.retry(name)),
    stop: async () => void (await Promise.all([runtime.stop(), part.stop()])),
  };
}

export function startSearchIndexing(options: SearchIndexingOptions): SearchIndexing {
  const { store, index, embedder, signals } = options;
  const stopping = new AbortController();
  const { signal } = stopping;
  const waiters = positionWaiters();
  const exclusive = oneAtATime();

  /** Known once the index is open. */
  let live: IndexCopy | null = null;
  let rebuilding: IndexCopy | null = null;
  let writes = false;
  /** What was read beyond the checkpoint, without anything for the index. */
  let readUpTo: Position = START;
  let caughtUp = false;
  let problem: string | null = null;
  const tasks = new Set<Promise<void>>();

  const position = (): Position =>
    live === null ? START : isAfter(readUpTo, live.position) ? readUpTo : live.position;

  function reached(): void {
    waiters.reached(position());
  }

  function report(reason: unknown, event: EventEnvelope | null): Error {
    const error = toError(reason);
    options.onError(error, { projections: [SEARCH], event });
    return error;
  }

  /** Tries until it works or the runtime stops: nothing is skipped because a disk is full. */
  async function persistently<Result>(work: () => Promise<Result>): Promise<Result> {
    for (let pauseMs = FIRST_PAUSE_MS; ; pauseMs = Math.min(2 * pauseMs, LONGEST_PAUSE_MS)) {
      const began = performance.now();
      try {
        // After a failure the thread that writes may be a new one.
        if (pauseMs > FIRST_PAUSE_MS && writes && !(await index.lead())) {
          throw new Error('Another process writes the search index now.');
        }
        const result = await work();
        problem = null;
        return result;
      } catch (reason) {
        if (signal.aborted) throw reason;
        problem = report(reason, null).message;
        if (performance.now() - began > LONGEST_PAUSE_MS) pauseMs = FIRST_PAUSE_MS; // it had worked meanwhile
        await pause(pauseMs, undefined, { signal });
      }
    }
  }

  function failed(event: EventEnvelope, documentId: string, reason: unknown): IndexChange {
    const error = report(reason, event);
    return {
      kind: 'failed',
      position: event.position,
      event: {
        position: event.position,
        eventId: event.id,
        eventType: event.type,
        documentId,
        error: error.message,
        failedAt: new Date().toISOString(),
      },
    };
  }

  async function vectorsOf(texts: readonly string[]) {
    return texts.length === 0 ? [] : embedder.embed(texts);
  }

  async function changesOf(events: readonly EventEnvelope[]): Promise<IndexChange[]> {
    const changes = events.map((event): SearchChange | IndexChange => {
      try {
        return searchChange(event);
      } catch (error) {
        return failed(event, '', error);
      }
    });
    const texts = changes.flatMap((change) =>
      change.kind === 'message' && !('vectors' in change.message) ? [change.message.text] : [],
    );
    // Of a batch that fails, each by itself: only the one that is at fault is set aside.
    const all = await vectorsOf(texts).catch((error: unknown) => {
      if (error instanceof EmbedderUnavailable) throw error;
      return null;
    });
    const complete: IndexChange[] = [];
    let next = 0;
    for (const [at, change] of changes.entries()) {
      const event = events[at]!;
      if (change.kind !== 'message') {
        complete.push({ ...change, position: event.position } as IndexChange);
        continue;
      }
      const { message } = change;
      try {
        const vectors = all === null ? (await embedder.embed([message.text]))[0]! : all[next++]!;
        complete.push({ kind: 'message', position: event.position, message: { ...message, vectors } });
      } catch (error) {
        if (error instanceof EmbedderUnavailable) throw error;
        complete.push(failed(event, message.id, error));
      }
    }
    return complete;
  }

  /** Reads on from a copy's checkpoint; `apply` gets slices that are small. */
  async function inSlices(
    events: readonly EventEnvelope[],
    end: Position,
    apply: (events: readonly EventEnvelope[], to: Position) => Promise<void>,
  ): Promise<void> {
    for (let from = 0; from < events.length && !signal.aborted; from += BATCH_SIZE) {
      const slice = events.slice(from, from + BATCH_SIZE);
      const last = from + BATCH_SIZE >= events.length;
      await apply(slice, last ? end : slice.at(-1)!.position);
      await othersRan();
    }
  }

  const write = (copy: IndexCopy, changes: readonly IndexChange[], to: Position | null): Promise<IndexCopy> =>
    persistently(() => index.write({ copy: copy.copy, changes, position: to }));

  const filter = { types: searchTypes };

  // ── the live copy ───────────────────────────────────────────────────────
  async function follow(): Promise<void> {
    await persistently(async () => {
      for await (const page of store.subscribe({ after: position(), filter, signal })) {
        await inSlices(page.events, page.position, async (events, to) => {
          const changes = await changesOf(events);
          await exclusive(async () => {
            live = await write(live!, changes, to);
            reached();
          });
        });
        if (signal.aborted) return;
        if (page.events.length === 0) readUpTo = page.position;
        caughtUp = page.caughtUp;
        reached();
        if (!page.caughtUp) await othersRan();
      }
      if (!signal.aborted) throw new Error('The subscription of the log ended.');
    });
  }

  /** Puts down what was read and had nothing for the index. */
  async function keepCheckpoint(): Promise<void> {
    while (!signal.aborted) {
      await pause(CHECKPOINT_MS, undefined, { signal });
      await exclusive(async () => {
        if (live !== null && isAfter(readUpTo, live.position)) live = await write(live, [], readUpTo);
      });
    }
  }

  // ── a rebuild ───────────────────────────────────────────────────────────
  async function fill(): Promise<void> {
    const readOn = async (): Promise<number> => {
      const upTo = position();
      let read = 0;
      await persistently(async () => {
        for await (const page of store.readAll({ after: rebuilding!.position, upTo, filter })) {
          read += page.events.length;
          await inSlices(page.events, page.position, async (events, to) => {
            rebuilding = await write(rebuilding!, await changesOf(events), to);
          });
          if (signal.aborted) return;
        }
      });
      if (!signal.aborted) rebuilding = await write(rebuilding!, [], upTo);
      return read;
    };
    while (!signal.aborted && (await readOn()) > BATCH_SIZE);
    await exclusive(async () => {
      await readOn();
      if (signal.aborted) return;
      await persistently(() => index.activate(rebuilding!.copy));
      live = { ...rebuilding!, live: true };
      rebuilding = null;
    });
  }

  async function beginRebuild(): Promise<void> {
    if (rebuilding !== null) return;
    rebuilding = await index.createCopy();
    inBackground(fill);
  }

  // ── whose turn it is to write ───────────────────────────────────────────
  async function look(): Promise<void> {
    const copies = await index.copies();
    live = copies.find((copy) => copy.live) ?? null;
    rebuilding = copies.find((copy) => !copy.live) ?? null;
    reached();
  }

  async function run(): Promise<void> {
    while (!(await persistently(() => index.lead()))) {
      await persistently(look);
      await pause(WATCH_MS, undefined, { signal });
    }
    writes = true;
    await persistently(look);
    // Of another log, or of one that was restored from an older backup.
    while (isAfter(position(), await persistently(() => store.end()))) {
      const fresh = await persistently(() => index.createCopy());
      await persistently(() => index.activate(fresh.copy));
      await persistently(look);
    }
    if (rebuilding !== null) inBackground(fill);
    inBackground(keepCheckpoint);
    await follow();
  }

  function inBackground(work: () => Promise<void>): void {
    const task = work()
      .catch((reason: unknown) => {
        if (!signal.aborted) problem = report(reason, null).message;
      })
      .finally(() => tasks.delete(task));
    tasks.add(task);
  }

  /** How many events of its types the log holds up to a position: it never changes, so only what came since is counted. */
  const counted = { upTo: START, events: 0 };
  async function expected(upTo: Position): Promise<number> {
    if (isAfter(counted.upTo, upTo)) Object.assign(counted, { upTo: START, events: 0 });
    const { upTo: after, events } = counted;
    const more = await store.count({ after, upTo, filter });
    Object.assign(counted, { upTo, events: events + more });
    return events + more;
  }

  async function applyAgain(): Promise<{ applied: number; failed: number; waiting: number }> {
    if (live === null || !writes) return { applied: 0, failed: live?.failed ?? 0, waiting: 0 };
    const before = live.failed;
    for (const { position: at, eventId } of await index.setAside(live.copy, LISTED_FAILURES)) {
      const changes = await changesOf([await eventAt(store, at, eventId)]);
      await exclusive(async () => {
        live = await index.write({ copy: live!.copy, changes, position: null });
      });
    }
    return { applied: before - live.failed, failed: live.failed, waiting: 0 };
  }

  const told = new Set<string>();
  const unsubscribe = signals.subscribe((request) => {
    if (request.kind !== 'projection request' || request.projection !== SEARCH) return;
    if (told.delete(request.requestId) || !writes || signal.aborted) return;
    if (request.action === 'rebuild') {
      beginRebuild().catch((error: unknown) => report(error, null));
      return;
    }
    const { requestId } = request;
    applyAgain().then(
      (result) => signals.publish({ kind: 'projection retried', requestId, partition: 0, ...result }),
      (error: unknown) => report(error, null),
    );
  });

  function refuseWhenStopped(): void {
    if (signal.aborted) throw new Refusal('SERVICE_UNAVAILABLE', 'The projections are stopped.');
  }

  inBackground(run);

  return {
    name: SEARCH,
    async waitFor(wanted, timeoutMs) {
      if (!isAfter(wanted, position())) return true;
      if (signal.aborted || timeoutMs <= 0) return false;
      return waiters.wait(wanted, timeoutMs);
    },
    async status() {
      // Taken before the first await, so that they belong together.
      const at = position();
      const { seen, failed: aside, position: stored } = live ?? { seen: 0, failed: 0, position: START };
      const filling = rebuilding;
      const lag = await store.count({ after: at });
      const expectedEvents = await expected(stored);
      return {
        name: SEARCH,
        version: VERSION,
        state: signal.aborted
          ? 'stopped'
          : filling !== null
            ? 'rebuilding'
            : caughtUp || lag === 0
              ? 'live'
              : 'catching up',
        position: at,
        lag,
        seen,
        expected: expectedEvents,
        complete: seen === expectedEvents,
        failed: aside,
        waiting: 0,
        problem,
        rebuild: filling && {
          version: VERSION,
          position: filling.position,
          lag: await store.count({ after: filling.position }),
          failed: filling.failed,
          waiting: 0,
        },
      };
    },
    async rebuild() {
      refuseWhenStopped();
      const requestId = randomUUID();
      told.add(requestId);
      signals.publish({ kind: 'projection request', requestId, projection: SEARCH, action: 'rebuild' });
      if (writes) await beginRebuild();
    },
    failures: async () => (live === null ? [] : index.setAside(live.copy, LISTED_FAILURES)),
    async retry() {
      refuseWhenStopped();
      return applyAgain();
    },
    async stop() {
      stopping.abort();
      unsubscribe();
      while (tasks.size > 0) await Promise.all(tasks);
      waiters.end();
    },
  };
}

/** For a process that takes commands and has no index: those that have one are told. */
export function remoteSearchIndexing(signals: SignalBus): ProjectionPart {
  const status: ProjectionStatus = {
    name: SEARCH,
    version: VERSION,
    state: 'stopped',
    position: START,
    lag: 0,
    seen: 0,
    expected: 0,
    complete: true,
    failed: 0,
    waiting: 0,
    problem: 'This process has no search index: those with the query role have one each.',
    rebuild: null,
  };
  const ask = (action: 'rebuild' | 'retry'): string => {
    const requestId = randomUUID();
    signals.publish({ kind: 'projection request', requestId, projection: SEARCH, action });
    return requestId;
  };
  return {
    name: SEARCH,
    status: async () => status,
    rebuild: async () => void ask('rebuild'),
    failures: async () => [],
    async retry() {
      const sum = { applied: 0, failed: 0, waiting: 0 };
      let answers = 0;
      let requestId = '';
      const leave = signals.subscribe((answer) => {
        if (answer.kind !== 'projection retried' || answer.requestId !== requestId) return;
        answers += 1;
        sum.applied += answer.applied;
        sum.failed += answer.failed;
      });
      requestId = ask('retry');
      await pause(RETRY_ANSWERS_MS);
      leave();
      if (answers === 0) {
        throw new Refusal('SERVICE_UNAVAILABLE', 'No process with a search index answers: try again.', {
          retryAfterSeconds: 5,
        });
      }
      return sum;
    },
    stop: async () => {},
  };
}
