/**
 * The file of the embedded index. Each copy has tables of its own, so that one can be filled beside the other and be
 * dropped at once.
 *
 * Events are numbered as they come (`moments`), and a message has the number of its event. So what was there at a
 * position of the log is what has a number up to that position's, and vanished (`until`) later.
 *
 * `coarse` holds one bit a dimension, with all that a search may filter by, ordered by owner: a first pass over one
 * owner's messages is one range of pages, and reads 100,000 of them in some 20 ms. vec0 tables of sqlite-vec do the
 * same scan, but choosing some hundred candidates takes them ten times as long as choosing ten, and the columns beside
 * their vectors cannot be updated. `exact` holds the vectors by which the candidates are then compared.
 */
import Sqlite, { type Database } from 'better-sqlite3';
import { load } from 'sqlite-vec';
import { positionOfSortKey } from '../../../contracts/envelope.ts';
import type { IndexCopy } from '../port.ts';

/** To be raised when the tables, or what is put into them from the same events, change. */
const LAYOUT = 1;
/** Of copies that fit: made by this layout, with vectors of the same model. */
export const formatOf = (model: string): string => `${LAYOUT} ${model}`;

/** A passage of a message has the message's number times this, plus its own number: no message has more. */
export const PASSAGES = 16;
/** `until` of what has not vanished. */
export const NEVER = Number.MAX_SAFE_INTEGER;

const BUSY_TIMEOUT_MS = 2_000;

export interface ThreadData {
  readonly file: string;
  readonly format: string;
}

export function openFile(file: string): Database {
  const db = new Sqlite(file, { timeout: BUSY_TIMEOUT_MS });
  try {
    load(db);
    db.pragma('synchronous = NORMAL');
    db.pragma('cache_size = -24000'); // KiB: the coarse pass over 100,000 messages reads half of that
  } catch (error) {
    db.close();
    throw error;
  }
  return db;
}

/** Positions are stored as keys that sort as they do in the log. */
export const COPIES = `
  CREATE TABLE IF NOT EXISTS copies (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    format TEXT NOT NULL,
    live INTEGER NOT NULL,
    position TEXT NOT NULL,
    seen INTEGER NOT NULL
  ) STRICT;
  CREATE UNIQUE INDEX IF NOT EXISTS live_copies ON copies (live) WHERE live;
  CREATE TABLE IF NOT EXISTS set_aside (
    copy INTEGER NOT NULL,
    position TEXT NOT NULL,
    event TEXT NOT NULL,
    PRIMARY KEY (copy, position)
  ) STRICT, WITHOUT ROWID;
`;

const TABLES: Readonly<Record<string, string>> = {
  moments: 'TABLE {} (number INTEGER PRIMARY KEY, position TEXT NOT NULL UNIQUE) STRICT',
  owners: 'TABLE {} (number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE) STRICT',
  conversations:
    'TABLE {} (number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, until INTEGER NOT NULL) STRICT',
  titles: `TABLE {} (
    conversation INTEGER NOT NULL, since INTEGER NOT NULL, title TEXT NOT NULL, PRIMARY KEY (conversation, since)
  ) STRICT, WITHOUT ROWID`,
  messages: `TABLE {} (
    number INTEGER PRIMARY KEY,
    owner INTEGER NOT NULL,
    conversation INTEGER NOT NULL,
    until INTEGER NOT NULL,
    role TEXT NOT NULL,
    model TEXT,
    ms INTEGER NOT NULL,
    id TEXT NOT NULL,
    time TEXT NOT NULL,
    words BLOB NOT NULL,
    content TEXT NOT NULL
  ) STRICT`,
  coarse: `TABLE {} (
    owner INTEGER NOT NULL,
    passage INTEGER NOT NULL,
    conversation INTEGER NOT NULL,
    until INTEGER NOT NULL,
    role TEXT NOT NULL,
    model TEXT,
    ms INTEGER NOT NULL,
    bits BLOB NOT NULL,
    PRIMARY KEY (owner, passage)
  ) STRICT, WITHOUT ROWID`,
  exact: 'TABLE {} (passage INTEGER PRIMARY KEY, vector BLOB NOT NULL) STRICT',
  // Every sign beyond ASCII is part of a word: what a word is, words.ts says.
  words: `VIRTUAL TABLE {} USING fts5(words, content = '', detail = none, tokenize = "ascii tokenchars '_'")`,
};
const INDEXES = [
  'INDEX {}_of_owners ON {} (owner, number)',
  'INDEX {}_of_conversations ON {} (conversation)',
];

export const tableOf = (name: string, copy: number): string => `${name}_${copy}`;

export function createTables(db: Database, copy: number): void {
  for (const [name, definition] of Object.entries(TABLES)) {
    db.exec(`CREATE ${definition.replaceAll('{}', tableOf(name, copy))}`);
  }
  for (const definition of INDEXES) {
    db.exec(`CREATE ${definition.replaceAll('{}', tableOf('messages', copy))}`);
  }
}

export function dropTables(db: Database, copy: number): void {
  for (const name of Object.keys(TABLES)) db.exec(`DROP TABLE IF EXISTS ${tableOf(name, copy)}`);
}

interface CopyRow {
  readonly number: number;
  readonly format: string;
  readonly live: number;
  readonly position: string;
  readonly seen: number;
  readonly failed: number;
}

/** The copies of this format; of a file that nobody has written to yet, none. */
export function readCopies(db: Database, format: string): IndexCopy[] {
  const made = db.prepare(`SELECT 1 FROM sqlite_schema WHERE name = 'set_aside'`).get();
  if (made === undefined) return [];
  return db
    .prepare<[string], CopyRow>(
      `SELECT *, (SELECT count(*) FROM set_aside WHERE copy = number) AS failed FROM copies
       WHERE format = ? ORDER BY number`,
    )
    .all(format)
    .map(({ number, live, position, seen, failed }) => ({
      copy: String(number),
      live: live === 1,
      position: positionOfSortKey(position),
      seen,
      failed,
    }));
}

export const toBlob = (numbers: Float32Array | Uint32Array | Uint8Array): Uint8Array =>
  new Uint8Array(numbers.buffer, numbers.byteOffset, numbers.byteLength);

/** One bit a dimension: whether it is above 0. */
export function bitsOf(vector: Float32Array): Uint8Array {
  const bits = new Uint8Array(vector.length / 8);
  for (let index = 0; index < vector.length; index++) {
    if (vector[index]! > 0) bits[index >> 3]! |= 1 << (index & 7);
  }
  return bits;
}
