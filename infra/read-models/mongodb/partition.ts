/** The read models as one partition of the log sees and writes them. */
import { isAfter } from '../../../contracts/envelope.ts';
import { StoreUnavailable } from '../../event-store/port.ts';
import type { Checkpoint, CopyId, CopyInfo, ReadModelStore, ReadModels, WriteBatch } from '../port.ts';
import type { Checkpoints } from './checkpoints.ts';
import type { Connection } from './connection.ts';
import { type Copies, type Copy, isReplaced, noCopy } from './copies.ts';
import type { SetAside } from './set-aside.ts';

const DUMP_PAGE = 500;

export interface Shared {
  readonly connection: Connection;
  readonly copies: Copies;
  readonly checkpoints: Checkpoints;
  readonly setAside: SetAside;
  readonly readers: ReadModels;
  readonly partitions: number;
}

/** The copies that are complete and not replaced, in the order in which they were made. */
export async function listCopies({ copies, checkpoints }: Pick<Shared, 'copies' | 'checkpoints'>) {
  const known = await copies.refreshed();
  const listed = [...known.copies.values()].filter((copy) => !isReplaced(copy, known));
  const reached = await checkpoints.of(listed);
  return listed.flatMap((copy) => {
    const own = reached.get(copy.id);
    if (own === undefined) return [];
    const { id, projection, version, indexes } = copy;
    const live = known.live.get(projection) === copy;
    return [{ copy, checkpoints: own, info: { copy: id, projection, version, indexes, live } }];
  });
}

export function partitionStore(
  { connection: { attempt }, copies, checkpoints, setAside, readers, partitions }: Shared,
  partition: number,
): ReadModelStore {
  let closed = false;

  const open = <Result>(work: () => Promise<Result>): Promise<Result> => {
    if (closed)
      return Promise.reject(
        new StoreUnavailable(`The read models of partition ${partition} are closed.`, {
          engine: 'read models',
        }),
      );
    return attempt(work);
  };

  /** A copy for another number of partitions has other events in each: writing it would mix them up. */
  async function written(id: CopyId): Promise<Copy> {
    const copy = await copies.copyOf(id);
    if (copy.partitions === partitions) return copy;
    throw new Error(
      `The copy ${id} of ${copy.projection} was made for ${copy.partitions} partitions, not ${partitions}.`,
    );
  }

  async function write(batches: readonly WriteBatch[]): Promise<void> {
    const all = [];
    for (const batch of batches) {
      all.push({ batch, copy: await written(batch.copy), partition, checkpoint: batch.checkpoint });
    }
    const steps = all.filter((step) => !(isOnlyCheckpoint(step.batch) && checkpoints.hold(step)));
    if (steps.length === 0) return;

    await Promise.all(steps.map(({ copy, batch }) => copy.documents.write(batch)));

    const changes = [];
    for (const step of steps) {
      const change = step.batch.setAside;
      if (change === undefined) continue;
      // Written late, by one that was thought to be gone: what it set aside may have been applied since.
      if (!(await checkpoints.isBehind(step))) changes.push({ copy: step.copy, partition, change });
    }
    await setAside.write(changes);

    const [gone] = await checkpoints.store(steps);
    if (gone === undefined) return;
    await copies.removeRemains(gone);
    throw noCopy(gone.id);
  }

  return {
    ...readers,

    copies: () =>
      open(async () =>
        (await listCopies({ copies, checkpoints })).map(({ copy, checkpoints: own, info }): CopyInfo => {
          const outdated = copy.partitions !== partitions;
          return { ...info, outdated, checkpoint: outdated ? earliest(own) : own[partition]! };
        }),
      ),
    ensureLiveCopy: (spec) => open(async () => (await copies.create(spec, { orLive: true })).id),
    createCopy: (spec) => open(async () => (await copies.create(spec)).id),
    activate: (id) => open(async () => copies.activate(await written(id), partition)),
    dropCopy: (id) =>
      open(async () => {
        const copy = (await copies.refreshed()).copies.get(id);
        if (copy !== undefined) await copies.drop(copy); // else another process was faster
      }),

    getFrom: (id, ids) => open(async () => (await copies.copyOf(id)).documents.getAll(ids)),
    write: (batches) => open(() => write(batches)),
    setAside: (id, query = {}) =>
      open(async () => setAside.list(await copies.copyOf(id), { ...query, partition })),
    async *dump(id) {
      const { documents } = await open(async () => await copies.copyOf(id));
      let page = await open(() => documents.after('', DUMP_PAGE));
      while (page.length > 0) {
        yield* page;
        const last = page[page.length - 1]!.id;
        page = await open(() => documents.after(last, DUMP_PAGE));
      }
    },
    async close() {
      if (closed) return;
      closed = true;
      // Whoever is given the partition next begins there; what cannot be stored now, it reads again.
      await attempt(() => checkpoints.store([])).catch(() => {});
    },
  };
}

const isOnlyCheckpoint = ({ puts, deletes, setAside }: WriteBatch): boolean =>
  puts.length === 0 && deletes.length === 0 && setAside === undefined;

const earliest = (checkpoints: readonly Checkpoint[]): Checkpoint =>
  checkpoints.reduce((first, one) => (isAfter(first.position, one.position) ? one : first));
