/** What every adapter of the read models port must do. An adapter's test hands in how to open an empty store. */
import { expect } from 'chai';
import fc from 'fast-check';
import { comparePositions, START } from '../../contracts/envelope.ts';
import { Refusal } from '../../contracts/errors.ts';
import type { SetAsideEvent } from '../../contracts/projections.ts';
import type {
  CollectionSpec,
  CopyId,
  PartitionedCopy,
  Query,
  ReadModelStore,
  Scalar,
  SharedReadModels,
  SnapshotStore,
  Stored,
  WriteBatch,
} from './port.ts';

export type ConformingStore = ReadModelStore & { readonly snapshots: SnapshotStore };

const spec: CollectionSpec = {
  projection: 'notes',
  version: 1,
  indexes: [['owner', 'rank'], ['owner', 'position'], ['meta.tag'], ['done']],
};

interface Note {
  readonly owner?: Scalar;
  readonly rank?: Scalar;
  readonly meta?: { readonly tag?: Scalar };
  readonly done?: Scalar;
  readonly text?: string;
}

const note = (id: string, position: string, body: Note): Stored<Note> => ({ id, position, body });
const aside = (position: string, documentId: string, error: string | null = 'broken'): SetAsideEvent => ({
  position,
  eventId: `event-${position}`,
  eventType: 'Noted',
  documentId,
  error,
  failedAt: '2026-01-01T00:00:00.000Z',
});

export interface ReadModelsUnderTest {
  /** Opens an empty store. `reopen` closes it and opens the same data again. */
  open(): Promise<{
    store: ConformingStore;
    reopen(): Promise<ConformingStore>;
    destroy(): Promise<void>;
  }>;
  /**
   * For stores that several processes share: opens an empty one as one of these processes. `another` opens the same
   * data as another process does, with another number of partitions if one is given. `destroy` closes them all.
   * An adapter without it declares that it is for one process; what it does instead is tested then.
   */
  openShared?(partitions: number): Promise<{
    shared: SharedReadModels;
    another(partitions?: number): Promise<SharedReadModels>;
    destroy(): Promise<void>;
  }>;
  /** How often what holds for all inputs is tried; fewer for a slow engine. */
  readonly runs?: number;
}

