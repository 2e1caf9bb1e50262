/**
 * The topics of Odeon: made when it starts, and checked when they exist.
 *
 * `<prefix>.events`: the log, keyed by owner. Its number of partitions decides which events a partition has, so it
 * must be the configured one in every process. The event store is the truth: who has been away for longer than a
 * record is kept reads the rest there, so a week is kept, which is time enough to mend whatever was broken without
 * every consumer going back to the store.
 *
 * `<prefix>.signals`: what is said at once and not kept (see signals.ts): ten minutes, in segments of one minute, since
 * only whole segments are removed.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { type Admin, ConfigResourceTypes, type Kafka } from './client.ts';

export interface TopicsOptions {
  readonly kafka: Kafka;
  /** Letters, digits, `.`, `_` and `-`. */
  readonly prefix: string;
  /** Of the events topic. */
  readonly partitions: number;
  /** Undefined: the brokers' default. */
  readonly replicationFactor?: number | undefined;
  /** Told what is not as Odeon would have made it, and works all the same. */
  readonly onWarning: (message: string) => void;
}

export interface Topics {
  readonly events: string;
  readonly signals: string;
}

const SIGNAL_PARTITIONS = 3;
const BROKERS_DEFAULT = -1;
const MADE_WITHIN_MS = 10_000;
const POLL_MS = 50;
const MINUTE_MS = 60_000;

interface Setting {
  readonly name: string;
  readonly value: string;
  /** Of a topic that exists: how its value may differ. */
  readonly may: 'not' | 'be more' | 'be less';
}

const SETTINGS: Readonly<Record<keyof Topics, readonly Setting[]>> = {
  events: [
    { name: 'cleanup.policy', value: 'delete', may: 'not' },
    // The relay goes on where the topic ends: were all of it gone one day, it would send the whole log again.
    { name: 'retention.ms', value: '-1', may: 'not' },
    // Brokers take 1 MiB unless they are told otherwise; an event may be larger than the request that it comes from.
    { name: 'max.message.bytes', value: String(16 * 2 ** 20), may: 'be more' },
  ],
  signals: [
    { name: 'cleanup.policy', value: 'delete', may: 'not' },
    { name: 'retention.ms', value: String(10 * MINUTE_MS), may: 'be less' },
    { name: 'segment.ms', value: String(MINUTE_MS), may: 'be less' },
  ],
};

/**
 * Makes the topics that do not exist, whichever process comes first, and checks those that do.
 * @returns their names, when every partition has a leader
 * @throws Error when the events topic has another number of partitions, when the brokers refuse to make a topic,
 * or when they cannot be reached
 */
export async function ensureTopics(options: TopicsOptions): Promise<Topics> {
  const { kafka, prefix, partitions, replicationFactor = BROKERS_DEFAULT } = options;
  const topics: Topics = { events: `${prefix}.events`, signals: `${prefix}.signals` };
  const admin = kafka.admin();
  try {
    await admin.connect();
    const existing = new Set(await admin.listTopics());
    for (const kind of KINDS) {
      const topic = topics[kind];
      if (existing.has(topic)) continue;
      const numPartitions = kind === 'events' ? partitions : SIGNAL_PARTITIONS;
      await make(admin, kind, { topic, numPartitions, replicationFactor });
    }
    await check(admin, topics, options);
    return topics;
  } finally {
    await admin.disconnect();
  }
}

const KINDS = ['events', 'signals'] as const;

async function make(
  admin: Admin,
  kind: keyof Topics,
  topic: { readonly topic: string; readonly numPartitions: number; readonly replicationFactor: number },
): Promise<void> {
  const configEntries = SETTINGS[kind].map(({ name, value }) => ({ name, value }));
  // With three copies, one broker may be away and what is acknowledged still stands on two.
  if (topic.replicationFactor >= 3) configEntries.push({ name: 'min.insync.replicas', value: '2' });
  try {
    // Answers false when another process was first.
    await admin.createTopics({ topics: [{ ...topic, configEntries }], waitForLeaders: false });
  } catch (error) {
    const reasons: Error[] = (error as { errors?: Error[] }).errors ?? [error as Error];
    const why = reasons.map(({ message }) => message).join('; ');
    throw new Error(`Kafka does not make the topic ${topic.topic}: ${why}`, { cause: error });
  }
}

async function check(admin: Admin, topics: Topics, options: TopicsOptions): Promise<void> {
  const { partitions, replicationFactor, onWarning } = options;
  const found = await described(admin, topics);
  const ofEvents = found.get(topics.events)!;
  if (ofEvents.partitions !== partitions) {
    throw new Error(
      `The topic ${topics.events} has ${ofEvents.partitions} partitions, and ${partitions} are configured. Set ` +
        `the configured number (KAFKA_PARTITIONS) to ${ofEvents.partitions}. Or, to change it: stop every process of ` +
        `Odeon, delete the topic, and start them again with one number for all. The topic is then made anew, and ` +
        'filled from the log: nothing is lost.',
    );
  }
  for (const kind of KINDS) {
    const topic = topics[kind];
    const { copies } = found.get(topic)!;
    if (replicationFactor !== undefined && copies < replicationFactor) {
      onWarning(
        `The topic ${topic} has ${copies} copies of each partition, and ${replicationFactor} are configured.`,
      );
    }
  }
  for (const warning of await differences(admin, topics)) onWarning(warning);
}

/** Waits for a topic that was just made: not every broker knows it at once. */
async function described(
  admin: Admin,
  topics: Topics,
): Promise<Map<string, { partitions: number; copies: number }>> {
  const deadline = performance.now() + MADE_WITHIN_MS;
  for (;;) {
    try {
      const metadata = await admin.fetchTopicMetadata({ topics: Object.values(topics) });
      const leaderless = metadata.topics.find((topic) => topic.partitions.some(({ leader }) => leader < 0));
      if (leaderless !== undefined)
        throw new Error(`A partition of the topic ${leaderless.name} has no leader.`);
      return new Map(
        metadata.topics.map((topic) => [
          topic.name,
          {
            partitions: topic.partitions.length,
            copies: Math.min(...topic.partitions.map(({ replicas }) => replicas.length)),
          },
        ]),
      );
    } catch (error) {
      if (performance.now() > deadline) throw error;
    }
    await delay(POLL_MS);
  }
}

/** In words: what is set otherwise than Odeon would have set it, and matters. */
async function differences(admin: Admin, topics: Topics): Promise<string[]> {
  const { resources } = await admin.describeConfigs({
    includeSynonyms: false,
    resources: KINDS.map((kind) => ({ type: ConfigResourceTypes.TOPIC, name: topics[kind] })),
  });
  return KINDS.flatMap((kind) => {
    const resource = resources.find(({ resourceName }) => resourceName === topics[kind]);
    return SETTINGS[kind].flatMap(({ name, value, may }) => {
      const found = resource?.configEntries.find(({ configName }) => configName === name)?.configValue;
      if (found === undefined || found === value) return [];
      if (may === 'be more' && amount(found) > amount(value)) return [];
      if (may === 'be less' && amount(found) < amount(value)) return [];
      return [`The topic ${topics[kind]} has ${name}=${found}; Odeon makes it with ${value}.`];
    });
  });
}

/** -1 is without a limit. */
const amount = (value: string): number => (value === '-1' ? Number.POSITIVE_INFINITY : Number(value));
