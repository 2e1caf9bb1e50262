/** EventStoreDB as the event store, against a server that speaks its protocol (see test/engines). */
import { randomUUID } from 'node:crypto';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setImmediate as othersRan, setTimeout as pause } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { status } from '@grpc/grpc-js';
import { expect } from 'chai';
import {
  comparePositions,
  type EventEnvelope,
  isAfter,
  type NewEvent,
  START,
} from '../../contracts/envelope.ts';
import type { Proposed } from '../../test/engines/event-store-log.ts';
import {
  type EventStoreServer,
  type EventStoreServerOptions,
  notLeader,
  startEventStoreServer,
} from '../../test/engines/event-store-server.ts';
import { eventStoreConformance, importConformance, newEvent, newEvents } from './conformance.ts';
import { type EventStoreDb, type EventStoreDbOptions, openEventStoreDb } from './event-store-db.ts';
import {
  EventIdConflict,
  type EventPage,
  type EventStore,
  StoreUnavailable,
  type SubscribeOptions,
  WrongExpectedRevision,
} from './port.ts';
import { openSqliteEventStore } from './sqlite.ts';
import { exportLog, importLog } from './transfer.ts';

const TLS = new URL('../../test/engines/event-store-tls/', import.meta.url);
const SOON_MS = 10_000;

const ADAPTER = 'EventStoreDB protocol (test server)';
const openWithServer = async () => {
  const server = await startEventStoreServer();
  const store = await openEventStoreDb({ url: server.url, onAvailability() {} });
  return {
    store,
    async cleanUp() {
      await store.close();
      await server.stop();
    },
  };
};
eventStoreConformance(ADAPTER, openWithServer, { capabilities: { 'ids unique across streams': false } });
importConformance(ADAPTER, openWithServer);

