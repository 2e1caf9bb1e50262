import { randomUUID } from 'node:crypto';
import { expect } from 'chai';
import type { EventEnvelope } from '../../../contracts/envelope.ts';
import { describeWithEngines, FIRST_START_MS } from '../../../test/engines/availability.ts';
import { type KafkaBroker, startKafka } from '../../../test/engines/kafka.ts';
import type { EventStore } from '../../event-store/port.ts';
import { append, everything, newEvent, until } from '../events-conformance.ts';
import type { Kafka } from './client.ts';
import { type KafkaFixture, type Outsider, openFixture, openOutsider, withAdmin } from './kafka.fixture.ts';
import { partitionOf } from './record.ts';

const text = (value: unknown) => (value === undefined ? undefined : String(value));

describeWithEngines(['kafka'], 'The relay', function () {
  this.timeout(40_000);
  let broker: KafkaBroker;
  before(async function () {
    this.timeout(FIRST_START_MS);
    broker = await startKafka();
  });
  after(() => broker.stop());

  let fixture: KafkaFixture;
  let outsiders: Outsider[];
  beforeEach(async () => {
    outsiders = [];
    fixture = await openFixture(broker.brokers, { partitions: 4 });
  });
  afterEach(async () => {
    await Promise.all(outsiders.map((outsider) => outsider.close()));
    await fixture.close();
  });
  const outside = async () => {
    const outsider = await openOutsider(fixture.kafka, fixture.topic);
    outsiders.push(outsider);
    return outsider;
  };
  const ofEach = async (count: number) => {
    for (let at = 0; at < 12; at++) {
      const owner = `owner-${at}`;
      await append(
        fixture.store,
        owner,
        Array.from({ length: count }, () => newEvent(owner)),
      );
    }
  };

  /** What others can read, is each event of the log once, in its owner's partition, in the order of the log. */
  async function expectRelayed(store: EventStore = fixture.store): Promise<void> {
    const all = await everything(store);
    const outsider = await outside();
    await until(() => outsider.count() >= all.length, `${all.length} records`);
    const partitions = new Map<number, EventEnvelope[]>();
    for (const event of all) {
      const partition = partitionOf(event.owner, 4);
      partitions.set(partition, [...(partitions.get(partition) ?? []), event]);
    }
    expect(outsider.events).to.deep.equal(partitions);
    // And nothing says that a partition is complete where it is not.
    for (const messages of outsider.messages.values()) {
      const positions = messages.map(({ headers }) => text(headers?.position));
      const afters = messages.map(({ headers }) => text(headers?.after));
      expect(afters).to.deep.equal(['0', ...positions.slice(0, -1)]);
    }
  }
  const relayed = async (relay: { position(): string | null }) => {
    const head = await fixture.store.head();
    await until(() => relay.position() === head, `position ${head} relayed`);
  };

  it('copies what the log holds, and what comes, in the documented format', async () => {
    await ofEach(50);
    const relay = fixture.startRelay();
    const { events } = await append(fixture.store, 'ada');
    await relayed(relay);
    for (let round = 0; round < 5; round++) await ofEach(1);
    await relayed(relay);
    await expectRelayed();
    const [outsider] = outsiders;
    const message = [...outsider!.messages.values()].flat().find(({ key }) => text(key) === 'ada')!;
    const [event] = events;
    expect(JSON.parse(String(message.value))).to.deep.equal(event);
    const { after, ...headers } = Object.fromEntries(
      Object.entries(message.headers!).map(([name, value]) => [name, text(value)]),
    );
    expect(headers).to.deep.equal({
      type: 'Tested',
      position: event!.position,
      owner: 'ada',
      schemaVersion: '1',
    });
    // Each partition ends at the head, be it with an event or with progress.
    const head = await fixture.store.head();
    for (const messages of outsider!.messages.values()) {
      expect(text(messages.at(-1)!.headers?.position)).to.equal(head);
    }
  });

  it('goes on with what the topic ends with', async () => {
    const first = fixture.startRelay();
    await ofEach(3);
    await relayed(first);
    await first.stop();
    expect(first.active()).to.equal(false);
    await ofEach(3);
    const second = fixture.startRelay();
    await relayed(second);
    await expectRelayed();
  });

  it('finds the end behind what was undone', async () => {
    const first = fixture.startRelay();
    await ofEach(1);
    await relayed(first);
    await first.stop();
    const producer = fixture.kafka.producer({ transactionalId: randomUUID(), maxInFlightRequests: 1 });
    await producer.connect();
    for (let round = 0; round < 3; round++) {
      const transaction = await producer.transaction();
      const messages = Array.from({ length: 60 }, (_, at) => ({
        partition: at % 4,
        value: 'undone',
        headers: { type: '$progress', position: '999', after: '0' },
      }));
      await transaction.send({ topic: fixture.topic, messages });
      await transaction.abort();
    }
    await producer.disconnect();
    await ofEach(1);
    await relayed(fixture.startRelay());
    await expectRelayed();
  });

  it('fills a topic that was made anew from the beginning', async () => {
    const first = fixture.startRelay();
    await ofEach(2);
    await relayed(first);
    await first.stop();
    await withAdmin(fixture.kafka, async (admin) => {
      await admin.deleteTopics({ topics: [fixture.topic] });
      const again = { topics: [{ topic: fixture.topic, numPartitions: 4 }] };
      for (let made = false; !made; ) made = await admin.createTopics(again).catch(() => false);
    });
    await relayed(fixture.startRelay());
    await expectRelayed();
  });

  it('does not begin anew where records have expired', async () => {
    const first = fixture.startRelay();
    await ofEach(2);
    await relayed(first);
    await first.stop();
    await withAdmin(fixture.kafka, async (admin) => {
      await admin.fetchTopicOffsets(fixture.topic); // or else kafkajs does not know who leads
      await admin.deleteTopicRecords({
        topic: fixture.topic,
        partitions: [0, 1, 2].map((partition) => ({ partition, offset: '-1' })),
      });
    });
    const second = fixture.startRelay();
    await relayed(second);
    const { events } = await append(fixture.store, 'ada');
    await relayed(second);
    const outsider = await outside();
    await until(
      () => outsider.events.get(partitionOf('ada', 4))?.at(-1)?.id === events[0]!.id,
      'the last event',
    );
    for (const partition of [0, 1, 2]) {
      const left = (outsider.events.get(partition) ?? []).map(({ owner }) => owner);
      expect(left).to.deep.equal(partitionOf('ada', 4) === partition ? ['ada'] : []);
    }
  });

  it('is one at a time, and hands over at once when it is stopped', async () => {
    const first = fixture.startRelay();
    await until(first.active, 'the first to be active');
    const second = fixture.startRelay();
    await ofEach(2);
    await relayed(first);
    expect(second.active()).to.equal(false);
    expect(second.position()).to.equal(null);
    const began = performance.now();
    await first.stop();
    await until(second.active, 'the second to be active');
    expect(performance.now() - began).to.be.lessThan(4_000);
    await ofEach(2);
    await relayed(second);
    await expectRelayed();
  });

  it('neither loses nor doubles a record when its process is killed again and again', async function () {
    this.timeout(60_000);
    const appending = new AbortController();
    let appendedEvents = 0;
    const appended = (async () => {
      for (let at = 0; !appending.signal.aborted; at++) {
        const owner = `owner-${at % 30}`;
        const { events } = await append(fixture.store, owner, [newEvent(owner), newEvent(owner)]);
        appendedEvents += events.length;
      }
    })();
    const takeOverMs: number[] = [];
    let current = fixture.startProcess('relay');
    await until(current.active, 'the first to be active');
    for (let round = 0; round < 2; round++) {
      const next = fixture.startProcess('relay');
      const enough = appendedEvents + 100 + Math.random() * 200;
      await until(() => appendedEvents > enough, 'more events');
      const began = performance.now();
      await current.kill();
      await until(next.active, 'the next to be active');
      takeOverMs.push(performance.now() - began);
      expect(current.errors.concat(next.errors)).to.deep.equal([]);
      current = next;
    }
    appending.abort();
    await appended;
    await expectRelayed();
    expect(Math.max(...takeOverMs)).to.be.lessThan(10_000);
  });

  it('neither loses nor doubles a record wherever it breaks off', async () => {
    const steps = ['before a send', 'after a send', 'before the commit', 'after the commit'] as const;
    const broken: string[] = [];
    const errors: unknown[] = [];
    let batches = 0;
    const breakAt = (step: (typeof steps)[number]) => {
      if (batches % 3 !== 0 || step !== steps[(batches / 3) % steps.length]) return;
      batches += 1;
      broken.push(step);
      throw new Error(step);
    };
    const kafka: Kafka = {
      ...fixture.kafka,
      producer(config) {
        const producer = fixture.kafka.producer(config);
        return {
          ...producer,
          async transaction() {
            const transaction = await producer.transaction();
            let sent = false;
            return {
              ...transaction,
              async send(messages) {
                sent = true;
                batches += 1;
                breakAt('before a send');
                const result = await transaction.send(messages);
                breakAt('after a send');
                return result;
              },
              async commit() {
                if (sent) breakAt('before the commit');
                await transaction.commit();
                if (sent) breakAt('after the commit');
              },
            };
          },
        };
      },
    };
    const relay = fixture.startRelay({ kafka, onError: (error) => errors.push(error) });
    while (broken.length < 6) {
      await ofEach(1);
      await relayed(relay);
    }
    await relayed(relay);
    expect(new Set(broken)).to.deep.equal(new Set(steps));
    expect(errors.map((error) => (error as Error).message)).to.deep.equal(broken);
    await expectRelayed();
  });

  it('cannot be disturbed by one that was thought to be gone', async () => {
    const first = fixture.startProcess('relay');
    await until(first.active, 'the first to be active');
    const second = fixture.startRelay();
    for (let round = 0; round < 20; round++) await ofEach(1);
    first.process.kill('SIGSTOP');
    await ofEach(5);
    await until(second.active, 'the second to be active');
    await relayed(second);
    first.process.kill('SIGCONT');
    for (let round = 0; round < 20; round++) await ofEach(1);
    await until(() => !first.active(), 'the first to notice');
    await relayed(second);
    expect(second.active()).to.equal(true);
    // It stands by again.
    await second.stop();
    await until(first.active, 'the first to be active again');
    await ofEach(1);
    await first.stop();
    await relayed(fixture.startRelay());
    await expectRelayed();
  });

  it('goes on when the store or Kafka was away', async () => {
    const errors: unknown[] = [];
    const told: (string | null)[] = [];
    let away = true;
    const store: EventStore = {
      ...fixture.store,
      subscribe(options) {
        if (away) throw new Error('the store is away');
        return fixture.store.subscribe(options);
      },
    };
    const relay = fixture.startRelay({
      store,
      onError: (error) => errors.push(error),
      onAvailability: (problem) => told.push(problem),
    });
    await ofEach(1);
    await until(() => errors.length >= 2, 'errors of the store');
    expect(errors.map(String)).to.deep.equal(errors.map(() => 'Error: the store is away'));
    away = false;
    await relayed(relay);
    expect(told).to.deep.equal([null]);

    // Not with SIGKILL: a lone broker that is killed right after a commit may come back without the end of that
    // transaction, and the relay then takes the topic for empty and sends again what it had sent (known, not solved).
    await broker.kill('SIGTERM');
    await ofEach(1);
    await until(() => typeof told.at(-1) === 'string', 'the problem');
    await broker.restart();
    const began = performance.now();
    await relayed(relay);
    expect(performance.now() - began).to.be.lessThan(5_000);
    await until(() => told.at(-1) === null, 'the end of the problem');
    await expectRelayed();
  });

  it('says what is wrong with the topic', async () => {
    const errors: unknown[] = [];
    const onError = (error: unknown) => errors.push(error);
    const other = fixture.startRelay({ partitions: 5, onError });
    await until(() => errors.length > 0, 'an error');
    expect(String(errors[0])).to.contain(`Topic ${fixture.topic} has 4 partitions, not 5.`);
    await other.stop();

    const full = fixture.startRelay();
    await ofEach(1);
    await relayed(full);
    await full.stop();
    errors.length = 0;
    const shorter = fixture.startRelay({ onError, store: { ...fixture.store, end: async () => '11' } });
    await until(() => errors.length > 0, 'an error');
    expect(String(errors[0])).to.contain(
      `Topic ${fixture.topic} has position 12 of the log, which ends at 11`,
    );
    expect(shorter.active()).to.equal(false);
    await shorter.stop();

    errors.length = 0;
    fixture.startRelay({ onError });
    await append(fixture.store, 'ada', [newEvent('ada', 'Large', { text: 'x'.repeat(1_200_000) })]);
    await until(() => errors.length > 0, 'an error');
    expect(String(errors[0])).to.match(/does not take an event of 12\d{5} bytes.*max\.message\.bytes/);
    await withAdmin(fixture.kafka, (admin) =>
      admin.alterConfigs({
        validateOnly: false,
        resources: [
          { type: 2, name: fixture.topic, configEntries: [{ name: 'max.message.bytes', value: '4000000' }] },
        ],
      }),
    );
    await expectRelayed();
  });
});
