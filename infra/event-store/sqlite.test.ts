/** The embedded event store: the port's promises, and those that only a file on a disk has to keep. */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync, writeFileSync } from 'node:fs';
import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setImmediate as othersRan } from 'node:timers/promises';
import type { Worker } from 'node:worker_threads';
import Database from 'better-sqlite3';
import { expect } from 'chai';
import { type EventEnvelope, START } from '../../contracts/envelope.ts';
import { eventStoreConformance, importConformance, newEvent, newEvents } from './conformance.ts';
import { type EventStore, StoreUnavailable } from './port.ts';
import { openSqliteEventStore } from './sqlite.ts';

const temporaryDirectory = () => mkdtemp(join(tmpdir(), 'odeon-events-'));

const openEmpty = async () => {
  const directory = await temporaryDirectory();
  const store = await openSqliteEventStore({ directory });
  return {
    store,
    async cleanUp() {
      await store.close();
      await rm(directory, { recursive: true });
    },
  };
};
eventStoreConformance('SQLite', openEmpty);
importConformance('SQLite', openEmpty);

describe('the SQLite event store', () => {
  let directory: string;
  const opened: EventStore[] = [];
  const children: ChildProcess[] = [];

  beforeEach(async () => {
    directory = await temporaryDirectory();
  });
  afterEach(async () => {
    for (const child of children.splice(0)) await kill(child);
    for (const store of opened.splice(0)) await store.close();
    await rm(directory, { recursive: true });
  });

  async function open(
    options: Partial<Parameters<typeof openSqliteEventStore>[0]> = {},
  ): Promise<EventStore> {
    const store = await openSqliteEventStore({ directory, ...options });
    opened.push(store);
    return store;
  }

  /** Runs a program that has `store` open on the directory; its lines come out of `lines`. */
  function start(program: string, shell?: string): { child: ChildProcess; lines: AsyncIterator<string> } {
    const source = `
      import { openSqliteEventStore } from '${new URL('./sqlite.ts', import.meta.url)}';
      import { newEvents } from '${new URL('./conformance.ts', import.meta.url)}';
      const store = await openSqliteEventStore({ directory: ${JSON.stringify(directory)} });
      const say = (line) => process.stdout.write(line + '\\n');
      ${program}`;
    const file = join(directory, `child-${children.length}.mjs`);
    writeFileSync(file, source);
    const [command, ...rest] = [...(shell === undefined ? [] : ['sh', '-c', shell]), process.execPath, file];
    const child = spawn(command!, rest, { stdio: ['pipe', 'pipe', 'inherit'] });
    children.push(child);
    return { child, lines: createInterface({ input: child.stdout! })[Symbol.asyncIterator]() };
  }

  describe('has one process on a directory', () => {
    it('and refuses a second, naming the first, until the first is killed', async () => {
      const { child, lines } = start("say('open'); process.stdin.resume();");
      await lines.next();
      const error = await rejection(open());
      expect(error.message).to.equal(
        `another Odeon process (pid ${child.pid}) already uses DATA_DIR ${directory}: ` +
          'stop it, or choose another DATA_DIR',
      );
      await kill(child);
      expect(await readdir(directory)).to.include('lock.pid', 'the stale pid is still there');
      await open();
    });

    it('and refuses a second store in the same process, until the first is closed', async () => {
      const store = await open();
      expect((await rejection(open())).message).to.include(`(pid ${process.pid})`);
      await store.append('s', newEvents(1), { expectedRevision: 'any' });
      await store.close();
      await open();
    });

    it('and lets go of it when opening fails', async () => {
      await (await open()).close();
      const database = new Database(join(directory, 'log.db'));
      database.pragma('user_version = 99');
      expect((await rejection(open())).message).to.match(/has format 99/);
      database.pragma('user_version = 1');
      database.close();
      await open();
    });
  });

  describe('keeps what it acknowledged', () => {
    it('when it is closed and opened again, with appends in flight', async () => {
      const store = await open();
      const appends = Array.from({ length: 50 }, (_, n) =>
        store.append(`s-${n % 3}`, newEvents(2), { expectedRevision: 'any' }),
      );
      const closing = store.close();
      const acknowledged = (await Promise.all(appends)).flatMap(({ events }) => events);
      await closing;
      expect(await readdir(directory)).to.deep.equal(['lock.db', 'log.db']);

      const again = await open();
      expect(await readAll(again)).to.deep.equal(acknowledged);
      const next = await again.append('s-0', newEvents(1), { expectedRevision: 33 });
      expect(next).to.include({ revision: 34, position: '101' });
    });

    it('when it is killed in the midst of appends, over and over', async () => {
      const acknowledged = new Map<string, string>();
      for (let round = 0; round < 4; round += 1) {
        const { child, lines } = start(`
          await Promise.all(Array.from({ length: 16 }, async (_, caller) => {
            for (;;) {
              const batch = newEvents(1 + caller % 3, { commandId: crypto.randomUUID(), data: { of: 1 + caller % 3 } });
              const { events } = await store.append('s-' + caller % 5, batch, { expectedRevision: 'any' });
              say(events.map(({ id, position }) => id + '=' + position).join(' '));
            }
          }));`);
        const enough = 1 + Math.floor(Math.random() * 400);
        for (let heard = 0; ; heard += 1) {
          if (heard === enough) child.kill('SIGKILL');
          const { value, done } = await lines.next();
          if (done) break;
          for (const pair of value.split(' ')) {
            const [id, position] = pair.split('=') as [string, string];
            acknowledged.set(id, position);
          }
        }
        await kill(child);

        const store = await open();
        const events = await readAll(store);
        expectGapless(events);
        const positions = new Map(events.map((event) => [event.id, event.position]));
        for (const [id, position] of acknowledged) expect(positions.get(id)).to.equal(position);
        for (const batch of Map.groupBy(events, (event) => event.commandId).values()) {
          expect(batch).to.have.length((batch[0]!.data as { of: number }).of, 'all of a batch or nothing');
        }
        await store.close();
      }
      expect(acknowledged).to.not.be.empty;
    }).timeout(20_000);
  });

  it('never lets the time of the log go back with the clock', async () => {
    const store = await open();
    await store.append('s', newEvents(2), { expectedRevision: 'any' });
    await store.close();
    const future = '2999-01-01T00:00:00.000Z';
    const database = new Database(join(directory, 'log.db'));
    database.prepare('UPDATE events SET time = ? WHERE position = 2').run(future);
    database.close();
    const again = await open();
    const { events } = await again.append('s', newEvents(1), { expectedRevision: 'any' });
    expect(events[0]!.time).to.equal(future);
    expect(await again.positionAt('2998-12-31T23:59:59Z')).to.equal('1');
    expect(await again.positionAt('2999-01-01T01:00:00+01:00')).to.equal('3');
  });

  for (const shared of [false, true]) {
    describe(`takes in events of another log${shared ? ', shared,' : ''}`, () => {
      const times = ['2001-01-01T00:00:00.000Z', '2001-01-01T00:00:01.000Z'];

      it('in none but the order of their times, which later appends keep even when they lie ahead', async () => {
        const store = await open({ shared });
        const ahead = '2999-01-01T00:00:00.000Z';
        const [a, b, c] = [newEvents(1), newEvents(1), newEvents(1)];
        const before = store.append('s', c, { expectedRevision: 'any' });
        const results = await Promise.all([
          before,
          store.append('s', a, { expectedRevision: 'any', imported: { times: [ahead], previous: c[0]!.id } }),
          store.append('s', b, { expectedRevision: 'any' }),
        ]);
        expect(results[0].events[0]!.time < ahead).to.equal(true);
        expect(results.slice(1).map(({ events }) => events[0]!.time)).to.deep.equal([ahead, ahead]);
        expect(await readAll(store)).to.deep.equal(results.flatMap(({ events }) => events));
        const imported = { times: [times[0]!], previous: b[0]!.id };
        const error = await rejection(store.append('t', newEvents(1), { expectedRevision: 'any', imported }));
        expect(error).to.be.instanceOf(RangeError);
        expect(error.message).to.equal(`Stream t: an event of ${times[0]} cannot follow one of ${ahead}`);
      });
    });
  }

  describe('puts concurrent appends into one commit', () => {
    it('which it tells of, and which refused appends do not spoil', async () => {
      const commits: { appends: number; events: number; durationMs: number }[] = [];
      const store = await open({ onCommit: (commit) => commits.push(commit) });
      const taken = newEvent();
      await store.append('taken', [taken], { expectedRevision: 'any' });
      const outcomes = await Promise.allSettled(
        Array.from({ length: 30 }, (_, n) =>
          n % 3 === 0
            ? store.append('s', newEvents(2), { expectedRevision: 'any' })
            : n % 3 === 1
              ? store.append('s', newEvents(2), { expectedRevision: 1_000 })
              : store.append('s', [newEvent(), taken], { expectedRevision: 'any' }),
        ),
      );
      expect(outcomes.map(({ status }) => status)).to.deep.equal(
        Array.from({ length: 30 }, (_, n) => (n % 3 === 0 ? 'fulfilled' : 'rejected')),
      );
      const events = await readAll(store);
      expectGapless(events);
      expect(events).to.have.length(21);
      expect(commits.reduce((sum, commit) => sum + commit.events, 0)).to.equal(21);
      expect(commits.reduce((sum, commit) => sum + commit.appends, 0)).to.equal(11);
      expect(commits.length).to.be.below(5);
    });
  });

  describe('when it cannot write', () => {
    it('refuses what was asked and works again when it can', async () => {
      const store = await open();
      await store.append('s', newEvents(1), { expectedRevision: 'no stream' });
      const other = new Database(join(directory, 'log.db'));
      other.exec('BEGIN IMMEDIATE');
      const refused = await Promise.allSettled([
        store.append('s', newEvents(1), { expectedRevision: 0 }),
        store.append('s', newEvents(1), { expectedRevision: 7 }),
      ]);
      for (const outcome of refused) {
        expect(outcome).to.have.property('reason').that.is.instanceOf(StoreUnavailable);
      }
      other.exec('COMMIT');
      other.close();
      expect((await store.append('s', newEvents(1), { expectedRevision: 0 })).position).to.equal('2');
      expectGapless(await readAll(store));
    });

    // A file size limit makes the operating system refuse writes, as a full disk does.
    it('because the disk takes no more, loses nothing and goes on when there is room', async function () {
      if (spawnSync('prlimit', ['--version']).error !== undefined) this.skip();
      const { child, lines } = start(
        `process.stdin.on('data', () => go());
        let go = () => {};
        let acknowledged = 0;
        const fill = async () => {
          for (;;) {
            const results = await Promise.allSettled([1, 2, 3].map((n) =>
              store.append('s-' + n, newEvents(2, { data: 'x'.repeat(20_000) }), { expectedRevision: 'any' })));
            acknowledged += results.filter(({ status }) => status === 'fulfilled').length;
            const failed = results.find(({ status }) => status === 'rejected');
            if (failed) return failed.reason.name;
          }
        };
        say(await fill());
        say(await fill());
        await new Promise((resolve) => { go = resolve; });
        for (let n = 0; n < 20; n += 1) {
          await store.append('after', newEvents(2), { expectedRevision: n === 0 ? 'no stream' : n * 2 - 1 });
          acknowledged += 1;
        }
        await store.close();
        say(String(acknowledged));`,
        // Soft limit of 3 MiB (sh counts blocks of 512 bytes); writing beyond it is an error, not a signal.
        `trap '' XFSZ; ulimit -S -f 6144; exec "$0" "$@"`,
      );
      expect((await lines.next()).value).to.equal('StoreUnavailable');
      expect((await lines.next()).value).to.equal('StoreUnavailable');
      const raising = spawn('prlimit', ['--fsize=unlimited:unlimited', '--pid', String(child.pid)]);
      expect((await once(raising, 'exit'))[0]).to.equal(0);
      child.stdin!.write('go on\n');
      const acknowledged = Number((await lines.next()).value);
      child.stdin!.end();
      await once(child, 'exit');
      const events = await readAll(await open());
      expectGapless(events);
      expect(acknowledged).to.be.above(20);
      expect(events).to.have.length(acknowledged * 2);
    }).timeout(15_000);

    it('because its writer is gone, says so to everybody, and still closes', async () => {
      const starting = once(process, 'worker') as Promise<[Worker]>;
      const store = await open();
      const [worker] = await starting;
      await store.append('s', newEvents(1), { expectedRevision: 'any' });
      const following = collect(store.subscribe({ after: '1', signal: new AbortController().signal }));
      const pending = store.append('s', newEvents(1), { expectedRevision: 'any' });
      void worker.terminate();
      const late = store.append('s', newEvents(1), { expectedRevision: 'any' });
      const outcomes = await Promise.allSettled([pending, late, following]);
      expect(outcomes[2]).to.have.property('reason').that.is.instanceOf(StoreUnavailable);
      expect(await rejection(store.append('s', newEvents(1), { expectedRevision: 'any' }))).to.be.instanceOf(
        StoreUnavailable,
      );
      const acknowledged = outcomes.slice(0, 2).filter(({ status }) => status === 'fulfilled').length;
      await store.close();
      const events = await readAll(await open());
      expectGapless(events);
      expect(events.length).to.be.at.least(1 + acknowledged);
    });
  });

  describe('when its file is damaged', () => {
    const names = /log\.db is damaged \(.*(malformed|not a database).*restore log\.db from a backup/;
    const file = () => join(directory, 'log.db');

    it('names the file and says what to do when it is opened', async () => {
      writeFileSync(file(), 'x'.repeat(10_000));
      const error = await rejection(open());
      expect(error).to.be.instanceOf(StoreUnavailable);
      expect(error.message).to.match(names).and.contain(file());
    });

    it('names the file and says what to do when it is read or written', async () => {
      const store = await open();
      for (let n = 0; n < 20; n++) {
        await store.append(`s-${n}`, newEvents(20, { data: 'x'.repeat(2_000) }), { expectedRevision: 'any' });
      }
      await store.close();
      const bytes = readFileSync(file());
      const page = bytes.readUInt16BE(16);
      // What it takes to open the file stays whole: the first pages, with the roots, and the end of the log.
      writeFileSync(file(), bytes.fill(0xff, 7 * page, bytes.length - 20 * page));
      const damaged = await open();
      const ids = Array.from({ length: 100 }, () => newEvents(1));
      const written = await Promise.allSettled(
        ids.map((events) => damaged.append('s-new', events, { expectedRevision: 'any' })),
      );
      const reasons = written.flatMap((outcome) => (outcome.status === 'rejected' ? [outcome.reason] : []));
      expect(reasons).not.to.be.empty;
      for (const error of [...reasons, await rejection(collect(damaged.readAll()))]) {
        expect(error).to.be.instanceOf(StoreUnavailable);
        expect(error.message).to.match(names).and.contain(file());
      }
    });
  });

  describe('when it is closed', () => {
    it('ends subscriptions, refuses appends and reads, and may be closed again', async () => {
      const store = await open();
      await store.append('s', newEvents(1_200), { expectedRevision: 'any' });
      const { signal } = new AbortController();
      const waiting = collect(store.subscribe({ after: '1200', signal }));
      const halfRead = store.readAll()[Symbol.asyncIterator]();
      await halfRead.next();
      const half = store.subscribe({ after: START, signal })[Symbol.asyncIterator]();
      await half.next();
      await Promise.all([store.close(), store.close()]);
      expect(await waiting).to.be.empty;
      expect((await half.next()).done).to.equal(true);
      const refused = [
        halfRead.next(),
        store.append('s', newEvents(1), { expectedRevision: 'any' }),
        collect(store.readStream('s')),
        store.head(),
        store.count(),
      ];
      for (const error of await Promise.all(refused.map(rejection))) {
        expect(error).to.be.instanceOf(StoreUnavailable);
      }
    });
  });

  describe('to a subscriber', () => {
    it('that fell behind what is kept in memory gives everything once, from disk, then live', async () => {
      const store = await open();
      const stop = new AbortController();
      const pages = store.subscribe({ after: START, signal: stop.signal })[Symbol.asyncIterator]();
      await store.append('s', newEvents(1), { expectedRevision: 'any' });
      const read: EventEnvelope[] = [...(await pages.next()).value.events];
      for (let n = 0; n < 10; n += 1) await store.append('s', newEvents(600), { expectedRevision: 'any' });
      while (read.length < 6_001) {
        read.push(...(await pages.next()).value.events);
        if (read.length === 3_001) await store.append('s', newEvents(1_000), { expectedRevision: 'any' });
      }
      while (read.length < 7_001) read.push(...(await pages.next()).value.events);
      stop.abort();
      expectGapless(read);
      expect(read).to.deep.equal(await readAll(store));
    });

    it('gives big events in small pages', async () => {
      const store = await open();
      const data = 'x'.repeat(600_000);
      for (let n = 0; n < 24; n += 1)
        await store.append('s', [newEvent({ data })], { expectedRevision: 'any' });
      for (const pages of [
        await collect(store.readAll()),
        await collect(store.readAll({ direction: 'backwards' })),
        (await collect(store.readStream('s'))).map((events) => ({ events })),
      ]) {
        expect(Math.max(...pages.map(({ events }) => events.length))).to.be.at.most(2);
        expect(pages.flatMap(({ events }) => events)).to.have.length(24);
      }
    });

    it('of ten thousand, each gets everything, and nothing is left of those that ended', async function () {
      this.timeout(10_000);
      const store = await open();
      const stop = new AbortController();
      let delivered = 0;
      const following = Array.from({ length: 10_000 }, async () => {
        for await (const page of store.subscribe({ after: START, signal: stop.signal })) {
          delivered += page.events.length;
        }
      });
      for (let n = 0; n < 3; n += 1) await store.append('s', newEvents(1), { expectedRevision: 'any' });
      while (delivered < 30_000) await othersRan();
      stop.abort();
      await Promise.all(following);
      await store.append('s', newEvents(1), { expectedRevision: 'any' });
      expect(delivered).to.equal(30_000);
    });
  });
});

async function kill(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  child.kill('SIGKILL');
  await once(child, 'exit');
}

function expectGapless(events: readonly EventEnvelope[]): void {
  expect(events.map((event) => event.position)).to.deep.equal(events.map((_, i) => String(i + 1)));
  for (const stream of Map.groupBy(events, (event) => event.stream).values()) {
    expect(stream.map((event) => event.revision)).to.deep.equal(stream.map((_, i) => i));
  }
}

async function readAll(store: EventStore): Promise<EventEnvelope[]> {
  return (await collect(store.readAll())).flatMap((page) => page.events);
}

async function collect<Item>(items: AsyncIterable<Item>): Promise<Item[]> {
  const collected: Item[] = [];
  for await (const item of items) collected.push(item);
  return collected;
}

const rejection = (promise: Promise<unknown>): Promise<Error> =>
  promise.then(
    () => new Error('nothing was refused'),
    (error: Error) => error,
  );