describe('the event store on EventStoreDB', () => {
  const servers: EventStoreServer[] = [];
  const stores: EventStoreDb[] = [];
  let server: EventStoreServer;

  beforeEach(async () => {
    server = await start();
  });
  afterEach(async () => {
    for (const store of stores.splice(0)) await store.close();
    for (const one of servers.splice(0)) await one.stop();
  });

  async function start(options?: EventStoreServerOptions): Promise<EventStoreServer> {
    const started = await startEventStoreServer(options);
    servers.push(started);
    return started;
  }

  async function open(options: Partial<EventStoreDbOptions> = {}): Promise<EventStoreDb> {
    const store = await openEventStoreDb({ url: server.url, onAvailability() {}, ...options });
    stores.push(store);
    return store;
  }

  it('holds a log that was exported elsewhere, with its times and order', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'odeon-moved-'));
    const embedded = await openSqliteEventStore({ directory: folder });
    try {
      for (const stream of ['a', 'b', 'a', 'c', 'a']) {
        await embedded.append(stream, newEvents(3), { expectedRevision: 'any' });
      }
      const file = join(folder, 'log.jsonl');
      const about = { version: '1', source: folder, expected: null, onProgress() {} };
      await exportLog({ store: embedded, file, ...about });
      const store = await open();
      const moved = await importLog({ store, file, onProgress() {} });
      expect(moved).to.include({ count: 15, held: 0 });
      expect(await importLog({ store, file, onProgress() {} })).to.include({ count: 15, held: 15 });
      const without = async (from: EventStore) =>
        (await everything(from)).map(({ position: _, ...event }) => event);
      expect(await without(store)).to.deep.equal(await without(embedded));
    } finally {
      await embedded.close();
      await rm(folder, { recursive: true });
    }
  });

  async function everything(store: EventStore) {
    const events = [];
    for await (const page of store.readAll()) events.push(...page.events);
    return events;
  }

  const refusal = async (url: string) => {
    const began = performance.now();
    const error = await rejection(open({ url }));
    expect(performance.now() - began).to.be.below(5_000);
    return error;
  };

  describe('opening', () => {
    it('speaks to the server at the address, and says which it is', async () => {
      const store = await open();
      expect(store.server).to.deep.equal({
        address: `esdb://127.0.0.1:${server.port}`,
        version: '24.10.0-double',
      });
    });

    for (const scheme of ['esdb', 'kurrentdb', 'esdb+discover', 'kurrentdb+discover']) {
      it(`works with ${scheme}://`, async () => {
        const store = await open({ url: `${scheme}://127.0.0.1:${server.port}?tls=false` });
        await store.append('a', newEvents(1), { expectedRevision: 'no stream' });
        expect(server.calls.includes('gossip')).to.equal(scheme.includes('discover'));
      });
    }

    it('finds the leader of a cluster of which a node is gone', async () => {
      const dead = await unusedPort();
      const store = await open({ url: `esdb://127.0.0.1:${dead},127.0.0.1:${server.port}?tls=false` });
      await store.append('a', newEvents(1), { expectedRevision: 'no stream' });
    });

    it('fails soon when nobody listens, naming the address and why, not the password', async () => {
      const port = await unusedPort();
      const error = await refusal(`esdb://admin:secret@127.0.0.1:${port}?tls=false`);
      expect(error).to.be.instanceOf(StoreUnavailable);
      expect(error.message).to.match(new RegExp(`^EventStoreDB at esdb://127.0.0.1:${port}: .*ECONNREFUSED`));
      expect(error.message).to.not.include('secret');
      const cluster = await refusal(`esdb+discover://admin:secret@127.0.0.1:${port}?tls=false`);
      expect(cluster.message).to.match(
        /^EventStoreDB at esdb\+discover:\/\/127.0.0.1:\d+: Failed to discover/,
      );
    });

    it('fails soon when nobody answers', async () => {
      server.hold(true);
      expect((await refusal(server.url)).message).to.match(/no answer within 4.5 s$/);
      const silent = createServer();
      await new Promise<void>((resolve) => silent.listen(0, '127.0.0.1', resolve));
      const { port } = silent.address() as { port: number };
      const connections = new Set<{ destroy(): void }>();
      silent.on('connection', (connection) => connections.add(connection));
      expect((await refusal(`esdb://127.0.0.1:${port}?tls=false`)).message).to.match(
        /no answer within 4.5 s$/,
      );
      for (const connection of connections) connection.destroy();
      silent.close();
    });

    it('refuses what is no connection string', async () => {
      const error = await refusal('http://localhost');
      expect(error).to.be.instanceOf(RangeError);
      expect(error.message).to.match(/^the address of EventStoreDB: must look like esdb:/);
    });
  });

  describe('over TLS with credentials', () => {
    const certificate = fileURLToPath(new URL('certificate.pem', TLS));
    const ca = `tlsCAFile=${encodeURIComponent(certificate)}`;
    let secured: EventStoreServer;
    beforeEach(async () => {
      secured = await start({
        tls: {
          certificate: await readFile(certificate, 'utf8'),
          key: await readFile(new URL('key.pem', TLS), 'utf8'),
        },
        login: { username: 'ada', password: 'a:b@c/ü' },
      });
    });
    const url = (login: string, options = `?${ca}`, scheme = 'esdb') =>
      `${scheme}://${login}localhost:${secured.port}${options}`;
    const login = 'ada:a:b%40c%2F%C3%BC@';

    for (const scheme of ['esdb', 'kurrentdb+discover']) {
      it(`works with ${scheme}://`, async () => {
        const store = await open({ url: url(login, undefined, scheme) });
        const { events } = await store.append('a', newEvents(2), { expectedRevision: 'no stream' });
        expect(await all(store)).to.deep.equal(events);
        await store.deleteStream('a');
      });
    }

    it('says when the password is wrong, is missing, or the certificate is not trusted', async () => {
      const wrong = await refusal(url('ada:wrong-one@'));
      expect(wrong).to.be.instanceOf(StoreUnavailable);
      expect(wrong.message)
        .to.match(/Unauthenticated$/)
        .and.not.include('wrong-one');
      expect((await refusal(url(''))).message).to.match(/Access Denied$/);
      expect((await refusal(url(login, ''))).message).to.match(/certificate/);
      expect((await refusal(url(login, '?tlsCAFile=/nowhere/ca.pem'))).message).to.match(
        /ENOENT.*\/nowhere\/ca.pem/,
      );
    });
  });

  describe('in a log with records of others', () => {
    it('shows none of them, and its positions move on past them', async () => {
      const store = await open();
      const { events: first } = await store.append('a', newEvents(2), { expectedRevision: 'no stream' });
      server.log.append(
        'others',
        [proposed({ metadata: '{"owner":1}' }), proposed({ metadata: 'x' })],
        'any',
      );
      server.log.append('others', [proposed({ contentType: 'application/octet-stream' })], 'any');
      server.log.appendTransaction('others', [proposed(), proposed(), proposed()]);
      server.log.append('$system', [proposed({ type: '$x', metadata: metadata() })], 'any');
      expect(await store.head()).to.equal(first[1]!.position);
      const end = await store.end();
      expect(isAfter(end, first[1]!.position)).to.equal(true);
      expect(await all(store)).to.deep.equal(first);
      const pages = await collect(store.readAll());
      expect(pages.at(-1)).to.deep.include({ position: end, caughtUp: true });
      // Every place that was told may be gone on from, those inside of a transaction too.
      for (const { commit, prepare } of server.log.records) {
        const after = commit === prepare ? String(commit) : `${commit - 1n}-${prepare}`;
        const rest = first.filter((event) => isAfter(event.position, after));
        expect(await all(store, { after })).to.deep.equal(rest);
        expect(await all(store, { upTo: after, direction: 'backwards' })).to.deep.equal(
          first.filter((event) => !rest.includes(event)).toReversed(),
        );
      }
      expect(await store.count()).to.equal(2);
      expect(await collect(store.readStream('others'))).to.be.empty;
      expect(await collect(store.readStream('$system'))).to.be.empty;
      expect(await all(store, { filter: { stream: '$system' } })).to.be.empty;
      expect(await all(store, { filter: { streamPrefix: '$' } })).to.be.empty;
      expect(await all(store, { filter: { types: ['$x'] } })).to.be.empty;
    });

    it('stores the envelope as JSON, with the names that its projections know', async () => {
      const store = await open();
      const event = newEvent({ causationId: randomUUID(), data: { text: 'ü' }, schemaVersion: 3 });
      await store.append('a', [event], { expectedRevision: 'no stream' });
      const stored = server.log.records.find(({ id }) => id === event.id)!;
      expect(stored).to.include({ stream: 'a', type: event.type, contentType: 'application/json' });
      expect(JSON.parse(Buffer.from(stored.data).toString())).to.deep.equal({ text: 'ü' });
      expect(JSON.parse(Buffer.from(stored.metadata).toString())).to.deep.equal({
        $correlationId: event.correlationId,
        $causationId: event.causationId,
        owner: event.owner,
        actor: event.actor,
        commandId: event.commandId,
        surface: event.surface,
        schemaVersion: 3,
      });
    });

    it('takes what is given at the moment of the call', async () => {
      const store = await open();
      const data = { text: 'before' };
      const first = store.append('a', newEvents(1), { expectedRevision: 'any' });
      const second = store.append('a', [newEvent({ data })], { expectedRevision: 'any' });
      data.text = 'after';
      await first;
      expect((await second).events[0]!.data).to.deep.equal({ text: 'before' });
    });

    it('goes on after any position, be there a record or not', async () => {
      const store = await open();
      const { events } = await store.append('a', newEvents(3), { expectedRevision: 'no stream' });
      const between = String(BigInt(events[1]!.position) + 1n);
      expect(await all(store, { after: between })).to.deep.equal(events.slice(2));
      const filter = { types: [events[0]!.type] };
      expect(await all(store, { after: between, filter })).to.deep.equal(events.slice(2));
      for (const wanted of [{}, filter]) {
        const stop = new AbortController();
        for await (const page of store.subscribe({ after: between, filter: wanted, signal: stop.signal })) {
          expect(page.events).to.deep.equal(events.slice(2));
          stop.abort();
        }
      }
      expect(await all(store, { upTo: between })).to.deep.equal(events.slice(0, 2));
      const backwards = await all(store, { upTo: between, direction: 'backwards' });
      expect(backwards).to.deep.equal(events.slice(0, 2).toReversed());
    });
  });

  describe('appending', () => {
    const refused: [string, string, NewEvent][] = [
      ['an event id that is no UUID', 'a', newEvent({ id: 'x' })],
      [
        'an event id in upper case, which would come back in lower case',
        'a',
        newEvent({ id: randomUUID().toUpperCase() }),
      ],
      ['the nil UUID', 'a', newEvent({ id: '00000000-0000-0000-0000-000000000000' })],
      ["a stream named as the server's own", '$a', newEvent()],
      ["a type named as the server's own", 'a', newEvent({ type: '$a' })],
      ['data with a BigInt', 'a', newEvent({ data: { n: 1n } })],
    ];
    for (const [what, stream, event] of refused) {
      it(`refuses ${what}`, async () => {
        const store = await open();
        const error = await rejection(store.append(stream, [event], { expectedRevision: 'any' }));
        expect(error).to.be.instanceOf(RangeError);
        expect(server.calls).to.not.include('append');
      });
    }

    it('refuses more than the server takes, and says so', async () => {
      const store = await open();
      const big = newEvents(20, { data: 'x'.repeat(100_000) });
      const error = await rejection(store.append('a', big, { expectedRevision: 'any' }));
      expect(error).to.be.instanceOf(RangeError);
      expect(error.message).to.match(/larger than the server takes.*1048576/);
      const huge = newEvent({ data: 'x'.repeat(20_000_000) });
      expect(await rejection(store.append('a', [huge], { expectedRevision: 'any' }))).to.be.instanceOf(
        RangeError,
      );
      await store.append('a', newEvents(1), { expectedRevision: 'no stream' });
    });

    it('reads a stream once for its ids, later only what is new', async () => {
      const [store, other] = [await open(), await open()];
      const batches = Array.from({ length: 6 }, () => newEvents(200));
      for (const batch of batches) await other.append('a', batch, { expectedRevision: 'any' });
      const readsOf = async (action: () => Promise<unknown>) => {
        const before = server.calls.filter((call) => call === 'read').length;
        await action();
        return server.calls.filter((call) => call === 'read').length - before;
      };
      const append = (count: number) => () =>
        store.append('a', newEvents(count), { expectedRevision: 'any' });
      expect(await readsOf(append(1))).to.be.within(5, 7);
      expect(await readsOf(append(1))).to.equal(1);
      await other.append('a', newEvents(3), { expectedRevision: 'any' });
      expect(await readsOf(append(1))).to.equal(2);
      // Whoever has read the stream knows its ids.
      const third = await open();
      await collect(third.readStream('a'));
      expect(await readsOf(() => third.append('a', newEvents(1), { expectedRevision: 1205 }))).to.equal(1);
      for (const batch of batches) {
        const again = await third.append('a', batch, { expectedRevision: 'any' });
        expect(again.events.map(({ id }) => id)).to.deep.equal(batch.map(({ id }) => id));
      }
      expect(await store.count()).to.equal(1_207);
    });

    describe('while another process appends to the same stream', () => {
      let store: EventStoreDb;
      const held = newEvents(2);
      beforeEach(async () => {
        store = await open();
        await store.append('a', held, { expectedRevision: 'no stream' });
      });
      /** The other process comes first: after this one has looked, before the server decides. */
      const meanwhile = (events: readonly NewEvent[]) =>
        server.beforeNextAppend(() => server.log.append('a', events.map(stored), 'any'));

      it('is refused when a revision was expected', async () => {
        for (const expectedRevision of [1, 'no stream'] as const) {
          meanwhile(newEvents(2));
          const error = await rejection(store.append('a', newEvents(1), { expectedRevision }));
          expect(error).to.be.instanceOf(WrongExpectedRevision);
        }
        const error = await rejection(store.append('a', newEvents(1), { expectedRevision: 1 }));
        expect(error).to.include({ expected: 1, actual: 3 });
      });

      for (const expectedRevision of ['any', 'exists'] as const) {
        it(`comes after it when ${expectedRevision} was expected`, async () => {
          meanwhile(newEvents(2));
          const { revision } = await store.append('a', newEvents(1), { expectedRevision });
          expect(revision).to.equal(4);
        });
      }

      for (const expectedRevision of ['any', 'exists', 1, 7] as const) {
        it(`is answered as the other was, when it is the same, and ${expectedRevision} was expected`, async () => {
          const batch = newEvents(3);
          if (expectedRevision === 7) server.log.append('a', batch.map(stored), 'any');
          else meanwhile(batch);
          const { events, revision } = await store.append('a', batch, { expectedRevision });
          expect(events.map(({ id }) => id)).to.deep.equal(batch.map(({ id }) => id));
          expect(revision).to.equal(4);
          expect(await all(store)).to.have.length(5);
        });
      }

      it('is refused when some of its events were in the other, or stand in another order', async () => {
        for (const [first, then] of [
          [
            [0, 1],
            [1, 2],
          ],
          [[0], [0, 1]],
          [
            [0, 1],
            [1, 0],
          ],
        ] as const) {
          for (const expectedRevision of ['any', 'exists'] as const) {
            const events = newEvents(3);
            meanwhile(first.map((i) => events[i]!));
            const batch = then.map((i) => events[i]!);
            const error = await rejection(store.append('a', batch, { expectedRevision }));
            expect(error).to.be.instanceOf(EventIdConflict);
          }
        }
        expect(await all(store)).to.have.length(2 + 2 * (2 + 1 + 2));
      });

      it('gives up when it never comes through', async () => {
        const again = () => {
          server.log.append('a', [proposed()], 'any');
          server.beforeNextAppend(again);
        };
        server.beforeNextAppend(again);
        const error = await rejection(store.append('a', newEvents(1), { expectedRevision: 'any' }));
        expect(error).to.be.instanceOf(StoreUnavailable);
      });

      it('keeps all of both', async () => {
        const other = await open();
        const batches = Array.from({ length: 40 }, () => newEvents(2));
        await Promise.all(
          batches.map((batch, i) => (i % 2 ? store : other).append('a', batch, { expectedRevision: 'any' })),
        );
        const events = await all(store);
        expect(events.map(({ revision }) => revision)).to.deep.equal(Array.from({ length: 82 }, (_, i) => i));
        const ids = [...held, ...batches.flat()].map(({ id }) => id);
        expect(events.map(({ id }) => id)).to.have.members(ids);
      });
    });

    it('is told of to onCommit, when events were added', async () => {
      const commits: { appends: number; events: number }[] = [];
      const store = await open({ onCommit: ({ appends, events }) => commits.push({ appends, events }) });
      const batch = newEvents(3);
      await store.append('a', batch, { expectedRevision: 'any' });
      await store.append('a', batch, { expectedRevision: 'any' });
      await rejection(store.append('a', newEvents(1), { expectedRevision: 17 }));
      expect(commits).to.deep.equal([{ appends: 1, events: 3 }]);
    });
  });

  describe('streams of which not all is left', () => {
    let store: EventStoreDb;
    let first: readonly EventEnvelope[];
    beforeEach(async () => {
      store = await open();
      first = (await store.append('a', newEvents(3), { expectedRevision: 'no stream' })).events;
    });

    for (const [what, remove] of [
      ['by this process', () => store.deleteStream('a')],
      ['by another', async () => (await open()).deleteStream('a')],
    ] as const) {
      it(`reads as absent what was deleted ${what}, and may be begun again, with higher revisions`, async () => {
        await remove();
        expect(await collect(store.readStream('a'))).to.be.empty;
        expect(await collect(store.readStream('a', { direction: 'backwards' }))).to.be.empty;
        expect(await all(store, { filter: { stream: 'a' } })).to.be.empty;
        const error = await rejection(
          store.append('a', newEvents(1), { expectedRevision: 'exists' }).then(absent),
        );
        if (what === 'by this process') {
          expect(error).to.be.instanceOf(WrongExpectedRevision).and.include({ actual: null });
          const again = await store.append('a', newEvents(2), { expectedRevision: 'no stream' });
          expect(again.events.map(({ revision }) => revision)).to.deep.equal([3, 4]);
          expect(await collect(store.readStream('a'))).to.deep.equal([again.events]);
          const more = await store.append('a', newEvents(1), { expectedRevision: 4 });
          expect(more.revision).to.equal(5);
          expect(isAfter(again.position, first[2]!.position)).to.equal(true);
        }
      });

      /** That a process that knew the stream may append to it after another deleted it: the server allows it, too. */
      function absent() {
        throw new WrongExpectedRevision('a', 'exists', null);
      }
    }

    for (const expectedRevision of ['no stream', 'any'] as const) {
      it(`begins a deleted stream again when ${expectedRevision} is expected, by a process that never saw it`, async () => {
        await store.deleteStream('a');
        const other = await open();
        const { revision } = await other.append('a', newEvents(1), { expectedRevision });
        expect(revision).to.equal(3);
      });
    }

    it('answers an append again, though its stream was deleted since', async () => {
      await store.deleteStream('a');
      const again = await (await open()).append('a', first, { expectedRevision: 'no stream' });
      expect(again.events).to.deep.equal(first);
    });

    it('answers with all of a batch of which the stream shows less', async () => {
      await store.setStreamMetadata('b', { maxCount: 1 });
      const { events } = await store.append('b', newEvents(3), { expectedRevision: 'no stream' });
      expect(events.map(({ revision }) => revision)).to.deep.equal([0, 1, 2]);
      expect(await collect(store.readStream('b'))).to.deep.equal([[events[2]]]);
      expect((await store.append('b', newEvents(1), { expectedRevision: 2 })).revision).to.equal(3);
    });

    it('gives what truncateBefore leaves, and appends where nothing is left', async () => {
      await store.setStreamMetadata('a', { truncateBefore: 2 });
      expect(await collect(store.readStream('a'))).to.deep.equal([[first[2]]]);
      expect(await collect(store.readStream('a', { direction: 'backwards', from: 1 }))).to.be.empty;
      await store.setStreamMetadata('a', { truncateBefore: 9 });
      expect(await collect(store.readStream('a'))).to.be.empty;
      const { revision } = await store.append('a', newEvents(1), { expectedRevision: 'no stream' });
      expect(revision).to.equal(3);
    });

    it('has metadata that can be read and replaced', async () => {
      expect(await store.streamMetadata('a')).to.equal(null);
      await store.setStreamMetadata('a', { maxAge: 60, maxCount: 5, acl: { $r: ['$admins'] }, note: 'x' });
      expect(await store.streamMetadata('a')).to.deep.equal({
        maxAge: 60,
        maxCount: 5,
        acl: { $r: ['$admins'] },
        note: 'x',
      });
      await store.setStreamMetadata('a', { cacheControl: 3 });
      expect(await store.streamMetadata('a')).to.deep.equal({ cacheControl: 3 });
      for (const metadata of [{ maxAge: 1.5 }, { maxCount: -1 }, { $tb: 3 }]) {
        expect(await rejection(store.setStreamMetadata('a', metadata))).to.be.instanceOf(RangeError);
      }
      expect(await rejection(store.deleteStream('$a'))).to.be.instanceOf(RangeError);
    });

    it('reads as absent what was deleted for ever, and cannot be begun again', async () => {
      server.log.tombstone('a');
      expect(await collect(store.readStream('a'))).to.be.empty;
      const error = await rejection(store.append('a', newEvents(1), { expectedRevision: 'any' }));
      expect(error).to.be.instanceOf(RangeError);
      expect(error.message).to.match(/deleted for ever/);
    });
  });

  describe('a subscription', () => {
    it('begun at the head says nothing until the next commit, though records of the server lie behind', async () => {
      const store = await open();
      await store.append('a', newEvents(1), { expectedRevision: 'any' });
      for (let n = 0; n < 50; n += 1) server.log.append('$own', [proposed({ type: '$x' })], 'any');
      for (const filter of [{}, { types: ['Tested'] }]) {
        const following = follow(store, { after: await store.head(), filter });
        await until(() => server.subscriptions === 1);
        for (let n = 0; n < 20; n += 1) await othersRan();
        expect(following.pages).to.be.empty;
        const { position } = await store.append('a', newEvents(1), { expectedRevision: 'any' });
        await until(() => following.pages.length > 0);
        await following.stop();
        expect(following.pages[0]).to.deep.include({ position, caughtUp: true });
        await until(() => server.subscriptions === 0);
      }
    });

    it('moves on over what its filter leaves out, and the places it tells can be gone on from', async () => {
      const store = await open();
      for (let n = 0; n < 8; n += 1)
        await store.append(`b-${n}`, newEvents(150), { expectedRevision: 'any' });
      await store.append('a-1', newEvents(1), { expectedRevision: 'any' });
      for (let n = 0; n < 4; n += 1)
        await store.append(`b-${n}`, newEvents(150), { expectedRevision: 'any' });
      const head = await store.head();
      server.log.appendTransaction('others', [proposed()]);
      const before = server.delivered;
      const following = follow(store, { after: START, filter: { streamPrefix: 'a' } });
      await until(() => following.pages.at(-1)?.caughtUp === true);
      expect(server.delivered - before).to.be.within(1, 2, 'the rest was filtered by the server');
      expect(isAfter(head, following.pages.at(-1)!.position)).to.equal(false);
      const { position } = await store.append('b-1', newEvents(1), { expectedRevision: 'any' });
      await until(() => following.pages.at(-1)?.position === position);
      await following.stop();
      for (const page of following.pages) {
        const rest = await all(store, { after: page.position, filter: { streamPrefix: 'a' } });
        const seen = following.pages.filter((one) => comparePositions(one.position, page.position) <= 0);
        expect(seen.flatMap(({ events }) => events).length + rest.length).to.equal(1);
      }
    });

    for (const [what, breakIt] of [
      ['its connection is cut', () => server.dropConnections()],
      ['the server ends it', async () => server.dropSubscriptions()],
      [
        'the server goes away for a while',
        async () => {
          await server.refuse();
          await pause(300);
          await server.accept();
        },
      ],
    ] as const) {
      it(`loses and repeats nothing when ${what} again and again`, async () => {
        const store = await open();
        const others = [{}, { streamPrefix: 'a' }, { types: ['Tested'], owner: 'ada' }];
        const following = others.map((filter) => follow(store, { after: START, filter }));
        for (let round = 0; round < 6; round += 1) {
          for (let n = 0; n < 10; n += 1) {
            for (const [stream, owner] of [
              ['a', 'ada'],
              ['b', 'bo'],
            ] as const) {
              server.log.append(stream, newEvents(4, { owner }).map(stored), 'any');
            }
            await othersRan();
          }
          await breakIt();
        }
        for (const [i, { pages, stop }] of following.entries()) {
          const expected = await onceBack(() => all(store, { filter: others[i]! }));
          await until(() => pages.flatMap(({ events }) => events).length >= expected.length);
          await stop();
          expect(pages.flatMap(({ events }) => events)).to.deep.equal(expected);
        }
        expect(await onceBack(() => store.count())).to.equal(480);
      });
    }

    it('catches up when it fell behind', async () => {
      const store = await open();
      const following = follow(store, { after: START });
      await until(() => server.subscriptions === 1);
      server.pauseDelivery(true);
      for (let n = 0; n < 30; n += 1) server.log.append('a', newEvents(20).map(stored), 'any');
      server.pauseDelivery(false);
      await until(() => following.pages.flatMap(({ events }) => events).length === 600);
      await until(() => following.pages.at(-1)!.caughtUp);
      await following.stop();
      expect(following.pages.flatMap(({ events }) => events).map(({ revision }) => revision)).to.deep.equal(
        Array.from({ length: 600 }, (_, i) => i),
      );
    });

    it('takes from the server no more than about a page ahead of who iterates it', async () => {
      const store = await open();
      for (let n = 0; n < 40; n += 1) {
        server.log.append('a', newEvents(100, { data: 'x'.repeat(2_000) }).map(stored), 'any');
      }
      const stop = new AbortController();
      const pages = store.subscribe({ after: START, signal: stop.signal })[Symbol.asyncIterator]();
      const { events } = (await pages.next()).value as EventPage;
      let delivered = -1;
      while (delivered !== server.delivered) {
        delivered = server.delivered;
        await pause(100);
      }
      expect(delivered - events.length).to.be.below(500);
      stop.abort();
      expect((await pages.next()).done).to.equal(true);
      await until(() => server.subscriptions === 0);
    });

    it('loses nothing to a slow reader, though the server told of later places meanwhile', async () => {
      const store = await open();
      for (let n = 0; n < 60; n += 1) {
        server.log.append('a', newEvents(50).map(stored), 'any');
        server.log.append('b', newEvents(50).map(stored), 'any');
      }
      for (const filter of [{}, { streamPrefix: 'a' }, { owner: 'tester', types: ['Tested'] }]) {
        const expected = await all(store, { filter });
        const seen: EventEnvelope[] = [];
        const stop = new AbortController();
        for await (const page of store.subscribe({ after: START, filter, signal: stop.signal })) {
          seen.push(...page.events);
          await pause(3);
          if (seen.length >= expected.length) stop.abort();
        }
        expect(seen).to.deep.equal(expected);
      }
    });

    it('leaves nothing behind after hundreds of reconnects', async () => {
      setFlagsFromString('--expose-gc');
      const collectGarbage: () => void = runInNewContext('gc');
      const store = await open();
      const following = Array.from({ length: 10 }, () => follow(store, { after: START }));
      const reconnect = async (rounds: number) => {
        for (let round = 0; round < rounds; round += 1) {
          await until(() => server.subscriptions === 10);
          const { length } = server.calls;
          server.dropSubscriptions();
          await until(() => server.calls.slice(length).filter((call) => call === 'subscribe').length >= 10);
          const { position } = await appended(store, newEvents(1));
          await until(() => following.every(({ pages }) => pages.at(-1)?.position === position));
        }
        for (let n = 0; n < 3; n += 1) {
          collectGarbage();
          await pause(20);
        }
        return {
          heap: process.memoryUsage().heapUsed,
          resources: process.getActiveResourcesInfo().filter((one) => one !== 'Timeout').length,
        };
      };
      const before = await reconnect(5);
      const after = await reconnect(35);
      expect(server.calls.filter((call) => call === 'subscribe').length).to.be.at.least(400);
      // What was appended meanwhile is kept by the server (in this process) and by each of the ten followers.
      expect(after.heap - before.heap).to.be.below(6_000_000);
      expect(after.resources - before.resources).to.be.below(5);
      for (const { stop } of following) await stop();
      await until(() => server.subscriptions === 0);
    }).timeout(60_000);
  });

  describe('when the server', () => {
    it('is gone, says so to every call, naming the address, and to onAvailability; and when it is back', async () => {
      const problems: (string | null)[] = [];
      const store = await open({ onAvailability: (problem) => problems.push(problem) });
      expect(problems).to.deep.equal([null]);
      await store.append('a', newEvents(1), { expectedRevision: 'any' });
      await server.refuse();
      const where = `EventStoreDB at esdb://127.0.0.1:${server.port}: `;
      for (const call of [
        () => store.append('a', newEvents(1), { expectedRevision: 'any' }),
        () => collect(store.readStream('a')),
        () => collect(store.readAll()),
        () => collect(store.readAll({ filter: { types: ['x'] } })),
        () => collect(store.readAll({ filter: { stream: 'a' }, direction: 'backwards' })),
        () => store.head(),
        () => store.end(),
        () => store.count(),
        () => store.positionAt('2026-01-01T00:00:00Z'),
        () => store.deleteStream('a'),
        () => store.streamMetadata('a'),
        () => store.setStreamMetadata('a', {}),
      ]) {
        const error = await rejection(call());
        expect(error).to.be.instanceOf(StoreUnavailable);
        expect(error.message).to.include(where);
        expect(error).to.include({ engine: 'event store' });
      }
      expect(problems.at(-1)).to.include(where);
      await server.accept();
      // Nobody asks: it looks by itself.
      await until(() => problems.at(-1) === null);
      expect(await onceBack(() => store.count())).to.equal(1);
    });

    it('goes while nobody asks anything, says so', async () => {
      const problems: (string | null)[] = [];
      await open({ onAvailability: (problem) => problems.push(problem) });
      await server.refuse();
      await until(() => problems.length === 2);
      expect(problems[1]).to.match(/ECONNREFUSED/);
    });

    it('does not answer, lets no call wait for ever', async () => {
      const store = await open({ answerWithinMs: 300 });
      await store.append('a', newEvents(1), { expectedRevision: 'any' });
      server.hold(true);
      const following = follow(store, { after: START });
      for (const call of [
        () => store.append('a', newEvents(1), { expectedRevision: 'any' }),
        () => store.append('new', newEvents(1), { expectedRevision: 'no stream' }),
        () => collect(store.readStream('a')),
        () => collect(store.readAll()),
        () => store.head(),
        () => store.deleteStream('a'),
      ]) {
        const error = await rejection(call());
        expect(error).to.be.instanceOf(StoreUnavailable);
        expect(error.message).to.match(/no answer within 0.3 s|[Dd]eadline/);
      }
      server.hold(false);
      await until(() => following.pages.length > 0);
      await following.stop();
    });

    it('stops in the midst of a page, does not take that for the end', async () => {
      const store = await open();
      for (let n = 0; n < 10; n += 1) {
        server.log.append('a', newEvents(100, { data: 'x'.repeat(2_000) }).map(stored), 'any');
      }
      for (let n = 0; n < 5; n += 1) {
        const reading = all(store).then(
          (events) => events.length,
          (error) => error,
        );
        await pause(5 * n);
        await server.dropConnections();
        const outcome = await reading;
        if (outcome !== 1_000) expect(outcome).to.be.instanceOf(StoreUnavailable);
      }
    });

    it('follows another, goes to that one', async () => {
      const leader = await start();
      const store = await open();
      server.failNext('append', notLeader('127.0.0.1', leader.port));
      await store.append('a', newEvents(1), { expectedRevision: 'no stream' });
      expect(leader.log.records.some(({ stream }) => stream === 'a')).to.equal(true);
      expect(server.log.records.some(({ stream }) => stream === 'a')).to.equal(false);
      const following = follow(store, { after: START });
      await until(() => following.pages.length > 0);
      await following.stop();
      for (const call of ['read', 'subscribe'] as const) {
        const other = await open();
        server.failNext(call, notLeader('127.0.0.1', leader.port));
        const { pages, stop } = follow(other, { after: START });
        await until(() => pages.length > 0);
        await stop();
      }
      // That one goes: the address as it was given is asked again.
      await leader.refuse();
      await rejection(store.head());
      expect(await onceBack(() => all(store))).to.be.empty;
    });

    for (const [what, failure, kind] of [
      ['is not ready yet', { code: status.UNAVAILABLE, details: 'Server Is Not Ready' }, StoreUnavailable],
      ['timed out inside', { code: status.ABORTED, details: 'Operation timed out: x' }, StoreUnavailable],
      [
        'has no leader',
        { code: status.UNKNOWN, details: 'No leader info available in response' },
        StoreUnavailable,
      ],
      ['cancels the call', { code: status.CANCELLED, details: 'x' }, StoreUnavailable],
      ['refuses an argument', { code: status.INVALID_ARGUMENT, details: 'x' }, RangeError],
    ] as const) {
      it(`${what}, says so, and nothing is half done`, async () => {
        const store = await open();
        server.failNext('append', failure);
        const error = await rejection(store.append('a', newEvents(2), { expectedRevision: 'any' }));
        expect(error).to.be.instanceOf(kind);
        expect(error.message).to.include(failure.details);
        await store.append('a', newEvents(2), { expectedRevision: 'no stream' });
        expect(await store.count()).to.equal(2);
      });
    }
  });

  it('ends what is going on when it is closed, and refuses what comes then', async () => {
    const store = await open();
    await appended(store, newEvents(300));
    const { signal } = new AbortController();
    const ended = collect(store.subscribe({ after: START, signal }));
    await until(() => server.subscriptions === 1);
    const pages = store.readStream('s')[Symbol.asyncIterator]();
    await pages.next();
    server.hold(true);
    const cut = rejection(collect(store.readAll()));
    const reads = server.calls.length;
    await until(() => server.calls.length > reads);
    await store.close();
    await store.close();
    await ended;
    expect(await cut).to.be.instanceOf(StoreUnavailable);
    server.hold(false);
    expect(await rejection(pages.next())).to.be.instanceOf(StoreUnavailable);
    expect(await rejection(appended(store, newEvents(1)))).to.be.instanceOf(StoreUnavailable);
    expect(await rejection(store.head())).to.be.instanceOf(StoreUnavailable);
    expect(await rejection(collect(store.readAll()))).to.be.instanceOf(StoreUnavailable);
    expect(await rejection(collect(store.readAll({ filter: { types: ['x'] } })))).to.be.instanceOf(
      StoreUnavailable,
    );
    expect(await collect(store.subscribe({ after: START, signal }))).to.be.empty;
    await until(() => server.subscriptions === 0);
  });
});

