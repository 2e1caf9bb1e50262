/**
 * The main thread's end of the writer: gathers what is asked within one tick into one message, and settles
 * each append when the transaction that it went into is on disk.
 */
import { MessageChannel, Worker } from 'node:worker_threads';
import type { EventEnvelope, NewEvent } from '../../../contracts/envelope.ts';
import {
  type AppendResult,
  EventIdConflict,
  type ExpectedRevision,
  type Imported,
  StoreUnavailable,
  WrongExpectedRevision,
  WrongLogEnd,
} from '../port.ts';
import { type Meta, reasonOf } from './schema.ts';
import type {
  AppendRequest,
  EventValues,
  Outcome,
  WriterData,
  WriterReply,
  WriterRequest,
} from './writer-protocol.ts';

/** So many appends are sent on at once, so that the writer can begin while the rest of the tick gathers more. */
const EARLY_BATCH = 16;
/** With so few appends under way, and for so long, the event loop is kept from sleeping. */
const FEW = 2;
const AWAKE_MS = 1;

export interface Commit {
  /** Appends that added events, and how many events these are. */
  readonly appends: number;
  readonly events: number;
  readonly durationMs: number;
}

export interface WriteQueue {
  append(
    stream: string,
    events: readonly NewEvent[],
    expected: ExpectedRevision,
    imported?: Imported,
  ): Promise<AppendResult>;
  /** Finishes what was accepted, then ends the writer. */
  close(beforeWriterEnds: () => void): Promise<void>;
}

export interface WriteQueueOptions {
  readonly directory: string;
  /** Whether other processes write to the log too. */
  readonly shared: boolean;
  /** Told of each event as soon as it is committed, in the log's order, with about the bytes it weighs. */
  readonly onEvent: (event: EventEnvelope, bytes: number) => void;
  /** Told after the events of one transaction. */
  readonly onCommit: (commit: Commit) => void;
  /** Told when the writer is gone: nothing will be committed any more. */
  readonly onFailure: (failure: StoreUnavailable) => void;
  /** Reads `count` events from a position on: what a repeated append is answered with. */
  readonly read: (position: number, count: number) => readonly EventEnvelope[];
}

type Unplaced = { -readonly [Key in keyof EventEnvelope]: EventEnvelope[Key] };

interface Pending {
  readonly stream: string;
  readonly expected: ExpectedRevision;
  readonly imported: Imported | undefined;
  readonly values: readonly EventValues[];
  /** What is answered once the writer said where it stands in the log. */
  events: Unplaced[];
  readonly resolve: (result: AppendResult) => void;
  readonly reject: (error: unknown) => void;
}

