/**
 * Read models in one SQLite file, for one machine. Documents, checkpoints and events that were set aside are
 * written in one transaction, which is not waited for to be on disk (synchronous=NORMAL): after a power cut
 * the file is whole but may lack the last batches, and the projections read those events again.
 *
 * Every call does its work before it first awaits, so a reader sees the documents of one copy at one instant.
 */
import Sqlite, { type Database } from 'better-sqlite3';
import { positionSortKey } from '../../contracts/envelope.ts';
import type { SetAsideEvent } from '../../contracts/projections.ts';
import { StoreUnavailable } from '../event-store/port.ts';
import type {
  CollectionSpec,
  CopyId,
  CopyInfo,
  Page,
  ReadModelStore,
  SnapshotStore,
  Stored,
  WriteBatch,
} from './port.ts';
import { type CopyTable, copyTable, createTable } from './sqlite-copy.ts';
import { sqliteSnapshots } from './sqlite-snapshots.ts';

const SCHEMA = `
  CREATE TABLE IF NOT EXISTS copies (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    projection TEXT NOT NULL,
    version INTEGER NOT NULL,
    indexes TEXT NOT NULL,
    live INTEGER NOT NULL,
    position TEXT NOT NULL DEFAULT '0',
    seen INTEGER NOT NULL DEFAULT 0
  ) STRICT;
  CREATE UNIQUE INDEX IF NOT EXISTS live_copies ON copies (projection) WHERE live;
  CREATE TABLE IF NOT EXISTS set_aside (
    copy INTEGER NOT NULL,
    position TEXT NOT NULL,
    document TEXT NOT NULL,
    event TEXT NOT NULL,
    PRIMARY KEY (copy, position)
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX IF NOT EXISTS set_aside_documents ON set_aside (copy, document, position);
`;

/** How long a write waits for another process that holds the file; the event loop stands still meanwhile. */
const BUSY_TIMEOUT_MS = 100;
const DUMP_PAGE = 500;

interface CopyRow {
  readonly number: number;
  readonly projection: string;
  readonly version: number;
  readonly indexes: string;
  readonly live: number;
  readonly position: string;
  readonly seen: number;
}

interface Copy {
  readonly number: number;
  readonly projection: string;
  readonly documents: CopyTable;
}

/** @throws StoreUnavailable when the file cannot be opened; every method throws it when the disk fails. */
export async function openSqliteReadModels(options: {
  readonly file: string;
}): Promise<ReadModelStore & { readonly snapshots: SnapshotStore }> {
  const guarded = <Result>(work: () => Result): Result => {
    try {
      return work();
    } catch (error) {
      if (!(error instanceof Sqlite.SqliteError)) throw error;
      throw new StoreUnavailable(`The read models in ${options.file} cannot be used: ${error.message}`, {
        cause: error,
      });
    }
  };
  return guarded(() => {
    const db = new Sqlite(options.file, { timeout: BUSY_TIMEOUT_MS });
    try {
      db.pragma('journal_mode = WAL');
      db.pragma('synchronous = NORMAL');
      db.exec(SCHEMA);
      const attempt = async <Result>(work: () => Result): Promise<Result> => {
        if (!db.open) throw new StoreUnavailable(`The read models in ${options.file} are closed.`);
        return guarded(work);
      };
      return { ...readModels(db, attempt), snapshots: sqliteSnapshots(db, attempt) };
    } catch (error) {
      db.close();
      throw error;
    }
  });
}

/** Runs the work at once; the promise rejects with StoreUnavailable when SQLite fails. */
export type Attempt = <Result>(work: () => Result) => Promise<Result>;

