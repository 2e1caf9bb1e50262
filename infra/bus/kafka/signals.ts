/**
 * The signal bus of several processes: a Kafka topic that all of them write and read.
 *
 * A record is one signal as JSON (contracts/live/signals.ts). Its key is the stream it is about, or the kind of a signal
 * that belongs to none, so that those of one turn stay in one partition and in order. Its headers are `origin`, a
 * name that its publisher has as long as it lives, and `number`, which grows with each signal of that publisher.
 *
 * A process hears its own signals as the others do, through the topic: who hears them knows that the others can.
 * A send that failed may have reached the topic all the same and is repeated, so a record may be there twice;
 * a reader knows it by its number and passes it on once. What is published while the broker is away waits here, in
 * bounded memory, and is sent when it is back; readers go on where they were.
 */
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { setTimeout as delay } from 'node:timers/promises';
import { type Signal, signal as signalSchema } from '../../../contracts/live/signals.ts';
import type { AvailabilityListener } from '../../engines/port.ts';
import { createInProcessSignalBus } from '../in-process.ts';
import type { SignalBus } from '../port.ts';
import type { Fetched, Kafka, KafkaMessage } from './client.ts';
import { createSignalQueue, type WaitingSignal } from './signal-queue.ts';

export interface KafkaSignalBusOptions {
  readonly kafka: Kafka;
  /** It must exist: `ensureTopics` makes it. */
  readonly topic: string;
  /** What a listener threw; records that are no signals; signals that were dropped. */
  readonly onError: (error: unknown) => void;
  readonly onAvailability: AvailabilityListener;
  /** How much may wait while the broker is away. */
  readonly maxWaitingBytes?: number;
}

const MAX_WAITING_BYTES = 16 * 2 ** 20;
/** A broker takes 1 MiB at once unless it is told otherwise. */
const BATCH_BYTES = 500_000;
const FIRST_PAUSE_MS = 100;
const LONGEST_PAUSE_MS = 1_000;
/** A fetch is answered after so long when there is nothing; `close` waits for it. */
const FETCH_WAITS_MS = 250;
const LOOK_FOR_PARTITIONS_MS = 60_000;
/** What is published before `close` has so long to be sent, and then the clients have so long to end. */
const FLUSH_WITHIN_MS = 500;
const END_WITHIN_MS = 750;
/** More than a fetch waits. */
const WORK_ENDS_WITHIN_MS = 500;
/** Of so many publishers a reader knows the last number. */
const PUBLISHERS = 1_000;

/**
 * Resolves when what is published from now on, by any process, will be heard here.
 * @throws Error naming the address when the broker cannot be reached or the topic does not exist
 */
export async function openKafkaSignalBus(options: KafkaSignalBusOptions): Promise<SignalBus> {
  const { kafka, topic, onError, onAvailability } = options;
  const place = `Kafka at ${kafka.brokers.join(', ')}`;
  const closing = new AbortController();
  const local = createInProcessSignalBus({ onError });
  const problems = { sending: null as string | null, receiving: null as string | null };
  let told: string | null = null;
  const note = (what: keyof typeof problems) => (error: unknown) => {
    problems[what] = error === null ? null : `${place}: ${rootOf(error)}`;
    const problem = problems.receiving ?? problems.sending;
    if (problem === told || closing.signal.aborted) return;
    told = problem;
    onAvailability(problem);
  };

  const shared = { ...options, signal: closing.signal };
  let sender: Sender | undefined;
  let receiver: Receiver;
  try {
    sender = await startSending({ ...shared, note: note('sending') });
    receiver = await startReceiving({ ...shared, note: note('receiving'), deliver: local.publish });
  } catch (error) {
    closing.abort();
    await sender?.ended;
    throw new Error(`${place}, topic ${topic}: ${rootOf(error)}`, { cause: error });
  }

  let closed: Promise<void> | undefined;
  async function close(): Promise<void> {
    await local.close();
    if (problems.sending === null) await within(FLUSH_WITHIN_MS, sender!.idle());
    closing.abort();
    await within(END_WITHIN_MS, Promise.all([sender!.ended, receiver.ended]));
  }
  return {
    publish(signal) {
      if (closed === undefined) sender.publish(signal);
    },
    subscribe: local.subscribe,
    close: () => (closed ??= close()),
  };
}

