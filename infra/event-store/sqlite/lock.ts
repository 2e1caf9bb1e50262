/**
 * Who may open a data directory: one process alone, or any number that share it. Both hold a lock of SQLite on
 * `lock.db`, exclusive or shared. The operating system lets go of it when the process ends, however it ends, so
 * a stale lock cannot exist; the pid beside it is only for the message.
 */
import { mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import Database from 'better-sqlite3';
import { isBusy } from './turns.ts';

/** An exclusive opener that is refused keeps sharers out for an instant: they try again for so long. */
const SHARED_TRIES = 25;
const PAUSE_MS = 20;

export const lockFile = (directory: string): string => join(directory, 'lock.db');

/** @returns what releases the lock. @throws Error that says who holds it, and what to do. */
export async function lockDirectory(
  directory: string,
  { shared }: { readonly shared: boolean },
): Promise<() => Promise<void>> {
  await mkdir(directory, { recursive: true });
  const pidFile = join(directory, 'lock.pid');
  const lock = new Database(lockFile(directory), { timeout: 0 });
  try {
    for (let tries = shared ? SHARED_TRIES : 1; !take(lock, shared); tries -= 1) {
      if (tries > 1) await delay(PAUSE_MS);
      else throw await refusal(lock, directory, pidFile, shared);
    }
    if (!shared) await writeFile(pidFile, `${process.pid}\n`);
  } catch (error) {
    lock.close();
    throw error;
  }
  return async () => {
    if (!shared) await rm(pidFile, { force: true });
    lock.close();
  };
}

/** @returns false when others hold what excludes it. */
function take(lock: Database.Database, shared: boolean): boolean {
  try {
    // A transaction that has read something holds the shared lock until it ends.
    lock.exec(shared ? 'BEGIN; SELECT count(*) FROM sqlite_schema' : 'BEGIN EXCLUSIVE');
    return true;
  } catch (error) {
    if (lock.inTransaction) lock.exec('ROLLBACK');
    if (isBusy(error)) return false;
    throw error;
  }
}

async function refusal(
  lock: Database.Database,
  directory: string,
  pidFile: string,
  shared: boolean,
): Promise<Error> {
  if (!shared && take(lock, true)) {
    return new Error(
      `other Odeon processes share DATA_DIR ${directory}, and this one wants it for itself: ` +
        'stop them, or choose another DATA_DIR',
    );
  }
  const pid = (await readFile(pidFile, 'utf8').catch(() => 'unknown')).trim();
  return new Error(
    shared
      ? `another Odeon process (pid ${pid}) has DATA_DIR ${directory} for itself: stop it and start it again ` +
          'so that it shares the directory too, or choose another DATA_DIR'
      : `another Odeon process (pid ${pid}) already uses DATA_DIR ${directory}: ` +
          'stop it, or choose another DATA_DIR',
  );
}
