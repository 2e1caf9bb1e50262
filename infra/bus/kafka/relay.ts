/**
 * The relay: copies the log to the events topic, each event once and in order, as `record.ts` describes.
 *
 * One of all processes that run it is active: the holder of the one slot of a group (`group.ts`). That is for
 * peace only. What keeps it safe is that it writes with one transactional id: whoever begins has Kafka fence all
 * before it, so that a predecessor that only seemed to be gone (stopped by its machine, cut off) cannot write any
 * more, and whatever it had begun is undone. After that, the topic itself says where to go on: what its partitions
 * end with. Nothing else is kept, so there is no moment in which a crash could lose or double a record, and a
 * topic that was made anew is filled from the beginning of the log.
 *
 * A batch is what the log gave while the one before it was sent. It is one transaction over all partitions, in
 * each of which it leaves at least a progress record: so all partitions end at the same position. Where every
 * record of a partition has expired, what the others end with holds for it too; where all have expired in all, it
 * is like a topic that was made anew: retention decides how far back others can read, and should be unlimited, or
 * longer than the log is ever silent.
 *
 * Measured with kafkajs 2.2.4 on Kafka 4.3.1 (one broker, 8 partitions, two cores): a transaction of one event
 * takes 4 to 9 ms where a plain send takes 2; 20,000 events of 400 bytes take 0.7 to 0.9 s in batches of 500 to
 * 1,000, where plain sends take 0.6. A transaction that is begun right after one ended is refused for some
 * milliseconds (CONCURRENT_TRANSACTIONS): kafkajs tries again, here from 2 ms on. That is cheap for what it gives:
 * without transactions neither fencing nor exactly one record an event could be had.
 */
import { once } from 'node:events';
import { setTimeout as pause } from 'node:timers/promises';
import { isAfter, laterOf, type Position, START } from '../../../contracts/envelope.ts';
import type { AvailabilityListener } from '../../engines/port.ts';
import type { EventPage, EventStore } from '../../event-store/port.ts';
import { availabilityOf } from './availability.ts';
import type { Kafka, Message, Producer, RecordReader } from './client.ts';
import { joinGroup } from './group.ts';
import { eventMessage, partitionOf, progressMessage, readRecord } from './record.ts';

/** How many events are read ahead while a batch is sent; one page more, at most, is a batch. */
const AHEAD_EVENTS = 1_000;
/** A partition is sent no more than this at once, unless one event is larger: brokers refuse more than 1 MB. */
const SEND_BYTES = 512 * 1024;
/** Kafka undoes a transaction that is not ended by then, if nobody has begun another: readers wait for it. */
const TRANSACTION_WITHIN_MS = 10_000;
const RETRY = { initialRetryTime: 2, multiplier: 1.5, factor: 0.2, maxRetryTime: 200, retries: 20 };
const WAIT_MS = 1_000;
/** How long what is being sent may take when the relay is to end. */
const SEND_ENDS_WITHIN_MS = 500;

export interface RelayOptions {
  readonly kafka: Kafka;
  readonly store: EventStore;
  /** The events topic; it must have `partitions` partitions. */
  readonly topic: string;
  /** The id, in Kafka, of the group of all relays of this topic. */
  readonly group: string;
  readonly partitions: number;
  /** Why the relay had to begin anew. Must not throw. */
  readonly onError: (error: unknown) => void;
  readonly onAvailability?: AvailabilityListener;
}

export interface Relay {
  /** Whether this process is the one that relays. */
  active(): boolean;
  /** Up to where the topic is complete; null unless active. */
  position(): Position | null;
  /** Ends what is being sent, and hands over to the next. */
  stop(): Promise<void>;
}

/** Begins in the background, as soon as Kafka and the store can be reached, and goes on until it is stopped. */
export function startRelay(options: RelayOptions): Relay {
  const { kafka, topic, group, onError, onAvailability } = options;
  const availability = availabilityOf(kafka.brokers, onAvailability);
  let reached: Position | null = null;
  let failed = false;

  const membership = joinGroup({
    kafka,
    group,
    topic,
    partitions: [0],
    onError,
    tell: availability(),
    async work({ signal, confirm }) {
      // It may have failed because another relay has begun: that one is not to be fenced in turn.
      if (failed) await confirm();
      if (signal.aborted) return;
      failed = true;
      try {
        await relay(options, signal, (position) => {
          reached = position;
        });
        failed = false;
      } finally {
        reached = null;
      }
    },
  });

  return {
    active: () => reached !== null,
    position: () => reached,
    stop: () => membership.stop(),
  };
}

