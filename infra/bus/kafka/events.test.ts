import { setTimeout as pause } from 'node:timers/promises';
import { expect } from 'chai';
import type { EventEnvelope } from '../../../contracts/envelope.ts';
import { describeWithEngines, FIRST_START_MS } from '../../../test/engines/availability.ts';
import { type KafkaBroker, startKafka } from '../../../test/engines/kafka.ts';
import type { EventStore } from '../../event-store/port.ts';
import {
  append,
  eventBusConformance,
  everything,
  expectAll,
  newEvent,
  record,
  until,
} from '../events-conformance.ts';
import type { EventBus } from '../port.ts';
import type { KafkaEventBusOptions } from './events.ts';
import { type KafkaFixture, openFixture, withAdmin } from './kafka.fixture.ts';
import { eventMessage, partitionOf } from './record.ts';

describeWithEngines(['kafka'], 'Committed events through Kafka', function () {
  this.timeout(40_000);
  let broker: KafkaBroker;
  before(async function () {
    this.timeout(FIRST_START_MS);
    broker = await startKafka();
  });
  after(() => broker.stop());

  eventBusConformance('Kafka', async () => {
    const fixture = await openFixture(broker.brokers);
    fixture.startRelay();
    return fixture;
  });

  describe('with several members', () => {
    let fixture: KafkaFixture;
    let buses: EventBus[];
    let errors: unknown[];
    let members: { working: Set<number>; begun: number[] }[];
    /** Partitions that two members worked on at once. */
    let overlaps: number[];
    const openBus = () => {
      const bus = fixture.openBus((error) => errors.push(error));
      buses.push(bus);
      return bus;
    };
    beforeEach(async () => {
      members = [];
      overlaps = [];
      buses = [];
      errors = [];
      fixture = await openFixture(broker.brokers);
    });
    afterEach(async () => {
      await Promise.all(buses.map((bus) => bus.close()));
      await fixture.close();
      expect(errors).to.deep.equal([]);
    });

    /** A member that says which partitions it works on, and takes its time to end. */
    async function join(endsAfterMs = 0) {
      const working = new Set<number>();
      const begun: number[] = [];
      const bus = openBus();
      const consumer = await bus.consume('test', async ({ number, signal }) => {
        const others = members.filter((one) => one.working.has(number));
        if (others.length > 0) overlaps.push(number);
        working.add(number);
        begun.push(number);
        await new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve()));
        await pause(endsAfterMs);
        working.delete(number);
      });
      const member = { working, begun, consumer };
      members.push(member);
      return member;
    }

    it('splits the partitions evenly, and interrupts only what moves, when a member joins or leaves', async () => {
      const first = await join();
      await until(() => first.working.size === 6, 'all partitions at the first');
      const second = await join();
      await until(() => second.working.size === 3, 'half of them at the second');
      expect(first.working.size).to.equal(3);
      const third = await join();
      await until(() => third.working.size === 2, 'a third of them at the third');
      await until(() => first.working.size === 2 && second.working.size === 2, 'as many at the others');
      expect([first.begun.length, second.begun.length, third.begun.length]).to.deep.equal([6, 3, 2]);

      await second.consumer.stop();
      await until(
        () => first.working.size === 3 && third.working.size === 3,
        'half of them at each that is left',
      );
      expect([first.begun.length, third.begun.length]).to.deep.equal([7, 3]);
      expect(overlaps).to.deep.equal([]);
    });

    it('gives a partition on only when the work on it has ended, however long that takes', async () => {
      const first = await join(1_500);
      await until(() => first.working.size === 6, 'all partitions at the first');
      const second = await join(1_500);
      await until(() => second.working.size === 3, 'half of them at the second');
      await Promise.all([first.consumer.stop(), until(() => second.working.size === 6, 'all at the second')]);
      expect(overlaps).to.deep.equal([]);
    });

    it('loses and repeats nothing where partitions move', async () => {
      fixture.startRelay();
      const seen = record();
      const appending = new AbortController();
      const appended = (async () => {
        for (let at = 0; !appending.signal.aborted; at++) await append(fixture.store, `owner-${at % 40}`);
      })();
      const first = await openBus().consume('test', seen.work);
      await until(() => seen.events.length > 100, 'events at the first');
      const second = await openBus().consume('test', seen.work);
      const third = await openBus().consume('test', seen.work);
      const some = seen.events.length;
      await until(() => seen.events.length > some + 200, 'events while they move');
      await first.stop();
      await third.stop();
      appending.abort();
      await appended;
      await expectAll(seen, fixture.store);
      await second.stop();
    });

    it('gives the partitions of a member that vanishes to the others', async () => {
      fixture.startRelay();
      const other = fixture.startProcess('consumer');
      await until(() => other.working().length === 6, 'all partitions at the other process');
      const seen = record();
      await openBus().consume('test', seen.work);
      await until(() => other.working().length === 3, 'half of them here');
      await append(fixture.store, 'ada');
      const began = performance.now();
      await other.kill();
      for (let at = 0; at < 20; at++) await append(fixture.store, `owner-${at}`);
      await expectAll(seen, fixture.store);
      expect(performance.now() - began).to.be.lessThan(12_000);
    });
  });

  describe('whatever Kafka does', () => {
    let fixture: KafkaFixture;
    let bus: EventBus;
    let errors: unknown[];
    let told: (string | null)[];
    beforeEach(async () => {
      errors = [];
      told = [];
      fixture = await openFixture(broker.brokers, { partitions: 2 });
      reads = 0;
      bus = openBus({});
    });
    afterEach(async () => {
      await bus.close();
      await fixture.close();
    });

    const openBus = (options: Partial<KafkaEventBusOptions>) => {
      const { store } = fixture;
      const counted: EventStore = {
        ...store,
        async *readAll(range) {
          yield* store.readAll(range);
          reads += 1;
        },
      };
      return fixture.openBus((error) => errors.push(error), {
        store: counted,
        onAvailability: (problem) => told.push(problem),
        ...options,
      });
    };
    /** How often the store was read to the end of what was asked for. */
    let reads: number;

    /** Sends records as no relay would. */
    async function send(...events: [event: EventEnvelope, after: string][]): Promise<void> {
      const producer = fixture.kafka.producer();
      await producer.connect();
      const messages = events.map(([event, after]) =>
        eventMessage(event, partitionOf(event.owner, 2), after),
      );
      await producer.send({ topic: fixture.topic, messages });
      await producer.disconnect();
    }
    const logged = async (count: number) => {
      for (let at = 0; at < count; at++) await append(fixture.store, 'ada');
      return everything(fixture.store);
    };
    /** Consumes, and listens: it has read the store twice in each partition, and goes by records from here on. */
    async function listening(on = bus) {
      const seen = record();
      await on.consume('test', seen.work);
      await until(() => reads === 4, 'both partitions to listen');
      return seen;
    }

    it('fills a gap from the store, and skips what comes again', async () => {
      await logged(1);
      const seen = await listening();
      const events = await logged(6);
      await send([events[1]!, '1'], [events[1]!, '1'], [events[0]!, '0'], [events[2]!, '2']);
      await until(() => seen.events.length === 3, 'the records');
      expect(reads).to.equal(4);
      await send([events[6]!, '6']); // 4 to 6 never came
      await until(() => seen.events.length === 7, 'what is in the gap, and what comes after it');
      expect(reads).to.equal(5);
      const [last] = (await logged(1)).slice(-1);
      await send([events[4]!, '4'], [last!, '7']);
      await expectAll(seen, fixture.store);
      expect(reads).to.equal(5);
      expect(errors).to.deep.equal([]);
    });

    it('gives what was committed while it began to listen, though no record ever comes', async () => {
      // The store has one more event as soon as it was read to its head.
      let late: Promise<unknown> | undefined;
      const { store } = fixture;
      const other = openBus({
        store: {
          ...store,
          async *readAll(options) {
            yield* store.readAll(options);
            late ??= append(store, 'ada');
            await late;
          },
        },
      });
      const seen = record();
      await other.consume('test', seen.work);
      await until(() => seen.events.length === 1, 'the event');
      await other.close();
    });

    it('hands on what is no record of ours, and goes on', async () => {
      const seen = await listening();
      const producer = fixture.kafka.producer();
      await producer.connect();
      const partition = partitionOf('ada', 2);
      await producer.send({ topic: fixture.topic, messages: [{ value: 'garbage', partition }] });
      await producer.disconnect();
      await until(() => errors.length === 1, 'an error');
      expect(String(errors[0])).to.contain('has no header type');
      await until(() => reads === 6, 'it listens again');
      const events = await logged(1);
      await send([events[0]!, '0']);
      await expectAll(seen, fixture.store);
      expect(reads).to.equal(6);
    });

    it('brings what was relayed by an older version to the current one, or reads it from the store', async () => {
      const other = openBus({
        current(event) {
          if (event.position === '2') throw new Error('unknown version');
          return { ...event, schemaVersion: 2 };
        },
      });
      const seen = await listening(other);
      const events = await logged(2);
      await send([events[0]!, '0']);
      await until(() => seen.events.length === 1, 'the first');
      await send([events[1]!, '1']);
      await until(() => seen.events.length === 2, 'the second');
      expect(seen.events.map(({ schemaVersion }) => schemaVersion)).to.deep.equal([2, 1]);
      expect(errors.map((error) => (error as Error).message)).to.deep.equal(['unknown version']);
      await other.close();
    });

    it('goes on when the topic was made anew', async () => {
      fixture.startRelay({ onError: () => {} }); // it is told that the topic is gone
      await logged(3);
      const seen = await listening();
      await logged(3);
      await until(() => seen.events.length === 6, 'what came before');
      await withAdmin(fixture.kafka, async (admin) => {
        await admin.deleteTopics({ topics: [fixture.topic] });
        for (let made = false; !made; ) {
          made = await admin
            .createTopics({ topics: [{ topic: fixture.topic, numPartitions: 2 }] })
            .catch(() => false); // it is still being deleted
        }
      });
      await logged(3);
      await expectAll(seen, fixture.store);
    });

    it('reads from the store again where the store could not be read', async () => {
      let away = true;
      const other = openBus({
        store: {
          ...fixture.store,
          readAll(options) {
            if (away) throw new Error('the store is away');
            return fixture.store.readAll(options);
          },
        },
      });
      await logged(2);
      const seen = record();
      await other.consume('test', seen.work);
      await until(() => errors.length >= 2, 'errors');
      away = false;
      await expectAll(seen, fixture.store);
      expect(String(errors[0])).to.contain('the store is away');
      await other.close();
    });

    it('waits while the broker is away, without interrupting work, and goes on when it is back', async () => {
      fixture.startRelay({ onError: () => {} });
      const seen = record();
      let begun = 0;
      await bus.consume('test', (partition) => {
        begun += 1;
        return seen.work(partition);
      });
      await logged(5);
      await expectAll(seen, fixture.store);
      expect(told).to.deep.equal([null]);

      await broker.kill();
      await logged(5);
      await until(() => told.at(-1) !== null, 'the broker is known to be away');
      expect(told.at(-1)).to.contain(`Kafka at ${broker.brokers}: `);
      await logged(5);
      await broker.restart();
      const back = performance.now();
      await expectAll(seen, fixture.store);
      const resumedMs = performance.now() - back;
      await logged(5);
      await expectAll(seen, fixture.store);
      await until(() => told.at(-1) === null, 'the broker is known to be back');
      expect(begun).to.equal(2);
      expect(resumedMs).to.be.lessThan(10_000);
    });
  });

  it('waits for a broker that cannot be reached at first, and closes all the same', async () => {
    const fixture = await openFixture(broker.brokers);
    await broker.kill();
    const told: (string | null)[] = [];
    const seen = record();
    const bus = fixture.openBus(undefined, { onAvailability: (problem) => told.push(problem) });
    await bus.consume('test', seen.work);
    await until(() => typeof told.at(-1) === 'string', 'the problem');
    const closing = fixture.openBus();
    await closing.consume('test', seen.work);
    const began = performance.now();
    await closing.close();
    expect(performance.now() - began).to.be.lessThan(7_000);
    fixture.startRelay({ onError: () => {} });
    await append(fixture.store, 'ada', [newEvent('ada')]);
    await broker.restart();
    await expectAll(seen, fixture.store);
    await bus.close();
    await fixture.close();
  });
});