/** Starts the writer. @returns the queue and the position of the log's last event. */
export async function startWriteQueue(
  options: WriteQueueOptions,
): Promise<{ queue: WriteQueue; head: number }> {
  const { port1: port, port2 } = new MessageChannel();
  const wakeups = new Int32Array(new SharedArrayBuffer(4));
  const worker = new Worker(new URL('./writer.ts', import.meta.url), {
    workerData: {
      directory: options.directory,
      shared: options.shared,
      port: port2,
      wakeups,
    } satisfies WriterData,
    transferList: [port2],
  });

  /** Not sent yet, and sent but not answered yet; both in order. */
  let gathered: Pending[] = [];
  const sent: Pending[] = [];
  let awake = false;
  let unavailable: StoreUnavailable | undefined;
  let phase: 'open' | 'ending' | 'failed' = 'open';
  const ready = Promise.withResolvers<number>();
  const ended = Promise.withResolvers<void>();
  const drained = Promise.withResolvers<void>();

  function fail(reason: StoreUnavailable): void {
    if (phase === 'failed') return;
    phase = 'failed';
    unavailable = reason;
    ready.reject(reason);
    for (const { reject } of [...sent.splice(0), ...gathered.splice(0)]) reject(reason);
    drained.resolve();
    options.onFailure(reason);
  }

  worker.on('error', (error) =>
    fail(
      new StoreUnavailable(`the event store's writer failed: ${reasonOf(error, options.directory)}`, {
        cause: error,
      }),
    ),
  );
  worker.on('exit', (code) => {
    if (phase === 'open') fail(new StoreUnavailable(`the event store's writer ended (exit code ${code})`));
    port.close();
    ended.resolve();
  });

  port.on('message', (reply: WriterReply) => {
    if (reply.kind === 'ready') {
      ready.resolve(reply.head);
    } else if (reply.kind === 'failed') {
      const failure = new StoreUnavailable(`the event store could not write: ${reply.reason}`);
      for (const { reject } of sent.splice(0, reply.appends)) reject(failure);
    } else {
      settle(reply);
    }
    if (unavailable !== undefined && sent.length === 0) drained.resolve();
  });

  function settle({ outcomes, time, durationMs }: WriterReply & { kind: 'committed' }): void {
    const answered = sent.splice(0, outcomes.length);
    let appends = 0;
    let events = 0;
    for (const [i, outcome] of outcomes.entries()) {
      if (outcome.kind !== 'appended') continue;
      const pending = answered[i]!;
      for (const [n, event] of pending.events.entries()) {
        event.revision = outcome.revision + n;
        event.position = String(outcome.position + n);
        event.time = pending.imported?.times[n] ?? outcome.time ?? time;
        const values = pending.values[n]!;
        options.onEvent(event, values[5].length + values[6].length);
      }
      appends += 1;
      events += pending.events.length;
    }
    for (const [i, outcome] of outcomes.entries()) {
      const pending = answered[i]!;
      try {
        pending.resolve(resultFor(pending, outcome));
      } catch (error) {
        pending.reject(error);
      }
    }
    if (appends > 0) options.onCommit({ appends, events, durationMs });
  }

  /** @throws what the append is to be rejected with. */
  function resultFor({ stream, expected, imported, events }: Pending, outcome: Outcome): AppendResult {
    switch (outcome.kind) {
      case 'appended':
        return resultOf(events);
      case 'replayed':
        return resultOf(options.read(outcome.position, events.length));
      case 'wrong revision':
        throw new WrongExpectedRevision(stream, expected, outcome.actual);
      case 'id conflict':
        throw new EventIdConflict(stream, outcome.id);
      case 'wrong end':
        throw new WrongLogEnd(imported!.previous, outcome.actual);
      case 'too early':
        throw new RangeError(
          `Stream ${stream}: an event of ${imported!.times[0]} cannot follow one of ${outcome.last}`,
        );
    }
  }

  function send(): void {
    if (gathered.length === 0) return;
    const batch = gathered;
    gathered = [];
    port.postMessage(
      batch.map(
        ({ stream, expected, values, imported }): AppendRequest =>
          imported === undefined ? [stream, expected, values] : [stream, expected, values, imported],
      ),
    );
    wakeWriter();
    sent.push(...batch);
    if (!awake && sent.length <= FEW) stayAwake();
    // While the writer writes: what is answered is what a reader of the log would get.
    for (const pending of batch) {
      for (const [i, event] of pending.events.entries()) event.data = JSON.parse(pending.values[i]![6]);
    }
  }

  /**
   * Waking the sleeping event loop takes about as long as a small commit's last third, so it does not go to sleep
   * over one: with many appends under way it is awake anyway, and a slow disk is not waited for like this.
   */
  function stayAwake(): void {
    const until = performance.now() + AWAKE_MS;
    const again = (): void => {
      awake = sent.length > 0 && performance.now() < until;
      if (awake) setImmediate(again);
    };
    awake = true;
    setImmediate(again);
  }

  function wakeWriter(): void {
    Atomics.add(wakeups, 0, 1);
    Atomics.notify(wakeups, 0);
  }

  const queue: WriteQueue = {
    append(stream, events, expected, imported) {
      if (unavailable !== undefined) return Promise.reject(unavailable);
      const values = events.map(valuesOf);
      const { promise, resolve, reject } = Promise.withResolvers<AppendResult>();
      gathered.push({
        stream,
        expected,
        imported,
        values,
        events: events.map((event) => unplaced(stream, event)),
        resolve,
        reject,
      });
      if (gathered.length === 1) process.nextTick(send);
      else if (gathered.length >= EARLY_BATCH) send();
      return promise;
    },
    async close(beforeWriterEnds) {
      send();
      unavailable ??= new StoreUnavailable('the event store is closed');
      if (sent.length > 0) await drained.promise;
      beforeWriterEnds();
      phase = 'ending';
      port.postMessage([] satisfies WriterRequest);
      wakeWriter();
      await ended.promise;
    },
  };
  return { queue, head: await ready.promise };
}

function valuesOf(event: NewEvent): EventValues {
  const { actor, causationId, commandId, surface } = event;
  const meta: Meta = { actor, causationId, commandId, surface };
  const data = JSON.stringify(event.data);
  if (data === undefined) throw new RangeError(`${event.type}: data must be JSON`);
  return [
    event.id,
    event.type,
    event.schemaVersion,
    event.owner,
    event.correlationId,
    JSON.stringify(meta),
    data,
  ];
}

/** The envelope but for what only the writer knows, and for `data`, which `send` fills in. */
const unplaced = (stream: string, event: NewEvent): Unplaced => ({
  id: event.id,
  type: event.type,
  schemaVersion: event.schemaVersion,
  stream,
  revision: -1,
  position: '',
  time: '',
  owner: event.owner,
  actor: { kind: event.actor.kind, id: event.actor.id },
  correlationId: event.correlationId,
  causationId: event.causationId,
  commandId: event.commandId,
  surface: event.surface,
  data: null,
});

function resultOf(events: readonly EventEnvelope[]): AppendResult {
  const last = events.at(-1)!;
  return { events, revision: last.revision, position: last.position };
}