async function relay(
  { kafka, store, topic, partitions }: RelayOptions,
  signal: AbortSignal,
  reach: (position: Position) => void,
): Promise<void> {
  const producer = kafka.producer({
    transactionalId: `${topic}.relay`,
    transactionTimeout: TRANSACTION_WITHIN_MS,
    maxInFlightRequests: 1,
    allowAutoTopicCreation: false,
    retry: RETRY,
  });
  const reader = kafka.reader(topic);
  const ending = new AbortController();
  // What is still being begun fails when its connections are closed.
  const { promise: aborted, resolve: abort } = Promise.withResolvers<null>();
  const onAbort = () => abort(null);
  signal.addEventListener('abort', onAbort);
  try {
    const ends = await Promise.race([begin(producer, reader, topic, partitions), aborted]);
    if (ends === null || signal.aborted) return;
    await refuseOtherLog(ends, store, topic);
    let position = ends.reduce((a, b) => (isAfter(a, b) ? b : a));
    reach(position);
    const ahead = readAhead(store, position, AbortSignal.any([signal, ending.signal]));
    for (let pages = await ahead.take(); pages.length > 0; pages = await ahead.take()) {
      const sends = batch(pages, ends);
      if (sends.length > 0 && !(await endsInTime(send(producer, topic, sends), signal))) return;
      position = pages.at(-1)!.position;
      reach(position);
    }
  } finally {
    signal.removeEventListener('abort', onAbort);
    ending.abort();
    await Promise.all([producer.disconnect(), reader.disconnect()]);
  }
}

/** @returns what the partitions end with, when nobody else can write any more */
async function begin(
  producer: Producer,
  reader: RecordReader,
  topic: string,
  partitions: number,
): Promise<Position[]> {
  await producer.connect();
  // An empty transaction: kafkajs asks for the producer's id, which fences those before, and sends nothing else.
  await (await producer.transaction()).commit();
  await reader.connect();
  return endsOf(reader, topic, partitions);
}

/** A topic that is further than the log would be sent nothing, and its consumers would wait for ever. */
async function refuseOtherLog(ends: readonly Position[], store: EventStore, topic: string): Promise<void> {
  const furthest = ends.reduce(laterOf);
  const end = await store.end();
  if (!isAfter(furthest, end)) return;
  throw new Error(
    `Topic ${topic} has position ${furthest} of the log, which ends at ${end}: the log was replaced, or restored ` +
      'from an older backup, so nothing is relayed. If that was meant, stop every process of Odeon, delete the ' +
      'topic, and start them again: it is made anew, and filled from the log.',
  );
}

/** The pages of the log after a position; reads on while they are worked at, as far as `AHEAD_EVENTS`. */
function readAhead(store: EventStore, after: Position, signal: AbortSignal) {
  let waiting: EventPage[] = [];
  let events = 0;
  let failure: unknown = null;
  let ended = false;
  let arrived = Promise.withResolvers<void>();
  let taken = Promise.withResolvers<void>();
  signal.addEventListener('abort', () => taken.resolve(), { once: true });

  const read = async () => {
    for await (const page of store.subscribe({ after, signal })) {
      waiting.push(page);
      events += page.events.length;
      arrived.resolve();
      while (events >= AHEAD_EVENTS && !signal.aborted) {
        await taken.promise;
        taken = Promise.withResolvers();
      }
    }
    if (!signal.aborted) throw new Error('The subscription of the log ended.');
  };
  void read()
    .catch((error: unknown) => {
      failure = error;
    })
    .finally(() => {
      ended = true;
      arrived.resolve();
    });

  return {
    /** Everything that waits, as soon as there is something; nothing when it is over. */
    async take(): Promise<readonly EventPage[]> {
      while (waiting.length === 0 && !ended) {
        await arrived.promise;
        arrived = Promise.withResolvers();
      }
      if (signal.aborted) return [];
      if (waiting.length === 0) throw failure;
      const pages = waiting;
      waiting = [];
      events = 0;
      taken.resolve();
      return pages;
    },
  };
}

/**
 * What the partitions lack of some pages, in portions that can be sent.
 * @param ends what each partition ends with; moved on
 */
