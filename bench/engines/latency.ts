/**
 * How long it takes through Kafka until another process has what happened in this one: an event from the call of
 * append, through the log and the relay, to a subscription; and a signal from publish to a listener. The floor is a
 * record of the same size, produced and consumed by bare kafkajs, at the same rate.
 *
 * An event is on disk before Kafka hears of it, and then comes in a transaction, which is two more round trips to the
 * broker (see infra/bus/kafka/relay.ts). So there is a second floor, which does that much too.
 *
 * Run as a program: the other process.
 */
import { randomUUID } from 'node:crypto';
import { setTimeout as pause } from 'node:timers/promises';
import { START } from '../../contracts/envelope.ts';
import type { TextSignal } from '../../contracts/live/signals.ts';
import type { Message } from '../../infra/bus/kafka/client.ts';
import { openKafkaEventBus } from '../../infra/bus/kafka/events.ts';
import { eventMessage } from '../../infra/bus/kafka/record.ts';
import { startRelay } from '../../infra/bus/kafka/relay.ts';
import type { Topics } from '../../infra/bus/kafka/topics.ts';
import { startKafka } from '../../test/engines/kafka.ts';
import { type BenchResult, percentile } from '../result.ts';
import {
  bareConsumer,
  bareProducer,
  benchIsOver,
  countingReads,
  eventNumber,
  latency,
  makeTopics,
  onError,
  openKafka,
  openLog,
  openSignals,
  PARTITIONS,
  startProcess,
  taskOf,
  temporaryFolder,
  until,
} from './setting.ts';

const PER_SECOND = 50;
/** All are measured in turns, so that the machine's moods and what the broker has yet to load cancel. */
const ROUNDS = 3;
const MEASURED = 150;
/** Before them, each time, and not counted. */
const WARMING_UP = 50;
const CONVERSATIONS = 32;

interface Task {
  readonly role: 'events' | 'signals' | 'records';
  readonly broker: string;
  readonly topic: string;
  /** The log's. */
  readonly directory: string | null;
}

/** When something of this name was seen, in ns of the machine's clock, which all processes share. */
type Sight = readonly [name: string, at: string];
type Report = 'ready' | readonly Sight[];

type Way = 'events' | 'steps' | 'sentEvents' | 'signals' | 'sentSignals';

export async function benchLatency(): Promise<BenchResult[]> {
  await using open = new AsyncDisposableStack();
  const { brokers: broker, stop } = await startKafka();
  open.defer(stop);
  const kafka = openKafka(broker);
  const topic = async (kind: keyof Topics) => (await makeTopics(kafka))[kind];

  const all: Record<Way, number[]>[] = [];
  // The first one warms up.
  for (let round = 0; round <= ROUNDS; round++) {
    const appended = await events(broker, await topic('events'));
    const published = await signals(broker, await topic('signals'));
    const measured = {
      events: appended.times,
      steps: await appendsAndTransactions(broker, await topic('events'), appended.record),
      sentEvents: await sends(broker, await topic('events'), appended.record),
      signals: published.times,
      sentSignals: await sends(broker, await topic('signals'), published.record),
    };
    if (round > 0) all.push(measured);
  }
  const compared = (what: string, ours: Way, bare: string, floor: Way) =>
    [0.5, 0.99].map((share) => {
      const of = (way: Way) =>
        percentile(
          all.flatMap((one) => one[way]),
          share,
        );
      return latency(`${what}, p${share * 100} / ${bare}`, { floor: of(floor), ours: of(ours) });
    });
  const event = `an event until another process has it, ${PER_SECOND}/s`;
  const signal = `a signal until another process has it, ${PER_SECOND}/s`;
  return [
    ...compared(event, 'events', 'bare send and consume', 'sentEvents'),
    ...compared(event, 'events', 'the same append, bare transaction and consume', 'steps'),
    ...compared(signal, 'signals', 'bare send and consume', 'sentSignals'),
  ];
}

// ── ours ──────────────────────────────────────────────────────────────────

interface Measured {
  readonly times: number[];
  /** As one of them was in Kafka. */
  readonly record: Message;
}

async function events(broker: string, topic: string): Promise<Measured> {
  await using open = new AsyncDisposableStack();
  const directory = await temporaryFolder(open);
  const store = await openLog(directory);
  open.defer(() => store.close());
  const relay = startRelay({
    kafka: openKafka(broker),
    store,
    topic,
    group: `${topic}.relay`,
    partitions: PARTITIONS,
    onError,
  });
  open.defer(() => relay.stop());
  await until('the relay begins', () => relay.active());
  const times = await measure({ role: 'events', broker, topic, directory }, async (n) => {
    const { stream, event } = eventNumber(n, CONVERSATIONS);
    const began = process.hrtime.bigint();
    await store.append(stream, [event], { expectedRevision: 'any' });
    return [event.id, began];
  });
  for await (const { events } of store.readAll({ direction: 'backwards', limit: 1 })) {
    return { times, record: eventMessage(events[0]!, 0, events[0]!.position) };
  }
  throw new Error('The log is empty.');
}

