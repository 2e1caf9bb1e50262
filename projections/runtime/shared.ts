/**
 * The projections of a deployment whose read models several processes share. Each partition of the log has a runtime
 * in one of the processes that run projections; which one, the bus decides. What they do is known everywhere: they
 * tell how far they are over the signal bus, and their checkpoints are in the read models.
 */
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { comparePositions, isAfter, laterOf, type Position, START } from '../../contracts/envelope.ts';
import { Refusal } from '../../contracts/errors.ts';
import type { Signal } from '../../contracts/live/signals.ts';
import type { ProjectionRuntime, ProjectionStatus } from '../../contracts/projections.ts';
import type { EventBus, Partition, SignalBus } from '../../infra/bus/port.ts';
import type { EventStore } from '../../infra/event-store/port.ts';
import type { PartitionedCopy, SharedReadModels } from '../../infra/read-models/port.ts';
import type { Projection } from '../projection.ts';
import { toError } from './feed.ts';
import { positionWaiters } from './position-waiters.ts';
import { ensureLiveCopies, sameDefinition } from './running.ts';
import { LISTED_FAILURES, type OwnRuntime, startProjections, type Trouble } from './runtime.ts';

/** Between two tellings of how far a partition is while nothing changes. */
const TELL_MS = 2_000;
/** A partition of which nothing was heard for so long has no runtime. */
const SILENT_MS = 10_000;
/** How long all partitions have for a retry. */
const RETRY_WITHIN_MS = 10_000;

export interface SharedProjectionsOptions {
  readonly store: EventStore;
  readonly events: EventBus;
  readonly signals: SignalBus;
  readonly readModels: SharedReadModels;
  readonly projections: readonly Projection[];
  /** Whether this process runs projections, or only watches those that others run. */
  readonly run: boolean;
  readonly onError: (error: Error, trouble: Trouble) => void;
}

