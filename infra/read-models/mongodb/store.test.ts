import { setTimeout as delay } from 'node:timers/promises';
import { expect } from 'chai';
import fc from 'fast-check';
import { MongoClient } from 'mongodb';
import { describeWithEngines, FIRST_START_MS } from '../../../test/engines/availability.ts';
import { type FerretDb, startFerretDb } from '../../../test/engines/ferretdb.ts';
import { StoreUnavailable } from '../../event-store/port.ts';
import { readModelsConformance } from '../conformance.ts';
import type { Scalar, SharedReadModels } from '../port.ts';
import { sortKey } from './documents.ts';
import { openMongoReadModels } from './store.ts';

const notes = { projection: 'notes', version: 1, indexes: [['owner', 'rank'], ['meta.tag']] };
const checkpoint = { position: '1', seen: 1 };

describe('the sort keys of values', () => {
  it('come in the order of the values: null, numbers, strings', () => {
    const scalar = fc.oneof(
      fc.constant(null),
      fc.double({ noNaN: true, noDefaultInfinity: true }),
      fc.integer(),
      fc.string(),
    );
    const kind = (value: Scalar) => (value === null ? 0 : typeof value === 'number' ? 1 : 2);
    const compare = (a: Scalar, b: Scalar): number => {
      if (kind(a) !== kind(b)) return kind(a) - kind(b);
      if (a === b || a === null || b === null) return 0;
      return typeof a === 'number' && typeof b === 'number'
        ? a - b
        : Buffer.compare(Buffer.from(`${a}`), Buffer.from(`${b}`));
    };
    fc.assert(
      fc.property(scalar, scalar, (a, b) => {
        const byKey = Buffer.compare(Buffer.from(sortKey(a)), Buffer.from(sortKey(b)));
        expect(Math.sign(byKey)).to.equal(Math.sign(compare(a, b)));
      }),
      { numRuns: 1_000 },
    );
    expect(sortKey(true)).to.equal(sortKey(1));
    expect(sortKey(-0)).to.equal(sortKey(0));
  });
});

describe('opening read models in MongoDB', () => {
  it('says which address nobody answers at, and why, but no password', async function () {
    this.timeout(20_000);
    const begun = performance.now();
    const url = 'mongodb://wilma:s3cr%40t@127.0.0.1:1,127.0.0.1:2/odeon?authSource=admin';
    const error = await failure(openMongoReadModels({ url, partitions: 1, onAvailability: () => {} }));
    expect(performance.now() - begun).to.be.below(8_000);
    expect(error).to.be.instanceOf(StoreUnavailable);
    expect(error.message).to.contain('127.0.0.1:1,127.0.0.1:2').and.to.contain('ECONNREFUSED');
    expect(error.message).not.to.match(/s3cr|wilma/);
  });

  it('says what is wrong with a URL, but no password', async () => {
    for (const url of [
      'mongodb://ann:s3cr:et@127.0.0.1:1/',
      'mongodb://ann:s3cr:et@127.0.0.1:1/?nonsense=1',
      'x',
    ]) {
      const error = await failure(openMongoReadModels({ url, partitions: 1, onAvailability: () => {} }));
      expect(error.message).to.contain('MongoDB').and.not.to.contain('s3cr');
    }
  });

  it('refuses a number of partitions that is none', async () => {
    for (const partitions of [0, 1.5]) {
      const error = await failure(
        openMongoReadModels({ url: 'mongodb://127.0.0.1:1/', partitions, onAvailability: () => {} }),
      );
      expect(error).to.be.instanceOf(RangeError);
    }
  });
});

