import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import fc from 'fast-check';
import { comparePositions, type NewEvent, START } from '../../contracts/envelope.ts';
import { Refusal } from '../../contracts/errors.ts';
import type { ProjectionRuntime, ProjectionStatus } from '../../contracts/projections.ts';
import { type EventStore, StoreUnavailable } from '../../infra/event-store/port.ts';
import { openSqliteEventStore } from '../../infra/event-store/sqlite.ts';
import type { ReadModelStore, Stored } from '../../infra/read-models/port.ts';
import { openSqliteReadModels } from '../../infra/read-models/sqlite.ts';
import { fold } from '../fold.ts';
import type { Projection } from '../projection.ts';
import { type Account, accounts, audited, closed, journal, paid } from './ledger.fixture.ts';
import { type ProjectionRuntimeOptions, startProjections, type Trouble } from './runtime.ts';

const BOUND_MS = 10_000;

describe('the projection runtime', function () {
  this.timeout(20_000);
  let directory: string;
  let store: EventStore;
  let readModels: ReadModelStore;
  let runtime: ProjectionRuntime;
  let troubles: { message: string; trouble: Trouble }[];

  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), 'odeon-projections-'));
    store = await openSqliteEventStore({ directory });
    readModels = await openSqliteReadModels({ file: join(directory, 'read-models.db') });
    troubles = [];
  });
  afterEach(async () => {
    await runtime.stop();
    await readModels.close();
    await store.close();
    await rm(directory, { recursive: true });
  });

  async function start(projections: Projection[], options: Partial<ProjectionRuntimeOptions> = {}) {
    runtime = await startProjections({
      store,
      readModels,
      projections,
      onError: (error, trouble) => troubles.push({ message: error.message, trouble }),
      ...options,
    });
    return runtime;
  }
  const append = async (...events: NewEvent[]) =>
    (await store.append('ledger-1', events, { expectedRevision: 'any' })).position;
  /** Appends, and waits until the read models show it. */
  async function record(...events: NewEvent[]) {
    const position = await append(...events);
    expect(await runtime.waitFor(position, BOUND_MS)).to.equal(true);
    return position;
  }
  async function statusOf(name: string): Promise<ProjectionStatus> {
    const status = (await runtime.status()).find((one) => one.name === name);
    if (status === undefined) throw new Error(`no status of ${name}`);
    return status;
  }
  const balance = async (name: string) => (await readModels.get<Account>('accounts', name))?.body.balance;
  async function liveCopy(name: string) {
    const copies = await readModels.copies();
    return copies.find((copy) => copy.projection === name && copy.live)!;
  }
  /** What is stored, as text: ids, positions and bodies. */
  async function bytes(name: string): Promise<string[]> {
    const documents: string[] = [];
    for await (const document of readModels.dump((await liveCopy(name)).copy)) {
      documents.push(JSON.stringify(document));
    }
    return documents;
  }
  async function rebuilt(name: string) {
    const { copy } = await liveCopy(name);
    await runtime.rebuild(name);
    await eventually(async () => (await liveCopy(name)).copy !== copy);
  }
  async function log() {
    const events = [];
    for await (const page of store.readAll()) events.push(...page.events);
    return events;
  }

  describe('following the log', () => {
    it('shows a command its own writes', async () => {
      await start([accounts(), journal]);
      const position = await append(paid('a', 5), paid('b', 1), paid('a', 2));
      expect(await runtime.waitFor(position, BOUND_MS)).to.equal(true);
      expect(runtime.position()).to.equal(position);
      expect(await balance('a')).to.equal(7);
      expect(await readModels.count('journal', { account: 'a' })).to.equal(2);
      expect(await readModels.get('accounts', 'a')).to.have.property('position', position);
    });

    it('advances all read models together, past events that nobody takes', async () => {
      await start([accounts(), journal]);
      await record(paid('a', 1));
      const position = await append(audited(), closed('a'), audited());
      expect(await runtime.waitFor(position, BOUND_MS)).to.equal(true);
      const copies = await readModels.copies();
      expect(copies.map(({ projection, checkpoint }) => [projection, checkpoint])).to.deep.equal([
        ['accounts', { position, seen: 2 }],
        ['journal', { position, seen: 1 }],
      ]);
      for (const status of await runtime.status()) {
        expect(status).to.include({ state: 'live', lag: 0, complete: true, problem: null, position });
      }
    });

    it('does not write what did not change', async () => {
      await start([accounts()]);
      const position = await record(paid('a', 5));
      await record(paid('a', 0), paid('none', 0), closed('none'));
      expect(await bytes('accounts')).to.have.length(1);
      expect(await readModels.get('accounts', 'a')).to.have.property('position', position);
    });

    it('lets others run while it catches up', async () => {
      const events = Array.from({ length: 3_000 }, (_, at) => paid(`a${at % 1_700}`, at));
      const position = await append(...events);
      let turns = 0;
      let counting = true;
      const tick = () => {
        turns++;
        if (counting) setImmediate(tick);
      };
      setImmediate(tick);
      await start([accounts(), journal], { batchSize: 100 });
      expect(await runtime.waitFor(position, BOUND_MS)).to.equal(true);
      counting = false;
      expect(turns).to.be.at.least(25);
      // More documents than are kept in memory, each touched again after it was let go.
      expect(new Map((await bytes('accounts')).map(toEntry))).to.deep.equal(fold(accounts(), await log()));
    });

    it('counts each event once, however often it is stopped and started', async () => {
      await start([accounts(), journal], { batchSize: 7 });
      for (let round = 0; round < 12; round++) {
        const position = await append(
          ...Array.from({ length: 40 }, (_, at) => paid(`a${at % 3}`, at + round)),
        );
        await eventually(() => comparePositions(runtime.position(), START) > 0);
        await runtime.stop();
        await start([accounts(), journal], { batchSize: 7 });
        if (round % 4 === 3) expect(await runtime.waitFor(position, BOUND_MS)).to.equal(true);
      }
      expect(new Map((await bytes('accounts')).map(toEntry))).to.deep.equal(fold(accounts(), await log()));
      expect(await readModels.count('journal')).to.equal(480);
      expect(await statusOf('accounts')).to.include({ seen: 480, complete: true });
    });

    it('lets a new projection catch up by itself and then join', async () => {
      await start([journal]);
      const position = await record(...Array.from({ length: 500 }, (_, at) => paid('a', at)));
      await runtime.stop();
      await start([journal, accounts()], { batchSize: 20 });
      expect(runtime.position()).to.equal(START);
      expect(await statusOf('accounts')).to.include({ state: 'catching up' });
      expect(await statusOf('journal')).to.include({ position, lag: 0 });
      const last = await append(paid('a', 1));
      expect(await runtime.waitFor(last, BOUND_MS)).to.equal(true);
      await eventually(async () => (await statusOf('accounts')).state === 'live');
      expect(await statusOf('accounts')).to.include({ seen: 501, complete: true });
    });

    it('finds a hole even when nothing lags', async () => {
      await start([accounts()]);
      const position = await record(paid('a', 1), paid('b', 2));
      await runtime.stop();
      const { copy } = await liveCopy('accounts');
      await readModels.write([{ copy, puts: [], deletes: [], checkpoint: { position, seen: 1 } }]);
      await start([accounts()]);
      await record(paid('a', 1));
      expect(await statusOf('accounts')).to.include({ lag: 0, seen: 2, expected: 3, complete: false });
      await rebuilt('accounts');
      expect(await statusOf('accounts')).to.include({ seen: 3, expected: 3, complete: true });
    });
  });

  describe('waiting for a position', () => {
    it('ends after the time given, or when the runtime stops', async () => {
      await start([accounts()]);
      const position = await record(paid('a', 1));
      expect(await runtime.waitFor(position, 0)).to.equal(true);
      expect(await runtime.waitFor('999', 0)).to.equal(false);
      expect(await runtime.waitFor('999', 5)).to.equal(false);
      const waiting = runtime.waitFor('999', BOUND_MS);
      await runtime.stop();
      expect(await waiting).to.equal(false);
      expect(await runtime.waitFor('999', BOUND_MS)).to.equal(false);
      expect((await statusOf('accounts')).state).to.equal('stopped');
    });
  });

  describe('an event that fails', () => {
    const poison = paid('b', 13);
    let healed: boolean;
    const failing = () => accounts({ fails: (event) => event.id === poison.id && !healed });
    beforeEach(() => {
      healed = false;
    });

    it('is set aside; later events of its document wait behind it, others go on', async () => {
      await start([failing(), journal]);
      await record(paid('b', 1), poison, paid('a', 1), paid('b', 2));
      await record(closed('b'), paid('b', 3), paid('a', 4));
      expect(await balance('a')).to.equal(5);
      expect(await balance('b')).to.equal(1);
      expect(await readModels.count('journal')).to.equal(6);
      const failures = await runtime.failures('accounts');
      expect(
        failures.map(({ position, documentId, eventType }) => [position, documentId, eventType]),
      ).to.deep.equal([
        ['2', 'b', 'Paid'],
        ['4', 'b', 'Paid'],
        ['5', 'b', 'Closed'],
        ['6', 'b', 'Paid'],
      ]);
      expect(failures.map((event) => event.error !== null)).to.deep.equal([true, false, false, false]);
      expect(failures[0]).to.include({ eventId: poison.id, error: `Cannot apply ${poison.id}` });
      expect(await statusOf('accounts')).to.include({
        failed: 1,
        waiting: 3,
        seen: 7,
        complete: true,
        lag: 0,
      });
      expect(troubles.map(({ message, trouble }) => [message, trouble.event?.id])).to.deep.equal([
        [`Cannot apply ${poison.id}`, poison.id],
      ]);
    });

    it('keeps blocking its document after a restart', async () => {
      await start([failing()]);
      await record(paid('b', 1), poison);
      await runtime.stop();
      await start([failing()]);
      await record(paid('b', 2), paid('a', 1));
      expect(await balance('b')).to.equal(1);
      expect(await statusOf('accounts')).to.include({ failed: 1, waiting: 1 });
    });

    it('is applied on retry with those behind it, in order, as if it had never failed', async () => {
      await start([failing()]);
      await record(paid('b', 1), poison, paid('b', 2));
      expect(await runtime.retry('accounts')).to.deep.equal({ applied: 0, failed: 1, waiting: 1 });
      expect(await balance('b')).to.equal(1);
      healed = true;
      expect(await runtime.retry('accounts')).to.deep.equal({ applied: 2, failed: 0, waiting: 0 });
      expect(await runtime.failures('accounts')).to.deep.equal([]);
      await record(paid('b', 4));
      expect(await balance('b')).to.equal(20);
      const live = await bytes('accounts');
      await rebuilt('accounts');
      expect(await bytes('accounts')).to.deep.equal(live);
    });

    it('can be followed by another one: a retry goes as far as it can', async () => {
      const second = paid('b', 17);
      let secondHealed = false;
      await start([
        accounts({
          fails: (event) => (event.id === poison.id && !healed) || (event.id === second.id && !secondHealed),
        }),
      ]);
      await record(poison, paid('b', 1), second, paid('b', 2));
      healed = true;
      expect(await runtime.retry('accounts')).to.deep.equal({ applied: 2, failed: 1, waiting: 1 });
      expect(await balance('b')).to.equal(14);
      await record(paid('b', 5));
      expect(await balance('b')).to.equal(14);
      secondHealed = true;
      expect(await runtime.retry('accounts')).to.deep.equal({ applied: 3, failed: 0, waiting: 0 });
      expect(await balance('b')).to.equal(38);
    });

    it('is one whose document does not fit its schema', async () => {
      await start([accounts()]);
      await record(paid('a', 1), paid('a', 0.5));
      expect(await balance('a')).to.equal(1);
      expect((await runtime.failures('accounts'))[0]?.error).to.contain('balance');
    });

    it('blocks nothing when its document is not known, and is retried when nothing came after it', async () => {
      const lost = paid('c', 3);
      await start([accounts({ nameless: (event) => event.id === lost.id && !healed })]);
      await record(lost, paid('a', 1));
      expect(
        (await runtime.failures('accounts')).map(({ documentId, error }) => [documentId, error]),
      ).to.deep.equal([['', 'Which account?']]);
      expect(await balance('a')).to.equal(1);
      expect(await runtime.retry('accounts')).to.deep.equal({ applied: 0, failed: 1, waiting: 0 });
      healed = true;
      expect(await runtime.retry('accounts')).to.deep.equal({ applied: 1, failed: 0, waiting: 0 });
      expect(await balance('c')).to.equal(3);
    });

    it('is one whose document has no id that a store could keep; it holds nobody up, nor the next start', async () => {
      const events = [undefined, 7, '', 'a\ud800', {}].map((account) => paid(account as string, 1));
      await start([accounts(), journal]);
      await record(...events, paid('a', 1));
      const failures = async () =>
        (await runtime.failures('accounts')).map(({ eventId, documentId }) => [eventId, documentId]);
      const expected = events.map(({ id }) => [id, '']);
      expect(await failures()).to.deep.equal(expected);
      expect(troubles.filter(({ trouble }) => trouble.event === null)).to.deep.equal([]);
      expect(await balance('a')).to.equal(1);
      await runtime.stop();
      await start([accounts(), journal]);
      await record(paid('a', 2));
      expect(await balance('a')).to.equal(3);
      expect(await failures()).to.deep.equal(expected);
    });

    it('is not applied behind events that came after it: that takes a rebuild', async () => {
      const lost = paid('a', 3);
      await start([accounts({ nameless: (event) => event.id === lost.id && !healed })]);
      await record(lost, paid('a', 1));
      healed = true;
      expect(await runtime.retry('accounts')).to.deep.equal({ applied: 0, failed: 1, waiting: 0 });
      expect((await runtime.failures('accounts'))[0]?.error).to.contain('rebuild');
      await rebuilt('accounts');
      expect(await balance('a')).to.equal(4);
      expect(await runtime.failures('accounts')).to.deep.equal([]);
    });

    it('is set aside in a rebuild as well', async () => {
      await start([failing()]);
      await record(paid('b', 1), poison, paid('b', 2), paid('a', 1));
      const live = await bytes('accounts');
      await rebuilt('accounts');
      expect(await bytes('accounts')).to.deep.equal(live);
      expect(await statusOf('accounts')).to.include({ failed: 1, waiting: 1 });
      await record(paid('b', 2));
      expect(await statusOf('accounts')).to.include({ failed: 1, waiting: 2 });
    });
  });

  describe('a rebuild', () => {
    const manyPayments = () => Array.from({ length: 1_000 }, (_, at) => paid(`a${at % 10}`, at));

    it('gives the same bytes as the live copy, whatever happened and however it was cut into batches', async () => {
      const name = fc.constantFrom('a', 'b', 'c');
      const event = fc.oneof(
        fc.tuple(name, fc.integer({ min: -3, max: 6 })).map(([to, amount]) => paid(to, amount)),
        name.map((of) => closed(of)),
        fc.constant(null).map(audited),
      );
      await fc.assert(
        fc.asyncProperty(
          fc.array(fc.array(event, { minLength: 1, maxLength: 9 }), { minLength: 1, maxLength: 6 }),
          fc.integer({ min: 1, max: 5 }),
          fc.integer({ min: 1, max: 40 }),
          async (appends, liveBatch, rebuildBatch) => {
            const stream = `ledger-${crypto.randomUUID()}`;
            // A database of its own for each run; the log of the runs before it is part of the history.
            const models = await openSqliteReadModels({ file: join(directory, `${crypto.randomUUID()}.db`) });
            const projections = [accounts({ fails: (paid) => paid.data.amount === 6 }), journal];
            const options = { store, readModels: models, projections };
            let running = await startProjections({ ...options, batchSize: liveBatch });
            try {
              let position = START;
              for (const events of appends) {
                // The generator may hand out an event twice: every append needs ids of its own.
                const fresh = events.map((one) => ({ ...one, id: crypto.randomUUID() }));
                ({ position } = await store.append(stream, fresh, { expectedRevision: 'any' }));
              }
              expect(await running.waitFor(position, BOUND_MS)).to.equal(true);
              await running.stop();
              running = await startProjections({ ...options, batchSize: rebuildBatch });
              for (const projection of ['accounts', 'journal']) {
                const live = (await models.copies()).find((copy) => copy.projection === projection)!;
                const before = await Promise.all([dump(models, live.copy), models.setAside(live.copy)]);
                await running.rebuild(projection);
                const copyNow = async () =>
                  (await models.copies()).find((copy) => copy.projection === projection && copy.live)!;
                await eventually(async () => (await copyNow()).copy !== live.copy);
                const { copy, checkpoint } = await copyNow();
                const after = await Promise.all([dump(models, copy), models.setAside(copy)]);
                expect(after[0]).to.deep.equal(before[0]);
                expect(after[1].map(withoutTime)).to.deep.equal(before[1].map(withoutTime));
                expect(checkpoint).to.deep.equal(live.checkpoint);
              }
            } finally {
              await running.stop();
              await models.close();
            }
          },
        ),
        { numRuns: 15 },
      );
      await start([]);
    });

    it('runs while writes go on: every command sees its own write, and nothing goes backwards', async () => {
      await start([accounts(), journal], { batchSize: 20 });
      await record(...manyPayments());
      const { copy } = await liveCopy('journal');
      await runtime.rebuild('journal');
      let written = 1_000;
      let switched = false;
      for (let round = 0; round < 2_000 && !switched; round++) {
        await record(paid('b', 1));
        written++;
        expect(await readModels.count('journal')).to.equal(written);
        switched = (await liveCopy('journal')).copy !== copy;
      }
      expect(switched, 'the rebuild was switched in').to.equal(true);
      await record(paid('b', 1));
      expect(await readModels.count('journal')).to.equal(written + 1);
      expect((await readModels.copies()).map(({ projection }) => projection)).to.have.members([
        'accounts',
        'journal',
      ]);
      expect((await statusOf('journal')).rebuild).to.equal(null);
    });

    it('is begun by a new version; readers see the old documents, then the new ones, never a mix', async () => {
      await start([accounts(), journal]);
      const before = await record(...manyPayments());
      await runtime.stop();
      // Else the switch could come before the first look at what is there until then.
      const looked = Promise.withResolvers<void>();
      const patient: ReadModelStore = {
        ...readModels,
        activate: (copy) => looked.promise.then(() => readModels.activate(copy)),
      };
      await start([accounts({ version: 2 }), journal], { batchSize: 20, readModels: patient });
      const position = await append(paid('a1', 1));
      expect(runtime.position(), 'what readers see').to.equal(before);
      expect(await runtime.waitFor(position, 0)).to.equal(false);
      expect(await statusOf('accounts')).to.include({ version: 1, state: 'rebuilding', position: before });
      const seen: string[] = [];
      await eventually(async () => {
        const { documents } = await readModels.find<Account>('accounts', { limit: 100 });
        const versions = new Set(documents.map(({ body }) => body.version));
        expect(documents).to.have.length(10);
        seen.push([...versions].join(' and '));
        looked.resolve();
        if (versions.has(2)) expect(await runtime.waitFor(position, 0)).to.equal(true);
        return versions.has(2);
      });
      expect(new Set(seen)).to.deep.equal(new Set(['1', '2']));
      await eventually(async () => (await statusOf('accounts')).state === 'live');
      expect(await statusOf('accounts')).to.include({
        version: 2,
        seen: 1_001,
        complete: true,
        rebuild: null,
      });
    });

    it('is begun by other indexes', async () => {
      await start([accounts()]);
      const position = await record(paid('a', 3), paid('b', 5));
      await runtime.stop();
      await start([accounts({ indexes: [['balance']] })]);
      await eventually(async () => (await statusOf('accounts')).rebuild === null);
      expect(await runtime.waitFor(position, BOUND_MS)).to.equal(true);
      const { documents } = await readModels.find('accounts', { where: { balance: 5 }, limit: 5 });
      expect(documents.map(({ id }) => id)).to.deep.equal(['b']);
    });

    for (const [kind, next] of [
      ['of a new version', accounts({ version: 2 })],
      ['on demand', accounts()],
    ] as const) {
      it(`${kind} goes on from its own checkpoint after an interruption`, async () => {
        await start([accounts()]);
        await record(...manyPayments());
        if (kind === 'of a new version') {
          await runtime.stop();
          await start([next], { batchSize: 5 });
        } else {
          await runtime.stop();
          await start([next], { batchSize: 5 });
          await runtime.rebuild('accounts');
        }
        const unfinished = async () => (await readModels.copies()).find(({ live }) => !live);
        await eventually(async () => (await unfinished())?.checkpoint.position !== START);
        await runtime.stop();
        const left = await unfinished();
        expect(left?.checkpoint.seen).to.be.within(1, 999);
        const position = await append(paid('a1', 1));
        await start([next]);
        await eventually(async () => (await liveCopy('accounts')).copy === left?.copy);
        expect(await runtime.waitFor(position, BOUND_MS)).to.equal(true);
        expect(await statusOf('accounts')).to.include({ seen: 1_001, complete: true });
        expect(new Map((await bytes('accounts')).map(toEntry))).to.deep.equal(fold(next, await log()));
        expect(await readModels.copies()).to.have.length(1);
      });
    }

    it('that others switched in stops nobody who fed the copy that is gone', async () => {
      let failed = false;
      let asked = '';
      const late: ReadModelStore = {
        ...readModels,
        async activate(copy) {
          asked = copy;
          return failed && readModels.activate(copy);
        },
        async write(batches) {
          try {
            await readModels.write(batches);
          } catch (error) {
            failed = true;
            throw error;
          }
        },
      };
      await start([accounts(), journal], { readModels: late });
      await record(paid('a', 1));
      await runtime.rebuild('accounts');
      await eventually(() => asked !== '');
      await readModels.activate(asked); // as another process does it, which then drops the other copy
      await record(paid('a', 2));
      expect(failed).to.equal(true);
      expect(await balance('a')).to.equal(3);
      expect((await liveCopy('accounts')).copy).to.equal(asked);
      expect(troubles).to.deep.equal([]);
    });

    it('leaves the copy that it replaced fed until every process knows of the switch', async () => {
      let switched = false;
      let written: string[] = [];
      const keeping: ReadModelStore = {
        ...readModels,
        activate: async () => (switched = true),
        async write(batches) {
          written = batches.map(({ copy }) => copy);
          await readModels.write(batches);
        },
      };
      const { signal } = new AbortController();
      const partition = { number: 0, holds: () => true, subscribe: store.subscribe, signal };
      await start([accounts()], { readModels: keeping, partition });
      await record(paid('a', 1));
      const replaced = (await liveCopy('accounts')).copy;
      await runtime.rebuild('accounts');
      await eventually(() => switched);
      await record(paid('a', 2));
      expect(written).to.have.length(2).and.include(replaced);
      await eventually(async () => (await statusOf('accounts')).rebuild === null);
      await record(paid('a', 4));
      expect(written).to.have.length(1).and.not.include(replaced);
    });

    it('asked for twice at once is one', async () => {
      await start([accounts()], { batchSize: 5 });
      await record(...manyPayments());
      await Promise.all([runtime.rebuild('accounts'), runtime.rebuild('accounts')]);
      await runtime.rebuild('accounts');
      expect(await readModels.copies()).to.have.length(2);
      expect((await statusOf('accounts')).rebuild).to.include({ version: 1 });
    });

    it('of a projection that is catching up takes its place', async () => {
      await append(...manyPayments());
      await start([journal]);
      await record(paid('a', 1));
      await runtime.stop();
      await start([journal, accounts()], { batchSize: 3 });
      await runtime.rebuild('accounts');
      const position = await append(paid('a', 1));
      expect(await runtime.waitFor(position, BOUND_MS)).to.equal(true);
      await eventually(async () => (await statusOf('accounts')).rebuild === null);
      await record(paid('a', 1));
      expect(new Map((await bytes('accounts')).map(toEntry))).to.deep.equal(fold(accounts(), await log()));
      expect(await readModels.copies()).to.have.length(2);
    });

    it('of an unknown projection is refused', async () => {
      await start([accounts()]);
      for (const ask of [
        () => runtime.rebuild('nothing'),
        () => runtime.failures('nothing'),
        () => runtime.retry('nothing'),
      ]) {
        const error = await ask().catch((reason: unknown) => reason);
        expect(error).to.be.instanceOf(Refusal).with.property('code', 'NOT_FOUND');
      }
    });
  });

  describe('when the read models cannot be written', () => {
    /** The store, with writes that fail before (or after) they are done. */
    function failingWrites(times: number, when: 'before' | 'after'): ReadModelStore {
      let left = times;
      return {
        ...readModels,
        async write(batches) {
          if (when === 'after') await readModels.write(batches);
          if (left > 0) {
            left--;
            throw new StoreUnavailable('disk full');
          }
          if (when === 'before') await readModels.write(batches);
        },
      };
    }

    for (const when of ['before', 'after'] as const) {
      it(`tries again and loses nothing (it failed ${when} the write)`, async () => {
        await start([accounts(), journal], { readModels: failingWrites(2, when) });
        const position = await append(paid('a', 1), paid('a', 2));
        await eventually(() => troubles.length > 0);
        expect(await statusOf('accounts')).to.include({ problem: 'disk full' });
        expect(troubles[0]?.trouble).to.deep.equal({ projections: ['accounts', 'journal'], event: null });
        expect(await runtime.waitFor(position, BOUND_MS)).to.equal(true);
        expect(await balance('a')).to.equal(3);
        expect(await statusOf('accounts')).to.include({ problem: null, seen: 2, complete: true });
        expect(troubles).to.have.length(2);
      });
    }

    it('changes nothing when a batch is replayed whose documents were written without their checkpoint', async () => {
      await start([accounts()]);
      const position = await record(paid('a', 1), paid('a', 2), paid('b', 4));
      await runtime.stop();
      const [before, { copy }] = [await bytes('accounts'), await liveCopy('accounts')];
      await readModels.write([{ copy, puts: [], deletes: [], checkpoint: { position: START, seen: 0 } }]);
      await start([accounts()]);
      expect(await runtime.waitFor(position, BOUND_MS)).to.equal(true);
      expect(await bytes('accounts')).to.deep.equal(before);
    });

    it('can be stopped, and goes on where it was', async () => {
      await start([accounts()], { readModels: failingWrites(Number.POSITIVE_INFINITY, 'before') });
      const position = await append(paid('a', 1));
      await eventually(() => troubles.length > 0);
      await runtime.stop();
      await start([accounts()]);
      expect(await runtime.waitFor(position, BOUND_MS)).to.equal(true);
      expect(await balance('a')).to.equal(1);
    });
  });

  it('subscribes again when the subscription breaks', async () => {
    let breaks = 2;
    const breaking: EventStore = {
      ...store,
      async *subscribe(options) {
        for await (const page of store.subscribe(options)) {
          yield page;
          if (breaks-- > 0) throw new StoreUnavailable('connection lost');
        }
      },
    };
    await start([accounts()], { store: breaking });
    await record(paid('a', 1));
    await record(paid('a', 2));
    await record(paid('a', 4));
    expect(await balance('a')).to.equal(7);
    expect(troubles.map(({ message }) => message)).to.deep.equal(['connection lost', 'connection lost']);
  });
});

async function dump(readModels: ReadModelStore, copy: string): Promise<string[]> {
  const documents: string[] = [];
  for await (const document of readModels.dump(copy)) documents.push(JSON.stringify(document));
  return documents;
}

const withoutTime = ({ failedAt: _, ...event }: { failedAt: string }) => event;

function toEntry(text: string): [string, unknown] {
  const { id, body }: Stored<unknown> = JSON.parse(text);
  return [id, body];
}

async function eventually(condition: () => boolean | Promise<boolean>): Promise<void> {
  const deadline = performance.now() + BOUND_MS;
  while (!(await condition())) {
    if (performance.now() > deadline) throw new Error(`It did not come about in ${BOUND_MS} ms.`);
    await new Promise((resolve) => setImmediate(resolve));
  }
}
