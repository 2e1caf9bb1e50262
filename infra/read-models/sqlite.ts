/**
 * Read models in one SQLite file, for one machine. Documents, checkpoints and events that were set aside are
 * written in one transaction, which is not waited for to be on disk (synchronous=NORMAL): after a power cut
 * the file is whole but may lack the last batches, and the projections read those events again.
 *
 * Writes are done by a thread of their own, behind the back of who asks for them: a document by its id is read
 * from what waits to be stored, and a query waits until that is stored.
 */
import Sqlite, { type Database } from 'better-sqlite3';
import { LRUCache } from 'lru-cache';
import { positionSortKey } from '../../contracts/envelope.ts';
import type { SetAsideEvent } from '../../contracts/projections.ts';
import { StoreUnavailable } from '../event-store/port.ts';
import type {
  CollectionSpec,
  CopyId,
  CopyInfo,
  Page,
  Query,
  ReadModelStore,
  SnapshotStore,
  Stored,
  WriteBatch,
} from './port.ts';
import { type CopyTable, copyTable, createTable } from './sqlite-copy.ts';
import { type Attempt, SNAPSHOTS_SCHEMA, sqliteSnapshots } from './sqlite-snapshots.ts';
import { createWriteBehind } from './sqlite-write-behind.ts';
import { type Run, startWriteQueue, type WriteQueue } from './sqlite-write-queue.ts';

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

/** How long a write waits for another process that holds the file. */
const BUSY_TIMEOUT_MS = 100;
/** Documents that are read by id again and again: who is logged in, the conversations that are talked in, … */
const CACHED_DOCUMENTS = 5_000;
const DUMP_PAGE = 500;

const INSERT_COPY = 'INSERT INTO copies (number, projection, version, indexes, live) VALUES (?, ?, ?, ?, ?)';
const SET_CHECKPOINT = 'UPDATE copies SET position = ?, seen = ? WHERE number = ?';
const ADD_ASIDE = 'INSERT OR REPLACE INTO set_aside (copy, position, document, event) VALUES (?, ?, ?, ?)';
const REMOVE_ASIDE = 'DELETE FROM set_aside WHERE copy = ? AND position = ?';

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
        engine: 'read models',
      });
    }
  };
  return guarded(() => {
    const db = new Sqlite(options.file, { timeout: BUSY_TIMEOUT_MS });
    try {
      db.pragma('journal_mode = WAL');
      db.exec(SCHEMA);
      db.exec(SNAPSHOTS_SCHEMA);
      const attempt: Attempt = async (work) => {
        if (!db.open) {
          throw new StoreUnavailable(`The read models in ${options.file} are closed.`, {
            engine: 'read models',
          });
        }
        return guarded(work);
      };
      dropLeftovers(db);
      const queue = startWriteQueue({ file: options.file, busyTimeoutMs: BUSY_TIMEOUT_MS });
      return { ...readModels(db, queue, attempt), snapshots: sqliteSnapshots(db, queue, attempt) };
    } catch (error) {
      db.close();
      throw error;
    }
  });
}

const tableOf = (number: number) => `copy_${number}`;

/** Tables of copies that were replaced, where the process ended before they were dropped. */
function dropLeftovers(db: Database): void {
  const leftovers = db
    .prepare<[], { name: string }>(
      `SELECT name FROM sqlite_schema
       WHERE type = 'table' AND name GLOB 'copy_[0-9]*' AND name NOT IN (SELECT 'copy_' || number FROM copies)`,
    )
    .all();
  for (const { name } of leftovers) db.exec(`DROP TABLE ${name}`);
}

