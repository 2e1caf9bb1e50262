/**
 * Committed events through Kafka: the partitions of the events topic are given out to the members of a group
 * (`group.ts`), and what a partition's consumer is given comes from the topic as soon as it is committed there.
 *
 * Positions decide, never Kafka's offsets: where a consumer stands is kept with what it writes. A subscription
 * first reads the event store up to its head; then it listens to the topic, and reads the store once more, for
 * what was committed before it listened; from then on it goes by the records. Each says from which position on it
 * is the next one (`after`, see `record.ts`): where that is beyond what was delivered, what lies between comes from
 * the store; what was delivered already is skipped. So it makes no difference to a consumer what Kafka loses,
 * repeats or forgets. A consumer that is slower than the topic stops listening and reads from the store until it
 * has caught up: nothing is buffered without bound.
 *
 * While Kafka is away, nothing new is delivered; work goes on, and so does everything when it is back.
 */
import { setTimeout as pause } from 'node:timers/promises';
import { type EventEnvelope, isAfter, laterOf, type Position } from '../../../contracts/envelope.ts';
import type { AvailabilityListener } from '../../engines/port.ts';
import { type EventFilter, type EventPage, type EventStore, passes } from '../../event-store/port.ts';
import type { EventBus, Partition } from '../port.ts';
import { availabilityOf } from './availability.ts';
import type { Kafka } from './client.ts';
import { openTopicFeed, type SizedRecord, type TopicFeed } from './feed.ts';
import { type GroupMembership, joinGroup } from './group.ts';
import { partitionOf } from './record.ts';

/** What waits for a subscription, at most; a page of records is never larger. */
const WAITING_RECORDS = 1_000;
const WAITING_BYTES = 4 * 1024 * 1024;
const FIRST_PAUSE_MS = 50;
const LONGEST_PAUSE_MS = 2_000;

export interface KafkaEventBusOptions {
  readonly kafka: Kafka;
  readonly store: EventStore;
  /** The events topic; it must have `partitions` partitions. */
  readonly topic: string;
  readonly partitions: number;
  /** A group of consumers has the id `<groupPrefix>.<group>` in Kafka. */
  readonly groupPrefix: string;
  /**
   * Brings an event that was relayed by an older version of the program to the version of its schema that the
   * store gives events in; what it throws is reported, and the event is read from the store instead.
   */
  readonly current?: (event: EventEnvelope) => EventEnvelope;
  /** What work threw, a store that cannot be read for now, a record that is none of ours. Must not throw. */
  readonly onError: (error: unknown) => void;
  readonly onAvailability?: AvailabilityListener;
}

/** Connects in the background, as often as it takes; nothing here waits for Kafka. */
export function openKafkaEventBus(options: KafkaEventBusOptions): EventBus {
  const { kafka, store, topic, partitions, groupPrefix, current, onError, onAvailability } = options;
  const availability = availabilityOf(kafka.brokers, onAvailability);
  const feed = openTopicFeed({ kafka, topic, current, onError, tell: availability() });
  const memberships = new Set<GroupMembership>();
  const numbers = Array.from({ length: partitions }, (_, number) => number);
  let closed: Promise<void> | undefined;

  return {
    partitions,
    partitionOf: (owner) => partitionOf(owner, partitions),
    async consume(group, work) {
      if (closed !== undefined) throw new Error('The event bus is closed.');
      const membership = joinGroup({
        kafka,
        group: `${groupPrefix}.${group}`,
        topic,
        partitions: numbers,
        onError,
        tell: availability(),
        work({ number, signal }) {
          const partition: Partition = {
            number,
            signal,
            holds: (owner) => partitionOf(owner, partitions) === number,
            subscribe: (wanted) =>
              subscription({
                ...wanted,
                signal: AbortSignal.any([wanted.signal, signal]),
                partition,
                store,
                feed,
                onError,
              }),
          };
          return work(partition);
        },
      });
      memberships.add(membership);
      return {
        async stop() {
          await membership.stop();
          memberships.delete(membership);
        },
      };
    },
    close() {
      closed ??= (async () => {
        await Promise.all([...memberships].map((membership) => membership.stop()));
        await feed.close();
      })();
      return closed;
    },
  };
}

interface SubscriptionOptions {
  readonly partition: Partition;
  readonly store: EventStore;
  readonly feed: TopicFeed;
  readonly after: Position;
  readonly filter?: EventFilter;
  readonly signal: AbortSignal;
  readonly onError: (error: unknown) => void;
}