interface Part extends KafkaSignalBusOptions {
  /** Ends it. */
  readonly signal: AbortSignal;
  /** Told why the broker cannot be used, and null when it can. */
  readonly note: (error: unknown) => void;
}

// ── sending ───────────────────────────────────────────────────────────────

interface Sender {
  publish(signal: Signal): void;
  /** Resolves when nothing waits. */
  idle(): Promise<void>;
  readonly ended: Promise<void>;
}

/** One send at a time, so that order holds whatever is repeated; what is published meanwhile is the next one. */
async function startSending({
  kafka,
  topic,
  signal,
  note,
  onError,
  maxWaitingBytes = MAX_WAITING_BYTES,
}: Part): Promise<Sender> {
  const origin = randomUUID();
  let dropping = false;
  const queue = createSignalQueue({
    maxBytes: maxWaitingBytes,
    onDropped() {
      if (!dropping) onError(new Error('More signals wait for Kafka than fit: the oldest are dropped.'));
      dropping = true;
    },
  });
  // Repeats are made here, where they end with `signal` and take what has been published meanwhile along.
  const producer = kafka.producer({ retry: { retries: 0 }, allowAutoTopicCreation: false });
  let batchBytes = BATCH_BYTES;
  let published = Promise.withResolvers<void>();
  let idle = Promise.withResolvers<void>();
  idle.resolve();
  signal.addEventListener('abort', () => published.resolve());

  async function send(signals: readonly WaitingSignal[]): Promise<void> {
    const messages = signals.map(({ key, value, number }) => ({
      key,
      value,
      headers: { origin, number: String(number) },
    }));
    // Written by one broker is enough: should it fail now, an event says for good what was lost.
    await producer.send({ topic, acks: 1, messages });
  }

  async function run(): Promise<void> {
    const pauses = growingPauses(signal);
    while (!signal.aborted) {
      if (queue.size === 0) {
        idle.resolve();
        published = Promise.withResolvers();
        await published.promise;
        continue;
      }
      const signals = queue.next(batchBytes);
      try {
        await send(signals);
        queue.done(signals);
        dropping = false;
        pauses.reset();
        note(null);
      } catch (error) {
        if (isTooLarge(error)) {
          if (signals.length > 1) {
            batchBytes = Math.ceil(batchBytes / 2);
          } else {
            queue.done(signals);
            onError(new Error('A signal is larger than Kafka takes: it is dropped.', { cause: error }));
          }
          continue;
        }
        note(error);
        await pauses.next();
        if (!signal.aborted) await producer.connect().catch(() => {}); // the next send says why
      }
    }
  }

  await producer.connect().catch(async (error) => {
    await producer.disconnect();
    throw error;
  });
  return {
    publish(one) {
      if (queue.size === 0) idle = Promise.withResolvers();
      queue.push(one);
      published.resolve();
    },
    idle: () => idle.promise,
    ended: endsWith(signal, run(), producer),
  };
}

// ── receiving ─────────────────────────────────────────────────────────────

interface Receiver {
  readonly ended: Promise<void>;
}