function readModels(db: Database, queue: WriteQueue, attempt: Attempt): ReadModelStore {
  const listCopies = db.prepare<[], CopyRow>('SELECT * FROM copies ORDER BY number');
  const lastNumber = db.prepare<[], number>("SELECT seq FROM sqlite_sequence WHERE name = 'copies'").pluck();
  const listAside = db.prepare<[number, number], { event: string }>(
    'SELECT event FROM set_aside WHERE copy = ? ORDER BY position LIMIT ?',
  );
  const listAsideOf = db.prepare<[number, string, number], { event: string }>(
    'SELECT event FROM set_aside WHERE copy = ? AND document = ? ORDER BY position LIMIT ?',
  );

  const copies = new Map<CopyId, Copy>();
  const liveCopies = new Map<string, Copy>();

  const recent = new LRUCache<string, Stored<unknown>>({ max: CACHED_DOCUMENTS });
  const keyOf = (copy: Copy, id: string) => `${copy.number} ${id}`;

  const behind = createWriteBehind(queue, (key, document) => {
    if (document === null) recent.delete(key);
    else recent.set(key, document);
  });
  /** Queries read the file. While it cannot be written they answer with what it holds. */
  const query = async <Result>(work: () => Result): Promise<Result> => {
    await behind.stored().catch(() => {});
    return attempt(work);
  };

  function documentOf(copy: Copy, id: string): Stored<unknown> | null {
    const key = keyOf(copy, id);
    const pending = behind.pending(key);
    if (pending !== undefined) return pending;
    const known = recent.get(key);
    if (known !== undefined) return known;
    const document = copy.documents.get(id);
    if (document !== null) recent.set(key, document);
    return document;
  }

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

  function liveCopyOf(collection: string): Copy {
    const copy = liveCopies.get(collection);
    if (copy === undefined) throw new Error(`There is no read model ${collection}.`);
    return copy;
  }

  const unlisted = ({ number }: Copy): Run[] => [
    ['DELETE FROM copies WHERE number = ?', number],
    ['DELETE FROM set_aside WHERE copy = ?', number],
  ];
  const dropped = ({ number }: Copy): Run => [`DROP TABLE ${tableOf(number)}`];

  function forget(copy: Copy): void {
    copies.delete(String(copy.number));
    if (liveCopies.get(copy.projection) === copy) liveCopies.delete(copy.projection);
  }

  const runsOf = ({ copy: id, puts, deletes, setAside, checkpoint }: WriteBatch): Run[] => {
    const { number, documents } = copyOf(id);
    return [
      ...puts.map((document) => documents.put(document)),
      ...deletes.map((deleted) => documents.remove(deleted)),
      ...(setAside?.add ?? []).map((event): Run => {
        const key = positionSortKey(event.position);
        return [ADD_ASIDE, number, key, event.documentId, JSON.stringify(event)];
      }),
      ...(setAside?.remove ?? []).map((position): Run => [REMOVE_ASIDE, number, positionSortKey(position)]),
      [SET_CHECKPOINT, checkpoint.position, checkpoint.seen, number],
    ];
  };

  async function activate(copy: Copy): Promise<void> {
    const others = [...copies.values()].filter(
      (other) => other.projection === copy.projection && other !== copy,
    );
    await behind.stored();
    await queue.write([
      ['UPDATE copies SET live = 0 WHERE projection = ?', copy.projection],
      ['UPDATE copies SET live = 1 WHERE number = ?', copy.number],
      ...others.flatMap(unlisted),
    ]);
    for (const other of others) forget(other);
    liveCopies.set(copy.projection, copy);
    // Only now does nobody read them any more. Not waited for, and what it leaves behind when it fails or the
    // process ends is dropped at the next start.
    if (others.length > 0) queue.write(others.map(dropped)).catch(() => {});
  }

  /** The number of the last copy that was made. */
  let made = 0;
  let switching: Promise<void> = Promise.resolve();
  for (const row of listCopies.all()) remember(row);

  async function createCopy(spec: CollectionSpec): Promise<CopyId> {
    const indexes = JSON.stringify(spec.indexes);
    const begun = await attempt(() =>
      listCopies
        .all()
        .find(
          (row) =>
            row.projection === spec.projection &&
            row.version === spec.version &&
            row.indexes === indexes &&
            !row.live,
        ),
    );
    if (begun !== undefined) return String(begun.number);
    const number = await attempt(() => Math.max(made, lastNumber.get() ?? 0) + 1);
    made = number;
    const live = liveCopies.has(spec.projection) ? 0 : 1;
    await queue.write([
      [INSERT_COPY, number, spec.projection, spec.version, indexes, live],
      ...createTable(tableOf(number), spec.indexes),
    ]);
    await attempt(() => remember(listCopies.all().find((row) => row.number === number)!));
    return String(number);
  }

  return {
    get: <Body>(collection: string, id: string) =>
      attempt(() => documentOf(liveCopyOf(collection), id) as Stored<Body> | null),
    find: <Body>(collection: string, wanted: Query) =>
      query(() => liveCopyOf(collection).documents.find(wanted) as Page<Body>),
    count: (collection, where) => query(() => liveCopyOf(collection).documents.count(where)),

    copies: async () => {
      await behind.stored().catch(() => {});
      // The file may say which copy is live a moment before readers see it.
      for (let waited: Promise<void> | null = null; waited !== switching; await waited) waited = switching;
      return attempt(() => listCopies.all().map(toCopyInfo));
    },
    // One process has the file, and makes one copy at a time.
    ensureLiveCopy: async (spec) => {
      const live = liveCopies.get(spec.projection);
      return live === undefined ? createCopy(spec) : String(live.number);
    },
    createCopy,
    activate: async (id) => {
      const done = activate(copyOf(id));
      switching = done.catch(() => {}); // its caller learns of it
      await done;
      return true;
    },
    dropCopy: async (id) => {
      const copy = copyOf(id);
      await behind.stored();
      forget(copy);
      await queue.write([...unlisted(copy), dropped(copy)]);
    },

    getFrom: (id, ids) =>
      attempt(() => {
        const copy = copyOf(id);
        const found = new Map<string, Stored<unknown>>();
        for (const wanted of ids) {
          const document = documentOf(copy, wanted);
          if (document !== null) found.set(wanted, document);
        }
        return found;
      }),
    write: async (batches) => {
      const changes = new Map<string, Stored<unknown> | null>();
      for (const { copy: id, puts, deletes } of batches) {
        const copy = copyOf(id);
        for (const document of puts) changes.set(keyOf(copy, document.id), document);
        for (const deleted of deletes) changes.set(keyOf(copy, deleted), null);
      }
      await behind.take(await attempt(() => batches.flatMap(runsOf)), changes);
    },
    setAside: (id, { documentId, limit = -1 /* SQLite's "no limit" */ } = {}) =>
      query(() => {
        const { number } = copyOf(id);
        const rows =
          documentId === undefined
            ? listAside.all(number, limit)
            : listAsideOf.all(number, documentId, limit);
        return rows.map((row): SetAsideEvent => JSON.parse(row.event));
      }),
    async *dump(id) {
      // In pages, so that the file stays free for writes between them.
      let page = await query(() => copyOf(id).documents.after('', DUMP_PAGE));
      while (page.length > 0) {
        yield* page;
        const last = page[page.length - 1]!.id;
        page = await attempt(() => copyOf(id).documents.after(last, DUMP_PAGE));
      }
    },
    close: async () => {
      // What cannot be stored is brought back by the log.
      await behind.close().catch(() => {});
      await queue.close();
      db.close();
    },
  };
}

const toCopyInfo = (row: CopyRow): CopyInfo => ({
  copy: String(row.number),
  projection: row.projection,
  version: row.version,
  indexes: JSON.parse(row.indexes),
  outdated: false,
  live: row.live === 1,
  checkpoint: { position: row.position, seen: row.seen },
});