async function* subscription(options: SubscriptionOptions): AsyncGenerator<EventPage> {
  const { partition, store, feed, after, filter, signal, onError } = options;
  const inbox = openInbox(signal);
  let position = after;
  const moved = (page: EventPage): EventPage => {
    position = laterOf(position, page.position);
    return { ...page, position };
  };

  /** What the store holds in (position, upTo], or up to its head; waits until it can be read, that far. */
  async function* fromStore(upTo?: Position): AsyncGenerator<EventPage> {
    const range = { ...(upTo !== undefined && { upTo }), ...(filter !== undefined && { filter }) };
    for (let pauseMs = FIRST_PAUSE_MS; !signal.aborted; pauseMs = Math.min(2 * pauseMs, LONGEST_PAUSE_MS)) {
      try {
        // The copy of the store that answers may be behind the one that the relay read.
        if (upTo === undefined || !isAfter(upTo, await store.end())) {
          for await (const page of store.readAll({ after: position, ...range })) {
            const events = page.events.filter(({ owner }) => partition.holds(owner));
            yield moved({ ...page, events });
            if (signal.aborted) return;
          }
          return;
        }
      } catch (error) {
        if (signal.aborted) return;
        onError(error);
      }
      await pause(pauseMs, undefined, { signal }).catch(() => {});
    }
  }

  async function* pagesOf(records: readonly SizedRecord[]): AsyncGenerator<EventPage> {
    let events: EventEnvelope[] = [];
    let reached = position;
    for (const { record } of records) {
      if (!isAfter(record.position, reached)) continue;
      if (isAfter(record.after, reached)) {
        if (isAfter(reached, position)) yield moved({ events, position: reached, caughtUp: false });
        events = [];
        yield* fromStore(record.after);
        if (signal.aborted) return;
        position = laterOf(position, record.after);
        reached = position;
      }
      if (record.event !== null && (filter === undefined || passes(record.event, filter))) {
        events.push(record.event);
      }
      reached = record.position;
    }
    if (isAfter(reached, position)) yield moved({ events, position: reached, caughtUp: inbox.isEmpty() });
  }

  let attachment: ReturnType<TopicFeed['attach']> | undefined;
  try {
    while (!signal.aborted) {
      yield* fromStore();
      if (attachment === undefined) {
        inbox.clear();
        attachment = feed.attach(partition.number, inbox);
        await Promise.race([attachment.standing, inbox.aborted]);
        continue; // the store once more: for what was committed before the feed stood
      }
      for (let records = await inbox.take(); records !== null; records = await inbox.take()) {
        yield* pagesOf(records);
      }
      attachment.detach();
      attachment = undefined;
    }
  } finally {
    attachment?.detach();
    inbox.close();
  }
}

/** What waits for one subscription. */
function openInbox(signal: AbortSignal) {
  let waiting: SizedRecord[] = [];
  let bytes = 0;
  let lost = false;
  let arrived = Promise.withResolvers<void>();
  const aborted = Promise.withResolvers<void>();
  const onAbort = () => {
    aborted.resolve();
    arrived.resolve();
  };
  signal.addEventListener('abort', onAbort, { once: true });
  if (signal.aborted) onAbort();

  return {
    aborted: aborted.promise,
    records(records: readonly SizedRecord[]) {
      if (lost) return;
      waiting = waiting.concat(records);
      for (const record of records) bytes += record.bytes;
      if (waiting.length > WAITING_RECORDS || bytes > WAITING_BYTES) this.lost();
      else arrived.resolve();
    },
    lost() {
      lost = true;
      waiting = [];
      bytes = 0;
      arrived.resolve();
    },
    /** Everything that waits, as soon as there is something; null when some was lost, or when it is over. */
    async take(): Promise<readonly SizedRecord[] | null> {
      while (waiting.length === 0 && !lost && !signal.aborted) {
        await arrived.promise;
        arrived = Promise.withResolvers();
      }
      if (lost || signal.aborted) return null;
      const taken = waiting;
      waiting = [];
      bytes = 0;
      return taken;
    },
    isEmpty: () => waiting.length === 0,
    clear() {
      waiting = [];
      bytes = 0;
      lost = false;
    },
    close: () => signal.removeEventListener('abort', onAbort),
  };
}
