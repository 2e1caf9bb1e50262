/**
 * What is checked against a real EventStoreDB or KurrentDB: the conformance suite, and what only a server can show.
 * `scripts/test-eventstore.ts` runs it, on the server at EVENT_STORE_URL.
 */
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { connect, createServer, type Socket } from 'node:net';
import { setTimeout as pause } from 'node:timers/promises';
import { expect } from 'chai';
import { type EventEnvelope, isAfter } from '../../contracts/envelope.ts';
import { eventStoreConformance, newEvent, newEvents } from '../../infra/event-store/conformance.ts';
import { parseServerAddress } from '../../infra/event-store/event-store-db/address.ts';
import { type EventStoreDb, openEventStoreDb } from '../../infra/event-store/event-store-db.ts';
import { EventIdConflict, StoreUnavailable, WrongExpectedRevision } from '../../infra/event-store/port.ts';

const SOON_MS = 30_000;
const DELETIONS_AT_ONCE = 20;

const url = process.env.EVENT_STORE_URL!;
/** Every stream that holds events, or may: to be deleted in the end. */
const streams = new Set<string>();

// Of the whole run, whatever became of it.
after(async function () {
  this.timeout(120_000);
  const store = await open();
  const failures: string[] = [];
  const waiting = [...streams];
  await Promise.all(
    Array.from({ length: DELETIONS_AT_ONCE }, async () => {
      for (let stream = waiting.pop(); stream !== undefined; stream = waiting.pop()) {
        try {
          await store.deleteStream(stream);
        } catch (error) {
          const left = await collect(store.readStream(stream, { limit: 1 })).catch(() => [error]);
          if (left.length > 0) failures.push(`${stream}: ${(error as Error).message}`);
        }
      }
    }),
  );
  await store.close();
  console.log(
    `\nSoft-deleted the streams of this run (${streams.size - failures.length} of ${streams.size}).`,
  );
  if (failures.length > 0) throw new Error(`these streams could not be deleted:\n${failures.join('\n')}`);
});

async function open(address = url): Promise<EventStoreDb> {
  const store = await openEventStoreDb({ url: address, onAvailability() {} });
  return {
    ...store,
    append(stream, events, options) {
      const appending = store.append(stream, events, options);
      const mayBeThere = () => void streams.add(stream);
      appending.then(mayBeThere, (error) => error instanceof StoreUnavailable && mayBeThere());
      return appending;
    },
  };
}

eventStoreConformance(
  'The server',
  async () => {
    const store = await open();
    return { store, cleanUp: () => store.close() };
  },
  { capabilities: { 'ids unique across streams': false } },
);