const appended = (store: EventStoreDb, events: NewEvent[]) =>
  store.append('s', events, { expectedRevision: 'any' });

const metadata = () =>
  JSON.stringify({
    $correlationId: randomUUID(),
    owner: 'o',
    actor: { kind: 'system', id: 'x' },
    commandId: 'c',
    surface: 'odeon',
    schemaVersion: 1,
  });

/** An event of another application. */
function proposed(parts: { type?: string; contentType?: string; metadata?: string } = {}): Proposed {
  const { type = 'Other', contentType = 'application/json' } = parts;
  return {
    id: randomUUID(),
    type,
    contentType,
    data: Buffer.from('{}'),
    metadata: Buffer.from(parts.metadata ?? ''),
  };
}

/** An event as another process of Odeon would have written it. */
function stored(event: NewEvent): Proposed {
  const { id, type, data, correlationId, causationId, ...rest } = event;
  const more = {
    ...rest,
    $correlationId: correlationId,
    ...(causationId === null ? {} : { $causationId: causationId }),
  };
  return {
    id,
    type,
    contentType: 'application/json',
    data: Buffer.from(JSON.stringify(data)),
    metadata: Buffer.from(JSON.stringify(more)),
  };
}

function follow(store: EventStoreDb, options: Omit<SubscribeOptions, 'signal'>) {
  const stopping = new AbortController();
  const pages: EventPage[] = [];
  const ended = (async () => {
    for await (const page of store.subscribe({ ...options, signal: stopping.signal })) pages.push(page);
  })();
  return {
    pages,
    async stop(): Promise<void> {
      stopping.abort();
      await ended;
    },
  };
}

