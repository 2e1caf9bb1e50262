/**
 * Up to where each partition of each copy has processed the log. They are made with their copy and never again, so
 * that a write to a copy that was dropped fails. They only move forward: each write is `$max`, the position first.
 *
 * Every page of the log moves every checkpoint, mostly past events that are no business of the projection. Such a step
 * is held back here and written within a second, or with the next write that says more.
 */
import type { Collection, Db } from 'mongodb';
import { isAfter, positionOfSortKey, positionSortKey, START } from '../../../contracts/envelope.ts';
import type { Checkpoint, CopyId } from '../port.ts';
import type { Connection } from './connection.ts';
import { sendAll, unlessThere } from './writes.ts';

const HELD_FOR_MS = 1_000;

export interface Partitioned {
  readonly id: CopyId;
  readonly number: number;
  readonly partitions: number;
}

export interface Step<Copy extends Partitioned = Partitioned> {
  readonly copy: Copy;
  readonly partition: number;
  readonly checkpoint: Checkpoint;
}

export interface Checkpoints {
  /** Makes those of a copy that are missing. */
  create(copy: Partitioned): Promise<void>;
  remove(copy: Partitioned): Promise<void>;
  /** As this process knows them, in the order of the partitions; nothing for a copy of which one is missing. */
  of(copies: Iterable<Partitioned>): Promise<ReadonlyMap<CopyId, readonly Checkpoint[]>>;
  /** As stored: whether a later one than this is. */
  isBehind(step: Step): Promise<boolean>;
  /** Takes a step that says nothing but how far the log was read. False when it says more: then `store` it. */
  hold(step: Step): boolean;
  /** Stores these, and those that are held. @returns the copies of these that are gone */
  store<Copy extends Partitioned>(steps: readonly Step<Copy>[]): Promise<readonly Copy[]>;
}

interface StoredCheckpoint {
  readonly _id: string;
  readonly copy: number;
  readonly checkpoint: { readonly position: string; readonly seen: number };
}

export function openCheckpoints({ db, attempt }: { db: Db; attempt: Connection['attempt'] }): Checkpoints {
  const checkpoints: Collection<StoredCheckpoint> = db.collection('checkpoints');
  /** What this process knows to be stored. */
  const stored = new Map<string, Checkpoint>();
  const held = new Map<string, Step>();
  let timer: NodeJS.Timeout | null = null;
  /** One write after the other: FerretDB's updates of one document are not atomic. */
  let last: Promise<unknown> = Promise.resolve();

  function store<Copy extends Partitioned>(steps: readonly Step<Copy>[]): Promise<readonly Copy[]> {
    const done = last.then(() => storeNow(steps));
    last = done.catch(() => {}); // its caller learns of it
    return done;
  }

  async function storeNow<Copy extends Partitioned>(steps: readonly Step<Copy>[]): Promise<readonly Copy[]> {
    const wanted = new Map<string, Step>(held);
    for (const step of steps) wanted.set(idOf(step), step);
    if (wanted.size === 0) return [];
    const matched = await sendAll(
      checkpoints,
      [...wanted].map(([_id, { checkpoint }]) => ({
        updateMany: { filter: { _id }, update: { $max: { checkpoint: toStored(checkpoint) } } },
      })),
    );
    const gone = matched === wanted.size ? new Set() : await missing([...wanted.keys()]);
    for (const [id, step] of wanted) {
      const newer = held.get(id);
      if (
        gone.has(id) ||
        (newer !== undefined && !isAfter(newer.checkpoint.position, step.checkpoint.position))
      ) {
        held.delete(id);
      }
      if (gone.has(id)) stored.delete(id);
      else stored.set(id, step.checkpoint);
    }
    return steps.filter((step) => gone.has(idOf(step))).map(({ copy }) => copy);
  }

  async function missing(ids: readonly string[]): Promise<ReadonlySet<string>> {
    const found = await checkpoints.find({ _id: { $in: ids } }).toArray();
    return new Set(ids).difference(new Set(found.map(({ _id }) => _id)));
  }

  function storeSoon(): void {
    if (timer !== null) return;
    timer = setTimeout(() => {
      timer = null;
      attempt(() => store([])).catch(() => {
        // Kept for the next try. Whoever has more to write is told why it fails.
        if (held.size > 0) storeSoon();
      });
    }, HELD_FOR_MS).unref();
  }

  return {
    async create(copy) {
      const checkpoint = toStored({ position: START, seen: 0 });
      const own = partitionsOf(copy).map((partition) => ({
        _id: idOf({ copy, partition }),
        copy: copy.number,
        checkpoint,
      }));
      await unlessThere(() => checkpoints.insertMany(own, { ordered: false }));
    },
    async remove(copy) {
      for (const partition of partitionsOf(copy)) {
        held.delete(idOf({ copy, partition }));
        stored.delete(idOf({ copy, partition }));
      }
      await checkpoints.deleteMany({ copy: copy.number });
    },
    async of(copies) {
      const all = await checkpoints.find({}).toArray();
      const found = new Map(all.map(({ _id, checkpoint }) => [_id, toCheckpoint(checkpoint)]));
      for (const [id, checkpoint] of found) stored.set(id, checkpoint);
      const complete = new Map<CopyId, readonly Checkpoint[]>();
      for (const copy of copies) {
        const own = partitionsOf(copy).flatMap((partition) => {
          const id = idOf({ copy, partition });
          const checkpoint = found.get(id);
          const waiting = held.get(id)?.checkpoint;
          if (checkpoint === undefined) return [];
          return waiting !== undefined && isAfter(waiting.position, checkpoint.position)
            ? waiting
            : checkpoint;
        });
        if (own.length === copy.partitions) complete.set(copy.id, own);
      }
      return complete;
    },
    async isBehind(step) {
      const found = await checkpoints.findOne({ _id: idOf(step) });
      return found !== null && isAfter(toCheckpoint(found.checkpoint).position, step.checkpoint.position);
    },
    hold(step) {
      const id = idOf(step);
      if (stored.get(id)?.seen !== step.checkpoint.seen) return false;
      held.set(id, step);
      storeSoon();
      return true;
    },
    store,
  };
}

const idOf = ({ copy, partition }: Pick<Step, 'copy' | 'partition'>): string => `${copy.number}/${partition}`;

const partitionsOf = ({ partitions }: Partitioned): number[] => [...Array(partitions).keys()];

const toStored = ({ position, seen }: Checkpoint): StoredCheckpoint['checkpoint'] => ({
  position: positionSortKey(position),
  seen,
});

const toCheckpoint = ({ position, seen }: StoredCheckpoint['checkpoint']): Checkpoint => ({
  position: positionOfSortKey(position),
  seen,
});
