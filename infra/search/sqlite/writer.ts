/**
 * The thread that writes the index: it holds the lock that lets one process write, and owns the one connection that
 * does. The operating system lets go of the lock when the process ends, however it ends.
 */
import { rmSync } from 'node:fs';
import { workerData } from 'node:worker_threads';
import Sqlite, { type Database } from 'better-sqlite3';
import { positionSortKey, START } from '../../../contracts/envelope.ts';
import { type IndexBatch, type IndexChange, type IndexCopy, LONGEST_CONTENT } from '../port.ts';
import { serveCalls } from '../thread.ts';
import {
  bitsOf,
  COPIES,
  createTables,
  dropTables,
  NEVER,
  openFile,
  PASSAGES,
  readCopies,
  type ThreadData,
  tableOf,
  toBlob,
} from './schema.ts';
import { hashOf, ownedWord, wordsOf } from './words.ts';

const { file, format } = workerData as ThreadData;
let lock: Database | null = null;
let db: Database | null = null;

function lead(): boolean {
  if (db !== null) return true;
  lock ??= new Sqlite(`${file}-lock`, { timeout: 0 });
  try {
    if (!lock.inTransaction) lock.exec('BEGIN EXCLUSIVE');
  } catch (error) {
    if (error instanceof Sqlite.SqliteError && error.code.startsWith('SQLITE_BUSY')) return false;
    throw error;
  }
  try {
    db = prepared();
  } catch (error) {
    if (!(error instanceof Sqlite.SqliteError) || !/CORRUPT|NOTADB/.test(error.code)) throw error;
    // The log brings it all back.
    for (const suffix of ['', '-wal', '-shm']) rmSync(file + suffix, { force: true });
    db = prepared();
  }
  return true;
}

function prepared(): Database {
  const opened = openFile(file);
  try {
    opened.pragma('journal_mode = WAL');
    opened.exec(COPIES);
    for (const { number } of opened
      .prepare<[string], { number: number }>('SELECT number FROM copies WHERE format <> ?')
      .all(format)) {
      drop(opened, number);
    }
    if (!readCopies(opened, format).some(({ live }) => live)) makeCopy(opened, true);
    return opened;
  } catch (error) {
    opened.close();
    throw error;
  }
}

function leading(): Database {
  if (db === null) throw new Error('Another process writes the index.');
  return db;
}

function copyOf(on: Database, copy: string): IndexCopy {
  const found = readCopies(on, format).find((one) => one.copy === copy);
  if (found === undefined) throw new Error(`There is no copy ${copy} of the index.`);
  return found;
}

function makeCopy(on: Database, live: boolean): IndexCopy {
  return on
    .transaction(() => {
      const { lastInsertRowid } = on
        .prepare('INSERT INTO copies (format, live, position, seen) VALUES (?, ?, ?, 0)')
        .run(format, live ? 1 : 0, positionSortKey(START));
      createTables(on, Number(lastInsertRowid));
      return copyOf(on, String(lastInsertRowid));
    })
    .immediate();
}

function drop(on: Database, number: number): void {
  writers.delete(String(number));
  on.transaction(() => {
    on.prepare('DELETE FROM copies WHERE number = ?').run(number);
    on.prepare('DELETE FROM set_aside WHERE copy = ?').run(number);
    dropTables(on, number);
  }).immediate();
}

function activate(copy: string): void {
  const on = leading();
  copyOf(on, copy);
  const others = readCopies(on, format).filter((one) => one.copy !== copy);
  on.transaction(() => {
    on.prepare('UPDATE copies SET live = 0').run();
    on.prepare('UPDATE copies SET live = 1 WHERE number = ?').run(Number(copy));
  }).immediate();
  // Where the process ends before this, the other one is taken for a rebuild that goes on, and ends at once.
  for (const other of others) drop(on, Number(other.copy));
}

/** The statements of one copy. */
type CopyWriter = ReturnType<typeof copyWriter>;
const writers = new Map<string, CopyWriter>();