async function all(
  store: EventStoreDb,
  options?: Parameters<EventStoreDb['readAll']>[0],
): Promise<EventEnvelope[]> {
  return (await collect(store.readAll(options))).flatMap(({ events }) => events);
}

async function collect<Item>(items: AsyncIterable<Item>): Promise<Item[]> {
  const collected: Item[] = [];
  for await (const item of items) collected.push(item);
  return collected;
}

async function rejection(promise: Promise<unknown>): Promise<Error> {
  const outcome = await promise.then(
    () => new Error('nothing was refused'),
    (error: unknown) => error,
  );
  expect(outcome).to.be.instanceOf(Error).with.property('message').that.does.not.equal('nothing was refused');
  return outcome as Error;
}

/** A call may still meet the connection that is being lost. */
async function onceBack<Result>(call: () => Promise<Result>): Promise<Result> {
  const deadline = performance.now() + SOON_MS;
  for (;;) {
    try {
      return await call();
    } catch (error) {
      if (!(error instanceof StoreUnavailable) || performance.now() > deadline) throw error;
      await pause(20);
    }
  }
}

async function until(condition: () => boolean): Promise<void> {
  const deadline = performance.now() + SOON_MS;
  while (!condition()) {
    if (performance.now() > deadline) throw new Error(`did not happen within ${SOON_MS} ms: ${condition}`);
    await pause(2);
  }
}

async function unusedPort(): Promise<number> {
  const holder = createServer();
  await new Promise<void>((resolve) => holder.listen(0, '127.0.0.1', resolve));
  const { port } = holder.address() as { port: number };
  await new Promise((resolve) => holder.close(resolve));
  return port;
}
