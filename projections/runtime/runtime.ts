/**
 * Runs the projections over the log.
 *
 * - The copies that readers see and that stand at the same position are the group: they advance in lockstep
 *   from one subscription, one transaction a batch with all their checkpoints in it.
 * - A copy that is behind (a new projection, a rebuild) first reads the log by itself. For the last stretch the
 *   group is held, so that both stand at the same position; then it joins, and a rebuild is switched in.
 * - Everything that changes a copy runs in `exclusive`, one batch at a time, and a batch is small: the event
 *   loop is shared with everybody else.
 *
 * A projection whose version or indexes changed keeps its old copy for readers, as it is, while the new one is
 * filled: the definition that made it is gone. Until the switch it counts as standing where the old copy stands.
 *
 * Where the log has several partitions, one runtime runs for each (`shared.ts`): it sees the events of its partition
 * only, and a copy is switched in once the runtimes of all of them have filled their part of it.
 */
import { setImmediate as othersRan, setTimeout as pause } from 'node:timers/promises';
import {
  comparePositions,
  type EventEnvelope,
  isAfter,
  laterOf,
  type Position,
  START,
} from '../../contracts/envelope.ts';
import { Refusal } from '../../contracts/errors.ts';
import type { ProjectionRuntime } from '../../contracts/projections.ts';
import type { Partition } from '../../infra/bus/port.ts';
import type { EventFilter, EventPage, EventStore } from '../../infra/event-store/port.ts';
import type { ReadModelStore } from '../../infra/read-models/port.ts';
import type { Projection } from '../projection.ts';
import { type Feed, openFeed, type Prepared, toError } from './feed.ts';
import { partOf } from './part.ts';
import { positionWaiters } from './position-waiters.ts';
import { retryFeed } from './retry.ts';
import {
  dropAbandoned,
  ensureLiveCopies,
  fedCopy,
  openNewFeed,
  openRunning,
  type Running,
  readerPosition,
  unfinishedCopy,
} from './running.ts';
import { statusReporter } from './status.ts';

/** Events of a batch, at most: a few milliseconds of work. */
const BATCH_SIZE = 100;
const FIRST_PAUSE_MS = 50;
const LONGEST_PAUSE_MS = 5_000;
/** Before it is asked again whether the other partitions of a copy are filled. */
const ACTIVATION_PAUSE_MS = 250;
/**
 * So long the copy that was replaced is fed on where other processes read, too: they learn of the switch within a
 * second, and whoever reads its own writes there until then is to find them.
 */
const REPLACED_FED_MS = 2_000;
/** How many set-aside events `failures` lists: the first ones are those to look at. */
export const LISTED_FAILURES = 1_000;

export interface Trouble {
  /** The names of those concerned. */
  readonly projections: readonly string[];
  /** The event that was set aside; null when the log or the read models cannot be used for now. */
  readonly event: EventEnvelope | null;
}

export interface ProjectionRuntimeOptions {
  readonly store: EventStore;
  readonly readModels: ReadModelStore;
  readonly projections: readonly Projection[];
  /** The part of the log that `readModels` is for. Default: all of it. */
  readonly partition?: Partition;
  /** Told of the position that readers of every projection see, whenever it has changed. Must not throw. */
  readonly onProgress?: (position: Position) => void;
  /** Told of every event that is set aside, and of every failed try to read the log or to write. Must not throw. */
  readonly onError?: (error: Error, trouble: Trouble) => void;
  /** Events that are applied in one transaction, at most. */
  readonly batchSize?: number;
}

export interface OwnRuntime extends ProjectionRuntime {
  /** Takes part in the rebuilds that were begun elsewhere since. */
  joinRebuilds(): Promise<void>;
  /** Why a projection does not get on at the moment, by its name. */
  problems(): Readonly<Record<string, string>>;
}

