/** The embedded log shared by several processes: the port's promises hold across them, whoever is killed when. */
import { type ChildProcess, fork } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { statSync, writeFileSync } from 'node:fs';
import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import Database from 'better-sqlite3';
import { expect } from 'chai';
import { type EventEnvelope, START } from '../../contracts/envelope.ts';
import {
  eventStoreConformance,
  importConformance,
  newEvent,
  newEvents,
  type OpenEventStore,
} from './conformance.ts';
import {
  EventIdConflict,
  type EventStore,
  StoreUnavailable,
  WrongExpectedRevision,
  WrongLogEnd,
} from './port.ts';
import { INSERT } from './sqlite/schema.ts';
import { openSqliteEventStore } from './sqlite.ts';

const temporaryDirectory = () => mkdtemp(join(tmpdir(), 'odeon-shared-'));

const openShared: OpenEventStore = async () => {
  const directory = await temporaryDirectory();
  const store = await openSqliteEventStore({ directory, shared: true });
  return {
    store,
    async cleanUp() {
      await store.close();
      await rm(directory, { recursive: true });
    },
  };
};
eventStoreConformance('SQLite, shared', openShared);
importConformance('SQLite, shared', openShared);

const openThreeHandles: OpenEventStore = async () => {
  const directory = await temporaryDirectory();
  const open = () => openSqliteEventStore({ directory, shared: true });
  const stores = [await open(), await open(), await open()] as const;
  let calls = 0;
  const next = (): EventStore => stores[(calls++ % 3) as 0 | 1 | 2];
  const store: EventStore = {
    append: (...given) => next().append(...given),
    readStream: (...given) => next().readStream(...given),
    readAll: (...given) => next().readAll(...given),
    subscribe: (...given) => next().subscribe(...given),
    head: () => next().head(),
    end: () => next().end(),
    count: (...given) => next().count(...given),
    positionAt: (...given) => next().positionAt(...given),
    close: async () => {
      for (const one of stores) await one.close();
    },
  };
  return {
    store,
    async cleanUp() {
      await store.close();
      await rm(directory, { recursive: true });
    },
  };
};
eventStoreConformance('SQLite, shared by three handles', openThreeHandles);
importConformance('SQLite, shared by three handles', openThreeHandles);

const openThreeProcesses: OpenEventStore = async () => {
  const directory = await temporaryDirectory();
  const store = await openSqliteEventStore({ directory, shared: true });
  const program = `
    process.on('message', async ({ call, given }) => {
      const answer = await store.append(...given).then(
        (result) => ({ result }),
        ({ name, message, stream, expected, actual }) => ({ error: { name, message, stream, expected, actual } }),
      );
      process.send({ call, ...answer });
    });
    process.on('disconnect', () => store.close());
    process.send('ready');`;
  interface Answer {
    readonly call: number;
    readonly result?: Awaited<ReturnType<EventStore['append']>>;
    readonly error?: WrongExpectedRevision;
  }
  const waiting = new Map<number, PromiseWithResolvers<NonNullable<Answer['result']>>>();
  const children = [start(directory, 'a', program), start(directory, 'b', program)] as const;
  for (const child of children) {
    await once(child, 'message');
    child.on('message', ({ call, result, error }: Answer) => {
      if (result !== undefined) waiting.get(call)!.resolve(result);
      else waiting.get(call)!.reject(revived(error!));
      waiting.delete(call);
    });
  }
  let calls = 0;
  return {
    store: {
      ...store,
      append(...given) {
        const call = calls++;
        const answer = Promise.withResolvers<NonNullable<Answer['result']>>();
        waiting.set(call, answer);
        children[(call % 2) as 0 | 1].send({ call, given });
        return answer.promise;
      },
    },
    async cleanUp() {
      for (const child of children) {
        child.disconnect();
        await once(child, 'exit');
      }
      await store.close();
      expect(await readdir(directory))
        .to.include.members(['lock.db', 'log.db'])
        .and.not.include('log.db-wal');
      await rm(directory, { recursive: true });
    },
  };
};
eventStoreConformance('SQLite, shared by three processes', openThreeProcesses);
importConformance('SQLite, shared by three processes', openThreeProcesses);

/** An error as it was before it was sent from one process to another. */
function revived(error: WrongExpectedRevision): Error {
  if (error.name === 'WrongExpectedRevision') {
    return new WrongExpectedRevision(error.stream, error.expected, error.actual);
  }
  const kinds: Record<string, { readonly prototype: Error }> = {
    EventIdConflict,
    RangeError,
    StoreUnavailable,
    WrongLogEnd,
  };
  const kind = kinds[error.name] ?? Error;
  return Object.create(kind.prototype, { message: { value: error.message } });
}

