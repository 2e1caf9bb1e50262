import { execFile } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import { promisify } from 'node:util';
import Sqlite from 'better-sqlite3';
import { expect } from 'chai';
import { StoreUnavailable } from '../event-store/port.ts';
import { readModelsConformance } from './conformance.ts';
import { openSqliteReadModels } from './sqlite.ts';

const run = promisify(execFile);

async function openTemporary() {
  const directory = await mkdtemp(join(tmpdir(), 'odeon-read-models-'));
  const file = join(directory, 'read-models.db');
  let store = await openSqliteReadModels({ file });
  return {
    file,
    store,
    async reopen() {
      await store.close();
      store = await openSqliteReadModels({ file });
      return store;
    },
    async destroy() {
      await store.close();
      await rm(directory, { recursive: true });
    },
  };
}

readModelsConformance('SQLite', { open: openTemporary });

describe('read models in SQLite', () => {
  let opened: Awaited<ReturnType<typeof openTemporary>>;
  beforeEach(async () => {
    opened = await openTemporary();
  });
  afterEach(() => opened.destroy());

  const notes = { projection: 'notes', version: 1, indexes: [['owner', 'rank']] };
  const checkpoint = { position: '1', seen: 1 };

  it('write all batches or none', async () => {
    const { store } = opened;
    const copy = await store.createCopy(notes);
    const batch = { copy, puts: [{ id: '1', position: '1', body: {} }], deletes: [], checkpoint };
    const error = await store.write([batch, { ...batch, copy: '999' }]).then(
      () => null,
      (reason: Error) => reason,
    );
    expect(error?.message).to.contain('999');
    expect(await store.get('notes', '1')).to.equal(null);
    expect((await store.copies())[0]?.checkpoint).to.deep.equal({ position: '0', seen: 0 });
  });

  it('answer declared queries from their index, without sorting', async () => {
    const { store, file } = opened;
    await store.createCopy(notes);
    const db = new Sqlite(file, { readonly: true });
    const plan = (sql: string) =>
      db
        .prepare<[], { detail: string }>(`EXPLAIN QUERY PLAN ${sql}`)
        .all()
        .map((step) => step.detail)
        .join('; ');
    // The statement that find() makes for {where: {owner}, orderBy: rank, cursor}.
    const sql = `SELECT id, position, body, f1 AS sort FROM copy_1
      WHERE true AND f0 = 'x' AND (f1, id) > (1, 'y') ORDER BY f1 ASC, id ASC LIMIT 11 OFFSET 0`;
    const steps = plan(sql);
    db.close();
    expect(steps).to.contain('USING INDEX copy_1_i0 (f0=?').and.not.to.contain('TEMP B-TREE');
  });

  it('say clearly when another process holds the file, and go on when it lets go', async () => {
    const { store, file } = opened;
    const copy = await store.createCopy(notes);
    const batch = { copy, puts: [{ id: '1', position: '1', body: {} }], deletes: [], checkpoint };
    const other = new Sqlite(file);
    other.exec('BEGIN IMMEDIATE');
    await store.write([batch]); // taken, and stored behind its back as soon as that is possible
    expect(await store.get('notes', '1')).not.to.equal(null);
    await store.count('notes'); // waits for the try to store it
    const error = await store.write([batch]).catch((reason: unknown) => reason);
    expect(error).to.be.instanceOf(StoreUnavailable);
    expect((error as Error).message)
      .to.contain(file)
      .and.to.contain('locked');
    other.exec('ROLLBACK');
    other.close();
    const deadline = performance.now() + 10_000;
    const refused = () =>
      store.write([batch]).then(
        () => false,
        () => true,
      );
    while (await refused()) {
      expect(performance.now(), 'the time in which it goes on').to.be.below(deadline);
      await setImmediate();
    }
    expect(await store.count('notes')).to.equal(1);
  });

  it('say clearly when the disk is full, and keep what was written before', async function () {
    this.timeout(20_000);
    // A limit on the size of files stands in for a full disk: the write fails in the same place.
    const script = `
      import { openSqliteReadModels } from '${join(import.meta.dirname, 'sqlite.ts')}';
      const store = await openSqliteReadModels({ file: process.argv[1] });
      const copy = await store.createCopy({ projection: 'notes', version: 1, indexes: [] });
      let written = 0;
      try {
        for (; written < 10_000; written++) {
          const body = { text: 'x'.repeat(10_000) };
          const checkpoint = { position: String(written), seen: written };
          await store.write([{ copy, puts: [{ id: String(written), position: '1', body }], deletes: [], checkpoint }]);
          await store.count('notes'); // waits until it is stored
        }
      } catch (error) {
        const seen = (await store.copies())[0].checkpoint.seen;
        process.stdout.write(JSON.stringify({ name: error.name, written, seen, count: await store.count('notes') }));
        await store.close();
      }`;
    const { stdout } = await run('bash', [
      '-c',
      `trap '' XFSZ; ulimit -f 2000; exec "$0" --input-type=module -e "$1" "$2"`,
      process.execPath,
      script,
      opened.file,
    ]);
    const { name, written, seen, count } = JSON.parse(stdout);
    expect(name).to.equal('StoreUnavailable');
    expect(written).to.be.greaterThan(10);
    // The last one was taken, and could not be stored: the next one is refused.
    expect({ seen, count }).to.deep.equal({ seen: written - 2, count: written - 1 });
  });

  it('say clearly when they are closed', async () => {
    const { store } = opened;
    await store.close();
    expect(await store.copies().catch((reason: unknown) => reason)).to.be.instanceOf(StoreUnavailable);
  });

  it('cannot be opened from a file that is no database', async () => {
    const file = join(opened.file, '..', 'text.db');
    await writeFile(file, 'this is a text, and long enough to be taken for a broken header'.repeat(20));
    const error = await openSqliteReadModels({ file }).catch((reason: unknown) => reason);
    expect(error).to.be.instanceOf(StoreUnavailable);
  });
});
