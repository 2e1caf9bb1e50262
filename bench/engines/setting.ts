/** What the benchmarks on engines stand on: a log, a topic, clients of Kafka and a process beside this one. */
import { type ChildProcess, fork } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import kafkajs, { type KafkaMessage, type Producer, type ProducerConfig } from 'kafkajs';
import type { NewEvent } from '../../contracts/envelope.ts';
import { catalogue } from '../../contracts/events/catalogue.ts';
import { createKafka, type Kafka } from '../../infra/bus/kafka/client.ts';
import { openKafkaSignalBus } from '../../infra/bus/kafka/signals.ts';
import { ensureTopics, type Topics } from '../../infra/bus/kafka/topics.ts';
import type { SignalBus } from '../../infra/bus/port.ts';
import type { EventStore } from '../../infra/event-store/port.ts';
import { openSqliteEventStore } from '../../infra/event-store/sqlite.ts';
import { withCatalogue } from '../../infra/event-store/with-catalogue.ts';
import type { BenchResult } from '../result.ts';

/** As KAFKA_PARTITIONS is without being set. */
export const PARTITIONS = 6;
const OWNERS = 64;
const APPENDS_AT_ONCE = 256;
const POLL_MS = 1;
const ATTEMPTS = 5;
const ATTEMPT_PAUSE_MS = 500;
const END_WITHIN_MS = 10_000;

/** Nothing is expected to fail here: what does is shown beside the figures, and the run counts as failed. */
export function onError(error: unknown): void {
  console.error(error);
  process.exitCode = 1;
}

export const openKafka = (broker: string): Kafka => createKafka({ brokers: [broker], clientId: 'bench' });

/** New ones, as every deployment has them. */
export const makeTopics = (kafka: Kafka): Promise<Topics> =>
  ensureTopics({ kafka, prefix: randomUUID(), partitions: PARTITIONS, onWarning: onError });

/** Closed when the benchmark is over. */
export async function openSignals(
  kafka: Kafka,
  topic: string,
  open: AsyncDisposableStack,
): Promise<SignalBus> {
  const onAvailability = (problem: string | null) => problem !== null && onError(new Error(problem));
  const bus = await opened(() => openKafkaSignalBus({ kafka, topic, onError, onAvailability }));
  open.defer(() => bus.close());
  return bus;
}

/** A busy broker may not lead yet what it has just made: tried again, as a deployment does. */
async function opened<Opened>(open: () => Promise<Opened>): Promise<Opened> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await open();
    } catch (error) {
      if (attempt === ATTEMPTS) throw error;
      await pause(ATTEMPT_PAUSE_MS);
    }
  }
}

/** Removed, with all that is in it, when the benchmark is over. */
export async function temporaryFolder(open: AsyncDisposableStack): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), 'odeon-bench-'));
  open.defer(() => rm(directory, { recursive: true }));
  return directory;
}

/** A log as the processes of a deployment on one machine share it. */
export const openLog = async (directory: string): Promise<EventStore> =>
  withCatalogue(await openSqliteEventStore({ directory, shared: true }));

// ── events ────────────────────────────────────────────────────────────────

/** As the event number `n` of a log of so many conversations: what a user says in one of them. */
export function eventNumber(n: number, conversations: number): { stream: string; event: NewEvent } {
  const conversation = n % conversations;
  const owner = `user-${conversation % OWNERS}`;
  const [type, data] =
    n < conversations
      ? [
          'ConversationStarted' as const,
          { title: null, mode: 'assistant', model: null, kind: 'chat', agent: null, linkId: null },
        ]
      : [
          'MessageSent' as const,
          {
            messageId: randomUUID(),
            turnId: `turn-${n}`,
            content: 'What did the committee decide about the position in gold, and who voted against it?',
            model: null,
            instructions: null,
            run: null,
            prompt: null,
          },
        ];
  const event: NewEvent = {
    id: randomUUID(),
    type,
    schemaVersion: catalogue[type].version,
    owner,
    actor: { kind: 'user', id: owner },
    correlationId: randomUUID(),
    causationId: null,
    commandId: randomUUID(),
    surface: 'luna',
    data,
  };
  return { stream: `conversation-${conversation}`, event };
}