async function signals(broker: string, topic: string): Promise<Measured> {
  await using open = new AsyncDisposableStack();
  const bus = await openSignals(openKafka(broker), topic, open);
  const [conversationId, turnId] = [randomUUID(), randomUUID()];
  const token = (n: number): TextSignal => ({
    kind: 'text',
    owner: 'user-1',
    conversationId,
    turnId,
    call: '1',
    offset: n,
    text: ' committee',
  });
  const times = await measure({ role: 'signals', broker, topic, directory: null }, async (n) => {
    const began = process.hrtime.bigint();
    bus.publish(token(n));
    return [String(n), began];
  });
  const headers = { origin: randomUUID(), number: '1' };
  return { times, record: { key: conversationId, value: JSON.stringify(token(1)), headers } };
}

// ── the floor ─────────────────────────────────────────────────────────────

const nameOf = (n: number): string => String(n).padStart(36, '0');

async function sends(broker: string, topic: string, record: Message): Promise<number[]> {
  await using open = new AsyncDisposableStack();
  const producer = await bareProducer(broker, open);
  return await measure({ role: 'records', broker, topic, directory: null }, async (n) => {
    const began = process.hrtime.bigint();
    await producer.send({ topic, acks: -1, messages: [{ ...record, partition: 0, key: nameOf(n) }] });
    return [nameOf(n), began];
  });
}

/** As the relay does, one transaction at a time; but with a record in one partition only. */
async function appendsAndTransactions(broker: string, topic: string, record: Message): Promise<number[]> {
  await using open = new AsyncDisposableStack();
  const store = await openLog(await temporaryFolder(open));
  open.defer(() => store.close());
  const producer = await bareProducer(broker, open, {
    transactionalId: topic,
    maxInFlightRequests: 1,
    retry: { initialRetryTime: 2, retries: 20 },
  });
  let last = Promise.resolve();
  return await measure({ role: 'records', broker, topic, directory: null }, async (n) => {
    const { stream, event } = eventNumber(n, CONVERSATIONS);
    const began = process.hrtime.bigint();
    await store.append(stream, [event], { expectedRevision: 'any' });
    last = last.then(async () => {
      const transaction = await producer.transaction();
      await transaction.send({ topic, messages: [{ ...record, partition: 0, key: nameOf(n) }] });
      await transaction.commit();
    });
    await last;
    return [nameOf(n), began];
  });
}

// ── both ──────────────────────────────────────────────────────────────────

/**
 * Does it so many times, at an even rate, whether or not what was done before has ended.
 * @param act does it for the n-th time; gives the name that the other process knows it by, and when it began
 * @returns ms until the other process had it, each
 */
async function measure(
  task: Task,
  act: (n: number) => Promise<[name: string, began: bigint]>,
): Promise<number[]> {
  await using open = new AsyncDisposableStack();
  const seen = new Map<string, bigint>();
  let ready = false;
  startProcess<Report>(import.meta.filename, task, open, (report) => {
    if (report === 'ready') ready = true;
    else for (const [name, at] of report) seen.set(name, BigInt(at));
  });
  await until('the other process is ready', () => ready);
  const acts: Promise<[string, bigint]>[] = [];
  const first = performance.now();
  for (let n = 0; n < WARMING_UP + MEASURED; n++) {
    await pause(Math.max(0, first + (n * 1_000) / PER_SECOND - performance.now()));
    acts.push(act(n));
  }
  const done = await Promise.all(acts);
  await until('the other process has all', () => done.every(([name]) => seen.has(name)));
  return done.slice(WARMING_UP).map(([name, began]) => Number(seen.get(name)! - began) / 1e6);
}

/** The other process. Tells what it saw once a second: telling at once would be part of what is measured. */
async function watch({ role, broker, topic, directory }: Task): Promise<void> {
  await using open = new AsyncDisposableStack();
  const tell = (report: Report) => process.connected && process.send!(report);
  let sights: Sight[] = [];
  const saw = (names: readonly string[]) => {
    const at = String(process.hrtime.bigint());
    for (const name of names) sights.push([name, at]);
  };
  const timer = setInterval(() => {
    tell(sights);
    sights = [];
  }, 1_000);
  open.defer(() => clearInterval(timer));
  const kafka = openKafka(broker);

  if (role === 'events') {
    const store = await openLog(directory!);
    open.defer(() => store.close());
    const reads = countingReads(store);
    const bus = openKafkaEventBus({
      kafka,
      store: reads.store,
      topic,
      partitions: PARTITIONS,
      groupPrefix: topic,
      onError,
    });
    open.defer(() => bus.close());
    await bus.consume('bench', async (partition) => {
      for await (const { events } of partition.subscribe({ after: START, signal: partition.signal })) {
        saw(events.map(({ id }) => id));
      }
    });
    await until('the subscriptions stand', () => reads.count() === 2 * PARTITIONS);
  } else if (role === 'signals') {
    const bus = await openSignals(kafka, topic, open);
    bus.subscribe((signal) => saw([String((signal as TextSignal).offset)]));
  } else {
    await bareConsumer(broker, topic, open, (messages) => saw(messages.map(({ key }) => String(key))));
  }
  tell('ready');
  await benchIsOver();
}

if (import.meta.main) await watch(taskOf());