export async function startSharedProjections(options: SharedProjectionsOptions): Promise<ProjectionRuntime> {
  const { store, events, signals, readModels, projections, onError } = options;
  const { partitions } = events;
  const waiters = positionWaiters();
  const numbers = Array.from({ length: partitions }, (_, number) => number);
  /** By partition: the position that readers see, why projections do not get on, and when that was heard. */
  const reached: Position[] = numbers.map(() => START);
  const problems: Readonly<Record<string, string>>[] = numbers.map(() => ({}));
  const heardAt: number[] = numbers.map(() => Number.NEGATIVE_INFINITY);
  const own = new Map<number, OwnRuntime>();
  let stopped = false;

  // Whoever starts first: queries need the collections, be they empty.
  await ensureLiveCopies(readModels.partition(0), projections);
  const copies = await readModels.copies();
  for (const number of numbers) reached[number] = storedPosition(copies, projections, number, partitions);

  const position = (): Position => earliest(reached);

  const unsubscribe = signals.subscribe((signal) => {
    if (signal.kind === 'progress') follow(signal);
    else if (signal.kind === 'projection request') void carryOut(signal);
  });

  function follow(signal: Extract<Signal, { kind: 'progress' }>): void {
    const { partition } = signal;
    if (partition >= partitions) return; // of another deployment's settings, on its way out
    heardAt[partition] = performance.now();
    problems[partition] = signal.problems;
    if (!isAfter(signal.position, reached[partition]!)) return;
    reached[partition] = signal.position;
    waiters.reached(position());
  }

  // ── the partitions that this process was given ──────────────────────────
  async function runPartition(partition: Partition): Promise<void> {
    const runtime = await startProjections({
      store,
      partition,
      readModels: readModels.partition(partition.number),
      projections,
      onError,
      onProgress: () => tell(partition.number, runtime),
    });
    own.set(partition.number, runtime);
    try {
      tell(partition.number, runtime);
      if (!partition.signal.aborted) await once(partition.signal, 'abort');
    } finally {
      own.delete(partition.number);
      await runtime.stop();
    }
  }

  const tell = (partition: number, runtime: OwnRuntime): void =>
    signals.publish({
      kind: 'progress',
      partition,
      position: runtime.position(),
      problems: runtime.problems(),
    });

  async function carryOut(request: Extract<Signal, { kind: 'projection request' }>): Promise<void> {
    const { projection, requestId } = request;
    if (!projections.some(({ name }) => name === projection)) return; // of what is indexed elsewhere
    for (const [partition, runtime] of own) {
      try {
        if (request.action === 'rebuild') await runtime.joinRebuilds();
        else {
          const result = await runtime.retry(projection);
          signals.publish({ kind: 'projection retried', requestId, partition, ...result });
        }
      } catch (reason) {
        onError(toError(reason), { projections: [projection], event: null });
      }
    }
  }

  /** What was said while the bus was away is said again. */
  async function tellAll(): Promise<void> {
    for (const [partition, runtime] of own) {
      tell(partition, runtime);
      try {
        await runtime.joinRebuilds();
      } catch (reason) {
        onError(toError(reason), { projections: [], event: null });
      }
    }
  }
  let telling: Promise<void> | null = null;
  const timer = setInterval(() => {
    telling ??= tellAll().finally(() => {
      telling = null;
    });
  }, TELL_MS);

  const consumer = options.run ? await events.consume('projections', runPartition) : null;

  // ── for everybody ───────────────────────────────────────────────────────
  function named(name: string): Projection {
    const projection = projections.find((one) => one.name === name);
    if (projection === undefined) throw new Refusal('NOT_FOUND', `There is no projection ${name}.`);
    return projection;
  }

  /** The copy that readers see, and the one that is being filled to take its place. */
  function copiesOf(projection: Projection, all: readonly PartitionedCopy[]) {
    const found = all.filter((copy) => copy.projection === projection.name);
    const live = found.find((copy) => copy.live);
    const fits = (copy: PartitionedCopy) =>
      sameDefinition(copy, projection) && copy.checkpoints.length === partitions;
    const rebuild = found.find((copy) => !copy.live && fits(copy));
    return { live, rebuild, fed: live !== undefined && fits(live) ? live : rebuild };
  }

  /** The log never changes before a position: counted once, only what came since is counted again. */
  const counted = new Map<string, { upTo: Position; events: number }>();

  /** How many events of its types a projection should have seen, given where its partitions stand. */
  async function expected(projection: Projection, positions: readonly Position[]): Promise<number> {
    const types = Object.keys(projection.on);
    const upTo = earliest(positions);
    const known = counted.get(projection.name);
    const from = known === undefined || isAfter(known.upTo, upTo) ? { upTo: START, events: 0 } : known;
    const all = from.events + (await store.count({ after: from.upTo, upTo, filter: { types } }));
    counted.set(projection.name, { upTo, events: all });
    let beyond = 0;
    const range = { after: upTo, upTo: positions.reduce(laterOf), filter: { types } };
    for await (const page of store.readAll(range)) {
      for (const event of page.events) {
        if (!isAfter(event.position, positions[events.partitionOf(event.owner)]!)) beyond++;
      }
    }
    return all + beyond;
  }

  async function statusOf(
    projection: Projection,
    all: readonly PartitionedCopy[],
  ): Promise<ProjectionStatus> {
    const { live, rebuild, fed } = copiesOf(projection, all);
    const silent = numbers.filter((number) => performance.now() - heardAt[number]! > SILENT_MS);
    const told = problems.flatMap((of, number) =>
      of[projection.name] === undefined ? [] : [`partition ${number}: ${of[projection.name]}`],
    );
    const problem =
      silent.length > 0
        ? `No process runs the projections of ${partitionsNamed(silent)}.`
        : told.length > 0
          ? told.join('; ')
          : null;
    const checkpoints = fed?.checkpoints ?? [];
    const positions = checkpoints.map((checkpoint) => checkpoint.position);
    // The checkpoints are written a moment after what the partitions tell.
    const at =
      fed !== undefined && fed === live
        ? earliest(positions.map((stored, number) => laterOf(stored, reached[number]!)))
        : earliest(live?.checkpoints.map((checkpoint) => checkpoint.position) ?? [START]);
    const lag = await store.count({ after: at });
    const seen = checkpoints.reduce((sum, checkpoint) => sum + checkpoint.seen, 0);
    const expectedEvents = fed === undefined ? 0 : await expected(projection, positions);
    const aside = asideOf(fed);
    const filled = rebuild && earliest(rebuild.checkpoints.map((checkpoint) => checkpoint.position));
    return {
      name: projection.name,
      version: live?.version ?? projection.version,
      state:
        stopped || silent.length > 0
          ? 'stopped'
          : rebuild !== undefined
            ? 'rebuilding'
            : lag === 0
              ? 'live'
              : 'catching up',
      position: at,
      lag,
      seen,
      expected: expectedEvents,
      complete: seen === expectedEvents,
      ...aside,
      problem,
      rebuild:
        rebuild === undefined || filled === undefined
          ? null
          : {
              version: rebuild.version,
              position: filled,
              lag: await store.count({ after: filled }),
              ...asideOf(rebuild),
            },
    };
  }

  /** Asks the processes that run projections, and waits for the answers of all partitions. */
  function retried(name: string) {
    const requestId = randomUUID();
    const answers = new Map<number, { applied: number; failed: number; waiting: number }>();
    const { promise, resolve, reject } = Promise.withResolvers<typeof answers>();
    const leave = signals.subscribe((signal) => {
      if (signal.kind !== 'projection retried' || signal.requestId !== requestId) return;
      answers.set(signal.partition, signal);
      if (answers.size === partitions) resolve(answers);
    });
    const timer = setTimeout(() => {
      const missing = numbers.filter((number) => !answers.has(number));
      reject(
        new Refusal(
          'SERVICE_UNAVAILABLE',
          `No answer came from ${partitionsNamed(missing)}: the others have retried. Try again.`,
          { retryAfterSeconds: 5 },
        ),
      );
    }, RETRY_WITHIN_MS);
    signals.publish({ kind: 'projection request', requestId, projection: name, action: 'retry' });
    return promise.finally(() => {
      clearTimeout(timer);
      leave();
    });
  }

  return {
    async waitFor(wanted, timeoutMs) {
      if (!isAfter(wanted, position())) return true;
      if (stopped || timeoutMs <= 0) return false;
      return waiters.wait(wanted, timeoutMs);
    },
    position,
    async status() {
      const all = await readModels.copies();
      return Promise.all(projections.map((projection) => statusOf(projection, all)));
    },
    async rebuild(name) {
      const { version, indexes } = named(name);
      await readModels.partition(0).createCopy({ projection: name, version, indexes });
      signals.publish({
        kind: 'projection request',
        requestId: randomUUID(),
        projection: name,
        action: 'rebuild',
      });
    },
    async failures(name) {
      const { fed } = copiesOf(named(name), await readModels.copies());
      return fed === undefined ? [] : readModels.setAside(fed.copy, { limit: LISTED_FAILURES });
    },
    async retry(name) {
      named(name);
      const sum = { applied: 0, failed: 0, waiting: 0 };
      for (const { applied, failed, waiting } of (await retried(name)).values()) {
        sum.applied += applied;
        sum.failed += failed;
        sum.waiting += waiting;
      }
      return sum;
    },
    async stop() {
      stopped = true;
      clearInterval(timer);
      await consumer?.stop();
      await telling;
      unsubscribe();
      waiters.end();
    },
  };
}

/** Where the stored checkpoints of a partition are: of the projection that is furthest behind. */
function storedPosition(
  copies: readonly PartitionedCopy[],
  projections: readonly Projection[],
  partition: number,
  partitions: number,
): Position {
  return earliest(
    projections.map(({ name }) => {
      const live = copies.find((copy) => copy.projection === name && copy.live);
      if (live?.checkpoints.length === partitions) return live.checkpoints[partition]!.position;
      // Made for another number of partitions: what all of them have reached.
      return live === undefined ? START : earliest(live.checkpoints.map((checkpoint) => checkpoint.position));
    }),
  );
}

const earliest = (positions: readonly Position[]): Position =>
  positions.reduce((a, b) => (comparePositions(a, b) < 0 ? a : b), positions[0] ?? START);

function asideOf(copy: PartitionedCopy | undefined): { failed: number; waiting: number } {
  const sum = { failed: 0, waiting: 0 };
  for (const { failed, waiting } of copy?.setAside ?? []) {
    sum.failed += failed;
    sum.waiting += waiting;
  }
  return sum;
}

const partitionsNamed = (numbers: readonly number[]): string =>
  numbers.length === 1 ? `partition ${numbers[0]}` : `partitions ${numbers.join(', ')}`;