/** So many events, the conversations in turns. */
export async function fillLog(store: EventStore, events: number, conversations: number): Promise<void> {
  for (let from = 0; from < events; from += APPENDS_AT_ONCE) {
    const numbers = Array.from({ length: Math.min(APPENDS_AT_ONCE, events - from) }, (_, i) => from + i);
    await Promise.all(
      numbers.map((n) => {
        const { stream, event } = eventNumber(n, conversations);
        return store.append(stream, [event], { expectedRevision: 'any' });
      }),
    );
  }
}

// ── bare kafkajs ──────────────────────────────────────────────────────────

/** Silent: what kafkajs tries again is no matter here, and what fails is thrown, or does not come. */
const bare = (broker: string) =>
  new kafkajs.Kafka({ brokers: [broker], clientId: 'bare', logLevel: kafkajs.logLevel.NOTHING });

/** Idempotent, and acknowledged by all replicas: what one would send events with. */
export async function bareProducer(
  broker: string,
  open: AsyncDisposableStack,
  config: ProducerConfig = {},
): Promise<Producer> {
  const producer = bare(broker).producer({ idempotent: true, allowAutoTopicCreation: false, ...config });
  await producer.connect();
  open.defer(() => producer.disconnect());
  return producer;
}

/** Reads the topic from its beginning, as the one member of a new group. Resolves when it has joined it. */
export async function bareConsumer(
  broker: string,
  topic: string,
  open: AsyncDisposableStack,
  onRecords: (records: readonly KafkaMessage[]) => void,
): Promise<void> {
  const consumer = bare(broker).consumer({ groupId: randomUUID(), allowAutoTopicCreation: false });
  const joined = new Promise<void>((resolve) => consumer.on('consumer.group_join', () => resolve()));
  await consumer.connect();
  open.defer(() => consumer.disconnect());
  await consumer.subscribe({ topic, fromBeginning: true });
  await consumer.run({ autoCommit: false, eachBatch: async ({ batch }) => onRecords(batch.messages) });
  await joined;
}

// ── waiting and measuring ─────────────────────────────────────────────────

/** @throws Error when it does not come true within two minutes */
export async function until(what: string, isSo: () => boolean): Promise<void> {
  const deadline = performance.now() + 120_000;
  while (!isSo()) {
    if (performance.now() > deadline) throw new Error(`In vain: ${what}.`);
    await pause(POLL_MS);
  }
}

/** A figure of which more is better. */
export const rate = (
  name: string,
  unit: string,
  { floor, ours }: { readonly floor: number; readonly ours: number },
): BenchResult => ({ name, unit, floor, ours, ratio: ours / floor, target: null });

/** A figure of which less is better. */
export const latency = (
  name: string,
  { floor, ours }: { readonly floor: number; readonly ours: number },
): BenchResult => ({ name, unit: 'ms', floor, ours, ratio: floor / ours, target: null });

/** The log, and how often it was read to its end: a subscription has done so twice once it listens to the topic. */
export function countingReads(store: EventStore): { readonly store: EventStore; count(): number } {
  let count = 0;
  return {
    store: {
      ...store,
      async *readAll(options) {
        yield* store.readAll(options);
        count += 1;
      },
    },
    count: () => count,
  };
}

// ── other processes ───────────────────────────────────────────────────────

/**
 * Runs the file with the task as its argument, until the benchmark is over. One that ends before is reported, and
 * what is waited for does not come.
 */
export function startProcess<Report>(
  file: string,
  task: unknown,
  open: AsyncDisposableStack,
  onReport: (report: Report) => void,
): ChildProcess {
  const child = fork(file, [JSON.stringify(task)]);
  let over = false;
  const exited = once(child, 'exit').then(([code, signal]) => {
    if (!over || code !== 0) onError(new Error(`Another process of the benchmark ended: ${signal ?? code}`));
  });
  child.on('message', onReport);
  open.defer(async () => {
    over = true;
    if (child.connected) child.disconnect();
    const late = setTimeout(() => child.kill('SIGKILL'), END_WITHIN_MS);
    await exited;
    clearTimeout(late);
  });
  return child;
}

/** Of a file that is run as another process: what `startProcess` was given. */
export const taskOf = <Task>(): Task => JSON.parse(process.argv[2]!);

/** In the other process. */
export const benchIsOver = (): Promise<unknown> => once(process, 'disconnect');