/** Reads all partitions, without a group: nobody shares them, and where to go on is known here. */
async function startReceiving({
  kafka,
  topic,
  signal,
  note,
  onError,
  deliver,
}: Part & { readonly deliver: (signal: Signal) => void }): Promise<Receiver> {
  const reader = kafka.reader(topic);
  const next = new Map<number, bigint>();
  const isRepeat = createRepeats();
  const pauses = growingPauses(signal);

  /** Fixes from where to read: at first from the end, later from where it was, as far as that is still there. */
  async function stand(): Promise<void> {
    const opening = next.size === 0;
    for (const [partition, { low, high }] of await reader.offsets(await reader.partitions())) {
      // A partition that was added meanwhile has only what nobody has heard.
      const offset = next.get(partition) ?? (opening ? high : low);
      // Beyond its end: it was made anew, or has lost its end. What was heard before is known by its number.
      next.set(partition, offset < low || offset > high ? low : offset);
    }
  }

  /** Reads from each broker that leads some of the partitions. Ends after a while, so that new ones are found. */
  async function follow(): Promise<void> {
    const until = performance.now() + LOOK_FOR_PARTITIONS_MS;
    let failed = false;
    const leaders = reader.leaders([...next.keys()]);
    const reading = [...leaders].map(async ([leader, partitions]) => {
      try {
        while (!failed && !signal.aborted && performance.now() < until) {
          const offsets = new Map(partitions.map((partition) => [partition, next.get(partition) ?? 0n]));
          for (const fetched of await reader.fetch(leader, offsets, FETCH_WAITS_MS)) read(fetched);
          note(null);
          pauses.reset();
        }
      } catch (error) {
        failed = true;
        throw error;
      }
    });
    const failures = (await Promise.allSettled(reading)).filter(({ status }) => status === 'rejected');
    if (failures[0]?.status === 'rejected') throw failures[0].reason;
  }

  function read({ partition, messages, nextOffset }: Fetched): void {
    next.set(partition, nextOffset);
    const broken: string[] = [];
    for (const message of messages) {
      if (isRepeat(partition, message)) continue;
      const found = parse(message);
      if (found === null) broken.push(message.offset);
      else deliver(found);
    }
    if (broken.length === 0) return;
    onError(
      new Error(`In ${topic}, partition ${partition}, are records that are no signals: ${broken.join(', ')}`),
    );
  }

  async function run(): Promise<void> {
    while (!signal.aborted) {
      try {
        await follow();
        await stand();
      } catch (error) {
        if (signal.aborted) break;
        note(error);
        await pauses.next();
        if (signal.aborted) break;
        // Where it stands and who leads what may have changed. What goes wrong here goes wrong again when reading.
        await reader
          .refresh()
          .then(stand)
          .catch(() => {});
      }
    }
  }

  try {
    await reader.connect();
    await stand();
  } catch (error) {
    await reader.disconnect();
    throw error;
  }
  return { ended: endsWith(signal, run(), reader) };
}

/** Whether a record of a publisher is one that came before: in a partition their numbers only grow. */
function createRepeats(): (partition: number, message: KafkaMessage) => boolean {
  const last = new Map<string, number>();
  return (partition, { headers }) => {
    const number = Number(headers?.number);
    if (headers?.origin === undefined || Number.isNaN(number)) return false;
    const publisher = `${partition} ${headers.origin}`;
    const before = last.get(publisher);
    if (before !== undefined && number <= before) return true;
    // In the order of their last record, so that those who have long gone are forgotten.
    last.delete(publisher);
    last.set(publisher, number);
    if (last.size > PUBLISHERS) for (const [oldest] of last.entries().take(1)) last.delete(oldest);
    return false;
  };
}

function parse({ value }: KafkaMessage): Signal | null {
  try {
    return signalSchema.parse(JSON.parse(String(value)));
  } catch {
    return null; // what the caller reports
  }
}

// ── both ──────────────────────────────────────────────────────────────────

function growingPauses(signal: AbortSignal) {
  let pauseMs = FIRST_PAUSE_MS;
  return {
    reset() {
      pauseMs = FIRST_PAUSE_MS;
    },
    /** Ends early when `signal` is aborted. */
    async next(): Promise<void> {
      await delay(pauseMs, undefined, { signal }).catch(() => {});
      pauseMs = Math.min(2 * pauseMs, LONGEST_PAUSE_MS);
    },
  };
}

/**
 * Disconnects the client once its work has ended after the abort, or does not end: what kafkajs is asked for while
 * it disconnects, it goes on trying for seconds.
 */
async function endsWith(
  signal: AbortSignal,
  work: Promise<void>,
  client: { disconnect(): Promise<void> },
): Promise<void> {
  if (!signal.aborted) await once(signal, 'abort');
  await within(WORK_ENDS_WITHIN_MS, work);
  await client.disconnect();
  await work;
}

/** Resolves when `work` has ended, or after so long. */
async function within(ms: number, work: Promise<unknown>): Promise<void> {
  const enough = new AbortController();
  await Promise.race([work, delay(ms, undefined, { signal: enough.signal }).catch(() => {})]);
  enough.abort();
}

/** kafkajs wraps what happened in what it made of it. */
function rootOf(error: unknown): string {
  const { message, cause } = error as Error;
  return cause instanceof Error ? rootOf(cause) : message;
}

const isTooLarge = (error: unknown): boolean =>
  error instanceof Error &&
  ((error as { type?: string }).type === 'MESSAGE_TOO_LARGE' || isTooLarge(error.cause));
