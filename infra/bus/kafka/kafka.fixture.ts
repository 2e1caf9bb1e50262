/** A log, its topic and what runs on them, for the tests; and, run as a program, one more process of them. */
import { type ChildProcess, fork } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { EventEnvelope } from '../../../contracts/envelope.ts';
import { openSqliteEventStore } from '../../event-store/sqlite.ts';
import type { EventBusFixture } from '../events-conformance.ts';
import type { EventBus } from '../port.ts';
import { createKafka, type Kafka, type KafkaMessage } from './client.ts';
import { type KafkaEventBusOptions, openKafkaEventBus } from './events.ts';
import { type Relay, type RelayOptions, startRelay } from './relay.ts';

export interface KafkaFixture extends EventBusFixture {
  readonly kafka: Kafka;
  readonly topic: string;
  readonly partitions: number;
  openBus(onError?: (error: unknown) => void, options?: Partial<KafkaEventBusOptions>): EventBus;
  startRelay(options?: Partial<RelayOptions>): Relay;
  startProcess(role: Role): OtherProcess;
}

type Role = 'relay' | 'consumer';

/** A process that relays, or consumes as a member of the group `test`. */
export interface OtherProcess {
  readonly process: ChildProcess;
  /** Whether it is the active relay. */
  active(): boolean;
  /** The partitions that it works on now. */
  working(): readonly number[];
  /** The positions of what it was given. */
  readonly positions: string[];
  /** What failed there. */
  readonly errors: string[];
  stop(): Promise<void>;
  /** SIGKILL */
  kill(): Promise<void>;
}

const unexpected = (error: unknown) => {
  throw error;
};

export async function openFixture(
  brokers: string,
  { partitions = 6 }: { partitions?: number } = {},
): Promise<KafkaFixture> {
  const directory = await mkdtemp(join(tmpdir(), 'odeon-kafka-'));
  const store = await openSqliteEventStore({ directory, shared: true });
  const kafka = createKafka({ brokers: [brokers], clientId: 'test' });
  const topic = `${randomUUID()}.events`;
  await withAdmin(kafka, (admin) => admin.createTopics({ topics: [{ topic, numPartitions: partitions }] }));
  const relays: Relay[] = [];
  const others: OtherProcess[] = [];
  return {
    store,
    kafka,
    topic,
    partitions,
    openBus: (onError = unexpected, options = {}) =>
      openKafkaEventBus({ kafka, store, topic, partitions, groupPrefix: topic, onError, ...options }),
    startRelay(options = {}) {
      const relay = startRelay({
        kafka,
        store,
        topic,
        group: `${topic}.relay`,
        partitions,
        onError: unexpected,
        ...options,
      });
      relays.push(relay);
      return relay;
    },
    startProcess(role) {
      const other = startOther({ role, brokers, directory, topic, partitions });
      others.push(other);
      return other;
    },
    async close() {
      await Promise.all([...relays.map((relay) => relay.stop()), ...others.map((other) => other.kill())]);
      await store.close();
      await rm(directory, { recursive: true });
    },
  };
}

export async function withAdmin<Result>(
  kafka: Kafka,
  work: (admin: ReturnType<Kafka['admin']>) => Promise<Result>,
): Promise<Result> {
  const admin = kafka.admin();
  await admin.connect();
  try {
    return await work(admin);
  } finally {
    await admin.disconnect();
  }
}

export interface Outsider {
  /** The events, as they came, by partition. */
  readonly events: Map<number, EventEnvelope[]>;
  readonly messages: Map<number, KafkaMessage[]>;
  count(): number;
  close(): Promise<void>;
}

/** Somebody else's consumer: read_committed, from the beginning, knowing nothing but the record format. */
export async function openOutsider(kafka: Kafka, topic: string): Promise<Outsider> {
  const events = new Map<number, EventEnvelope[]>();
  const messages = new Map<number, KafkaMessage[]>();
  let count = 0;
  const consumer = kafka.consumer({ groupId: randomUUID(), maxWaitTimeInMs: 100 });
  await consumer.connect();
  await consumer.subscribe({ topic, fromBeginning: true });
  await consumer.run({
    autoCommit: false,
    eachMessage: async ({ partition, message }) => {
      // A consumer that has to join again (its broker was restarted) reads on from where it last committed: what has
      // the offset of a record that it has seen is that record.
      if (BigInt(message.offset) <= BigInt(messages.get(partition)?.at(-1)?.offset ?? -1)) return;
      messages.set(partition, [...(messages.get(partition) ?? []), message]);
      if (String(message.headers?.type).startsWith('$')) return;
      count += 1;
      const event = JSON.parse(String(message.value)) as EventEnvelope;
      const before = events.get(partition);
      if (before === undefined) events.set(partition, [event]);
      else before.push(event);
    },
  });
  return { events, messages, count: () => count, close: () => consumer.disconnect() };
}

// ── Another process ────────────────────────────────────────────────────────────────────────────────────────────

interface Task {
  readonly role: Role;
  readonly brokers: string;
  readonly directory: string;
  readonly topic: string;
  readonly partitions: number;
}
type Report =
  | { active: boolean }
  | { begun: number }
  | { ended: number }
  | { positions: string[] }
  | { error: string };

function startOther(task: Task): OtherProcess {
  const child = fork(import.meta.filename, [JSON.stringify(task)]);
  const exited = new Promise<void>((resolve) => child.once('exit', () => resolve()));
  let active = false;
  const working = new Set<number>();
  const positions: string[] = [];
  const errors: string[] = [];
  child.on('message', (report: Report) => {
    if ('active' in report) ({ active } = report);
    else if ('begun' in report) working.add(report.begun);
    else if ('ended' in report) working.delete(report.ended);
    else if ('positions' in report) positions.push(...report.positions);
    else errors.push(report.error);
  });
  const end = async (how: () => void) => {
    if (child.exitCode === null && child.signalCode === null) how();
    await exited;
    active = false;
    working.clear();
  };
  return {
    process: child,
    active: () => active,
    working: () => [...working].sort(),
    positions,
    errors,
    stop: () => end(() => child.disconnect()),
    kill: () => end(() => child.kill('SIGKILL')),
  };
}

async function runTask({ role, brokers, directory, topic, partitions }: Task): Promise<void> {
  const report = (message: Report) => process.connected && process.send?.(message);
  const onError = (error: unknown) => report({ error: String((error as Error).stack ?? error) });
  const store = await openSqliteEventStore({ directory, shared: true });
  const kafka = createKafka({ brokers: [brokers], clientId: `test-${process.pid}` });
  const stopped = new Promise<void>((resolve) => process.once('disconnect', resolve));
  if (role === 'relay') {
    const relay = startRelay({ kafka, store, topic, group: `${topic}.relay`, partitions, onError });
    let active = false;
    const watch = setInterval(() => {
      if (relay.active() === active) return;
      active = relay.active();
      report({ active });
    }, 2);
    await stopped;
    clearInterval(watch);
    await relay.stop();
  } else {
    const bus = openKafkaEventBus({ kafka, store, topic, partitions, groupPrefix: topic, onError });
    await bus.consume('test', async (partition) => {
      report({ begun: partition.number });
      for await (const { events } of partition.subscribe({ after: '0', signal: partition.signal })) {
        report({ positions: events.map(({ position }) => position) });
      }
      report({ ended: partition.number });
    });
    await stopped;
    await bus.close();
  }
  await store.close();
}

if (import.meta.main) await runTask(JSON.parse(process.argv[2]!));
