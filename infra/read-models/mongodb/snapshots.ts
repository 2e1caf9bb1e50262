/** Snapshots of aggregates' states, beside the read models: like these they may be thrown away. */
import type { Db } from 'mongodb';
import type { SnapshotStore } from '../port.ts';
import type { Connection } from './connection.ts';
import { unlessThere } from './writes.ts';

interface StoredSnapshot {
  readonly _id: string;
  readonly revision: number;
  readonly stateVersion: number;
  /** JSON text. */
  readonly state: string;
}

export function mongoSnapshots(db: Db, attempt: Connection['attempt']): SnapshotStore {
  const snapshots = db.collection<StoredSnapshot>('snapshots');
  return {
    get: (stream) =>
      attempt(async () => {
        const found = await snapshots.findOne({ _id: stream });
        if (found === null) return null;
        const { revision, stateVersion, state } = found;
        return { revision, stateVersion, state: JSON.parse(state) };
      }),
    put: (stream, { revision, stateVersion, state }) =>
      attempt(async () => {
        const older = { $or: [{ revision: { $lt: revision } }, { stateVersion: { $ne: stateVersion } }] };
        const values = { revision, stateVersion, state: JSON.stringify(state) };
        const update = (upsert: boolean) =>
          snapshots.updateOne({ _id: stream, ...older }, { $set: values }, { upsert });
        // Where it is there already, it is not older, or another process has put the first one just now.
        if (!(await unlessThere(() => update(true)))) await update(false);
      }),
  };
}
