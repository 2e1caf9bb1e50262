import { spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { expect } from 'chai';
import type { Signal } from '../../../contracts/live/signals.ts';
import { describeWithEngines, FIRST_START_MS } from '../../../test/engines/availability.ts';
import { type KafkaBroker, startKafka } from '../../../test/engines/kafka.ts';
import { signalBusConformance } from '../conformance.ts';
import type { SignalBus } from '../port.ts';
import { type Admin, createKafka, type Kafka, type Message } from './client.ts';
import { type KafkaSignalBusOptions, openKafkaSignalBus } from './signals.ts';
import { ensureTopics } from './topics.ts';

const PARTITIONS = 3;

const words = (offset: number, text = 'x', turnId = 't'): Signal => ({
  kind: 'text',
  owner: 'ada',
  conversationId: 'c',
  turnId,
  call: '7',
  offset,
  text,
});
const beat = (worker: string): Signal => ({ kind: 'worker', worker, alive: true });
const interrupt: Signal = { kind: 'interrupt', stream: 'conversation-c', workId: 't' };
const upTo = (count: number) => Array.from({ length: count }, (_, i) => i);

async function until(what: string, condition: () => boolean, withinMs = 10_000): Promise<void> {
  const deadline = performance.now() + withinMs;
  while (!condition()) {
    if (performance.now() > deadline) throw new Error(`Waited too long for ${what}`);
    await delay(2);
  }
}

/** A bus, and what it said and heard. */
interface Seen {
  readonly bus: SignalBus;
  readonly heard: Signal[];
  readonly errors: Error[];
  readonly availability: (string | null)[];
}

const offsetsOf = ({ heard }: Seen): number[] =>
  heard.flatMap((signal) => (signal.kind === 'text' ? [signal.offset] : []));

describeWithEngines(['kafka'], 'signals over Kafka', () => {
  let broker: KafkaBroker;
  let kafka: Kafka;
  let topic: string;
  let open: Seen[];

  before(async function () {
    this.timeout(FIRST_START_MS);
    broker = await startKafka();
    kafka = createKafka({ brokers: [broker.brokers], clientId: 'test' });
    ({ signals: topic } = await ensureTopics({
      kafka,
      prefix: 'test',
      partitions: 1,
      onWarning: (warning) => expect.fail(warning),
    }));
  });
  after(() => broker?.stop());
  beforeEach(() => {
    open = [];
  });
  afterEach(async () => {
    await Promise.all(open.map(({ bus }) => bus.close()));
  });

  async function openBus(options: Partial<KafkaSignalBusOptions> = {}): Promise<Seen> {
    const [heard, errors, availability]: [Signal[], Error[], (string | null)[]] = [[], [], []];
    const bus = await openKafkaSignalBus({
      kafka,
      topic,
      onError: (error) => errors.push(error as Error),
      onAvailability: (problem) => availability.push(problem),
      ...options,
    });
    bus.subscribe((signal) => heard.push(signal));
    const seen = { bus, heard, errors, availability };
    open.push(seen);
    return seen;
  }

  async function withAdmin(work: (admin: Admin) => Promise<unknown>): Promise<void> {
    const admin = kafka.admin();
    try {
      await admin.connect();
      await work(admin);
    } finally {
      await admin.disconnect();
    }
  }

  async function produce(messages: Message[]): Promise<void> {
    const producer = kafka.producer();
    try {
      await producer.connect();
      await producer.send({ topic, messages });
    } finally {
      await producer.disconnect();
    }
  }

  signalBusConformance('Kafka', (onError) =>
    openKafkaSignalBus({ kafka, topic, onError, onAvailability() {} }),
  );

  it('reach every process once and in order, from whichever they come', async () => {
    const mine = await openBus();
    const script = `
      const { createKafka } = await import(${JSON.stringify(join(import.meta.dirname, 'client.ts'))});
      const { openKafkaSignalBus } = await import(${JSON.stringify(join(import.meta.dirname, 'signals.ts'))});
      const bus = await openKafkaSignalBus({
        kafka: createKafka({ brokers: [${JSON.stringify(broker.brokers)}], clientId: 'other' }),
        topic: ${JSON.stringify(topic)},
        onError: (error) => { throw error; },
        onAvailability: (problem) => { throw new Error(problem); },
      });
      bus.subscribe((signal) => {
        if (signal.kind === 'text' && signal.turnId === 'question') {
          bus.publish({ ...signal, turnId: 'answer' });
          if (signal.text === 'end') void bus.close();
        }
      });
      bus.publish({ kind: 'worker', worker: 'other', alive: true });`;
    const other = spawn(process.execPath, ['--input-type=module', '-e', script], { stdio: 'inherit' });
    const ended = new Promise((resolve) => other.once('exit', resolve));
    await until('the other process', () => mine.heard.length === 1);
    for (const offset of upTo(500)) mine.bus.publish(words(offset, offset === 499 ? 'end' : 'x', 'question'));
    const of = (turn: string) =>
      offsetsOf({ ...mine, heard: mine.heard.filter((one) => 'turnId' in one && one.turnId === turn) });
    await until('all answers', () => of('answer').length >= 500);
    expect(await ended, 'the other process ends once its bus is closed').to.equal(0);
    expect(of('question')).to.deep.equal(upTo(500));
    expect(of('answer')).to.deep.equal(upTo(500));
  });

  it('that are published once a bus is open are heard there', async () => {
    const publisher = await openBus();
    for (const round of upTo(5)) {
      const listener = await openBus();
      publisher.bus.publish(words(round));
      await until('the signal', () => listener.heard.length > 0);
      expect(offsetsOf(listener)).to.deep.equal([round]);
    }
  });

  it('are heard once when they are in the topic twice', async () => {
    const listener = await openBus();
    const record = (number: number, origin = 'one'): Message => ({
      key: 'c',
      value: JSON.stringify(words(number)),
      headers: { origin, number: String(number) },
    });
    await produce([0, 1, 2, 1, 2, 3].map((number) => record(number)));
    await produce([record(3), record(3, 'two'), record(4)]);
    await until('the last one', () => offsetsOf(listener).includes(4));
    expect(offsetsOf(listener)).to.deep.equal([0, 1, 2, 3, 3, 4]);
  });

  it('that are none are skipped and reported', async () => {
    const listener = await openBus();
    const [first, ...others] = ['not JSON', '{"kind":"text"}', '{"kind":"of a later version"}', '', null];
    await produce([first!, ...others, JSON.stringify(words(5))].map((value) => ({ key: 'c', value })));
    await until('the one that is', () => listener.heard.length > 0);
    expect(offsetsOf(listener)).to.deep.equal([5]);
    const [error, ...more] = listener.errors;
    expect(more).to.be.empty;
    expect(error?.message).to.match(
      /^In test\.signals, partition \d, are records that are no signals: \d+(, \d+){4}$/,
    );
  });

  it('that are larger than a record may be are dropped and reported, and the others are sent', async () => {
    const publisher = await openBus();
    publisher.bus.publish(words(0));
    publisher.bus.publish(words(1, 'x'.repeat(2_000_000)));
    publisher.bus.publish(words(2));
    await until('the last one', () => offsetsOf(publisher).includes(2));
    expect(offsetsOf(publisher)).to.deep.equal([0, 2]);
    expect(publisher.errors.map(({ message }) => message)).to.deep.equal([
      'A signal is larger than Kafka takes: it is dropped.',
    ]);
  });

  it('are sent before the bus closes', async () => {
    const listener = await openBus();
    const publisher = await openBus();
    for (const offset of upTo(1_000)) publisher.bus.publish(words(offset));
    await publisher.bus.close();
    await until('all of them', () => listener.heard.length === 1_000);
  });

  it('come round to their publisher only when the others can hear them too', async () => {
    const publisher = await openBus();
    broker.suspend();
    try {
      publisher.bus.publish(words(0));
      await delay(300);
      expect(publisher.heard).to.be.empty;
    } finally {
      broker.resume();
    }
    await until('the signal', () => publisher.heard.length > 0);
  });

  describe('while the broker is away', () => {
    it('wait, and come in order and once when it is back; the address is told meanwhile', async function () {
      this.timeout(60_000);
      const [publisher, listener] = [await openBus(), await openBus()];
      publisher.bus.publish(words(0));
      await until('the first one', () => listener.heard.length === 1);
      for (const offset of [1, 2, 3]) publisher.bus.publish(words(offset));
      await broker.kill();
      for (const offset of upTo(300).slice(4)) publisher.bus.publish(words(offset));
      for (const worker of ['a', 'b', 'a', 'a', 'b']) publisher.bus.publish(beat(worker));
      const told = ({ availability }: Seen) =>
        availability.at(-1)?.startsWith(`Kafka at ${broker.brokers}: `);
      await until('both to notice', () => [publisher, listener].every(told));
      // Long enough that pauses between attempts have grown.
      await delay(4_000);
      await broker.restart();
      const back = performance.now();
      await until('all of them', () => offsetsOf(listener).length >= 300 && listener.heard.length >= 302);
      expect(performance.now() - back, 'until they came').to.be.below(3_000);
      await until('their publisher to hear them', () => publisher.heard.length >= 302);
      for (const { heard } of [publisher, listener]) {
        expect(heard.filter(({ kind }) => kind === 'text')).to.deep.equal(upTo(300).map((i) => words(i)));
        expect(heard.filter(({ kind }) => kind === 'worker')).to.deep.equal([beat('a'), beat('b')]);
      }
      await until('both to tell', () =>
        [publisher, listener].every((one) => one.availability.at(-1) === null),
      );
      expect([publisher.errors, listener.errors]).to.deep.equal([[], []]);
    });

    it('are bounded: the oldest words go, which is said once, and what is no word stays', async function () {
      this.timeout(60_000);
      const [publisher, listener] = [await openBus({ maxWaitingBytes: 50_000 }), await openBus()];
      await broker.kill();
      publisher.bus.publish(interrupt);
      for (const offset of upTo(2_000)) publisher.bus.publish(words(offset, 'x'.repeat(100)));
      expect(publisher.errors.map(({ message }) => message)).to.deep.equal([
        'More signals wait for Kafka than fit: the oldest are dropped.',
      ]);
      await broker.restart();
      await until('the last one', () => offsetsOf(listener).includes(1_999));
      const heard = offsetsOf(listener);
      expect(heard.length).to.be.within(50, 500);
      expect(heard).to.deep.equal(upTo(2_000).slice(-heard.length));
      expect(listener.heard[0]).to.deep.equal(interrupt);
    });

    it('do not keep the bus from closing', async function () {
      this.timeout(60_000);
      const publisher = await openBus();
      await broker.kill();
      publisher.bus.publish(words(0));
      await until('the bus to notice', () => publisher.availability.length > 0);
      const begun = performance.now();
      await publisher.bus.close();
      expect(performance.now() - begun).to.be.below(2_500);
      const { length } = publisher.availability;
      publisher.bus.publish(words(1));
      await publisher.bus.close();
      expect(publisher.availability).to.have.length(length);
      await broker.restart();
    });
  });

  it('cannot be had where nobody answers', async () => {
    const nobody = createKafka({ brokers: ['127.0.0.1:1'], clientId: 'test' });
    const error = await openBus({ kafka: nobody }).catch((reason) => reason);
    expect(error.message).to.match(
      /^Kafka at 127\.0\.0\.1:1, topic test\.signals: .*ECONNREFUSED 127\.0\.0\.1:1$/,
    );
  });

  it('cannot be had without their topic', async () => {
    const error = await openBus({ topic: 'missing' }).catch((reason) => reason);
    expect(error.message).to.equal(
      `Kafka at ${broker.brokers}, topic missing: This server does not host this topic-partition`,
    );
  });

  it('go on when their topic is made anew, with other partitions', async function () {
    this.timeout(150_000);
    const name = `other.${randomUUID()}`;
    const make = (numPartitions: number) =>
      withAdmin((admin) => admin.createTopics({ topics: [{ topic: name, numPartitions }] }));
    await make(PARTITIONS);
    const [publisher, listener] = [await openBus({ topic: name }), await openBus({ topic: name })];
    for (const offset of upTo(50)) publisher.bus.publish(words(offset));
    await until('those before', () => listener.heard.length === 50);
    await withAdmin((admin) => admin.deleteTopics({ topics: [name] }));
    await until('both to notice', () => listener.availability.length > 0);
    await make(2 * PARTITIONS);
    for (const turn of upTo(20)) {
      const signal = { ...words(turn), conversationId: randomUUID() } as Signal;
      publisher.bus.publish(signal);
    }
    // Partitions that were not there yet when they were looked for are found a minute later.
    await until('those after', () => listener.heard.length === 70, 90_000);
    expect(
      offsetsOf(listener)
        .slice(50)
        .sort((a, b) => a - b),
    ).to.deep.equal(upTo(20));
  });
});
