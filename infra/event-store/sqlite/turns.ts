/**
 * How writers take turns at the log. A writer that has the directory to itself just begins. Those that share it
 * first take a turnstile (the reserved lock of `lock.db`), wait there until the log is free, and leave the
 * turnstile as their transaction begins: so whoever just committed cannot begin again before those who wait, as
 * it could with SQLite's own waiting, which only sleeps and tries again.
 */
import { statSync, utimesSync } from 'node:fs';
import { performance } from 'node:perf_hooks';
import Database from 'better-sqlite3';

/** A writer that is kept waiting for so long gives up. */
const GIVE_UP_MS = 5_000;
/** Between two tries: about what a commit takes, and less often the longer it takes. */
const SHORTEST_PAUSE_MS = 0.1;
const LONGEST_PAUSE_MS = 2;
/** A write-ahead log of so many bytes is moved into the file; as in exclusive use, where SQLite counts pages. */
const WAL_BYTES = 16 * 1024 * 1024;
/** How long readers that hold up the end of a checkpoint are waited for, and the other writers with them. */
const TRUNCATE_MS = 200;

export interface Turns {
  /**
   * Begins a transaction.
   * @returns whether the log may hold what this connection did not write and has not seen
   * @throws Error when others kept the log busy for too long
   */
  begin(): boolean;
  /** To be called after each commit. */
  committed(): void;
  /** Closes the connection. The last one to do so moves the write-ahead log into the file and removes it. */
  close(): void;
}

/** For the one connection that writes. */
export function alone(database: Database.Database): Turns {
  const begin = database.prepare('BEGIN IMMEDIATE');
  return {
    begin() {
      begin.run();
      return false;
    },
    committed() {},
    close() {
      database.close();
    },
  };
}

/** For one of several that write to the same log, in this process or in others. */
export function sharing(database: Database.Database, lockFile: string): Turns {
  // SQLite's own waiting is of no use here; and its checkpoint after a commit, while others already write on,
  // seldom comes to the end of the write-ahead log, which then grows and grows.
  database.pragma('busy_timeout = 0');
  database.pragma('wal_autocheckpoint = 0');
  const begin = database.prepare('BEGIN IMMEDIATE');
  const dataVersion = database.prepare('PRAGMA data_version').pluck();
  const turnstile = new Database(lockFile, { timeout: 0 });
  const enter = turnstile.prepare('BEGIN IMMEDIATE');
  const leave = turnstile.prepare('ROLLBACK');
  let seen: unknown;
  let checkpointAt = WAL_BYTES;

  const walBytes = (): number => statSync(`${database.name}-wal`, { throwIfNoEntry: false })?.size ?? 0;

  /** While it lasts nobody begins to write. */
  function inTurn<Result>(work: () => Result): Result {
    untilFree(database.name, () => enter.run());
    try {
      return work();
    } finally {
      leave.run();
    }
  }

  function checkpoint(): void {
    // Most of it is done while others write; only the rest is done in turn.
    database.pragma('wal_checkpoint(PASSIVE)');
    inTurn(() => {
      const until = performance.now() + TRUNCATE_MS;
      while (walBytes() >= WAL_BYTES && performance.now() < until) {
        const [{ busy }] = database.pragma('wal_checkpoint(TRUNCATE)') as [{ busy: number }];
        if (busy !== 0) pause(1);
      }
    });
  }

  return {
    begin() {
      inTurn(() => untilFree(database.name, () => begin.run()));
      const version = dataVersion.get();
      const changed = version !== seen;
      seen = version;
      return changed;
    },
    committed() {
      try {
        // Tells the others, who watch this file. It is not opened: closing it would drop this process's locks.
        const now = Date.now() / 1_000;
        utimesSync(lockFile, now, now);
      } catch {
        // They look by themselves before long.
      }
      if (walBytes() < checkpointAt) return;
      try {
        checkpoint();
      } catch {
        // As when SQLite does it by itself: nothing is lost, and the next one is as good.
      }
      // When somebody reads for long the log cannot be cut short: not to be tried again after every commit.
      checkpointAt = WAL_BYTES + walBytes();
    },
    close() {
      try {
        // One after the other: two that close at the same time would each leave the cleaning to the other.
        inTurn(() => database.close());
      } catch {
        database.close();
      }
      turnstile.close();
    },
  };
}

export const isBusy = (error: unknown): boolean =>
  error instanceof Database.SqliteError && error.code.startsWith('SQLITE_BUSY');

/**
 * Tries until SQLite no longer says that another holds the lock. Blocks its thread.
 * @throws Error naming the file when that takes too long
 */
export function untilFree<Result>(file: string, attempt: () => Result): Result {
  const began = performance.now();
  for (;;) {
    let waitedMs: number;
    try {
      return attempt();
    } catch (error) {
      if (!isBusy(error)) throw error;
      waitedMs = performance.now() - began;
      if (waitedMs > GIVE_UP_MS) {
        throw new Error(`other processes have kept ${file} busy for ${GIVE_UP_MS / 1_000} s`, {
          cause: error,
        });
      }
    }
    pause(Math.min(LONGEST_PAUSE_MS, SHORTEST_PAUSE_MS + waitedMs / 50));
  }
}

const nothing = new Int32Array(new SharedArrayBuffer(4));
const pause = (ms: number): void => void Atomics.wait(nothing, 0, 0, ms);
