/**
 * Events through Kafka in bulk: the relay; what consumers get while it writes; and what a consumer gets that begins
 * at the beginning of the log. The floor sends the very messages that the relay sent, in the same batches, and
 * parses what it receives.
 */
import { START } from '../../contracts/envelope.ts';
import type { Kafka, Message } from '../../infra/bus/kafka/client.ts';
import { openKafkaEventBus } from '../../infra/bus/kafka/events.ts';
import { startRelay } from '../../infra/bus/kafka/relay.ts';
import type { EventStore } from '../../infra/event-store/port.ts';
import { startKafka } from '../../test/engines/kafka.ts';
import { type BenchResult, median } from '../result.ts';
import {
  bareConsumer,
  bareProducer,
  countingReads,
  fillLog,
  makeTopics,
  onError,
  openKafka,
  openLog,
  PARTITIONS,
  rate,
  temporaryFolder,
  until,
} from './setting.ts';

const EVENTS = 20_000;
const CONVERSATIONS = 1_000;
const ROUNDS = 3;

/** What one round measured, in ms. */
interface Round {
  readonly relayed: number;
  readonly sent: number;
  readonly relayedToSubscriptions: number;
  readonly sentToConsumer: number;
  readonly subscribedFromBeginning: number;
  readonly consumedFromBeginning: number;
}

export async function benchRelay(): Promise<BenchResult[]> {
  await using open = new AsyncDisposableStack();
  const broker = await startKafka();
  open.defer(() => broker.stop());
  const rounds: Round[] = [];
  // The first one warms up.
  for (let n = 0; n <= ROUNDS; n++) {
    const measured = await measure(broker.brokers);
    if (n > 0) rounds.push(measured);
  }
  const compared = (name: string, floor: keyof Round, ours: keyof Round) => {
    const of = (what: keyof Round) => (EVENTS / median(rounds.map((one) => one[what]))) * 1_000;
    return rate(name, 'events/s', { floor: of(floor), ours: of(ours) });
  };
  const log = `a log of ${EVENTS.toLocaleString('en')} events`;
  const all = `subscriptions to all ${PARTITIONS} partitions`;
  return [
    compared(`relay of ${log} / bare kafkajs, the same batches`, 'sent', 'relayed'),
    compared(`relay to ${all} / bare producer to bare consumer`, 'sentToConsumer', 'relayedToSubscriptions'),
    compared(
      `${all}, from the beginning / bare consumer`,
      'consumedFromBeginning',
      'subscribedFromBeginning',
    ),
  ];
}

async function measure(broker: string): Promise<Round> {
  await using open = new AsyncDisposableStack();
  const kafka = openKafka(broker);
  const store = await openLog(await temporaryFolder(open));
  open.defer(() => store.close());
  const [recorded, followed, bare, bareFollowed] = await Promise.all([
    newTopic(kafka),
    newTopic(kafka),
    newTopic(kafka),
    newTopic(kafka),
  ]);

  // Those who follow stand before there is anything to follow: what they get comes from the topic.
  const followers = await subscribe(kafka, followed, store, open);
  await followers.standing();
  await fillLog(store, EVENTS, CONVERSATIONS);

  const batches: Message[][] = [];
  const relaying = await relay(recording(kafka, batches), recorded, store);
  const sending = await send(broker, bare, batches);

  const following = await relay(kafka, followed, store);
  const followingEnded = await followers.received();

  const bareConsuming = await consume(broker, bareFollowed, open);
  const bareFollowing = await send(broker, bareFollowed, batches);
  const bareFollowingEnded = (await bareConsuming.received()).ended;

  const fromBeginning = await subscribe(kafka, recorded, store, open);
  const subscribedEnded = await fromBeginning.received();
  const consumed = await (await consume(broker, bare, open)).received();

  return {
    relayed: relaying.ended - relaying.began,
    sent: sending.ended - sending.began,
    relayedToSubscriptions: followingEnded - following.began,
    sentToConsumer: bareFollowingEnded - bareFollowing.began,
    subscribedFromBeginning: subscribedEnded - fromBeginning.began(),
    consumedFromBeginning: consumed.ended - consumed.began,
  };
}

const newTopic = async (kafka: Kafka): Promise<string> => (await makeTopics(kafka)).events;

// ── ours ──────────────────────────────────────────────────────────────────

/** From when it begins to read the log until all of it is in the topic. */
async function relay(kafka: Kafka, topic: string, store: EventStore): Promise<Span> {
  let began = Number.NaN;
  const timed: EventStore = {
    ...store,
    subscribe(options) {
      began = performance.now();
      return store.subscribe(options);
    },
  };
  const head = await store.head();
  const running = startRelay({
    kafka,
    store: timed,
    topic,
    group: `${topic}.relay`,
    partitions: PARTITIONS,
    onError,
  });
  await until('the log is relayed', () => running.position() === head);
  const ended = performance.now();
  await running.stop();
  return { began, ended };
}

/** Keeps what is sent. */
const recording = (kafka: Kafka, batches: Message[][]): Kafka => ({
  ...kafka,
  producer(config) {
    const producer = kafka.producer(config);
    return {
      ...producer,
      async transaction() {
        const transaction = await producer.transaction();
        return {
          ...transaction,
          send(record) {
            batches.push(record.messages);
            return transaction.send(record);
          },
        };
      },
    };
  },
});

/** Subscribes to all partitions from the beginning of the log. */
async function subscribe(kafka: Kafka, topic: string, store: EventStore, open: AsyncDisposableStack) {
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
  let received = 0;
  let began = Number.NaN;
  let ended = Number.NaN;
  await bus.consume('bench', async (partition) => {
    if (Number.isNaN(began)) began = performance.now();
    for await (const { events } of partition.subscribe({ after: START, signal: partition.signal })) {
      received += events.length;
      if (received === EVENTS) ended = performance.now();
    }
  });
  return {
    standing: () => until('the subscriptions stand', () => reads.count() === 2 * PARTITIONS),
    began: () => began,
    /** @returns when the last event came */
    async received(): Promise<number> {
      await until('the subscriptions get all events', () => !Number.isNaN(ended));
      return ended;
    },
  };
}

// ── the floor ─────────────────────────────────────────────────────────────

interface Span {
  readonly began: number;
  readonly ended: number;
}

async function send(broker: string, topic: string, batches: readonly Message[][]): Promise<Span> {
  await using open = new AsyncDisposableStack();
  const producer = await bareProducer(broker, open);
  const began = performance.now();
  for (const messages of batches) await producer.send({ topic, messages, acks: -1 });
  return { began, ended: performance.now() };
}

async function consume(broker: string, topic: string, open: AsyncDisposableStack) {
  let received = 0;
  let ended = Number.NaN;
  await bareConsumer(broker, topic, open, (messages) => {
    for (const { value } of messages) {
      // What says only how far the relay is has no value.
      if (value?.length && JSON.parse(value.toString()).id !== undefined) received += 1;
    }
    if (received === EVENTS && Number.isNaN(ended)) ended = performance.now();
  });
  const began = performance.now();
  return {
    async received(): Promise<Span> {
      await until('the consumer gets all records', () => !Number.isNaN(ended));
      return { began, ended };
    },
  };
}
