/**
 * Kafka's clients, as Odeon needs them: the one file that imports kafkajs (2.2.4, the last release).
 *
 * Every client has connections of its own. kafkajs would share the committed offsets of a group among the
 * consumers of one `Kafka` object, so that two members in one process would overwrite each other's.
 *
 * Retries are short: kafkajs gives up after about 2 s, a consumer then restarts by itself, others say so by
 * throwing. A broker that comes back is used again within about a second.
 */
import { createRequire } from 'node:module';
import type { Socket } from 'node:net';
import net from 'node:net';
import { setTimeout as pause } from 'node:timers/promises';
import tls from 'node:tls';
import type {
  Admin,
  Consumer,
  ConsumerConfig,
  KafkaMessage,
  LogEntry,
  PartitionAssigner,
  Producer,
  ProducerConfig,
  SASLOptions,
} from 'kafkajs';
import kafkajs from 'kafkajs';

export type {
  Admin,
  Assigner,
  Batch,
  Consumer,
  EachBatchPayload,
  GroupMember,
  IHeaders,
  KafkaMessage,
  Message,
  PartitionAssigner,
  Producer,
  Transaction,
} from 'kafkajs';
export const { AssignerProtocol, ConfigResourceTypes, Partitioners } = kafkajs;

const CONNECT_WITHIN_MS = 3_000;
const ANSWER_WITHIN_MS = 5_000;
const DISCONNECT_WITHIN_MS = 1_200;
const retry = { initialRetryTime: 100, multiplier: 2, factor: 0.2, maxRetryTime: 1_000, retries: 5 };

export interface KafkaLog {
  readonly level: 'error' | 'warn' | 'info' | 'debug';
  /** Which part of kafkajs says it. */
  readonly namespace: string;
  readonly message: string;
  readonly details: Readonly<Record<string, unknown>>;
}

export interface KafkaOptions {
  /** `host:port`, any of the cluster. */
  readonly brokers: readonly string[];
  /** The name under which brokers know this program in their logs and quotas. */
  readonly clientId: string;
  readonly ssl?: tls.ConnectionOptions | boolean;
  readonly sasl?: SASLOptions;
  /** What kafkajs has to say, from `info` on. Must not throw. */
  readonly onLog?: (entry: KafkaLog) => void;
}

export interface MemberConfig extends ConsumerConfig {
  /**
   * While it answers true, the consumer stays the member of its group that it is, whatever happens to it: it does
   * not leave when kafkajs restarts it after an error, and comes back under the same member id. For those whose
   * work goes on meanwhile: nobody else is given their partitions unless they are silent for the session timeout.
   */
  readonly staysMember?: () => boolean;
  /** Told after each time the group has given out its partitions anew. Must not throw. */
  readonly onJoined?: (joined: Joined) => void;
  /** Told when the broker says that it does not count as a member any more; it joins as a new one then. */
  readonly onLost?: () => void;
}

export interface Joined {
  /** Grows with each time that the partitions are given out. */
  readonly generation: number;
  /** Those that this member was given. */
  readonly partitions: readonly { readonly topic: string; readonly partitions: readonly number[] }[];
}

/** From where on, and up to where (exclusive), records that are committed can be read. */
export interface OffsetRange {
  readonly low: bigint;
  readonly high: bigint;
}

export interface Fetched {
  readonly partition: number;
  /** Without aborted transactions and without markers. */
  readonly messages: readonly KafkaMessage[];
  /** From where to fetch next. */
  readonly nextOffset: bigint;
}

/** Reads partitions of one topic, committed records only, without being a member of a group. */
export interface RecordReader {
  /** The numbers of the topic's partitions, asked of the brokers. */
  partitions(): Promise<number[]>;
  offsets(partitions: readonly number[]): Promise<Map<number, OffsetRange>>;
  /** Of each broker that leads some of the partitions: its name and those, as they were last seen. */
  leaders(partitions: readonly number[]): Map<string, number[]>;
  /**
   * Waits at most so long for a first record in one of the partitions, all of them led by this broker.
   * @throws OffsetOutOfRange when a partition does not reach to the offset asked for
   */
  fetch(leader: string, offsets: ReadonlyMap<number, bigint>, waitMs: number): Promise<Fetched[]>;
  /** After an error: connects anew where needed, and asks again who leads what. */
  refresh(): Promise<void>;
  connect(): Promise<void>;
  disconnect(): Promise<void>;
}