/** Resolves once the copies are there and the first subscription begins; catching up goes on in the background. */
export async function startProjections(options: ProjectionRuntimeOptions): Promise<OwnRuntime> {
  const { readModels, projections, batchSize = BATCH_SIZE, onProgress } = options;
  const store = options.partition === undefined ? options.store : partOf(options.store, options.partition);
  if (new Set(projections.map(({ name }) => name)).size < projections.length) {
    throw new Error('Two projections have the same name.');
  }
  const report = (error: Error, trouble: Trouble) => options.onError?.(error, trouble);
  const stopping = new AbortController();
  const { signal } = stopping;
  options.partition?.signal.addEventListener('abort', () => stopping.abort(), { once: true });
  const waiters = positionWaiters();
  const exclusive = oneAtATime();
  const tasks = new Set<Promise<void>>();

  if (options.partition === undefined || options.partition.number === 0) {
    await dropAbandoned(readModels, projections);
  }
  await ensureLiveCopies(readModels, projections);
  const copies = await readModels.copies();
  const running: Running[] = [];
  for (const projection of projections) running.push(await openRunning(readModels, projection, copies));

  function progressed(): void {
    const reached = position();
    waiters.reached(reached);
    onProgress?.(reached);
  }

  /** The copies in lockstep, and where they stand: never before what readers see of any projection. */
  const group = new Set<Feed>();
  let groupPosition = running.map(readerPosition).reduce(laterOf, START);
  let groupCaughtUp = false;

  /** The position that readers of every projection see. */
  const position = (): Position =>
    running.map(readerPosition).reduce((a, b) => (comparePositions(a, b) < 0 ? a : b), groupPosition);

  /** Tries until it works or the runtime stops: nothing is skipped because a disk is full. */
  async function persistently<Result>(feeds: Iterable<Feed>, work: () => Promise<Result>): Promise<Result> {
    for (let pauseMs = FIRST_PAUSE_MS; ; pauseMs = Math.min(2 * pauseMs, LONGEST_PAUSE_MS)) {
      const began = performance.now();
      try {
        const result = await work();
        for (const feed of feeds) feed.problem = null;
        return result;
      } catch (reason) {
        if (signal.aborted) throw reason;
        const error = toError(reason);
        const concerned = [...feeds];
        for (const feed of concerned) feed.problem = error.message;
        report(error, { projections: concerned.map(({ projection }) => projection.name), event: null });
        if (performance.now() - began > LONGEST_PAUSE_MS) pauseMs = FIRST_PAUSE_MS; // it had worked meanwhile
        await pause(pauseMs, undefined, { signal });
      }
    }
  }

  function committed(feed: Feed, batch: Prepared): void {
    batch.commit();
    for (const { event, error } of batch.failures)
      report(error, { projections: [feed.projection.name], event });
  }

  /** Inside `exclusive`: brings the feeds, which stand at one position, to a later one. */
  async function advance(
    feeds: readonly Feed[],
    events: readonly EventEnvelope[],
    to: Position,
  ): Promise<void> {
    let left = feeds;
    if (left.length === 0) return;
    const batches = new Map<Feed, Prepared>();
    const unlessReplaced = (work: () => Promise<unknown>) =>
      persistently(feeds, async () => {
        try {
          await work();
        } catch (error) {
          const gone = await replaced(left);
          if (gone.size === 0) throw error;
          for (const feed of gone) group.delete(feed);
          left = left.filter((feed) => !gone.has(feed));
          await work();
        }
      });
    await unlessReplaced(() =>
      Promise.all(left.map(async (feed) => batches.set(feed, await feed.prepare(events, to)))),
    );
    // The same batches again after a failure: it may not be known what became of the first try.
    await unlessReplaced(() => readModels.write(left.map((feed) => batches.get(feed)!.batch)));
    for (const feed of left) committed(feed, batches.get(feed)!);
  }

  /**
   * Those whose copy others have switched a rebuild in for, or that others, of another version, have dropped before it
   * could take a live one's place.
   */
  async function replaced(feeds: readonly Feed[]): Promise<ReadonlySet<Feed>> {
    const there = new Set((await readModels.copies()).map(({ copy }) => copy));
    const gone = new Set<Feed>();
    for (const one of running) {
      const { current, rebuild } = one;
      if (current === null || rebuild === null) continue;
      if (!there.has(current.copy) && there.has(rebuild.copy)) gone.add(current);
      if (there.has(current.copy) && !there.has(rebuild.copy)) {
        gone.add(rebuild);
        one.rebuild = null;
      }
    }
    return new Set(feeds.filter((feed) => gone.has(feed)));
  }

  /** Applies a page in slices, letting others run between them. */
  async function inSlices(
    { events, position: end }: EventPage,
    apply: (events: readonly EventEnvelope[], to: Position) => Promise<void>,
  ): Promise<void> {
    let from = 0;
    for (; from + batchSize < events.length && !signal.aborted; from += batchSize) {
      const slice = events.slice(from, from + batchSize);
      await apply(slice, slice[slice.length - 1]!.position);
      await othersRan();
    }
    if (!signal.aborted) await apply(from === 0 ? events : events.slice(from), end);
  }

  /** The group follows the log. */
  async function follow(): Promise<void> {
    await persistently(group, async () => {
      const filter = filterOf(running.flatMap((one) => fedCopy(one).types));
      for await (const page of store.subscribe({ after: groupPosition, ...filter, signal })) {
        await inSlices(page, (events, to) =>
          exclusive(async () => {
            await advance([...group], events, to);
            groupPosition = to;
            progressed();
          }),
        );
        groupCaughtUp = page.caughtUp;
        if (!page.caughtUp) await othersRan();
        if (signal.aborted) return;
      }
      if (!signal.aborted) throw new Error('The subscription of the log ended.');
    });
  }

  /** Reads what lies between the feed and the group (as it stands now); returns how many events that were. */
  async function readUpToGroup(feed: Feed, turn: typeof exclusive): Promise<number> {
    const upTo = groupPosition;
    let read = 0;
    const apply = (events: readonly EventEnvelope[], to: Position) =>
      turn(async () => {
        if (!isFed(feed)) return; // a rebuild has taken its place
        await advance([feed], events, to);
        progressed();
      });
    await persistently([feed], async () => {
      const range = { after: feed.checkpoint.position, upTo, ...filterOf(feed.types) };
      for await (const page of store.readAll(range)) {
        read += page.events.length;
        await inSlices(page, apply);
        await othersRan();
        if (signal.aborted || !isFed(feed)) return;
      }
      // The log may hold nothing up to there; it has been read all the same.
      if (isAfter(upTo, feed.checkpoint.position)) await apply([], upTo);
    });
    return read;
  }

  const isFed = (feed: Feed) => running.some((one) => one.current === feed || one.rebuild === feed);

  /** Brings a feed that is behind up to the group; then `join` runs while both stand at the same position. */
  async function catchUp(feed: Feed, join: () => Promise<void>): Promise<void> {
    let read = Number.POSITIVE_INFINITY;
    while (read > batchSize && isFed(feed) && !signal.aborted) read = await readUpToGroup(feed, exclusive);
    await exclusive(async () => {
      if (signal.aborted || !isFed(feed)) return;
      await readUpToGroup(feed, (work) => work());
      if (signal.aborted) return;
      await join();
      progressed();
    });
  }

  const joinGroup = (feed: Feed) => catchUp(feed, async () => void group.add(feed));

  async function finishRebuild(one: Running, feed: Feed): Promise<void> {
    // From here on it advances with the group, while readers still see the other copy.
    await joinGroup(feed);
    const takePlace = () => {
      if (one.current !== null) group.delete(one.current);
      one.current = feed;
      one.outdated = null;
      one.rebuild = null;
      progressed();
    };
    while (isFed(feed) && !signal.aborted) {
      const live = await exclusive(async () => {
        if (!(await persistently([feed], () => readModels.activate(feed.copy)))) return false;
        if (options.partition === undefined) takePlace();
        return true;
      });
      if (live) break;
      await pause(ACTIVATION_PAUSE_MS, undefined, { signal });
    }
    if (options.partition === undefined) return;
    await pause(REPLACED_FED_MS, undefined, { signal });
    await exclusive(async () => takePlace());
  }

  function inBackground(projections: readonly string[], work: () => Promise<void>): void {
    const task = work()
      .catch((reason: unknown) => {
        if (!signal.aborted) report(toError(reason), { projections, event: null });
      })
      .finally(() => tasks.delete(task));
    tasks.add(task);
  }

  function fill(one: Running, feed: Feed): void {
    one.rebuild = feed;
    inBackground([one.projection.name], () => finishRebuild(one, feed));
  }

  /** Makes the copy, or opens the one that was made elsewhere. */
  function ensureRebuild(one: Running, open: () => Promise<Feed | null>): Promise<void> {
    one.beginning ??= open()
      .then((feed) => {
        if (feed !== null && !signal.aborted) fill(one, feed);
      })
      .finally(() => {
        one.beginning = null;
      });
    return one.beginning;
  }

  function named(name: string): Running {
    const one = running.find(({ projection }) => projection.name === name);
    if (one === undefined) throw new Refusal('NOT_FOUND', `There is no projection ${name}.`);
    return one;
  }

  function refuseWhenStopped(): void {
    if (signal.aborted) throw new Refusal('SERVICE_UNAVAILABLE', 'The projections are stopped.');
  }

  for (const { current } of running) {
    if (current?.checkpoint.position === groupPosition) group.add(current);
  }
  inBackground(
    projections.map(({ name }) => name),
    follow,
  );
  for (const one of running) {
    const { projection, current, rebuild } = one;
    if (current !== null && !group.has(current)) inBackground([projection.name], () => joinGroup(current));
    if (rebuild !== null) fill(one, rebuild);
  }

  const statusOf = statusReporter(store);

  return {
    async waitFor(wanted, timeoutMs) {
      if (!isAfter(wanted, position())) return true;
      if (signal.aborted || timeoutMs <= 0) return false;
      return waiters.wait(wanted, timeoutMs);
    },
    position,
    status: () =>
      Promise.all(
        running.map((one) =>
          statusOf(one, {
            stopped: signal.aborted,
            caughtUp: groupCaughtUp && one.current !== null && group.has(one.current),
          }),
        ),
      ),
    async rebuild(name) {
      const one = named(name);
      refuseWhenStopped();
      if (one.rebuild !== null) return;
      await ensureRebuild(one, () => openNewFeed(readModels, one.projection));
    },
    async joinRebuilds() {
      const copies = await readModels.copies();
      for (const one of running) {
        if (one.rebuild !== null || signal.aborted) continue;
        const begun = unfinishedCopy(copies, one.projection);
        if (begun === undefined || begun.copy === one.current?.copy) continue;
        await ensureRebuild(one, () => openFeed(readModels, one.projection, begun.copy, begun.checkpoint));
      }
    },
    problems: () =>
      Object.fromEntries(
        running.flatMap((one) => {
          const { problem } = fedCopy(one);
          return problem === null ? [] : [[one.projection.name, problem]];
        }),
      ),
    async failures(name) {
      return readModels.setAside(fedCopy(named(name)).copy, { limit: LISTED_FAILURES });
    },
    async retry(name) {
      const one = named(name);
      refuseWhenStopped();
      const context = { store, readModels, exclusive, committed, isFed };
      const fed = fedCopy(one);
      const applied = await retryFeed(fed, context);
      // The copy that is to take its place would bring the same failures back.
      if (one.rebuild !== null && one.rebuild !== fed) await retryFeed(one.rebuild, context);
      return { applied, failed: fed.failed, waiting: fed.waiting };
    },
    async stop() {
      stopping.abort();
      while (tasks.size > 0) await Promise.all(tasks);
      waiters.end();
    },
  };
}

const filterOf = (types: readonly string[]): { filter?: EventFilter } =>
  types.length === 0 ? {} : { filter: { types: [...new Set(types)] } };

/** Runs each piece of work after the one before it, in the order in which they were asked for. */
export function oneAtATime() {
  let last: Promise<unknown> = Promise.resolve();
  return <Result>(work: () => Promise<Result>): Promise<Result> => {
    const turn = last.then(work);
    last = turn.catch(() => {}); // its caller learns of it
    return turn;
  };
}
