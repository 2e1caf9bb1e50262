/** The events that projections have set aside, of all copies and partitions. */
import type { AnyBulkWriteOperation, Collection, Db, Filter } from 'mongodb';
import { positionSortKey } from '../../../contracts/envelope.ts';
import type { SetAsideEvent } from '../../../contracts/projections.ts';
import type { PartitionedCopy, WriteBatch } from '../port.ts';
import type { Partitioned } from './checkpoints.ts';
import { sendAll } from './writes.ts';

interface StoredAside {
  /** `copy/position`: an event is set aside once in a copy, by the one partition that it is in. */
  readonly _id: string;
  readonly copy: number;
  readonly partition: number;
  readonly position: string;
  readonly document: string;
  /** What is counted together: copy, partition, and whether it failed or only waits. */
  readonly group: string;
  /** JSON text. */
  readonly event: string;
}

export interface SetAside {
  write(
    changes: readonly {
      readonly copy: Partitioned;
      readonly partition: number;
      readonly change: NonNullable<WriteBatch['setAside']>;
    }[],
  ): Promise<void>;
  /** In the order of the log; without a limit, all. */
  list(
    copy: Partitioned,
    query: { partition?: number; documentId?: string | undefined; limit?: number | undefined },
  ): Promise<readonly SetAsideEvent[]>;
  /** How many each partition of a copy has. */
  counts(): Promise<(copy: Partitioned) => PartitionedCopy['setAside']>;
  remove(copy: Partitioned): Promise<void>;
}

/** With indexes for what is asked. */
export async function openSetAside(db: Db): Promise<SetAside> {
  const asides: Collection<StoredAside> = db.collection('set_aside');
  const indexes = {
    positions: { copy: 1, position: 1 },
    partitions: { copy: 1, partition: 1, position: 1 },
    documents: { copy: 1, partition: 1, document: 1, position: 1 },
    groups: { group: 1 },
  } as const;
  for (const [name, key] of Object.entries(indexes)) await asides.createIndex(key, { name });

  const idOf = ({ number }: Partitioned, position: string) => `${number}/${positionSortKey(position)}`;

  return {
    async write(changes) {
      await sendAll(
        asides,
        changes.flatMap(({ copy, partition, change: { add, remove } }) => [
          ...add.map((event): AnyBulkWriteOperation<StoredAside> => {
            const values = {
              copy: copy.number,
              partition,
              position: positionSortKey(event.position),
              document: event.documentId,
              group: groupOf(copy, partition, event.error === null ? 'waiting' : 'failed'),
              event: JSON.stringify(event),
            };
            const filter = { _id: idOf(copy, event.position) };
            return { updateMany: { filter, update: { $set: values }, upsert: true } };
          }),
          ...remove.map(
            (position): AnyBulkWriteOperation<StoredAside> => ({
              deleteMany: { filter: { _id: idOf(copy, position) } },
            }),
          ),
        ]),
      );
    },

    async list(copy, { partition, documentId, limit }) {
      const filter: Filter<StoredAside> = {
        copy: copy.number,
        ...(partition !== undefined && { partition }),
        ...(documentId !== undefined && { document: documentId }),
      };
      const found = await asides
        .find(filter, { sort: { position: 1 }, ...(limit !== undefined && { limit, batchSize: limit }) })
        .toArray();
      return found.map(({ event }): SetAsideEvent => JSON.parse(event));
    },

    async counts() {
      const groups = await asides
        .aggregate<{ _id: string; n: number }>([{ $group: { _id: '$group', n: { $sum: 1 } } }])
        .toArray();
      const numbers = new Map(groups.map(({ _id, n }) => [_id, n]));
      return (copy) =>
        [...Array(copy.partitions).keys()].map((partition) => ({
          failed: numbers.get(groupOf(copy, partition, 'failed')) ?? 0,
          waiting: numbers.get(groupOf(copy, partition, 'waiting')) ?? 0,
        }));
    },

    async remove(copy) {
      await asides.deleteMany({ copy: copy.number });
    },
  };
}

const groupOf = ({ number }: Partitioned, partition: number, state: 'failed' | 'waiting'): string =>
  `${number}/${partition}/${state}`;