export class OffsetOutOfRange extends Error {
  readonly partition: number;
  constructor(partition: number) {
    super(`Partition ${partition} does not reach to the offset that was asked for.`);
    this.name = 'OffsetOutOfRange';
    this.partition = partition;
  }
}

/**
 * Makes clients; nothing is connected before `connect()`. `disconnect()` of each ends within 1.2 s, whatever the
 * broker does, and closes its connections.
 */
export interface Kafka {
  readonly brokers: readonly string[];
  producer(config?: ProducerConfig): Producer;
  consumer(config: MemberConfig): Consumer;
  admin(): Admin;
  reader(topic: string): RecordReader;
}

/** @throws RangeError when an address is not `host:port` */
export function createKafka(options: KafkaOptions): Kafka {
  const { brokers, clientId, ssl, sasl, onLog } = options;
  if (brokers.length === 0) throw new RangeError('No broker of Kafka is named.');
  for (const broker of brokers) {
    if (!/^[^\s:/]+:\d{1,5}$/.test(broker)) {
      throw new RangeError(`The address of a broker of Kafka is host:port, not ${JSON.stringify(broker)}.`);
    }
  }
  const logCreator = () => (entry: LogEntry) => {
    const { message, timestamp: _, ...details } = entry.log;
    onLog?.({ level: LEVELS[entry.level] ?? 'info', namespace: entry.namespace, message, details });
  };

  const connected = () => {
    const sockets = connections();
    const client = new kafkajs.Kafka({
      brokers: [...brokers],
      clientId,
      ...(ssl === undefined ? {} : { ssl }),
      ...(sasl === undefined ? {} : { sasl }),
      connectionTimeout: CONNECT_WITHIN_MS,
      authenticationTimeout: ANSWER_WITHIN_MS,
      requestTimeout: ANSWER_WITHIN_MS,
      retry,
      socketFactory: sockets.open,
      logLevel: kafkajs.logLevel.INFO,
      logCreator,
    });
    return { client, sockets };
  };

  return {
    brokers,
    producer(config) {
      const { client, sockets } = connected();
      return sockets.bounded(
        client.producer({ createPartitioner: Partitioners.DefaultPartitioner, retry, ...config }),
      );
    },
    consumer({
      staysMember,
      onJoined,
      onLost,
      partitionAssigners = [kafkajs.PartitionAssigners.roundRobin],
      ...config
    }) {
      const { client, sockets } = connected();
      const consumer = client.consumer({
        ...config,
        // A consumer that crashes while it is being disconnected would start again afterwards.
        retry: { ...retry, ...config.retry, restartOnFailure: async () => !sockets.closed() },
        partitionAssigners: partitionAssigners.map((create) =>
          remembering(create, { staysMember, onJoined, onLost }),
        ),
      });
      return sockets.bounded(consumer);
    },
    admin() {
      const { client, sockets } = connected();
      return sockets.bounded(client.admin({ retry }));
    },
    reader(topic) {
      const { client, sockets } = connected();
      let cluster: Cluster | undefined;
      // Joins no group: it is made for its connections, which kafkajs hands to the assigners of a consumer.
      client.consumer({
        groupId: 'none',
        retry,
        partitionAssigners: [
          (config) => {
            cluster = config.cluster as unknown as Cluster;
            return kafkajs.PartitionAssigners.roundRobin(config);
          },
        ],
        allowAutoTopicCreation: false,
      });
      return sockets.bounded(recordReader(topic, cluster!));
    },
  };
}

const LEVELS: Readonly<Record<number, KafkaLog['level']>> = {
  [kafkajs.logLevel.ERROR]: 'error',
  [kafkajs.logLevel.WARN]: 'warn',
  [kafkajs.logLevel.DEBUG]: 'debug',
};

