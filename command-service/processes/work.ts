/**
 * The process manager: follows the log for work (turns, orchestrations, deliberations) and sees to it that each piece
 * is carried to its end by one worker, one piece at a time in a stream. Killed at any instant and started again, it
 * goes on with everything that has not ended.
 *
 * Of several such processes each looks after the streams in the partitions of the log that it was given. A partition
 * may move while something of it runs: its worker carries that to its end all the same, and what comes next is the new
 * owner's.
 */
import { v4 as uuid } from 'uuid';
import type { EventEnvelope, Position, Surface } from '../../contracts/envelope.ts';
import { Refusal } from '../../contracts/errors.ts';
import type { EventType, OdeonEvent } from '../../contracts/events/catalogue.ts';
import type { Consumer, EventBus, Partition, SignalBus } from '../../infra/bus/port.ts';
import type { EventStore } from '../../infra/event-store/port.ts';
import type { ReadModels } from '../../infra/read-models/port.ts';
import type { Aggregate, CommandBus, CommandMeta } from '../command.ts';
import { createRoom, type Limit } from './room.ts';
import type { Workers } from './workers.ts';

/** So many streams wait at most to be looked after; while more do, the log is not read on. */
const MAX_WAITING = 2_000;
/** Waits after unexpected errors (e.g. a full disk): 1 s, 2 s, 4 s, … 30 s. */
const backOff = (failures: number): number => Math.min(1_000 * 2 ** failures, 30_000);

/** What every kind of work needs. */
export interface WorkDependencies {
  readonly bus: CommandBus;
  readonly store: EventStore;
  readonly readModels: ReadModels;
  readonly signals: SignalBus;
  readonly events: EventBus;
  /** Work held by a worker that is gone is taken over. Whoever made it stops it, after all work. */
  readonly workers: Workers;
  /** Resolves when the read models have reached the position. */
  readonly reached: (position: Position, signal: AbortSignal) => Promise<void>;
  readonly onError: (error: unknown, context: { stream?: string }) => void;
}

/** The next piece of work in a stream: the one that runs, or else the first that waits. */
export interface WorkItem {
  /** Unique in its stream. */
  readonly workId: string;
  /** Who holds it; null while nobody does. */
  readonly worker: string | null;
  /** Whether it is to be stopped. */
  readonly stopRequested: boolean;
  /** Of the event that asked for it. */
  readonly requestId: string;
  readonly correlationId: string;
  readonly surface: Surface;
}

export interface Claim<Item extends WorkItem> {
  /** The stream is `<category>-<id>`. */
  readonly id: string;
  readonly item: Item;
  readonly worker: string;
  /** The worker that held it: gone, or this one itself. */
  readonly takeOverFrom: string | null;
  readonly meta: CommandMeta;
}

/** Work that this worker holds. */
export interface Held<State> {
  readonly id: string;
  readonly workId: string;
  readonly worker: string;
  /** Right after it was claimed. */
  readonly state: State;
  /** Lets other work take this one's place until `meanwhile` has ended: for waiting for work that it asked for. */
  readonly lend: <Result>(meanwhile: () => Promise<Result>) => Promise<Result>;
  /** Aborted when this worker is to give it back; also after it was asked to stop it. */
  readonly leave: AbortSignal;
}

/** Why work is stopped from outside. */
export type StopReason = 'interrupt' | 'shutdown';

/** A kind of work: whose streams, what is to be done next in one, and how. */
export interface Work<State extends { readonly owner: string }, Item extends WorkItem> {
  /** Names the group of consumers, and who claims. */
  readonly group: string;
  readonly aggregate: Aggregate<State, never>;
  /** After these events a stream may have something to do. */
  readonly wakingEvents: readonly EventType[];
  /** The events that ask for a stop, and of which work. */
  readonly stopEvents: { readonly [Type in EventType]?: (event: OdeonEvent<Type>) => string };
  /** The documents (each with its `owner`) of what has not ended. */
  readonly open: {
    readonly collection: string;
    readonly where: Readonly<Record<string, string | readonly string[]>>;
    /** The stream's id. */
    readonly idOf: (document: never) => string;
  };
  /** Null when there is nothing to do. */
  readonly next: (state: State) => Item | null;
  /** Appends the claim. @throws Refusal `CONFLICT` when somebody else was first, or it has ended */
  readonly claim: (claim: Claim<Item>) => Promise<State>;
  /**
   * Carries it on until it has ended, was given back or was lost to another worker; on an error it is tried again
   * after a while. `stop` is aborted with a StopReason.
   */
  readonly run: (held: Held<State>, stop: AbortSignal) => Promise<void>;
  /** How much of it is done at once, here. What is to be stopped waits for no room. */
  readonly limits: (item: Item) => readonly Limit[];
}

export interface WorkProcess {
  /** Gives running work back, so that the next start goes on with it. Resolves when that is recorded. */
  stop(): Promise<void>;
  /** How many pieces run now. */
  running(): number;
}