function copyWriter(on: Database, copy: string) {
  const number = Number(copy);
  const table = (name: string) => tableOf(name, number);
  const numbered = (name: string, columns: string) => {
    const find = on.prepare<[string], number>(`SELECT number FROM ${table(name)} WHERE id = ?`).pluck();
    const add = on.prepare(`INSERT INTO ${table(name)} ${columns}`);
    return (id: string): number => find.get(id) ?? Number(add.run(id).lastInsertRowid);
  };
  const ownerOf = numbered('owners', '(id) VALUES (?)');
  const conversationOf = numbered('conversations', `(id, until) VALUES (?, ${NEVER})`);

  const momentAt = on
    .prepare<[string], number>(`SELECT number FROM ${table('moments')} WHERE position = ?`)
    .pluck();
  const addMoment = on.prepare(`INSERT INTO ${table('moments')} (position) VALUES (?)`);
  const isAside = on.prepare('SELECT 1 FROM set_aside WHERE copy = ? AND position = ?');
  const addAside = on.prepare('INSERT OR REPLACE INTO set_aside (copy, position, event) VALUES (?, ?, ?)');
  const removeAside = on.prepare('DELETE FROM set_aside WHERE copy = ? AND position = ?');
  const untilOf = on
    .prepare<[number], number>(`SELECT until FROM ${table('conversations')} WHERE number = ?`)
    .pluck();
  const addMessage = on.prepare(
    `INSERT INTO ${table('messages')} (number, owner, conversation, until, role, model, ms, id, time, words, content)
     VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
  );
  const addWords = on.prepare(`INSERT INTO ${table('words')} (rowid, words) VALUES (?, ?)`);
  const addCoarse = on.prepare(
    `INSERT INTO ${table('coarse')} (owner, passage, conversation, until, role, model, ms, bits)
     VALUES (?, ?, ?, ?, ?, ?, ?, ?)`,
  );
  const addExact = on.prepare(`INSERT INTO ${table('exact')} (passage, vector) VALUES (?, ?)`);
  const addTitle = on.prepare(`INSERT INTO ${table('titles')} (conversation, since, title) VALUES (?, ?, ?)`);
  const vanish = on.prepare(`UPDATE ${table('conversations')} SET until = min(until, ?) WHERE number = ?`);
  const vanishMessages = on.prepare(
    `UPDATE ${table('messages')} SET until = min(until, ?) WHERE conversation = ?`,
  );
  const ownersIn = on
    .prepare<[number], number>(`SELECT DISTINCT owner FROM ${table('messages')} WHERE conversation = ?`)
    .pluck();
  const vanishCoarse = on.prepare(
    `UPDATE ${table('coarse')} SET until = min(until, ?) WHERE owner = ? AND conversation = ?`,
  );
  const advance = on.prepare('UPDATE copies SET position = ?, seen = ? WHERE number = ?');
  const advanceSeen = on.prepare('UPDATE copies SET seen = ? WHERE number = ?');
  const countMoments = on.prepare<[], number>(`SELECT max(number) FROM ${table('moments')}`).pluck();

  function putMessage(moment: number, { message }: Extract<IndexChange, { kind: 'message' }>): void {
    const conversation = conversationOf(message.conversationId);
    const until = untilOf.get(conversation)!;
    if (until <= moment) return; // a turn that ended after its conversation was deleted
    const owner = ownerOf(message.owner);
    const { role, model, time, text, vectors } = message;
    const ms = Date.parse(time);
    const words = wordsOf(text);
    const content = text.length > LONGEST_CONTENT ? `${text.slice(0, LONGEST_CONTENT)}…` : text;
    const hashes = toBlob(Uint32Array.from(words, hashOf));
    addMessage.run(moment, owner, conversation, until, role, model, ms, message.id, time, hashes, content);
    addWords.run(moment, words.map((word) => ownedWord(word, owner)).join(' '));
    for (const [index, vector] of vectors.slice(0, PASSAGES).entries()) {
      const passage = moment * PASSAGES + index;
      addCoarse.run(owner, passage, conversation, until, role, model, ms, bitsOf(vector));
      addExact.run(passage, toBlob(vector));
    }
  }

  function apply(change: IndexChange): void {
    const position = positionSortKey(change.position);
    let moment = momentAt.get(position);
    if (moment === undefined) moment = Number(addMoment.run(position).lastInsertRowid);
    else if (isAside.get(number, position) === undefined)
      return; // given before
    else removeAside.run(number, position);

    switch (change.kind) {
      case 'message':
        putMessage(moment, change);
        break;
      case 'title':
        addTitle.run(conversationOf(change.conversationId), moment, change.title);
        break;
      case 'deleted': {
        const conversation = conversationOf(change.conversationId);
        vanish.run(moment, conversation);
        vanishMessages.run(moment, conversation);
        for (const owner of ownersIn.all(conversation)) vanishCoarse.run(moment, owner, conversation);
        break;
      }
      case 'failed':
        addAside.run(number, position, JSON.stringify(change.event));
        break;
      case 'nothing':
        break;
    }
  }

  return on.transaction(({ changes, position }: IndexBatch): IndexCopy => {
    copyOf(on, copy);
    for (const change of changes) apply(change);
    const seen = countMoments.get() ?? 0;
    if (position === null) advanceSeen.run(seen, number);
    else advance.run(positionSortKey(position), seen, number);
    return copyOf(on, copy);
  });
}

function write(batch: IndexBatch): IndexCopy {
  const on = leading();
  let writer = writers.get(batch.copy);
  if (writer === undefined) {
    copyOf(on, batch.copy);
    writer = copyWriter(on, batch.copy);
    writers.set(batch.copy, writer);
  }
  return writer.immediate(batch);
}

serveCalls({
  lead,
  createCopy: () => {
    const on = leading();
    return readCopies(on, format).find(({ live }) => !live) ?? makeCopy(on, false);
  },
  write,
  activate,
  copies: () => readCopies(leading(), format),
  close: () => {
    db?.close();
    lock?.close();
  },
});
