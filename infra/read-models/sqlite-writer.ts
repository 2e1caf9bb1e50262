/**
 * The thread that writes the read models: it owns the one connection that writes, so that neither a commit nor a
 * checkpoint of the write-ahead log holds up the event loop. A message is a list of statements to be run as one
 * transaction, in the order in which messages come.
 */
import { parentPort, workerData } from 'node:worker_threads';
import Sqlite, { type Statement } from 'better-sqlite3';

export interface WriterData {
  readonly file: string;
  readonly busyTimeoutMs: number;
}

export type Value = string | number | null;

export interface Transaction {
  /** The different statements. */
  readonly sql: readonly string[];
  /** What is run, in order: the index of a statement, and what it binds. */
  readonly runs: readonly (readonly [statement: number, bound: readonly Value[]])[];
}

/** Null when the transaction is committed, else why nothing of it was. */
export type Outcome = { readonly message: string; readonly code: string } | null;

/** Statements kept prepared; a copy's are few. */
const MAX_PREPARED = 500;

const port = parentPort!;
const { file, busyTimeoutMs } = workerData as WriterData;
const db = new Sqlite(file, { timeout: busyTimeoutMs });
db.pragma('synchronous = NORMAL');
// 8 MiB: rarer checkpoints are cheaper in all, but each then holds up the disk, and with it the log, for longer.
db.pragma('wal_autocheckpoint = 2000');
const prepared = new Map<string, Statement<unknown[]>>();

function statementOf(sql: string): Statement<unknown[]> {
  let statement = prepared.get(sql);
  if (statement === undefined) {
    statement = db.prepare<unknown[]>(sql);
    if (prepared.size >= MAX_PREPARED) prepared.clear();
    prepared.set(sql, statement);
  }
  return statement;
}

const run = db.transaction(({ sql, runs }: Transaction): void => {
  // Not all at once: a statement may need the table that the one before it makes.
  const statements = new Map<number, Statement<unknown[]>>();
  for (const [index, bound] of runs) {
    let statement = statements.get(index);
    if (statement === undefined) {
      statement = statementOf(sql[index]!);
      statements.set(index, statement);
    }
    statement.run(...bound);
  }
});

port.on('message', (transaction: Transaction | 'close') => {
  if (transaction === 'close') {
    db.close();
    port.close();
    return;
  }
  let outcome: Outcome = null;
  try {
    run.immediate(transaction);
  } catch (error) {
    if (!(error instanceof Sqlite.SqliteError)) throw error;
    outcome = { message: error.message, code: error.code };
  }
  port.postMessage(outcome);
});