describeWithEngines(['ferretdb'], 'on FerretDB', function () {
  this.timeout(60_000);
  let engine: FerretDb;
  let databases = 0;
  before(async function () {
    this.timeout(FIRST_START_MS);
    engine = await startFerretDb();
  });
  after(() => engine.stop());

  /** An empty database, and as many processes as are asked for. */
  async function openTemporary(more: { graceMs?: number } = {}) {
    const database = `test${++databases}`;
    const told: (string | null)[] = [];
    const client = new MongoClient(engine.url, { serverSelectionTimeoutMS: 5_000 });
    const opened: SharedReadModels[] = [];
    return {
      told,
      db: client.db(database),
      async open(partitions = 1) {
        const shared = await openMongoReadModels({
          url: engine.url,
          database,
          partitions,
          onAvailability: (problem) => told.push(problem),
          ...more,
        });
        opened.push(shared);
        return shared;
      },
      async destroy() {
        for (const shared of opened) await shared.close();
        await client.db(database).dropDatabase();
        await client.close();
      },
    };
  }

  readModelsConformance('MongoDB protocol (FerretDB)', {
    async open() {
      const temporary = await openTemporary();
      let shared = await temporary.open();
      const storeOf = () => ({ ...shared.partition(0), snapshots: shared.snapshots });
      return {
        store: storeOf(),
        async reopen() {
          await shared.close();
          shared = await temporary.open();
          return storeOf();
        },
        destroy: temporary.destroy,
      };
    },
    async openShared(partitions) {
      const temporary = await openTemporary();
      return {
        shared: await temporary.open(partitions),
        another: (others = partitions) => temporary.open(others),
        destroy: temporary.destroy,
      };
    },
    runs: 8,
  });

  describe('read models in MongoDB', () => {
    let temporary: Awaited<ReturnType<typeof openTemporary>>;
    let shared: SharedReadModels;
    beforeEach(async () => {
      temporary = await openTemporary({ graceMs: 3_000 });
      shared = await temporary.open();
    });
    afterEach(() => temporary.destroy());

    const collections = async () =>
      (await temporary.db.listCollections({}, { nameOnly: true }).toArray())
        .map(({ name }) => name)
        .filter((name) => name.startsWith('documents.'));

    it('keep bodies whatever their keys and lists', async () => {
      const store = shared.partition(0);
      const copy = await store.createCopy(notes);
      const body = { 'a.b': 1, $set: { $x: [[1, [2]], []] }, __proto__x: null, '': 'empty', n: 1e300 };
      await store.write([{ copy, puts: [{ id: 'a.$b', position: '1', body }], deletes: [], checkpoint }]);
      const found = await shared.get('notes', 'a.$b');
      expect(JSON.stringify(found?.body)).to.equal(JSON.stringify(body));
    });

    it('make declared indexes with the copy, and again when they are missing at the opening', async () => {
      await shared.partition(0).createCopy(notes);
      const [name] = await collections();
      const indexes = async () =>
        (await temporary.db.collection(name!).listIndexes().toArray()).map(({ key }) =>
          Object.keys(key).join(),
        );
      const expected = ['_id', 'state.f0,state.f1,_id', 'state.f2,_id'];
      expect(await indexes()).to.have.members(expected);
      await temporary.db.collection(name!).dropIndex('i0');
      expect(await indexes()).to.have.length(2);
      await temporary.open();
      expect(await indexes()).to.have.members(expected);
    });

    it('hold back checkpoints that only move on, for a second at most, and not over the end', async () => {
      const store = shared.partition(0);
      const copy = await store.createCopy(notes);
      const stored = async () => {
        const found = await temporary.db
          .collection<{ _id: string }>('checkpoints')
          .findOne({ _id: `${copy}/0` });
        return Number((found as unknown as { checkpoint: { position: string } }).checkpoint.position);
      };
      const step = (position: number) =>
        store.write([{ copy, puts: [], deletes: [], checkpoint: { position: String(position), seen: 1 } }]);
      await step(5); // seen is another: written at once
      expect(await stored()).to.equal(5);
      for (let position = 6; position < 200; position++) await step(position);
      expect((await store.copies())[0]?.checkpoint.position, 'known here').to.equal('199');
      await until(async () => (await stored()) === 199);
      await step(200);
      await shared.close();
      expect(await stored()).to.equal(200);
    });

    it('drop the collection that a switch replaced after a while, and what a killed process left at the opening', async () => {
      const store = shared.partition(0);
      await store.createCopy(notes);
      const [old] = await collections();
      const next = await store.createCopy({ ...notes, version: 2 });
      expect(await store.activate(next)).to.equal(true);
      expect(await collections(), 'others may still read it').to.include(old);
      await until(async () => !(await collections()).includes(old!));
      expect(await collections()).to.have.length(1);

      const third = await store.createCopy({ ...notes, version: 3 });
      expect(await store.activate(third)).to.equal(true);
      await temporary.db.collection('documents.notes.v1.99').insertOne({ none: 'knows it' });
      await temporary.db.collection('elsewhere').insertOne({ not: 'ours' });
      await shared.close(); // before the time was over
      expect(await collections()).to.have.length(3);
      shared = await temporary.open();
      await until(async () => (await collections()).length === 1);
      expect(await temporary.db.collection('elsewhere').countDocuments()).to.equal(1);
      expect(await shared.count('notes')).to.equal(0);
    });

    it('leave no collection behind when a dropped copy is written', async () => {
      const elsewhere = (await temporary.open()).partition(0);
      const store = shared.partition(0);
      await store.createCopy(notes);
      const gone = await store.createCopy({ ...notes, version: 2 });
      await elsewhere.getFrom(gone, ['1']); // it knows the copy, and for a second not better
      await store.dropCopy(gone);
      const put = { copy: gone, puts: [{ id: '1', position: '1', body: {} }], deletes: [], checkpoint };
      expect((await failure(elsewhere.write([put]))).message).to.contain(`no copy ${gone}`);
      expect(await collections()).to.have.length(1);
    });

    it('say clearly when they are closed', async () => {
      const store = shared.partition(0);
      await shared.close();
      for (const call of [() => shared.copies(), () => store.copies(), () => shared.get('notes', '1')]) {
        expect(await failure(call())).to.be.instanceOf(StoreUnavailable);
      }
    });
  });

  describe('read models in MongoDB that goes away', () => {
    for (const [title, away, back] of [
      ['is killed', () => engine.kill(), () => engine.restart()],
      ['does not answer', async () => engine.suspend(), async () => engine.resume()],
    ] as const) {
      it(`say so when it ${title}, and go on when it is back`, async () => {
        const temporary = await openTemporary();
        const { told } = temporary;
        const shared = await temporary.open();
        try {
          expect(told).to.deep.equal([null]);
          const store = shared.partition(0);
          const copy = await store.createCopy(notes);
          const put = (id: string, position: string) =>
            store.write([
              {
                copy,
                puts: [{ id, position, body: {} }],
                deletes: [],
                checkpoint: { position, seen: Number(position) },
              },
            ]);
          await put('1', '1');
          await away();
          try {
            // Told without any traffic.
            await until(() => told.at(-1) !== null);
            expect(told.at(-1)).to.contain(new URL(engine.url).host);
            const begun = performance.now();
            const calls = [
              shared.get('notes', '1'),
              shared.find('notes', { limit: 1 }),
              shared.copies(),
              shared.snapshots.get('x'),
              put('2', '2'),
            ];
            for (const error of await Promise.all(calls.map(failure))) {
              expect(error).to.be.instanceOf(StoreUnavailable).with.property('engine', 'read models');
              expect(error.message).to.contain(new URL(engine.url).host);
            }
            expect(performance.now() - begun, 'no call hangs').to.be.below(15_000);
          } finally {
            await back();
          }
          await until(() => told.at(-1) === null);
          await put('2', '2');
          expect(await shared.count('notes')).to.equal(2);
          expect((await shared.copies())[0]?.checkpoints[0]).to.deep.equal({ position: '2', seen: 2 });
        } finally {
          await temporary.destroy();
        }
      });
    }
  });
});

async function until(condition: () => boolean | Promise<boolean>): Promise<void> {
  const deadline = performance.now() + 20_000;
  while (!(await condition())) {
    if (performance.now() > deadline) throw new Error('It did not come true in time.');
    await delay(20);
  }
}

/** What the promise is rejected with. */
async function failure(promise: Promise<unknown>): Promise<Error> {
  try {
    await promise;
  } catch (error) {
    return error as Error;
  }
  throw new Error('It was expected to fail.');
}