function readModels(db: Database, attempt: Attempt): ReadModelStore {
  const listCopies = db.prepare<[], CopyRow>('SELECT * FROM copies ORDER BY number');
  const insertCopy = db.prepare(
    'INSERT INTO copies (projection, version, indexes, live) VALUES (?, ?, ?, ?)',
  );
  const deleteCopy = db.prepare('DELETE FROM copies WHERE number = ?');
  const endLive = db.prepare('UPDATE copies SET live = 0 WHERE projection = ?');
  const beginLive = db.prepare('UPDATE copies SET live = 1 WHERE number = ?');
  const setCheckpoint = db.prepare('UPDATE copies SET position = ?, seen = ? WHERE number = ?');
  const addAside = db.prepare(
    'INSERT OR REPLACE INTO set_aside (copy, position, document, event) VALUES (?, ?, ?, ?)',
  );
  const removeAside = db.prepare('DELETE FROM set_aside WHERE copy = ? AND position = ?');
  const clearAside = db.prepare('DELETE FROM set_aside WHERE copy = ?');
  const listAside = db.prepare<[number, number], { event: string }>(
    'SELECT event FROM set_aside WHERE copy = ? ORDER BY position LIMIT ?',
  );
  const listAsideOf = db.prepare<[number, string, number], { event: string }>(
    'SELECT event FROM set_aside WHERE copy = ? AND document = ? ORDER BY position LIMIT ?',
  );

  const copies = new Map<CopyId, Copy>();
  const liveCopies = new Map<string, Copy>();

  const tableOf = (number: number | bigint) => `copy_${number}`;

  function remember(row: CopyRow): void {
    const documents = copyTable(db, tableOf(row.number), row.projection, JSON.parse(row.indexes));
    const copy = { number: row.number, projection: row.projection, documents };
    copies.set(String(row.number), copy);
    if (row.live) liveCopies.set(row.projection, copy);
  }

  function copyOf(id: CopyId): Copy {
    const copy = copies.get(id);
    if (copy === undefined) throw new Error(`There is no copy ${id} of a read model.`);
    return copy;
  }

  function liveCopyOf(collection: string): CopyTable {
    const copy = liveCopies.get(collection);
    if (copy === undefined) throw new Error(`There is no read model ${collection}.`);
    return copy.documents;
  }

  /** Inside a transaction. */
  function drop(number: number): void {
    deleteCopy.run(number);
    clearAside.run(number);
    db.exec(`DROP TABLE ${tableOf(number)}`);
  }

  function forget(copy: Copy): void {
    copies.delete(String(copy.number));
    if (liveCopies.get(copy.projection) === copy) liveCopies.delete(copy.projection);
  }

  const create = db.transaction((spec: CollectionSpec): CopyRow => {
    const live = liveCopies.has(spec.projection) ? 0 : 1;
    const indexes = JSON.stringify(spec.indexes);
    const { lastInsertRowid } = insertCopy.run(spec.projection, spec.version, indexes, live);
    createTable(db, tableOf(lastInsertRowid), spec.indexes);
    return listCopies.all().find((row) => row.number === Number(lastInsertRowid))!;
  });

  const writeBatches = db.transaction((batches: readonly WriteBatch[]): void => {
    for (const batch of batches) {
      const { number, documents } = copyOf(batch.copy);
      for (const document of batch.puts) documents.put(document);
      for (const id of batch.deletes) documents.remove(id);
      for (const event of batch.setAside?.add ?? []) {
        addAside.run(number, positionSortKey(event.position), event.documentId, JSON.stringify(event));
      }
      for (const position of batch.setAside?.remove ?? []) removeAside.run(number, positionSortKey(position));
      setCheckpoint.run(batch.checkpoint.position, batch.checkpoint.seen, number);
    }
  });

  for (const row of listCopies.all()) remember(row);

  return {
    get: <Body>(collection: string, id: string) =>
      attempt(() => liveCopyOf(collection).get(id) as Stored<Body> | null),
    find: <Body>(collection: string, query: Parameters<ReadModelStore['find']>[1]) =>
      attempt(() => liveCopyOf(collection).find(query) as Page<Body>),
    count: (collection, where) => attempt(() => liveCopyOf(collection).count(where)),

    copies: () => attempt(() => listCopies.all().map(toCopyInfo)),
    createCopy: (spec) =>
      attempt(() => {
        const row = create.immediate(spec);
        remember(row);
        return String(row.number);
      }),
    activate: (id) =>
      attempt(() => {
        const copy = copyOf(id);
        const others = [...copies.values()].filter(
          (other) => other.projection === copy.projection && other !== copy,
        );
        db.transaction(() => {
          endLive.run(copy.projection);
          beginLive.run(copy.number);
          for (const other of others) drop(other.number);
        }).immediate();
        for (const other of others) forget(other);
        liveCopies.set(copy.projection, copy);
      }),
    dropCopy: (id) =>
      attempt(() => {
        const copy = copyOf(id);
        db.transaction(drop).immediate(copy.number);
        forget(copy);
      }),

    getFrom: (id, ids) =>
      attempt(() => {
        const { documents } = copyOf(id);
        const found = new Map<string, Stored<unknown>>();
        for (const wanted of ids) {
          const document = documents.get(wanted);
          if (document !== null) found.set(wanted, document);
        }
        return found;
      }),
    write: (batches) => attempt(() => writeBatches.immediate(batches)),
    setAside: (id, query = {}) =>
      attempt(() => {
        const { number } = copyOf(id);
        const limit = query.limit ?? -1; // SQLite's "no limit"
        const rows =
          query.documentId === undefined
            ? listAside.all(number, limit)
            : listAsideOf.all(number, query.documentId, limit);
        return rows.map((row): SetAsideEvent => JSON.parse(row.event));
      }),
    async *dump(id) {
      // In pages, so that the file stays free for writes between them.
      let page = await attempt(() => copyOf(id).documents.after('', DUMP_PAGE));
      while (page.length > 0) {
        yield* page;
        const last = page[page.length - 1]!.id;
        page = await attempt(() => copyOf(id).documents.after(last, DUMP_PAGE));
      }
    },
    close: async () => {
      db.close();
    },
  };
}

const toCopyInfo = (row: CopyRow): CopyInfo => ({
  copy: String(row.number),
  projection: row.projection,
  version: row.version,
  indexes: JSON.parse(row.indexes),
  live: row.live === 1,
  checkpoint: { position: row.position, seen: row.seen },
});