export function readModelsConformance(
  name: string,
  { open, openShared, runs = 40 }: ReadModelsUnderTest,
): void {
  describe(`${name} as read models`, () => {
    let opened: Awaited<ReturnType<typeof open>>;
    let store: ConformingStore;
    let copy: CopyId;

    beforeEach(async () => {
      opened = await open();
      store = opened.store;
      copy = await store.createCopy(spec);
    });
    afterEach(() => opened.destroy());

    const write = (to: CopyId, puts: readonly Stored<unknown>[], position = '9', deletes: string[] = []) =>
      store.write([{ copy: to, puts, deletes, checkpoint: { position, seen: puts.length } }]);
    const idsOf = async (query: Query) =>
      (await store.find('notes', query)).documents.map((document) => document.id);
    const dump = async (of: CopyId) => {
      const documents: Stored<unknown>[] = [];
      for await (const document of store.dump(of)) documents.push(document);
      return documents;
    };

    describe('documents', () => {
      it('come back as they were written, until they are replaced or deleted', async () => {
        const body = { owner: 'ann', text: 'naïve \u0000 "quoted" 🜁', meta: { tag: 'x' } };
        await write(copy, [note('1', '4', body), note('2', '5', {})]);
        expect(await store.get('notes', '1')).to.deep.equal({ id: '1', position: '4', body });
        await write(copy, [note('1', '12345678901234567890', { owner: 'bob' })], '8', ['2']);
        expect(await store.get('notes', '1')).to.deep.equal(
          note('1', '12345678901234567890', { owner: 'bob' }),
        );
        expect(await store.get('notes', '2')).to.equal(null);
        expect(await idsOf({ where: { owner: 'ann' }, limit: 9 })).to.deep.equal([]);
      });

      it('are found by id in their copy, without those that are not there', async () => {
        await write(copy, [note('1', '1', {}), note('2', '2', { rank: 1 })]);
        const found = await store.getFrom(copy, ['2', 'none', '1']);
        expect([...found.keys()].toSorted()).to.deep.equal(['1', '2']);
        expect(found.get('2')).to.deep.equal(note('2', '2', { rank: 1 }));
      });

      it('are dumped in the order of their ids', async () => {
        const ids = Array.from({ length: 1_203 }, (_, at) => `n${(at * 7) % 1_203}`);
        await write(
          copy,
          ids.map((id) => note(id, '1', {})),
        );
        expect((await dump(copy)).map((document) => document.id)).to.deep.equal(ids.toSorted());
      });

      it('survive closing, with their checkpoint', async () => {
        await write(copy, [note('1', '7', { rank: 3 })], '7');
        const before = await store.copies();
        store = await opened.reopen();
        expect(await store.copies()).to.deep.equal(before);
        expect(await store.get('notes', '1')).to.deep.equal(note('1', '7', { rank: 3 }));
        expect(await idsOf({ where: { rank: 3 }, limit: 1 })).to.deep.equal(['1']);
      });
    });

    describe('a query', () => {
      const rows = [
        note('a', '9', { owner: 'ann', rank: 2, meta: { tag: 'red' }, done: true }),
        note('b', '10', { owner: 'ann', rank: 10, meta: { tag: 'blue' }, done: false }),
        note('c', '100', { owner: 'bob', rank: 2, done: true }),
        note('d', '99', { owner: 'bob', rank: 'high', meta: { tag: null } }),
        note('e', '1', { owner: 'ann', meta: {} }),
      ];
      beforeEach(() => write(copy, rows));

      it('takes equality on scalars, lists of them, and fields inside objects', async () => {
        expect(await idsOf({ where: { owner: 'ann', rank: 2 }, limit: 9 })).to.deep.equal(['a']);
        expect(await idsOf({ where: { rank: [2, 'high'] }, limit: 9 })).to.deep.equal(['a', 'c', 'd']);
        expect(await idsOf({ where: { rank: [] }, limit: 9 })).to.deep.equal([]);
        expect(await idsOf({ where: { 'meta.tag': 'red' }, limit: 9 })).to.deep.equal(['a']);
        expect(await idsOf({ where: { done: true }, limit: 9 })).to.deep.equal(['a', 'c']);
        expect(await idsOf({ where: { done: [false, null] }, limit: 9 })).to.deep.equal(['b', 'd', 'e']);
        expect(await store.count('notes', { owner: ['ann', 'bob'], rank: 2 })).to.equal(2);
        expect(await store.count('notes')).to.equal(5);
      });

      it('takes a missing field as null, and tells a string from a number', async () => {
        expect(await idsOf({ where: { rank: null }, limit: 9 })).to.deep.equal(['e']);
        expect(await idsOf({ where: { 'meta.tag': null }, limit: 9 })).to.deep.equal(['c', 'd', 'e']);
        expect(await idsOf({ where: { rank: '2' }, limit: 9 })).to.deep.equal([]);
        expect(await idsOf({ where: { rank: ['2', null] }, limit: 9 })).to.deep.equal(['e']);
      });

      it('takes ranges, of the type of their ends only', async () => {
        expect(await idsOf({ range: { field: 'rank', after: 2 }, limit: 9 })).to.deep.equal(['b']);
        expect(await idsOf({ range: { field: 'rank', from: 2 }, limit: 9 })).to.deep.equal(['a', 'b', 'c']);
        expect(await idsOf({ range: { field: 'rank', upTo: 10 }, limit: 9 })).to.deep.equal(['a', 'b', 'c']);
        expect(await idsOf({ range: { field: 'rank', before: 10 }, limit: 9 })).to.deep.equal(['a', 'c']);
        expect(await idsOf({ range: { field: 'rank', upTo: 'zzz' }, limit: 9 })).to.deep.equal(['d']);
        expect(await idsOf({ range: { field: 'rank', after: 2, upTo: 11 }, limit: 9 })).to.deep.equal(['b']);
      });

      it('compares positions as the log does', async () => {
        expect(await idsOf({ range: { field: 'position', after: '9' }, limit: 9 })).to.deep.equal([
          'b',
          'c',
          'd',
        ]);
        expect(await idsOf({ range: { field: 'position', upTo: '99' }, limit: 9 })).to.deep.equal([
          'a',
          'b',
          'd',
          'e',
        ]);
        const orderBy = { field: 'position', direction: 'descending' } as const;
        expect(await idsOf({ orderBy, limit: 9 })).to.deep.equal(['c', 'd', 'b', 'a', 'e']);
        expect(await idsOf({ where: { owner: 'ann' }, orderBy, limit: 2, offset: 1 })).to.deep.equal([
          'a',
          'e',
        ]);
      });

      it('orders nulls before numbers before strings, and ties by id', async () => {
        const by = (direction: 'ascending' | 'descending') =>
          idsOf({ orderBy: { field: 'rank', direction }, limit: 9 });
        expect(await by('ascending')).to.deep.equal(['e', 'a', 'c', 'b', 'd']);
        expect(await by('descending')).to.deep.equal(['d', 'b', 'c', 'a', 'e']);
      });

      it('gives each document once over its pages, in the same order', async () => {
        const value = fc.constantFrom<Scalar>(null, -3, -0.5, 0, 1, 2, 2.5, 1e21, '', '1', 'x', 'y', true);
        let run = 0;
        await fc.assert(
          fc.asyncProperty(
            fc.array(value, { maxLength: 12 }),
            fc.constantFrom('rank', 'position', undefined),
            fc.constantFrom('ascending' as const, 'descending' as const),
            fc.integer({ min: 1, max: 5 }),
            async (ranks, field, direction, limit) => {
              const owner = `run ${++run}`;
              const all = ranks.map((rank, at) =>
                note(`${run} n${at}`, `${(at * 37) % 20}`, { owner, rank }),
              );
              await write(copy, all);
              const query: Query = {
                where: { owner },
                limit,
                ...(field && { orderBy: { field, direction } }),
              };
              const whole = await idsOf({ ...query, limit: 100 });
              expect(whole).to.have.members(all.map((document) => document.id));
              const paged: string[] = [];
              for (let next: string | null | undefined; next !== null; ) {
                const page = await store.find(
                  'notes',
                  next === undefined ? query : { ...query, cursor: next },
                );
                expect(page.documents.length).to.be.at.most(limit);
                paged.push(...page.documents.map((document) => document.id));
                next = page.next;
              }
              expect(paged).to.deep.equal(whole);
              if (field === 'position') {
                const sorted = all.toSorted(
                  (a, b) => comparePositions(a.position, b.position) || (a.id < b.id ? -1 : 1),
                );
                const ids = sorted.map((document) => document.id);
                expect(whole).to.deep.equal(direction === 'ascending' ? ids : ids.toReversed());
              }
            },
          ),
          { numRuns: runs },
        );
      });

      it('refuses a cursor that it did not make, or made for another order', async () => {
        const { next } = await store.find('notes', { limit: 1 });
        const foreign = Buffer.from('["",{},"a"]').toString('base64url');
        for (const cursor of ['', 'x', '💥', foreign]) {
          const error = await failure(store.find('notes', { limit: 1, cursor }));
          expect(error).to.be.instanceOf(Refusal).with.property('code', 'VALIDATION_ERROR');
          expect((error as Refusal).message).to.contain('cursor');
        }
        const orderBy = { field: 'rank', direction: 'ascending' } as const;
        expect(await failure(store.find('notes', { limit: 1, orderBy, cursor: next! }))).to.be.instanceOf(
          Refusal,
        );
      });

      it('on a field that no index holds, or a collection that is not there, fails and says so', async () => {
        for (const field of ['text', "rank' OR 1=1 --", 'f0', 'id', '__proto__']) {
          const orderBy = { field, direction: 'ascending' } as const;
          const where = Object.fromEntries([[field, 'x']]);
          for (const query of [{ where }, { range: { field, after: 1 } }, { orderBy }]) {
            const error = await failure(store.find('notes', { ...query, limit: 1 }));
            expect(error.message).to.contain(field).and.to.contain('index');
          }
          expect((await failure(store.count('notes', where))).message).to.contain('index');
        }
        for (const call of [
          () => store.get('nothing', '1'),
          () => store.find('nothing', { limit: 1 }),
          () => store.count('nothing'),
        ]) {
          expect((await failure(call())).message).to.contain('nothing');
        }
      });

      it('never takes an undefined value for "anything"', async () => {
        const where = { owner: undefined } as unknown as Record<string, Scalar>;
        expect(await failure(store.find('notes', { where, limit: 9 }))).to.be.instanceOf(TypeError);
      });

      it('treats values as data', async () => {
        const hostile = "'; DROP TABLE copies; --";
        expect(await idsOf({ where: { owner: hostile }, limit: 9 })).to.deep.equal([]);
        expect(await idsOf({ where: { owner: [hostile, '"]'] }, limit: 9 })).to.deep.equal([]);
        await write(copy, [note(hostile, '3', { owner: hostile })]);
        expect(await idsOf({ where: { owner: hostile }, limit: 9 })).to.deep.equal([hostile]);
      });
    });

    describe('writing', () => {
      it('the same again changes nothing', async () => {
        const batch = {
          copy,
          puts: [note('1', '5', { rank: 1 })],
          deletes: ['2'],
          checkpoint: { position: '6', seen: 4 },
          setAside: { add: [aside('6', '3')], remove: ['2'] },
        };
        await store.write([batch]);
        const before = [await dump(copy), await store.copies(), await store.setAside(copy)];
        await store.write([batch]);
        expect([await dump(copy), await store.copies(), await store.setAside(copy)]).to.deep.equal(before);
      });

      it('keeps the checkpoint with the documents', async () => {
        const other = await store.createCopy({ projection: 'others', version: 3, indexes: [] });
        await store.write([
          { copy, puts: [note('1', '5', {})], deletes: [], checkpoint: { position: '5', seen: 2 } },
          { copy: other, puts: [], deletes: [], checkpoint: { position: '5', seen: 0 } },
        ]);
        expect(
          (await store.copies()).map(({ projection, version, live, checkpoint }) => ({
            projection,
            version,
            live,
            checkpoint,
          })),
        ).to.deep.equal([
          { projection: 'notes', version: 1, live: true, checkpoint: { position: '5', seen: 2 } },
          { projection: 'others', version: 3, live: true, checkpoint: { position: '5', seen: 0 } },
        ]);
      });

      it('to a copy that is not there fails', async () => {
        const gone = await store.createCopy({ ...spec, version: 2 });
        await store.dropCopy(gone);
        expect((await failure(write(gone, []))).message).to.contain('copy');
      });
    });

    describe('events set aside', () => {
      it('are listed in the order of the log, by document, and limited', async () => {
        const add = [aside('10', 'b', null), aside('9', 'b'), aside('11', 'c')];
        await store.write([
          {
            copy,
            puts: [],
            deletes: [],
            checkpoint: { position: '11', seen: 3 },
            setAside: { add, remove: [] },
          },
        ]);
        const positions = async (query?: { documentId?: string; limit?: number }) =>
          (await store.setAside(copy, query)).map((event) => event.position);
        expect(await positions()).to.deep.equal(['9', '10', '11']);
        expect(await positions({ limit: 2 })).to.deep.equal(['9', '10']);
        expect(await positions({ documentId: 'b' })).to.deep.equal(['9', '10']);
        expect(await positions({ documentId: 'b', limit: 1 })).to.deep.equal(['9']);
        expect((await store.setAside(copy, { documentId: 'c' }))[0]).to.deep.equal(aside('11', 'c'));
        await store.write([
          {
            copy,
            puts: [],
            deletes: [],
            checkpoint: { position: '11', seen: 3 },
            setAside: { add: [aside('10', 'b', 'now broken itself')], remove: ['9'] },
          },
        ]);
        expect(await store.setAside(copy, { documentId: 'b' })).to.deep.equal([
          aside('10', 'b', 'now broken itself'),
        ]);
      });

      it('belong to their copy and go with it', async () => {
        const second = await store.createCopy(spec);
        const batch = { puts: [], deletes: [], checkpoint: { position: '1', seen: 1 } };
        await store.write([{ ...batch, copy: second, setAside: { add: [aside('1', 'x')], remove: [] } }]);
        expect(await store.setAside(copy)).to.deep.equal([]);
        await store.dropCopy(second);
        const third = await store.createCopy(spec);
        expect(await store.setAside(third)).to.deep.equal([]);
      });
    });

    describe('copies', () => {
      it('start at the beginning of the log; the first of a projection is live', async () => {
        await store.createCopy({ ...spec, version: 2, indexes: [['owner']] });
        const infos = await store.copies();
        expect(infos.map(({ copy: _, ...info }) => info)).to.deep.equal([
          { ...spec, live: true, outdated: false, checkpoint: { position: START, seen: 0 } },
          {
            ...spec,
            version: 2,
            indexes: [['owner']],
            live: false,
            outdated: false,
            checkpoint: { position: START, seen: 0 },
          },
        ]);
      });

      it('that are live are made where there is none, whatever the version of the one that there is', async () => {
        const other = { ...spec, projection: 'others' };
        const live = await store.ensureLiveCopy(other);
        expect(await store.ensureLiveCopy({ ...other, version: 2 })).to.equal(live);
        expect(await store.ensureLiveCopy(spec)).to.equal(copy);
        expect((await store.copies()).map((info) => [info.copy, info.live])).to.deep.equal([
          [copy, true],
          [live, true],
        ]);
      });

      it('are switched at once: readers see the old one, then the new one, and the old one is gone', async () => {
        await write(copy, [note('1', '1', { rank: 1 })]);
        const second = await store.createCopy({ ...spec, version: 2 });
        await write(second, [note('1', '1', { rank: 2 }), note('2', '2', { rank: 2 })]);
        expect(await idsOf({ where: { rank: [1, 2] }, limit: 9 })).to.deep.equal(['1']);
        expect(await store.createCopy({ ...spec, version: 2 }), 'the one that is being filled').to.equal(
          second,
        );
        expect(await store.activate(second)).to.equal(true);
        expect(await idsOf({ where: { rank: [1, 2] }, limit: 9 })).to.deep.equal(['1', '2']);
        expect((await store.get<Note>('notes', '1'))?.body.rank).to.equal(2);
        expect((await store.copies()).map((info) => info.copy)).to.deep.equal([second]);
        store = await opened.reopen();
        expect(await idsOf({ where: { rank: [1, 2] }, limit: 9 })).to.deep.equal(['1', '2']);
      });

      it('need sound indexes', async () => {
        for (const indexes of [[[]], [['position', 'owner']], [['owner', 'owner']]]) {
          await failure(store.createCopy({ projection: 'bad', version: 1, indexes }));
        }
        expect((await store.copies()).map((info) => info.projection)).to.deep.equal(['notes']);
      });
    });

    describe('snapshots', () => {
      const snapshot = (revision: number, stateVersion = 1) => ({
        revision,
        stateVersion,
        state: { revision },
      });

      it('keep the newest', async () => {
        expect(await store.snapshots.get('s-1')).to.equal(null);
        for (const revision of [5, 9, 7]) await store.snapshots.put('s-1', snapshot(revision));
        expect(await store.snapshots.get('s-1')).to.deep.equal(snapshot(9));
        store = await opened.reopen();
        expect(await store.snapshots.get('s-1')).to.deep.equal(snapshot(9));
      });

      it('of another state version replace what is stored', async () => {
        await store.snapshots.put('s-1', snapshot(9));
        await store.snapshots.put('s-1', snapshot(9, 2));
        expect(await store.snapshots.get('s-1')).to.deep.equal(snapshot(9, 2));
      });
    });

    if (openShared === undefined) {
      describe('shared by processes', () => {
        it('cannot be shared by processes (declared): the last write wins, also of one that is behind', async () => {
          await write(copy, [note('1', '8', { rank: 8 })], '8');
          await write(copy, [note('1', '5', { rank: 5 })], '5');
          expect(await store.get('notes', '1')).to.deep.equal(note('1', '5', { rank: 5 }));
          expect((await store.copies())[0]?.checkpoint).to.deep.equal({ position: '5', seen: 1 });
        });
      });
    }
  });

  if (openShared !== undefined) {
    describe(`${name} as read models`, () => describeShared(openShared));
  }
}