function batch(pages: readonly EventPage[], ends: Position[]): Message[][] {
  const sends: Message[][] = [];
  let messages: Message[] = [];
  let sizes = new Map<number, number>();
  const add = (partition: number, message: Message): void => {
    const bytes = (message.value?.length ?? 0) + 256; // its headers
    const size = sizes.get(partition) ?? 0;
    if (size > 0 && size + bytes > SEND_BYTES) {
      sends.push(messages);
      messages = [];
      sizes = new Map();
    }
    messages.push(message);
    sizes.set(partition, (sizes.get(partition) ?? 0) + bytes);
  };
  for (const event of pages.flatMap(({ events }) => events)) {
    const partition = partitionOf(event.owner, ends.length);
    const end = ends[partition]!;
    if (!isAfter(event.position, end)) continue; // it has it
    add(partition, eventMessage(event, partition, end));
    ends[partition] = event.position;
  }
  const { position } = pages.at(-1)!;
  for (const [partition, end] of ends.entries()) {
    if (!isAfter(position, end)) continue;
    add(partition, progressMessage(partition, position, end));
    ends[partition] = position;
  }
  return messages.length > 0 ? [...sends, messages] : sends;
}

/** All in one transaction. After an error it is not known what became of it. */
async function send(producer: Producer, topic: string, sends: readonly Message[][]): Promise<void> {
  const transaction = await producer.transaction();
  for (const messages of sends) {
    try {
      await transaction.send({ topic, messages });
    } catch (error) {
      if ((error as { type?: string }).type !== 'MESSAGE_TOO_LARGE') throw error;
      const bytes = Math.max(...messages.map(({ value }) => value?.length ?? 0));
      throw new Error(
        `Topic ${topic} does not take an event of ${bytes} bytes, so nothing is relayed: its max.message.bytes ` +
          'must be larger than the largest event.',
        { cause: error },
      );
    }
  }
  await transaction.commit();
}

/** False when it has not ended a while after the abort: it fails with its connections, and the next relay undoes it. */
async function endsInTime(sending: Promise<void>, signal: AbortSignal): Promise<boolean> {
  const settled = new AbortController();
  const late = async () => {
    if (!signal.aborted) await once(signal, 'abort', { signal: settled.signal });
    await pause(SEND_ENDS_WITHIN_MS, undefined, { signal: settled.signal });
    return false;
  };
  try {
    return await Promise.race([sending.then(() => true), late()]);
  } finally {
    settled.abort();
  }
}

/** What each partition ends with: up to where it is complete. */
async function endsOf(reader: RecordReader, topic: string, count: number): Promise<Position[]> {
  const partitions = await reader.partitions();
  if (partitions.length !== count) {
    throw new Error(`Topic ${topic} has ${partitions.length} partitions, not ${count}.`);
  }
  const ranges = await reader.offsets(partitions);
  const ends = new Map<number, Position>();
  let wanted = partitions.filter((partition) => ranges.get(partition)!.high > ranges.get(partition)!.low);
  // The last record, as a rule, is the last but one (the end of its transaction comes after it). Where batches were
  // undone, or others have written, it is further back.
  for (let back = 4n; wanted.length > 0; back *= 8n) {
    const next = new Map(
      wanted.map((partition) => {
        const { low, high } = ranges.get(partition)!;
        return [partition, high - back > low ? high - back : low];
      }),
    );
    const first = new Map(next);
    while (next.size > 0) {
      for (const [leader, led] of reader.leaders([...next.keys()])) {
        const offsets = new Map(led.map((partition) => [partition, next.get(partition)!]));
        for (const { partition, messages, nextOffset } of await reader.fetch(leader, offsets, WAIT_MS)) {
          for (const message of messages) {
            try {
              const record = readRecord(message);
              if (record !== null) ends.set(partition, record.position);
            } catch {} // none of ours: those who consume it say so
          }
          if (nextOffset >= ranges.get(partition)!.high) next.delete(partition);
          else next.set(partition, nextOffset);
        }
      }
    }
    wanted = wanted.filter((one) => !ends.has(one) && first.get(one)! > ranges.get(one)!.low);
  }
  const furthest = [...ends.values()].reduce((a, b) => (isAfter(a, b) ? a : b), START);
  return partitions.map((partition) => {
    const expired = ranges.get(partition)!.high > 0n && !ends.has(partition);
    return ends.get(partition) ?? (expired ? furthest : START);
  });
}