/** The connections of one client. */
function connections() {
  const open = new Set<Socket>();
  let closed = false;
  return {
    closed: () => closed,
    open({
      host,
      port,
      ssl,
      onConnect,
    }: {
      host: string;
      port: number;
      ssl: tls.ConnectionOptions;
      onConnect: () => void;
    }) {
      if (closed) throw new Error('The client of Kafka is closed.');
      const socket = ssl
        ? tls.connect(
            { host, port, ...(net.isIP(host) === 0 ? { servername: host } : {}), ...ssl },
            onConnect,
          )
        : net.connect({ host, port }, onConnect);
      socket.setKeepAlive(true, 60_000);
      socket.setNoDelay(true);
      open.add(socket);
      socket.once('close', () => open.delete(socket));
      return socket;
    },
    bounded<Client extends { connect(): Promise<void>; disconnect(): Promise<void> }>(
      client: Client,
    ): Client {
      return {
        ...client,
        connect() {
          closed = false;
          return client.connect();
        },
        async disconnect() {
          closed = true;
          const late = new AbortController();
          await Promise.race([
            // What it has to say about a broker that is gone changes nothing: its connections are closed next.
            client.disconnect().catch(() => {}),
            pause(DISCONNECT_WITHIN_MS, undefined, { signal: late.signal }).catch(() => {}),
          ]);
          late.abort();
          // With an error, so that kafkajs drops the requests that wait for an answer.
          for (const socket of open) socket.destroy(new Error('The client of Kafka is closed.'));
        },
      };
    },
  };
}

const READ_COMMITTED = 1;
const FETCH_BYTES = 4 * 1024 * 1024;
const FETCH_PARTITION_BYTES = 1024 * 1024;

function recordReader(topic: string, cluster: Cluster): RecordReader {
  const target = () => cluster.addMultipleTargetTopics([topic]);

  async function ends(partitions: readonly number[], fromBeginning: boolean): Promise<Map<number, bigint>> {
    const asked = partitions.map((partition) => ({ partition }));
    const topics = await cluster.fetchTopicsOffset([{ topic, partitions: asked, fromBeginning }]);
    return new Map(
      topics.flatMap((one) => one.partitions.map(({ partition, offset }) => [partition, BigInt(offset)])),
    );
  }

  return {
    connect: () => cluster.connect(),
    disconnect: () => cluster.disconnect(),
    async partitions() {
      await target();
      await cluster.refreshMetadata();
      return cluster
        .findTopicPartitionMetadata(topic)
        .map(({ partitionId }) => partitionId)
        .sort((a, b) => a - b);
    },
    async offsets(partitions) {
      await target();
      const low = await ends(partitions, true);
      const high = await ends(partitions, false);
      return new Map(
        partitions.map((partition) => {
          const range = { low: low.get(partition), high: high.get(partition) };
          if (range.low === undefined || range.high === undefined) {
            throw new Error(`Partition ${partition} of topic ${topic} has no leader now.`);
          }
          return [partition, { low: range.low, high: range.high }];
        }),
      );
    },
    leaders(partitions) {
      const led = Object.entries(cluster.findLeaderForPartitions(topic, [...partitions]));
      return new Map(led);
    },
    async fetch(leader, offsets, waitMs) {
      await cluster.refreshMetadataIfNecessary();
      const broker = await cluster.findBroker({ nodeId: leader });
      const partitions = [...offsets].map(([partition, offset]) => ({
        partition,
        fetchOffset: offset.toString(),
        maxBytes: FETCH_PARTITION_BYTES,
      }));
      try {
        const { responses } = await broker.fetch({
          maxWaitTime: waitMs,
          minBytes: 1,
          maxBytes: FETCH_BYTES,
          isolationLevel: READ_COMMITTED,
          topics: [{ topic, partitions }],
        });
        return responses.flatMap((one) =>
          one.partitions.map((data) => fetched(topic, offsets.get(data.partition)!, data)),
        );
      } catch (error) {
        const { name, partition, host, port } = error as Record<string, unknown>;
        if (name === 'KafkaJSOffsetOutOfRange') throw new OffsetOutOfRange(partition as number);
        if (name === 'KafkaJSConnectionClosedError') cluster.removeBroker({ host, port });
        throw error;
      }
    },
    async refresh() {
      await cluster.connect();
      await target();
      await cluster.refreshMetadata();
    },
  };
}

function fetched(topic: string, offset: bigint, data: PartitionData): Fetched {
  const { messages, messagesWithinOffset, rawMessages } = new KafkaBatch(topic, offset.toString(), data);
  const last = messagesWithinOffset.at(-1);
  // Where the offset lies in what compaction removed, all that came lies before it.
  const nextOffset =
    last !== undefined ? BigInt(last.offset) + 1n : rawMessages.length > 0 ? offset + 1n : offset;
  return { partition: data.partition, messages, nextOffset };
}

