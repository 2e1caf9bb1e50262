/**
 * What one process reads of the events topic: each partition once, for all who listen to it, and only while
 * somebody does. It hands on what is committed from some moment on; what came before, and what a listener could
 * not take, is in the event store.
 */
import { setTimeout as pause } from 'node:timers/promises';
import type { EventEnvelope } from '../../../contracts/envelope.ts';
import { type Fetched, type Kafka, OffsetOutOfRange } from './client.ts';
import { type EventRecord, readRecord } from './record.ts';

const WAIT_MS = 250;
const FIRST_PAUSE_MS = 100;
const LONGEST_PAUSE_MS = 1_000;
/** Failures in a row that a change of a partition's leader explains. */
const UNTOLD_FAILURES = 2;

export interface SizedRecord {
  readonly record: EventRecord;
  readonly bytes: number;
}

export interface FeedListener {
  records(records: readonly SizedRecord[]): void;
  /** Records may be missing from here on. */
  lost(): void;
}

export interface Attachment {
  /** Resolves once everything that is committed from then on will come (unless `lost` is called). */
  readonly standing: Promise<void>;
  detach(): void;
}

export interface TopicFeed {
  attach(partition: number, listener: FeedListener): Attachment;
  close(): Promise<void>;
}

export interface TopicFeedOptions {
  readonly kafka: Kafka;
  readonly topic: string;
  /** See `KafkaEventBusOptions`. */
  readonly current?: ((event: EventEnvelope) => EventEnvelope) | undefined;
  /** A record that is none of ours. */
  readonly onError: (error: unknown) => void;
  readonly tell: (problem: unknown) => void;
}

interface Source {
  readonly partition: number;
  readonly listeners: Set<FeedListener>;
  /** From where to fetch; null until that is known. */
  offset: bigint | null;
  standing: PromiseWithResolvers<void>;
}

/** Connects when first listened to. */
export function openTopicFeed(options: TopicFeedOptions): TopicFeed {
  const { kafka, topic, current = (event) => event, onError } = options;
  const reader = kafka.reader(topic);
  const closing = new AbortController();
  const tell = (problem: unknown) => {
    if (!closing.signal.aborted) options.tell(problem);
  };
  const sources = new Map<number, Source>();
  /** By broker: one request at a time. */
  const fetching = new Map<string, Promise<void>>();
  let failed: unknown = null;
  let woken = Promise.withResolvers<void>();

  async function run(): Promise<void> {
    let connected = false;
    let failures = 0;
    while (!closing.signal.aborted) {
      if (sources.size === 0 && fetching.size === 0) {
        if (!connected) tell(null); // nobody asks
        await woken.promise;
        woken = Promise.withResolvers();
        continue;
      }
      try {
        if (!connected) await reader.refresh();
        connected = true;
        await findEnds();
        const known = [...sources.values()].filter(({ offset }) => offset !== null);
        for (const [leader, partitions] of reader.leaders(known.map(({ partition }) => partition))) {
          if (fetching.has(leader)) continue;
          const fetched = fetch(leader, partitions)
            .catch((error: unknown) => {
              failed = error;
            })
            .finally(() => fetching.delete(leader));
          fetching.set(leader, fetched);
        }
        if (known.length === 0 && fetching.size === 0) continue;
        if (fetching.size === 0) throw new Error(`No partition of topic ${topic} has a leader.`);
        await Promise.race([...fetching.values(), woken.promise]);
        woken = Promise.withResolvers();
        if (failed !== null) throw failed;
        failures = 0;
        tell(null);
      } catch (error) {
        if (closing.signal.aborted) return;
        failed = null;
        if (error instanceof OffsetOutOfRange) {
          restart(sources.get(error.partition));
          continue;
        }
        connected = false;
        failures += 1;
        if (failures > UNTOLD_FAILURES) tell(error);
        const pauseMs = Math.min(FIRST_PAUSE_MS * 2 ** (failures - 1), LONGEST_PAUSE_MS);
        await pause(pauseMs, undefined, { signal: closing.signal }).catch(() => {});
      }
    }
  }

  /** The topic was made anew, or records were deleted before they were read. */
  function restart(source: Source | undefined): void {
    if (source === undefined) return;
    source.offset = null;
    source.standing = Promise.withResolvers();
    for (const listener of source.listeners) listener.lost();
  }

  async function findEnds(): Promise<void> {
    const unknown = [...sources.values()].filter(({ offset }) => offset === null);
    if (unknown.length === 0) return;
    const ranges = await reader.offsets(unknown.map(({ partition }) => partition));
    for (const source of unknown) {
      source.offset = ranges.get(source.partition)!.high;
      source.standing.resolve();
    }
  }

  async function fetch(leader: string, partitions: readonly number[]): Promise<void> {
    const asked = partitions.map((partition) => sources.get(partition)!);
    const offsets = new Map(asked.map(({ partition, offset }) => [partition, offset!]));
    for (const fetched of await reader.fetch(leader, offsets, WAIT_MS)) {
      const source = sources.get(fetched.partition);
      if (source === undefined || !asked.includes(source)) continue;
      if (source.offset !== offsets.get(fetched.partition)) continue;
      source.offset = fetched.nextOffset;
      deliver(source, fetched);
    }
  }

  function deliver({ listeners }: Source, { messages }: Fetched): void {
    const records: SizedRecord[] = [];
    for (const message of messages) {
      try {
        const record = readRecord(message);
        if (record === null) continue;
        const bytes = message.value?.length ?? 0;
        records.push({
          record: record.event === null ? record : { ...record, event: current(record.event) },
          bytes,
        });
      } catch (error) {
        onError(error);
        for (const listener of listeners) listener.lost();
      }
    }
    if (records.length > 0) for (const listener of listeners) listener.records(records);
  }

  void run();

  return {
    attach(partition, listener) {
      let source = sources.get(partition);
      if (source === undefined) {
        source = { partition, listeners: new Set(), offset: null, standing: Promise.withResolvers() };
        sources.set(partition, source);
        woken.resolve();
      }
      const { listeners, standing } = source;
      listeners.add(listener);
      return {
        standing: standing.promise,
        detach() {
          listeners.delete(listener);
          if (listeners.size === 0 && sources.get(partition)?.listeners === listeners)
            sources.delete(partition);
        },
      };
    },
    async close() {
      closing.abort();
      woken.resolve();
      // What still tries to connect is refused from here on; it gives up by itself.
      await reader.disconnect();
      options.tell(null);
    },
  };
}
