/** Snapshots of aggregates' states, in the file of the read models: like these they may be thrown away. */
import type { Database } from 'better-sqlite3';
import type { SnapshotStore } from './port.ts';
import type { WriteQueue } from './sqlite-write-queue.ts';

export const SNAPSHOTS_SCHEMA = `
  CREATE TABLE IF NOT EXISTS snapshots (
    stream TEXT PRIMARY KEY,
    revision INTEGER NOT NULL,
    state_version INTEGER NOT NULL,
    state TEXT NOT NULL
  ) STRICT;
`;

const UPSERT = `
  INSERT INTO snapshots (stream, revision, state_version, state) VALUES (?, ?, ?, ?)
  ON CONFLICT (stream) DO UPDATE
    SET revision = excluded.revision, state_version = excluded.state_version, state = excluded.state
    WHERE excluded.revision > revision OR excluded.state_version <> state_version`;

/** Runs the work at once; the promise rejects with StoreUnavailable when SQLite fails. */
export type Attempt = <Result>(work: () => Result) => Promise<Result>;

export function sqliteSnapshots(db: Database, queue: WriteQueue, attempt: Attempt): SnapshotStore {
  const select = db.prepare<[string], { revision: number; stateVersion: number; state: string }>(
    'SELECT revision, state_version AS stateVersion, state FROM snapshots WHERE stream = ?',
  );
  return {
    get: (stream) =>
      attempt(() => {
        const row = select.get(stream);
        return row === undefined ? null : { ...row, state: JSON.parse(row.state) };
      }),
    put: (stream, { revision, stateVersion, state }) =>
      queue.write([[UPSERT, stream, revision, stateVersion, JSON.stringify(state)]]),
  };
}
