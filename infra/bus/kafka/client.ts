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
const DISCONNECT_WITHIN_MS = 3_000;
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
}

/**
 * Makes clients; nothing is connected before `connect()`. `disconnect()` of each ends within 3 s, whatever the
 * broker does, and closes its connections.
 */
export interface Kafka {
  readonly brokers: readonly string[];
  producer(config?: ProducerConfig): Producer;
  consumer(config: MemberConfig): Consumer;
  admin(): Admin;
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
    consumer({ staysMember, partitionAssigners = [kafkajs.PartitionAssigners.roundRobin], ...config }) {
      const { client, sockets } = connected();
      const consumer = client.consumer({
        ...config,
        // A consumer that crashes while it is being disconnected would start again afterwards.
        retry: { ...retry, ...config.retry, restartOnFailure: async () => !sockets.closed() },
        partitionAssigners: partitionAssigners.map((create) => remembering(create, staysMember)),
      });
      return sockets.bounded(consumer);
    },
    admin() {
      const { client, sockets } = connected();
      return sockets.bounded(client.admin({ retry }));
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

// ── What is mended in kafkajs ──────────────────────────────────────────────────────────────────────────────────
// It is pinned to its last release, so its inner modules stay as they are. Each of these is a few lines:
// see the tests of `group.ts` for the first, and `client.test.ts` for the second.

interface ConsumerGroup {
  readonly assigners: readonly object[];
  memberId: string | null;
  joinAndSync(): Promise<void>;
  leave(): Promise<void>;
}
interface RequestQueue {
  readonly pending: readonly unknown[];
  scheduleCheckPendingRequests(): void;
}
const inside = createRequire(createRequire(import.meta.url).resolve('kafkajs'));
const consumerGroup: ConsumerGroup = inside('./src/consumer/consumerGroup.js').prototype;
const requestQueue: RequestQueue = inside('./src/network/requestQueue/index.js').prototype;

/** By the assigner, which is one object as long as the consumer lives; the group is a new one after each crash. */
const members = new WeakMap<object, { memberId: string | null; staysMember: () => boolean }>();

function remembering(create: PartitionAssigner, staysMember: (() => boolean) | undefined): PartitionAssigner {
  return (config) => {
    const assigner = create(config);
    if (staysMember !== undefined) members.set(assigner, { memberId: null, staysMember });
    return assigner;
  };
}
const memberOf = ({ assigners }: ConsumerGroup) => members.get(assigners[0]!);

const { joinAndSync, leave } = consumerGroup;
consumerGroup.joinAndSync = async function () {
  const member = memberOf(this);
  if (member === undefined) return joinAndSync.call(this);
  // A member id that the broker does not know any more is answered with an error, after which kafkajs takes none.
  if (member.staysMember()) this.memberId ??= member.memberId;
  await joinAndSync.call(this);
  member.memberId = this.memberId;
};
consumerGroup.leave = async function () {
  if (memberOf(this)?.staysMember()) return;
  await leave.call(this);
};

// With nothing to send it sets a timer of a negative time after every answer, and Node prints a warning of it.
const { scheduleCheckPendingRequests } = requestQueue;
requestQueue.scheduleCheckPendingRequests = function () {
  if (this.pending.length > 0) scheduleCheckPendingRequests.call(this);
};