describe('The server, as Odeon uses it,', function () {
  this.timeout(120_000);
  let store: EventStoreDb;
  let stream: string;
  before(async () => {
    store = await open();
  });
  after(() => store?.close());
  beforeEach(() => {
    stream = `odeon-test-${randomUUID()}`;
  });

  it('takes in events of another log, with their times (takes a server without data)');

  it('has records of its own in the log, which are not shown', async () => {
    const after = await store.head();
    const { position } = await store.append(stream, newEvents(2), { expectedRevision: 'no stream' });
    await store.setStreamMetadata(stream, { note: 'a record of the server itself' });
    const end = await store.end();
    expect(isAfter(end, position)).to.equal(true);
    const pages = await collect(store.readAll({ after }));
    expect(isAfter(end, pages.at(-1)!.position)).to.equal(false);
    const shown = pages.flatMap(({ events }) => events);
    expect(shown.some((event) => event.stream.startsWith('$') || event.type.startsWith('$'))).to.equal(false);
    expect(shown.filter((event) => event.stream === stream)).to.have.length(2);
  });

  it('takes positions between two events as an upper bound', async () => {
    const { events } = await store.append(stream, newEvents(3), { expectedRevision: 'no stream' });
    const upTo = String(BigInt(events[1]!.position.split('-')[0]!) + 1n);
    const after = (await collect(store.readAll({ upTo, direction: 'backwards', limit: 2 }))).flatMap(
      (page) => page.events,
    );
    expect(after).to.deep.equal([events[1], events[0]]);
  });

  it('soft-deletes a stream, which may then be begun again with higher revisions', async () => {
    await store.append(stream, newEvents(3), { expectedRevision: 'no stream' });
    await store.deleteStream(stream);
    expect(await read(stream)).to.be.empty;
    const error = await rejection(store.append(stream, newEvents(1), { expectedRevision: 'exists' }));
    expect(error).to.be.instanceOf(WrongExpectedRevision).and.include({ actual: null });
    const again = await store.append(stream, newEvents(2), { expectedRevision: 'no stream' });
    expect(again.events.map(({ revision }) => revision)).to.deep.equal([3, 4]);
    expect(await read(stream)).to.deep.equal(again.events);
    const other = await open();
    await store.deleteStream(stream);
    const anew = await other.append(stream, newEvents(1), { expectedRevision: 'any' });
    expect(anew.revision).to.equal(5);
    await other.close();
  });

  it('keeps stream metadata, and gives what maxCount and truncateBefore leave', async () => {
    expect(await store.streamMetadata(stream)).to.equal(null);
    await store.setStreamMetadata(stream, { maxCount: 2, note: 'x' });
    expect(await store.streamMetadata(stream)).to.deep.equal({ maxCount: 2, note: 'x' });
    const { events } = await store.append(stream, newEvents(5), { expectedRevision: 'no stream' });
    expect(events.map(({ revision }) => revision)).to.deep.equal([0, 1, 2, 3, 4]);
    expect(await read(stream)).to.deep.equal(events.slice(3));
    await store.setStreamMetadata(stream, { truncateBefore: 9 });
    expect(await read(stream)).to.be.empty;
    const next = await store.append(stream, newEvents(1), { expectedRevision: 'no stream' });
    expect(next.revision).to.equal(5);
  });

  it('refuses an append larger than it takes, which is then said clearly', async () => {
    const huge = newEvent({ data: 'x'.repeat(20_000_000) });
    const error = await rejection(store.append(stream, [huge], { expectedRevision: 'any' }));
    expect(error).to.be.instanceOf(RangeError);
    expect(error.message).to.match(/larger than the server takes/);
    await store.append(stream, newEvents(1), { expectedRevision: 'no stream' });
  });

  it('keeps the appends of several connections to one stream apart, and an append sent by all of them single', async () => {
    const others = await Promise.all([open(), open()]);
    const all = [store, ...others];
    const batches = Array.from({ length: 30 }, () => newEvents(2));
    await Promise.all(
      batches.map((batch, i) => all[i % all.length]!.append(stream, batch, { expectedRevision: 'any' })),
    );
    const same = newEvents(3);
    const results = await Promise.all(all.map((one) => one.append(stream, same, { expectedRevision: 59 })));
    for (const result of results) expect(result).to.deep.equal(results[0]);
    const conflict = await rejection(
      others[0]!.append(stream, [same[2]!, newEvent()], { expectedRevision: 'any' }),
    );
    expect(conflict).to.be.instanceOf(EventIdConflict);
    const events = await read(stream);
    expect(events.map(({ revision }) => revision)).to.deep.equal(Array.from({ length: 63 }, (_, i) => i));
    expect(events.map(({ id }) => id)).to.have.members([...batches.flat(), ...same].map(({ id }) => id));
    for (const one of others) await one.close();
  });

  it('filters for a subscription, which moves on over what was left out', async () => {
    const after = await store.head();
    const rare = `Rare-${randomUUID()}`;
    for (let n = 0; n < 4; n += 1) await store.append(stream, newEvents(300), { expectedRevision: 'any' });
    const { position } = await store.append(stream, newEvents(1, { type: rare }), {
      expectedRevision: 'any',
    });
    const last = await store.append(stream, newEvents(300), { expectedRevision: 'any' });
    for (const filter of [
      { types: [rare] },
      { streamPrefix: stream, types: [rare] },
      { stream, types: [rare] },
    ]) {
      const stop = new AbortController();
      const seen: EventEnvelope[] = [];
      for await (const page of store.subscribe({ after, filter, signal: stop.signal })) {
        seen.push(...page.events);
        if (page.caughtUp && !isAfter(last.position, page.position)) stop.abort();
      }
      expect(seen.map((event) => event.position)).to.deep.equal([position]);
    }
  });

  const address = parseServerAddress(url);
  const [host] = address.hosts;
  if (address.tls || address.discover || address.hosts.length > 1) {
    it('loses and repeats nothing when connections are cut (takes one host, without TLS)');
  } else {
    it('loses and repeats nothing for a subscription whose connection is cut again and again', async () => {
      const proxy = await startProxy(host!.address, host!.port);
      const cut = await open(`esdb://127.0.0.1:${proxy.port}?tls=false`);
      const after = await store.head();
      const stop = new AbortController();
      const followed: EventEnvelope[] = [];
      const following = (async () => {
        for await (const page of cut.subscribe({
          after,
          filter: { streamPrefix: stream },
          signal: stop.signal,
        })) {
          followed.push(...page.events);
        }
      })();
      for (let n = 0; n < 100; n += 1) {
        await store.append(stream, newEvents(5), { expectedRevision: 'any' });
        if (n % 10 === 5) proxy.cut();
      }
      const deadline = performance.now() + SOON_MS;
      while (followed.length < 500 && performance.now() < deadline) await pause(20);
      stop.abort();
      await following;
      expect(followed).to.deep.equal(await read(stream));
      await cut.close();
      await proxy.stop();
    });
  }

  if (address.tls && address.credentials !== undefined) {
    it('refuses a wrong password', async () => {
      const { username } = address.credentials!;
      const wrong = url.replace(/:\/\/[^@]*@/, `://${encodeURIComponent(username)}:wrong-${randomUUID()}@`);
      const error = await rejection(open(wrong));
      expect(error).to.be.instanceOf(StoreUnavailable);
      expect(error.message).to.not.include('wrong-');
    });
  } else {
    it('refuses a wrong password (takes TLS and credentials)');
  }

  async function read(name: string): Promise<EventEnvelope[]> {
    return (await collect(store.readStream(name))).flat();
  }
});

/** Stands between, so that connections can be cut. */
async function startProxy(host: string, port: number) {
  const sockets = new Set<Socket>();
  const proxy = createServer((near) => {
    const far = connect(port, host.replace(/^\[|\]$/g, ''));
    for (const [from, to] of [
      [near, far],
      [far, near],
    ] as const) {
      sockets.add(from);
      from.on('error', () => to.destroy());
      from.on('close', () => {
        sockets.delete(from);
        to.destroy();
      });
      from.pipe(to);
    }
  });
  proxy.listen(0, '127.0.0.1');
  await once(proxy, 'listening');
  const cut = () => {
    for (const socket of sockets) socket.destroy();
  };
  return {
    port: (proxy.address() as { port: number }).port,
    cut,
    async stop(): Promise<void> {
      cut();
      proxy.close();
      await once(proxy, 'close');
    },
  };
}

async function collect<Item>(items: AsyncIterable<Item>): Promise<Item[]> {
  const collected: Item[] = [];
  for await (const item of items) collected.push(item);
  return collected;
}

async function rejection(promise: Promise<unknown>): Promise<Error> {
  const outcome = await promise.then(
    () => null,
    (error: unknown) => error,
  );
  expect(outcome, 'nothing was refused').to.be.instanceOf(Error);
  return outcome as Error;
}