// ── What is mended in kafkajs ──────────────────────────────────────────────────────────────────────────────────
// It is pinned to its last release, so its inner modules stay as they are.

interface ConsumerGroup {
  readonly assigners: readonly object[];
  memberId: string | null;
  readonly generationId: number;
  assigned(): Joined['partitions'];
  joinAndSync(): Promise<void>;
  leave(): Promise<void>;
}
interface PartitionData {
  readonly partition: number;
}
interface Cluster {
  connect(): Promise<void>;
  disconnect(): Promise<void>;
  addMultipleTargetTopics(topics: string[]): Promise<void>;
  refreshMetadata(): Promise<void>;
  refreshMetadataIfNecessary(): Promise<void>;
  removeBroker(address: { host: unknown; port: unknown }): void;
  findTopicPartitionMetadata(topic: string): { partitionId: number }[];
  findLeaderForPartitions(topic: string, partitions: number[]): Record<string, number[]>;
  fetchTopicsOffset(
    topics: { topic: string; partitions: { partition: number }[]; fromBeginning: boolean }[],
  ): Promise<{ partitions: { partition: number; offset: string }[] }[]>;
  findBroker(node: { nodeId: string }): Promise<{
    fetch(request: {
      maxWaitTime: number;
      minBytes: number;
      maxBytes: number;
      isolationLevel: number;
      topics: { topic: string; partitions: { partition: number; fetchOffset: string; maxBytes: number }[] }[];
    }): Promise<{ responses: { partitions: PartitionData[] }[] }>;
  }>;
}
interface RequestQueue {
  readonly pending: readonly unknown[];
  scheduleCheckPendingRequests(): void;
}
const inside = createRequire(createRequire(import.meta.url).resolve('kafkajs'));
const KafkaBatch: new (
  topic: string,
  fetchedOffset: string,
  data: PartitionData,
) => Record<'messages' | 'messagesWithinOffset' | 'rawMessages', KafkaMessage[]> =
  inside('./src/consumer/batch.js');
const consumerGroup: ConsumerGroup = inside('./src/consumer/consumerGroup.js').prototype;
const requestQueue: RequestQueue = inside('./src/network/requestQueue/index.js').prototype;

type MembershipConfig = Pick<MemberConfig, 'staysMember' | 'onJoined' | 'onLost'>;
interface Membership extends Required<MembershipConfig> {
  memberId: string | null;
  group: ConsumerGroup | null;
}
/** By the assigner, which is one object as long as the consumer lives; the group is a new one after each crash. */
const memberships = new WeakMap<object, Membership>();

function remembering(
  create: PartitionAssigner,
  {
    staysMember = () => false,
    onJoined = () => {},
    onLost = () => {},
  }: { [Key in keyof MembershipConfig]: MembershipConfig[Key] | undefined },
): PartitionAssigner {
  return (config) => {
    const assigner = create(config);
    memberships.set(assigner, { staysMember, onJoined, onLost, memberId: null, group: null });
    return assigner;
  };
}

const { joinAndSync, leave } = consumerGroup;
consumerGroup.joinAndSync = async function () {
  const membership = memberships.get(this.assigners[0]!);
  if (membership === undefined) return joinAndSync.call(this);
  const { memberId } = membership;
  if (membership.group !== this) {
    membership.group = this;
    if (membership.staysMember()) this.memberId = memberId;
  }
  if (memberId !== null && this.memberId === null) membership.onLost();
  await joinAndSync.call(this);
  // While joining, too, the broker may say that it does not know it; kafkajs then joins as a new one.
  if (memberId !== null && this.memberId !== memberId) membership.onLost();
  membership.memberId = this.memberId;
  membership.onJoined({ generation: this.generationId, partitions: this.assigned() });
};
consumerGroup.leave = async function () {
  if (memberships.get(this.assigners[0]!)?.staysMember()) return;
  await leave.call(this);
};

// With nothing to send it sets a timer of a negative time after every answer, and Node prints a warning of it.
const { scheduleCheckPendingRequests } = requestQueue;
requestQueue.scheduleCheckPendingRequests = function () {
  if (this.pending.length > 0) scheduleCheckPendingRequests.call(this);
};