/** Starts to look after a kind of work. */
export async function startWork<State extends { readonly owner: string }, Item extends WorkItem>(
  work: Work<State, Item>,
  { bus, store, readModels, signals, events, workers, reached, onError }: WorkDependencies,
): Promise<WorkProcess> {
  const { category } = work.aggregate;
  const worker = workers.self;
  const stopping = new AbortController();
  const room = createRoom();
  const partitions = new Map<number, Partition>();
  /** The streams that are being looked after; `again` when something happened meanwhile. */
  const active = new Map<string, Looking>();
  interface Looking {
    again: boolean;
    /** Ends its wait for room. */
    hurry: AbortController | null;
  }
  /** How many of them have lent their place. */
  let lent = 0;
  const held = new Map<string, { workId: string; stop: AbortController; leave: AbortController }>();
  /** Streams whose work another worker holds, by that worker. */
  const heldByOthers = new Map<string, Set<string>>();
  const waitingForTouch: string[] = [];
  const tasks = new Set<Promise<void>>();
  /** For all that wait until fewer streams do, in whatever partition; null while nobody does. */
  let fewerWait: PromiseWithResolvers<void> | null = null;

  const streamOf = (id: string) => `${category}-${id}`;
  const idOf = (stream: string) => stream.slice(category.length + 1);

  const giveBack = ({ stop, leave }: { stop: AbortController; leave: AbortController }): void => {
    leave.abort();
    stop.abort('shutdown' satisfies StopReason);
  };
  const interrupt = (id: string, workId: string): void => {
    const running = held.get(id);
    if (running?.workId === workId) running.stop.abort('interrupt' satisfies StopReason);
  };
  const tellWorker = (id: string, workId: string): void =>
    signals.publish({ kind: 'interrupt', stream: streamOf(id), workId });
  const unsubscribe = signals.subscribe((signal) => {
    if (signal.kind !== 'interrupt' || !signal.stream.startsWith(`${category}-`)) return;
    interrupt(idOf(signal.stream), signal.workId);
  });

  workers.onChange(() => {
    if (!workers.inTouch()) {
      // Others will take the work over: it is given back before.
      for (const running of held.values()) giveBack(running);
      return;
    }
    for (const [other, ids] of heldByOthers) {
      if (workers.isAlive(other)) continue;
      heldByOthers.delete(other);
      for (const id of ids) wake(id);
    }
    for (const id of waitingForTouch.splice(0)) wake(id);
  });

  function wake(id: string): void {
    const already = active.get(id);
    if (already !== undefined) {
      already.again = true;
      return;
    }
    if (stopping.signal.aborted) return;
    const looking: Looking = { again: false, hurry: null };
    active.set(id, looking);
    const done = lookAfter(id, looking).finally(() => {
      active.delete(id);
      tasks.delete(done);
      tellFewerWait();
    });
    tasks.add(done);
  }

  const tooManyWait = (): boolean => active.size - lent >= MAX_WAITING;
  function tellFewerWait(): void {
    if (tooManyWait() && !stopping.signal.aborted) return;
    fewerWait?.resolve();
    fewerWait = null;
  }

  async function lookAfter(id: string, looking: Looking): Promise<void> {
    let failures = 0;
    do {
      looking.again = false;
      try {
        while (!stopping.signal.aborted && (await runNext(id, looking))) failures = 0;
      } catch (error) {
        onError(error, { stream: streamOf(id) });
        looking.again = true;
        await pause(backOff(failures++));
      }
    } while (looking.again && !stopping.signal.aborted);
  }

  /** Claims and runs the stream's next work. False when there is none for this worker. */
  async function runNext(id: string, looking: Looking): Promise<boolean> {
    const { state } = await bus.load(work.aggregate, id);
    const item = work.next(state);
    if (item === null) return false;
    // Work that this worker dropped on an unexpected error is still its own: while it lives, nobody takes it over.
    const isOwn = item.worker === worker;
    if (!isOwn && !partitions.has(events.partitionOf(state.owner))) return false; // another process looks after it
    if (!isOwn && item.worker !== null && workers.isAlive(item.worker)) {
      leaveToOther(id, item, item.worker);
      return false;
    }
    looking.hurry = new AbortController();
    const place = await room.enter(
      item.stopRequested ? [] : work.limits(item),
      AbortSignal.any([stopping.signal, looking.hurry.signal]),
    );
    looking.hurry = null;
    if (place === null) return true;
    try {
      if (!workers.inTouch()) {
        waitingForTouch.push(id);
        return false;
      }
      const claimed = await claim(id, item);
      // When it is null, somebody else was first, or it ended: look again.
      if (claimed !== null) await runHeld(id, item.workId, claimed, place.lend);
      return true;
    } finally {
      place.leave();
    }
  }

  function leaveToOther(id: string, item: Item, other: string): void {
    // Whoever read the request may have ended before the worker was told.
    if (item.stopRequested) tellWorker(id, item.workId);
    const ids = heldByOthers.get(other);
    if (ids === undefined) heldByOthers.set(other, new Set([id]));
    else ids.add(id);
  }

  async function claim(id: string, item: Item): Promise<State | null> {
    const meta: CommandMeta = {
      commandId: uuid(),
      correlationId: item.correlationId,
      causationId: item.requestId,
      surface: item.surface,
      actor: { kind: 'system', id: work.group },
      caller: null,
      retried: false,
    };
    try {
      return await work.claim({ id, item, worker, takeOverFrom: item.worker, meta });
    } catch (error) {
      if (error instanceof Refusal && error.code === 'CONFLICT') return null;
      throw error;
    }
  }

  async function runHeld(
    id: string,
    workId: string,
    state: State,
    lend: <Result>(meanwhile: () => Promise<Result>, signal: AbortSignal) => Promise<Result>,
  ): Promise<void> {
    const stop = new AbortController();
    const leave = new AbortController();
    held.set(id, { workId, stop, leave });
    const onStopping = () => giveBack({ stop, leave });
    stopping.signal.addEventListener('abort', onStopping, { once: true });
    if (stopping.signal.aborted || !workers.inTouch()) onStopping();
    if (work.next(state)?.stopRequested) stop.abort('interrupt' satisfies StopReason);
    try {
      await work.run(
        {
          id,
          workId,
          worker,
          state,
          leave: leave.signal,
          async lend(meanwhile) {
            lent++;
            tellFewerWait();
            try {
              return await lend(meanwhile, stop.signal);
            } finally {
              lent--;
            }
          },
        },
        stop.signal,
      );
    } finally {
      stopping.signal.removeEventListener('abort', onStopping);
      held.delete(id);
    }
  }

  const pause = (milliseconds: number): Promise<void> =>
    new Promise((resolve) => {
      const timer = setTimeout(finish, milliseconds);
      function finish() {
        clearTimeout(timer);
        stopping.signal.removeEventListener('abort', finish);
        resolve();
      }
      stopping.signal.addEventListener('abort', finish, { once: true });
    });

  async function follow(partition: Partition, after: Position, signal: AbortSignal): Promise<void> {
    const types = [...work.wakingEvents, ...Object.keys(work.stopEvents)];
    const filter = { streamPrefix: `${category}-`, types };
    const letGo = () => {
      fewerWait?.resolve();
      fewerWait = null;
    };
    signal.addEventListener('abort', letGo, { once: true });
    for await (const page of partition.subscribe({ after, filter, signal })) {
      page.events.forEach(react);
      while (tooManyWait() && !signal.aborted) {
        fewerWait ??= Promise.withResolvers();
        await fewerWait.promise;
      }
    }
    if (!signal.aborted) throw new Error('The subscription of the log ended.');
  }

  function react(event: EventEnvelope): void {
    const id = idOf(event.stream);
    const workIdOf = work.stopEvents[event.type as EventType] as
      | ((event: EventEnvelope) => string)
      | undefined;
    if (workIdOf === undefined) {
      for (const ids of heldByOthers.values()) ids.delete(id);
      wake(id);
      return;
    }
    const workId = workIdOf(event);
    active.get(id)?.hurry?.abort();
    // What began before the partition moved here runs elsewhere.
    if (held.get(id)?.workId === workId) interrupt(id, workId);
    else tellWorker(id, workId);
  }

  /** What had not ended when this worker was given the partition. */
  async function resume(partition: Partition, from: Position, signal: AbortSignal): Promise<void> {
    // What is asked for after `from` is seen by `follow`.
    await reached(from, signal);
    const { collection, where } = work.open;
    let cursor: string | null = null;
    do {
      if (signal.aborted) return;
      const page: Awaited<ReturnType<typeof readModels.find<{ owner: string }>>> = await readModels.find<{
        owner: string;
      }>(collection, { where, limit: 500, ...(cursor !== null && { cursor }) });
      for (const { body } of page.documents) {
        if (partition.holds(body.owner)) wake(work.open.idOf(body as never));
      }
      cursor = page.next;
    } while (cursor !== null);
  }

  async function lookAfterPartition(partition: Partition): Promise<void> {
    const ending = new AbortController();
    const signal = AbortSignal.any([partition.signal, ending.signal]);
    partitions.set(partition.number, partition);
    let parts: Promise<void>[] = [];
    try {
      const head = await store.head();
      parts = [follow(partition, head, signal), resume(partition, head, signal)];
      await Promise.all(parts);
    } catch (error) {
      // Begun again by the bus, with a look at all that is open.
      if (!signal.aborted) onError(error, {});
    } finally {
      ending.abort();
      await Promise.allSettled(parts);
      partitions.delete(partition.number);
    }
  }

  const consumer: Consumer = await events.consume(work.group, lookAfterPartition);

  return {
    running: () => held.size,
    async stop() {
      stopping.abort();
      unsubscribe();
      await Promise.all([consumer.stop(), ...tasks]);
    },
  };
}