/** Runs a program that has `store` open on the directory, shared. */
function start(directory: string, name: string, program: string): ChildProcess {
  const file = join(directory, `${name}.mjs`);
  writeFileSync(
    file,
    `import { createHash } from 'node:crypto';
    import { openSqliteEventStore } from '${new URL('./sqlite.ts', import.meta.url)}';
    const newEvents = (count) => Array.from({ length: count }, () => ({
      ...${JSON.stringify(newEvent())}, id: crypto.randomUUID(),
    }));
    const store = await openSqliteEventStore({ directory: ${JSON.stringify(directory)}, shared: true });
    ${program}`,
  );
  return fork(file, { serialization: 'advanced', stdio: ['ignore', 'inherit', 'inherit', 'ipc'] });
}

describe('the SQLite event store, shared', () => {
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

  async function open(shared = true): Promise<EventStore> {
    const store = await openSqliteEventStore({ directory, shared });
    opened.push(store);
    return store;
  }

  function run(program: string): ChildProcess {
    const child = start(directory, `child-${children.length}`, program);
    children.push(child);
    return child;
  }

  describe('lets in', () => {
    it('those that share it, and nobody who wants it for himself', async () => {
      const child = run("process.send('open');");
      await once(child, 'message');
      await open();
      const refused = await rejection(open(false));
      expect(refused.message).to.equal(
        `other Odeon processes share DATA_DIR ${directory}, and this one wants it for itself: ` +
          'stop them, or choose another DATA_DIR',
      );
      await opened.pop()!.close();
      expect((await rejection(open(false))).message).to.equal(refused.message);
      await kill(child);
      await open(false);
    });

    it('nobody who would share it while somebody has it for himself', async () => {
      const alone = await open(false);
      expect((await rejection(open())).message).to.equal(
        `another Odeon process (pid ${process.pid}) has DATA_DIR ${directory} for itself: stop it and start it ` +
          'again so that it shares the directory too, or choose another DATA_DIR',
      );
      await alone.close();
      await open();
    });

    it('six at once where there is no log yet', async function () {
      this.timeout(60_000);
      const appended = await Promise.all(
        Array.from({ length: 6 }, async (_, n) => {
          const child = run(
            `process.send(await store.append('s-${n}', newEvents(2), { expectedRevision: 'no stream' }));`,
          );
          const [result] = await once(child, 'message');
          return result.events as EventEnvelope[];
        }),
      );
      const events = await readAll(await open());
      expectGapless(events);
      expect(events).to.have.deep.members(appended.flat());
    });
  });

  it('shows every read what was acknowledged before, to whomever', async () => {
    const [a, b] = [await open(), await open()];
    for (let n = 0; n < 50; n += 1) {
      const { position } = await a.append('s', newEvents(1), {
        expectedRevision: n === 0 ? 'no stream' : n - 1,
      });
      expect(await b.head()).to.equal(position);
      const last = await collect(b.readStream('s', { direction: 'backwards', limit: 1 }));
      expect(last[0]![0]).to.include({ revision: n, position });
      expect(await b.count()).to.equal(n + 1);
    }
    const error = await rejection(b.append('s', newEvents(1), { expectedRevision: 48 }));
    expect(error).to.be.instanceOf(WrongExpectedRevision).and.include({ actual: 49 });
  });

  it('answers the same batch the same whoever is asked, and refuses an id that another has taken', async () => {
    const [a, b] = [await open(), await open()];
    const batch = newEvents(3);
    const results = await Promise.all(
      [a, b, a, b].map((store) => store.append('s', batch, { expectedRevision: 'no stream' })),
    );
    for (const result of results) expect(result).to.deep.equal(results[0]);
    const [taken] = newEvents(1);
    await a.append('s', [taken!], { expectedRevision: 2 });
    const conflict = b.append('t', [newEvent(), taken!], { expectedRevision: 'no stream' });
    expect(await rejection(conflict)).to.be.instanceOf(EventIdConflict);
    expect(await readAll(b)).to.have.length(4);
  });

  it('never lets time go back when the clock of one was ahead', async () => {
    const [a, b] = [await open(), await open()];
    await a.append('s', newEvents(2), { expectedRevision: 'any' });
    await b.append('s', newEvents(1), { expectedRevision: 'any' });
    const future = '2999-01-01T00:00:00.000Z';
    const database = new Database(join(directory, 'log.db'));
    database.prepare('UPDATE events SET time = ? WHERE position = 3').run(future);
    database.close();
    const { events } = await a.append('s', newEvents(1), { expectedRevision: 2 });
    expect(events[0]!.time).to.equal(future);
  });

  describe('wakes subscribers', () => {
    it('soon after another process committed', async () => {
      const child = run(`
        for await (const page of store.subscribe({ after: '0', signal: new AbortController().signal })) {
          for (const { id } of page.events) process.send({ id, seenAt: Date.now() });
        }`);
      const store = await open();
      const took: number[] = [];
      for (let n = 0; n < 21; n += 1) {
        const seen = once(child, 'message');
        const event = newEvent();
        await store.append('s', [event], { expectedRevision: 'any' });
        const committedAt = Date.now();
        const [{ id, seenAt }] = await seen;
        expect(id).to.equal(event.id);
        took.push(seenAt - committedAt);
      }
      // What looks every 250 ms only, takes 125 ms; the first one also starts a process.
      expect(took.sort((a, b) => a - b)[10]).to.be.below(60);
    });

    it('even when the other was killed before it could tell', async () => {
      const store = await open();
      const { events } = await store.append('s', newEvents(1), { expectedRevision: 'any' });
      const following = collectOne(store, '1');
      const database = new Database(join(directory, 'log.db'), { timeout: 1_000 });
      const id = crypto.randomUUID();
      const { time } = events[0]!;
      const meta = '{"actor":{"kind":"user","id":"u"},"causationId":null,"commandId":"c","surface":"odeon"}';
      database.prepare(INSERT).run(2, id, 's', 1, 'Tested', 1, 'tester', 'c', time, meta, '{}');
      database.close();
      expect((await following).id).to.equal(id);
    });

    it('that fell behind from the file, while others write more than is kept in memory', async () => {
      const [a, b] = [await open(), await open()];
      const stop = new AbortController();
      const seen: EventEnvelope[] = [];
      const following = (async () => {
        for await (const page of b.subscribe({ after: START, signal: stop.signal })) {
          seen.push(...page.events);
          if (seen.length >= 9_030) stop.abort();
        }
      })();
      for (let n = 0; n < 30; n += 1) {
        await a.append('a', newEvents(300), { expectedRevision: 'any' });
        await b.append('b', newEvents(1), { expectedRevision: 'any' });
      }
      await following;
      expectGapless(seen);
      expect(seen).to.deep.equal(await readAll(a));
    });
  });

  describe('when others hold the log', () => {
    it('waits, and goes on at once when they are killed', async () => {
      const child = run(`
        const { default: Database } = await import('${import.meta.resolve('better-sqlite3')}');
        const held = ['lock.db', 'log.db'].map((name) => new Database(${JSON.stringify(`${directory}/`)} + name));
        for (const one of held) one.exec('BEGIN IMMEDIATE');
        process.send('held');`);
      const store = await open();
      await once(child, 'message');
      const appending = store.append('s', newEvents(1), { expectedRevision: 'any' });
      expect(await Promise.race([appending, delay(100, 'waits')])).to.equal('waits');
      await kill(child);
      expect((await appending).position).to.equal('1');
    });

    it('for more than five seconds, refuses, and works again when it can', async () => {
      const store = await open();
      const other = new Database(join(directory, 'log.db'));
      other.exec('BEGIN IMMEDIATE');
      const refused = await rejection(store.append('s', newEvents(1), { expectedRevision: 'any' }));
      expect(refused).to.be.instanceOf(StoreUnavailable);
      expect(refused.message).to.equal(
        `the event store could not write: other processes have kept ${directory}/log.db busy for 5 s`,
      );
      other.exec('COMMIT');
      other.close();
      await store.append('s', newEvents(1), { expectedRevision: 'no stream' });
    });
  });

  it('keeps the write-ahead log short while all write and read, and leaves none', async function () {
    this.timeout(60_000);
    const stores = [await open(), await open(), await open(), await open()];
    let most = 0;
    const callers = stores.flatMap((store, n) =>
      Array.from({ length: 8 }, async (_, caller) => {
        for (let round = 0; round < 120; round += 1) {
          const batch = newEvents(4, { data: 'x'.repeat(4_000) });
          await store.append(`s-${n}-${caller}`, batch, { expectedRevision: 'any' });
          most = Math.max(most, statSync(join(directory, 'log.db-wal')).size);
        }
      }),
    );
    await Promise.all(callers);
    expect(statSync(join(directory, 'log.db')).size).to.be.above(60 * 1024 * 1024);
    expect(most).to.be.within(16 * 1024 * 1024, 32 * 1024 * 1024);
    await Promise.all(opened.splice(0).map((store) => store.close()));
    expect(await readdir(directory)).to.deep.equal(['lock.db', 'log.db']);
  });

  it('keeps every promise while four processes write and follow, and are killed over and over', async function () {
    this.timeout(120_000);
    const acknowledged = new Map<string, string>();
    const kills = { wanted: 8, done: 0 };
    const program = (worker: number) => `
      const said = { count: 0, digest: createHash('sha256'), last: 0 };
      let until = Infinity;
      let stopped = false;
      const report = () => {
        if (said.last < until) return;
        process.send({ count: said.count, digest: said.digest.digest('hex') }, () => process.exit(0));
        until = Infinity;
      };
      const following = (async () => {
        const revisions = new Map();
        for await (const page of store.subscribe({ after: '0', signal: new AbortController().signal })) {
          for (const { id, position, stream, revision } of page.events) {
            if (Number(position) !== said.last + 1) throw new Error('position ' + position + ' after ' + said.last);
            if (revision !== (revisions.get(stream) ?? -1) + 1) throw new Error(stream + ' ' + revision);
            revisions.set(stream, revision);
            said.last = Number(position);
            said.count += 1;
            said.digest.update(id + position);
          }
          report();
        }
      })();
      process.on('message', (message) => {
        if (message === 'stop') stopped = true;
        else { until = message.until; report(); }
      });
      const callers = Array.from({ length: 4 }, async (_, caller) => {
        const stream = caller === 0 ? 'own-${worker}' : 'common-' + caller;
        while (!stopped) {
          const last = (await Array.fromAsync(store.readStream(stream, { direction: 'backwards', limit: 1 }))).flat()[0];
          const expectedRevision = last?.revision ?? 'no stream';
          const batch = newEvents(1 + Math.floor(Math.random() * 3));
          try {
            const { events } = await store.append(stream, batch, { expectedRevision });
            if (events[0].revision !== (last?.revision ?? -1) + 1) throw new Error('not as expected');
            process.send(events.map(({ id, position }) => [id, position]));
          } catch (error) {
            if (error.name !== 'WrongExpectedRevision') throw error;
            if (error.actual <= (last?.revision ?? -1)) throw new Error('refused what fitted: ' + error.message);
            if (caller === 0) throw error;
          }
        }
      });
      await Promise.all(callers);
      process.send('stopped');
      await following;`;

    const stopped = new Set<ChildProcess>();
    const reports: { count: number; digest: string }[] = [];
    let heard = 0;
    const everybodyStopped = Promise.withResolvers<void>();
    const everybodyReported = Promise.withResolvers<void>();
    const failed = (error: Error): void => {
      everybodyStopped.reject(error);
      everybodyReported.reject(error);
    };
    everybodyReported.promise.catch(() => {});
    const slots: ChildProcess[] = [];

    const begin = (worker: number): void => {
      const child = run(program(worker));
      slots[worker] = child;
      let mine = 0;
      const enough = 10 + Math.floor(Math.random() * 150);
      child.on('message', (message: [string, string][] | 'stopped' | { count: number; digest: string }) => {
        if (message === 'stopped') {
          stopped.add(child);
          if (stopped.size === 4) everybodyStopped.resolve();
        } else if (Array.isArray(message)) {
          for (const [id, position] of message) acknowledged.set(id, position);
          heard += 1;
          mine += 1;
          if (mine === enough && kills.done < kills.wanted) {
            kills.done += 1;
            child.kill('SIGKILL');
          } else if (kills.done === kills.wanted && heard >= 1_000) {
            for (const one of slots) if (one.connected && !stopped.has(one)) one.send('stop', () => {});
          }
        } else {
          reports.push(message);
          if (reports.length === 4) everybodyReported.resolve();
        }
      });
      child.on('exit', (code, signal) => {
        if (signal === 'SIGKILL') begin(worker);
        else if (code !== 0) failed(new Error(`process ${worker} ended with ${code}`));
      });
    };
    for (let worker = 0; worker < 4; worker += 1) begin(worker);
    await everybodyStopped.promise;

    const events = await readAll(await open());
    for (const child of slots) child.send({ until: events.length });
    await everybodyReported.promise;
    for (const child of slots) if (child.exitCode === null) await once(child, 'exit');

    expectGapless(events);
    const positions = new Map(events.map(({ id, position }) => [id, position]));
    expect(positions.size).to.equal(events.length, 'every event once');
    expect(acknowledged.size).to.be.above(1_000);
    for (const [id, position] of acknowledged) expect(positions.get(id)).to.equal(position);
    for (const [i, event] of events.entries())
      expect(event.time >= (events[i - 1]?.time ?? '')).to.equal(true);
    const digest = createHash('sha256');
    for (const { id, position } of events) digest.update(id + position);
    const expected = { count: events.length, digest: digest.digest('hex') };
    expect(reports).to.deep.equal([expected, expected, expected, expected]);
    expect(kills.done).to.equal(kills.wanted);
  });
});

async function kill(child: ChildProcess): Promise<void> {
  child.removeAllListeners('exit');
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

/** The first event after a position, as soon as there is one. */
async function collectOne(store: EventStore, after: string): Promise<EventEnvelope> {
  for await (const { events } of store.subscribe({ after, signal: new AbortController().signal })) {
    if (events[0] !== undefined) return events[0];
  }
  throw new Error('the subscription ended');
}

const rejection = (promise: Promise<unknown>): Promise<Error> =>
  promise.then(
    () => new Error('nothing was refused'),
    (error: Error) => error,
  );
