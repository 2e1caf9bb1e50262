/**
 * One process on a data directory: a SQLite file held in an exclusive transaction. The operating system lets
 * go of it when the process ends, however it ends, so a stale lock cannot exist; the pid beside it is only for
 * the message.
 */
import { mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import Database from 'better-sqlite3';

/** @returns what releases the lock. @throws Error naming the other process when there is one. */
export async function lockDirectory(directory: string): Promise<() => Promise<void>> {
  await mkdir(directory, { recursive: true });
  const pidFile = join(directory, 'lock.pid');
  const lock = new Database(join(directory, 'lock.db'), { timeout: 0 });
  try {
    lock.exec('BEGIN EXCLUSIVE');
    await writeFile(pidFile, `${process.pid}\n`);
  } catch (error) {
    lock.close();
    if (!(error instanceof Database.SqliteError && error.code === 'SQLITE_BUSY')) throw error;
    const pid = await readFile(pidFile, 'utf8').catch(() => 'unknown');
    throw new Error(
      `another Odeon process (pid ${pid.trim()}) already uses DATA_DIR ${directory}: ` +
        'stop it, or choose another DATA_DIR',
      { cause: error },
    );
  }
  return async () => {
    await rm(pidFile, { force: true });
    lock.close();
  };
}
