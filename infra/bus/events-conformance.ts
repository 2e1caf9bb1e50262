/** What every adapter of the event bus is held to. Call it inside a mocha run. */
import { randomUUID } from 'node:crypto';
import { expect } from 'chai';
import {
  type EventEnvelope,
  isAfter,
  laterOf,
  type NewEvent,
  type Position,
  START,
} from '../../contracts/envelope.ts';
import type { EventFilter, EventPage, EventStore } from '../event-store/port.ts';
import type { EventBus, Partition } from './port.ts';

export interface EventBusFixture {
  /** An empty log. */
  readonly store: EventStore;
  /** Opens a bus over it; called more than once, those are as if in several processes. The test closes it. */
  openBus(onError: (error: unknown) => void): EventBus;
  /** Called when all buses are closed. */
  close(): Promise<void>;
}

const WITHIN_MS = 18_000;

/** Resolves when the condition holds, and throws when it does not within 18 s. */
export async function until(condition: () => boolean, what = 'what was waited for'): Promise<void> {
  for (const began = performance.now(); !condition(); ) {
    if (performance.now() - began > WITHIN_MS)
      throw new Error(`Not seen within ${WITHIN_MS / 1000} s: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
}

export const newEvent = (owner: string, type = 'Tested', data: unknown = {}): NewEvent => ({
  id: randomUUID(),
  type,
  schemaVersion: 1,
  owner,
  actor: { kind: 'user', id: owner },
  correlationId: 'correlation',
  causationId: null,
  commandId: 'command',
  surface: 'odeon',
  data,
});

export const append = (store: EventStore, owner: string, events: readonly NewEvent[] = [newEvent(owner)]) =>
  store.append(`test-${owner}`, events, { expectedRevision: 'any' });

export async function everything(store: EventStore): Promise<EventEnvelope[]> {
  const events: EventEnvelope[] = [];
  for await (const page of store.readAll()) events.push(...page.events);
  return events;
}

/** What the consumers of a group were given, all partitions together. */
export function record(after: Position = START, filter?: EventFilter) {
  const events: EventEnvelope[] = [];
  const positions = new Map<number, Position>();
  const partitions = new Map<number, EventEnvelope[]>();
  const caughtUp = new Map<number, boolean>();
  const faults: string[] = [];
  return {
    events,
    /** By partition. */
    partitions,
    caughtUp,
    /** Up to where all of so many partitions are. */
    reached: (count: number): Position =>
      Array.from({ length: count }, (_, number) => positions.get(number) ?? START).reduce((a, b) =>
        isAfter(a, b) ? b : a,
      ),
    faults,
    /** Goes on where the partition is, as a projection does; `each` may take its time. */
    async work(
      partition: Partition,
      each: (page: EventPage) => Promise<void> | void = () => {},
    ): Promise<void> {
      const { number, signal } = partition;
      const from = positions.get(number) ?? after;
      for await (const page of partition.subscribe({ after: from, signal, ...(filter && { filter }) })) {
        const before = positions.get(number) ?? after;
        if (!isAfter(page.position, before) && page.events.length > 0) {
          faults.push(`partition ${number}: a page to ${page.position} after one to ${before}`);
        }
        let last = before;
        for (const event of page.events) {
          if (!isAfter(event.position, last))
            faults.push(`partition ${number}: ${event.position} after ${last}`);
          if (!partition.holds(event.owner)) faults.push(`partition ${number}: an event of ${event.owner}`);
          last = event.position;
        }
        if (isAfter(last, page.position))
          faults.push(`partition ${number}: ${last} in a page to ${page.position}`);
        events.push(...page.events);
        partitions.set(number, [...(partitions.get(number) ?? []), ...page.events]);
        positions.set(number, laterOf(before, page.position));
        caughtUp.set(number, page.caughtUp);
        await each(page);
      }
    },
  };
}
export type Recording = ReturnType<typeof record>;

const byPosition = (a: EventEnvelope, b: EventEnvelope) => (isAfter(a.position, b.position) ? 1 : -1);

/** Every event of the log, or those that are wanted, once, unchanged, and in order in each partition. */
export async function expectAll(
  recording: Recording,
  store: EventStore,
  wanted: (event: EventEnvelope) => boolean = () => true,
): Promise<void> {
  const all = (await everything(store)).filter(wanted);
  await until(() => recording.events.length >= all.length, `${all.length} events`);
  expect(recording.faults).to.deep.equal([]);
  expect(recording.events.toSorted(byPosition)).to.deep.equal(all);
}

const owners = Array.from({ length: 20 }, (_, at) => `owner-${at}`);
const ofEach = async (store: EventStore, count: number, type?: string) => {
  for (const owner of owners)
    await append(
      store,
      owner,
      Array.from({ length: count }, () => newEvent(owner, type)),
    );
};

export function eventBusConformance(name: string, open: () => Promise<EventBusFixture>): void {
  describe(`${name} as an event bus`, () => {
    let fixture: EventBusFixture;
    let store: EventStore;
    let bus: EventBus;
    let errors: unknown[];
    beforeEach(async () => {
      fixture = await open();
      ({ store } = fixture);
      errors = [];
      bus = fixture.openBus((error) => errors.push(error));
    });
    afterEach(async () => {
      await bus.close();
      await fixture.close();
    });

    describe('delivery', () => {
      it('gives each event once, in the order of the log for each owner: what was there, and what comes', async () => {
        await ofEach(store, 15);
        const seen = record();
        await bus.consume('test', seen.work);
        const appending = (async () => {
          for (let round = 0; round < 15; round++) await ofEach(store, 1);
        })();
        await appending;
        await expectAll(seen, store);
        expect(errors).to.deep.equal([]);
      });

      it('begins after the position that is asked for', async () => {
        await ofEach(store, 2);
        const { position: after } = await append(store, owners[3]!);
        const seen = record(after);
        await bus.consume('test', seen.work);
        await ofEach(store, 2);
        await expectAll(seen, store, ({ position }) => isAfter(position, after));
      });

      it('gives every group everything', async () => {
        const groups = [record(), record()];
        for (const [at, seen] of groups.entries()) await bus.consume(`test-${at}`, seen.work);
        await ofEach(store, 2);
        for (const seen of groups) await expectAll(seen, store);
      });

      it('waits for a consumer that is slow, and loses nothing for it', async () => {
        const seen = record();
        const held = Promise.withResolvers<void>();
        let begun = 0;
        await bus.consume('test', (partition) =>
          seen.work(partition, async ({ events }) => {
            begun += events.length;
            await held.promise;
          }),
        );
        await ofEach(store, 1);
        await until(() => begun > 0, 'a first page');
        for (let round = 0; round < 4; round++) await ofEach(store, 80);
        const other = record();
        await bus.consume('quick', other.work);
        await expectAll(other, store); // the slow one could have been given them all by now
        expect(begun).to.be.lessThan(2_000);
        held.resolve();
        await expectAll(seen, store);
      });
    });

    describe('partitions and their positions', () => {
      it('gives an event to the partition that its owner is in', async () => {
        const held = new Map<number, Partition>();
        const seen = record();
        await bus.consume('test', (partition) => {
          held.set(partition.number, partition);
          return seen.work(partition);
        });
        await ofEach(store, 1);
        await expectAll(seen, store);
        await until(() => held.size === bus.partitions, 'every partition');
        expect([...held.keys()].sort()).to.deep.equal(Array.from({ length: bus.partitions }, (_, at) => at));
        for (const [number, events] of seen.partitions) {
          for (const { owner } of events) expect(bus.partitionOf(owner)).to.equal(number);
        }
        for (const owner of owners) {
          const holders = [...held.values()].filter((partition) => partition.holds(owner));
          expect(holders.map(({ number }) => number)).to.deep.equal([bus.partitionOf(owner)]);
        }
      });

      it('moves the position of every partition on, whichever the events are in', async () => {
        const seen = record();
        await bus.consume('test', seen.work);
        for (let round = 0; round < 5; round++) {
          const { position } = await append(store, owners[round]!);
          await until(() => seen.reached(bus.partitions) === position, `position ${position} everywhere`);
        }
        await until(() => [...seen.caughtUp.values()].every((yes) => yes), 'everything caught up');
        expect(seen.faults).to.deep.equal([]);
      });

      it('gives only what passes the filter, and says how far it is past the rest', async () => {
        await ofEach(store, 3, 'Skipped');
        await ofEach(store, 2, 'Wanted');
        const seen = record(START, { types: ['Wanted'] });
        await bus.consume('test', seen.work);
        await until(() => seen.events.length === 40, 'what was there');
        await ofEach(store, 2, 'Wanted');
        const { position: head } = await append(store, owners[0]!, [newEvent(owners[0]!, 'Skipped')]);
        await until(() => seen.reached(bus.partitions) === head, 'the position of what is skipped');
        await expectAll(seen, store, ({ type }) => type === 'Wanted');
      });

      it('lets one piece of work follow a partition more than once', async () => {
        const seen = [record(), record()];
        await bus.consume('test', async (partition) => {
          await Promise.all(seen.map((one) => one.work(partition)));
        });
        await ofEach(store, 3);
        for (const one of seen) await expectAll(one, store);
      });
    });

    describe('work, and its end', () => {
      it('begins work again that threw or ended, and hands on what it threw', async () => {
        const seen = record();
        let begun = 0;
        await bus.consume('test', async (partition) => {
          if (partition.number !== 0) return seen.work(partition);
          begun += 1;
          if (begun === 1) throw new Error('broken work');
          if (begun === 2) return;
          await seen.work(partition);
        });
        await ofEach(store, 1);
        await expectAll(seen, store);
        expect(begun).to.equal(3);
        expect(errors.map((error) => (error as Error).message)).to.deep.equal(['broken work']);
      });

      it('stops when all work has ended, and asks it to with a signal', async () => {
        let running = 0;
        let begun = 0;
        const consumer = await bus.consume('test', async ({ signal }) => {
          running += 1;
          begun += 1;
          await new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve()));
          await new Promise((resolve) => setTimeout(resolve, 50));
          running -= 1;
        });
        await until(() => running === bus.partitions, 'all partitions');
        await consumer.stop();
        expect(running).to.equal(0);
        expect(begun).to.equal(bus.partitions);
      });

      it('ends subscriptions with their signal, or with the partition', async () => {
        const own = new AbortController();
        const ended: string[] = [];
        const follow = async (name: string, partition: Partition, signal: AbortSignal) => {
          for await (const _ of partition.subscribe({ after: START, signal })) {
            // it is the end that counts
          }
          ended.push(name);
        };
        const consumer = await bus.consume('test', async (partition) => {
          if (partition.number !== 0) return follow('other', partition, partition.signal);
          const whole = follow('whole', partition, new AbortController().signal);
          await follow('own', partition, own.signal);
          await whole;
        });
        await ofEach(store, 1);
        own.abort();
        await until(() => ended.includes('own'), 'the end of the one');
        expect(ended).not.to.include('whole');
        await consumer.stop();
        expect(ended).to.include('whole');
      });

      it('takes no consumers once it is closed', async () => {
        const seen = record();
        await bus.consume('test', seen.work);
        await bus.close();
        await bus.close();
        let refused: unknown;
        await bus.consume('test', seen.work).catch((error: unknown) => {
          refused = error;
        });
        expect(refused).to.be.instanceOf(Error);
      });
    });
  });
}
