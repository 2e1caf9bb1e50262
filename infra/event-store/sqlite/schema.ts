/** The file `log.db`: its table, how a connection to it is set up, and how a row becomes an envelope. */
import { join } from 'node:path';
import Database from 'better-sqlite3';
import type { EventEnvelope } from '../../../contracts/envelope.ts';
import { untilFree } from './turns.ts';

const FORMAT = 1;
/** 'Odeo': tells `file` and us that this database is an Odeon log. */
const APPLICATION_ID = 0x4f64656f;

/**
 * An index on one column holds the position too (it is the rowid), so each of them serves
 * `… = ? AND position > ? ORDER BY position` without a sort.
 */
const SCHEMA = `
  CREATE TABLE events (
    position       INTEGER PRIMARY KEY,
    id             TEXT NOT NULL,
    stream         TEXT NOT NULL,
    revision       INTEGER NOT NULL,
    type           TEXT NOT NULL,
    schema_version INTEGER NOT NULL,
    owner          TEXT NOT NULL,
    correlation_id TEXT NOT NULL,
    time           TEXT NOT NULL,
    meta           TEXT NOT NULL,
    data           TEXT NOT NULL
  ) STRICT;
  CREATE UNIQUE INDEX events_by_id ON events (id);
  CREATE UNIQUE INDEX events_by_stream ON events (stream, revision);
  CREATE INDEX events_by_owner ON events (owner);
  CREATE INDEX events_by_type ON events (type);
  CREATE INDEX events_by_correlation ON events (correlation_id);
`;

export const COLUMNS =
  'position, id, stream, revision, type, schema_version, owner, correlation_id, time, meta, data';

export const INSERT = `INSERT INTO events (${COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`;

/** A row of `COLUMNS`, read with `.raw()`. */
export type Row = readonly [
  position: number,
  id: string,
  stream: string,
  revision: number,
  type: string,
  schemaVersion: number,
  owner: string,
  correlationId: string,
  time: string,
  meta: string,
  data: string,
];

/** What the column `meta` holds: the parts of the envelope that nothing is looked up by. */
export type Meta = Pick<EventEnvelope, 'actor' | 'causationId' | 'commandId' | 'surface'>;

export function envelopeOf(row: Row): EventEnvelope {
  const meta: Meta = JSON.parse(row[9]);
  return {
    id: row[1],
    type: row[4],
    schemaVersion: row[5],
    stream: row[2],
    revision: row[3],
    position: String(row[0]),
    time: row[8],
    owner: row[6],
    actor: meta.actor,
    correlationId: row[7],
    causationId: meta.causationId,
    commandId: meta.commandId,
    surface: meta.surface,
    data: JSON.parse(row[10]),
  };
}

export const logFile = (directory: string): string => join(directory, 'log.db');

/**
 * Why the file could not be used, for operators: SQLite's messages of a damaged file name neither it nor what to do.
 * @param error of SQLite, also when it came from another thread
 */
export function reasonOf(error: unknown, directory: string): string {
  if (!(error instanceof Error)) return String(error);
  const code = 'code' in error ? String(error.code) : '';
  if (!/^SQLITE_(CORRUPT|NOTADB)/.test(code)) return error.message;
  return (
    `${logFile(directory)} is damaged (${error.message}): restore log.db from a backup, ` +
    'together with its -wal file if the backup has one, else without any -wal and -shm'
  );
}

/**
 * A connection that writes. Creates the file and its table; FULL: a commit is on disk when it returns.
 * @param others whether other processes may be opening the file, or creating it, at the same time
 */
export function openForWriting(directory: string, others = false): Database.Database {
  const database = new Database(logFile(directory), { timeout: 1_000 });
  try {
    if (others) untilFree(database.name, () => setUp(database));
    else setUp(database);
    return database;
  } catch (error) {
    database.close();
    throw error;
  }
}

function setUp(database: Database.Database): void {
  database.pragma('journal_mode = WAL');
  database.pragma('synchronous = FULL');
  // 16 MiB: a checkpoint holds up the appends, and most pages are changed many times between two.
  database.pragma('wal_autocheckpoint = 4000');
  if (formatOf(database) === 0) {
    database
      .transaction(() => {
        if (formatOf(database) !== 0) return; // another process was quicker
        database.exec(SCHEMA);
        database.pragma(`application_id = ${APPLICATION_ID}`);
        database.pragma(`user_version = ${FORMAT}`);
      })
      .immediate();
  }
  checkFormat(database);
}

function checkFormat(database: Database.Database): void {
  const format = formatOf(database);
  if (format !== FORMAT) {
    throw new Error(`${database.name} has format ${format}; this version of Odeon reads ${FORMAT}`);
  }
}

const formatOf = (database: Database.Database): unknown => database.pragma('user_version', { simple: true });

/** @throws Error when its format is unknown */
export function openForReading(directory: string): Database.Database {
  const database = new Database(logFile(directory), { readonly: true, timeout: 1_000 });
  try {
    checkFormat(database);
    return database;
  } catch (error) {
    database.close();
    throw error;
  }
}