/** What holds where several processes write the partitions of one copy. */
function describeShared(openShared: NonNullable<ReadModelsUnderTest['openShared']>): void {
  describe('shared by processes', () => {
    let opened: Awaited<ReturnType<typeof openShared>>;
    let shared: SharedReadModels;
    let partitions: ReadModelStore[];
    let copy: CopyId;

    beforeEach(async () => {
      opened = await openShared(3);
      shared = opened.shared;
      partitions = [0, 1, 2].map((number) => shared.partition(number));
      copy = await partitions[0]!.createCopy(spec);
    });
    afterEach(() => opened.destroy());

    const batch = (
      position: string,
      puts: readonly Stored<unknown>[],
      more: Partial<WriteBatch> = {},
    ): WriteBatch => ({ copy, puts, deletes: [], checkpoint: { position, seen: 1 }, ...more });
    const infoOf = async (readModels: SharedReadModels): Promise<PartitionedCopy> =>
      (await readModels.copies()).find((info) => info.copy === copy)!;
    const rankOf = async (id: string) => (await shared.get<Note>('notes', id))?.body.rank;

    it('know their partitions, and no others', async () => {
      expect(shared.partitions).to.equal(3);
      for (const number of [-1, 3, 0.5]) expect(() => shared.partition(number)).to.throw(RangeError);
    });

    it('show all documents to readers, and have a checkpoint and events set aside for each partition', async () => {
      const [first, second] = partitions;
      await first!.write([batch('5', [note('a', '5', { owner: 'ann' })])]);
      await second!.write([
        batch('7', [note('b', '7', { owner: 'bob' })], {
          setAside: { add: [aside('6', 'c'), aside('7', 'c', null)], remove: [] },
        }),
      ]);
      await first!.write([batch('9', [], { setAside: { add: [aside('9', 'a')], remove: [] } })]);
      const elsewhere = await opened.another();
      for (const reader of [shared, elsewhere]) {
        const { documents } = await reader.find('notes', { limit: 9 });
        expect(documents.map(({ id }) => id)).to.deep.equal(['a', 'b']);
        const info = await infoOf(reader);
        expect(info.checkpoints).to.deep.equal([
          { position: '9', seen: 1 },
          { position: '7', seen: 1 },
          { position: START, seen: 0 },
        ]);
        expect(info.setAside).to.deep.equal([
          { failed: 1, waiting: 0 },
          { failed: 1, waiting: 1 },
          { failed: 0, waiting: 0 },
        ]);
        const all = await reader.setAside(copy, { limit: 9 });
        expect(all.map(({ position }) => position)).to.deep.equal(['6', '7', '9']);
        expect(await reader.setAside(copy, { limit: 1 })).to.have.length(1);
        const own = await reader.partition(1).setAside(copy);
        expect(own.map(({ position }) => position)).to.deep.equal(['6', '7']);
        expect((await reader.partition(1).copies())[0]?.checkpoint).to.deep.equal({ position: '7', seen: 1 });
      }
    });

    it('never replace a document by an earlier one, nor bring a deleted one back', async () => {
      const [owner] = partitions;
      const late = (await opened.another()).partition(0);
      await owner!.write([batch('8', [note('a', '8', { rank: 8 }), note('b', '3', { rank: 3 })])]);
      await late.write([batch('5', [note('a', '5', { rank: 5 }), note('b', '5', { rank: 5 })])]);
      expect([await rankOf('a'), await rankOf('b')]).to.deep.equal([8, 5]);
      await late.write([batch('6', [], { deletes: ['a'] })]);
      expect(await rankOf('a'), 'not deleted by an earlier event').to.equal(8);

      await owner!.write([batch('20', [], { deletes: ['a', 'never stored'] })]);
      await late.write([
        batch('19', [note('a', '19', { rank: 19 }), note('never stored', '18', { rank: 18 })]),
      ]);
      expect(await shared.get('notes', 'a')).to.equal(null);
      expect(await shared.get('notes', 'never stored')).to.equal(null);
      expect((await owner!.getFrom(copy, ['a', 'b'])).size).to.equal(1);
      expect(await shared.count('notes')).to.equal(1);
      expect(
        (await shared.find('notes', { where: { rank: [null, 8, 19] }, limit: 9 })).documents,
      ).to.have.length(0);
      const dumped: string[] = [];
      for await (const { id } of owner!.dump(copy)) dumped.push(id);
      expect(dumped).to.deep.equal(['b']);

      await owner!.write([batch('21', [note('a', '21', { rank: 21 })])]);
      expect(await rankOf('a'), 'made again by a later event').to.equal(21);
    });

    it('apply what was set aside behind a deletion, once it is retried', async () => {
      const [owner] = partitions;
      await owner!.write([batch('4', [note('a', '4', { rank: 4 })])]);
      // The event at 10 deleted it, the one at 12 failed, and the page ended at 20.
      await owner!.write([
        batch('20', [], { deletes: ['a'], setAside: { add: [aside('12', 'a')], remove: [] } }),
      ]);
      expect(await rankOf('a')).to.equal(undefined);
      await owner!.write([
        batch('20', [note('a', '12', { rank: 12 })], { setAside: { add: [], remove: ['12'] } }),
      ]);
      expect(await rankOf('a')).to.equal(12);
      expect(await shared.setAside(copy, { limit: 9 })).to.deep.equal([]);
    });

    it('keep the latest checkpoint, and leave what was set aside to whoever got furthest', async () => {
      const [owner] = partitions;
      const late = (await opened.another()).partition(0);
      await owner!.write([batch('30', [note('a', '30', { rank: 1 })])]);
      await late.write([batch('12', [], { setAside: { add: [aside('12', 'a')], remove: [] } })]);
      expect((await infoOf(shared)).checkpoints[0]).to.deep.equal({ position: '30', seen: 1 });
      expect(await owner!.setAside(copy)).to.deep.equal([]);
    });

    it('change nothing when a batch is written again after later ones', async () => {
      const [owner] = partitions;
      const batches = [
        batch('5', [note('a', '5', { rank: 5 }), note('b', '4', { rank: 4 })]),
        batch('9', [note('a', '8', { rank: 8 })], { deletes: ['b'] }),
        batch('12', [note('c', '12', { rank: 12 })]),
      ];
      for (const one of batches) await owner!.write([one]);
      const state = async () => [(await shared.find('notes', { limit: 9 })).documents, await shared.copies()];
      const before = await state();
      const elsewhere = (await opened.another()).partition(0);
      for (const one of [...batches, ...batches.toReversed()]) await elsewhere.write([one]);
      expect(await state()).to.deep.equal(before);
    });

    it('make one copy, whichever processes ask for it at once', async () => {
      const elsewhere = await opened.another();
      const all = [0, 1, 2].flatMap((number) => [shared.partition(number), elsewhere.partition(number)]);
      const fresh = { ...spec, projection: 'fresh' };
      // Not with createCopy: who comes late would find that the first has been made, and rightly begin a rebuild.
      expect(new Set(await Promise.all(all.map((one) => one.ensureLiveCopy(fresh)))).size).to.equal(1);
      const ensured = { ...spec, projection: 'ensured' };
      expect(new Set(await Promise.all(all.map((one) => one.ensureLiveCopy(ensured)))).size).to.equal(1);
      const rebuilt = { ...spec, projection: 'fresh', version: 2 };
      expect(new Set(await Promise.all(all.map((one) => one.createCopy(rebuilt)))).size).to.equal(1);
      expect(
        (await elsewhere.copies()).map(({ projection, version, live }) => [projection, version, live]),
      ).to.deep.equal([
        ['notes', 1, true],
        ['fresh', 1, true],
        ['ensured', 1, true],
        ['fresh', 2, false],
      ]);
    });

    it('switch to a copy once every partition is ready; every reader sees one or the other', async () => {
      const elsewhere = await opened.another();
      await partitions[0]!.write([
        batch(
          '5',
          [1, 2, 3].map((n) => note(`old ${n}`, '5', { rank: 1 })),
        ),
      ]);
      const next = await partitions[1]!.createCopy({ ...spec, version: 2 });
      const fill = [1, 2].map((n) => note(`new ${n}`, '5', { rank: 2 }));
      await elsewhere.partition(2).write([{ ...batch('5', fill), copy: next }]);

      let reading = true;
      const seen = new Set<string>();
      const readers = [shared, elsewhere].map(async (reader) => {
        while (reading) {
          const { documents } = await reader.find('notes', { limit: 9 });
          seen.add(documents.map(({ id }) => id).join(', '));
          expect(await reader.count('notes')).to.be.oneOf([2, 3]);
        }
      });
      expect(await partitions[0]!.activate(next)).to.equal(false);
      expect(await partitions[0]!.activate(next), 'again').to.equal(false);
      expect(await elsewhere.partition(2).activate(next)).to.equal(false);
      expect((await elsewhere.copies()).filter(({ live }) => live).map((info) => info.copy)).to.deep.equal([
        copy,
      ]);
      expect(await partitions[1]!.activate(next)).to.equal(true);
      expect(await shared.count('notes'), 'where it was switched').to.equal(2);
      for (const store of [partitions[0]!, elsewhere.partition(2)])
        expect(await store.activate(next)).to.equal(true);
      // A process that was only told by the database.
      const deadline = performance.now() + 10_000;
      while ((await elsewhere.count('notes')) !== 2) expect(performance.now()).to.be.below(deadline);
      reading = false;
      await Promise.all(readers);
      expect([...seen].toSorted()).to.deep.equal(['new 1, new 2', 'old 1, old 2, old 3']);
      for (const reader of [shared, elsewhere]) {
        expect((await reader.copies()).map((info) => info.copy)).to.deep.equal([next]);
      }
      expect((await failure(partitions[0]!.activate(copy))).message).to.contain('copy');
    });

    it('refuse to write a copy that another process has dropped', async () => {
      const gone = await partitions[0]!.createCopy({ ...spec, version: 2 });
      const elsewhere = await opened.another();
      await elsewhere.partition(0).getFrom(gone, ['a']);
      await partitions[0]!.dropCopy(gone);
      const put = { ...batch('5', [note('a', '5', {})]), copy: gone };
      for (const store of [partitions[0]!, partitions[1]!, elsewhere.partition(0)]) {
        expect((await failure(store.write([put]))).message).to.contain(`no copy ${gone}`);
      }
      expect(await partitions[0]!.createCopy({ ...spec, version: 2 })).not.to.equal(gone);
    });

    it('take a copy made for another number of partitions for outdated', async () => {
      await partitions[0]!.write([batch('5', [note('a', '5', { owner: 'ann' })])]);
      const [regrouped] = [await opened.another(2)];
      const store = regrouped.partition(1);
      expect((await regrouped.get('notes', 'a'))?.id, 'still read').to.equal('a');
      expect(
        (await store.copies()).map(({ outdated, checkpoint }) => [outdated, checkpoint.position]),
      ).to.deep.equal([[true, START]]);
      expect((await regrouped.copies())[0]?.checkpoints).to.have.length(3);
      expect((await failure(store.write([batch('6', [note('b', '6', {})])]))).message).to.contain(
        'partitions',
      );
      const next = await store.createCopy(spec);
      expect(await regrouped.partition(0).activate(next)).to.equal(false);
      expect(await store.activate(next)).to.equal(true);
      expect((await store.copies()).map((info) => [info.copy, info.outdated])).to.deep.equal([[next, false]]);
    });
  });
}

/** What the promise is rejected with. */
async function failure(promise: Promise<unknown>): Promise<Error> {
  try {
    await promise;
  } catch (error) {
    expect(error).to.be.instanceOf(Error);
    return error as Error;
  }
  throw new Error('It was expected to fail.');
}
