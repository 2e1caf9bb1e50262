/**
 * Read models in MongoDB, for several processes: any MongoDB from 6 on, a replica set or a sharded cluster. It rests
 * on what one document gives (atomic updates, unique ids) and needs no transactions, change streams or pipelines.
 *
 * Each document carries the position that produced it and is replaced by later states only (documents.ts); a batch
 * writes its documents, then what it sets aside, then its checkpoint, so that a batch that was cut off is written
 * again and changes nothing twice. The database belongs to Odeon: while no process runs it may be dropped,
 * and it is made again from the log.
 */
import { MongoServerError } from 'mongodb';
import type { AvailabilityListener } from '../../engines/port.ts';
import type { Page, PartitionedCopy, ReadModels, SharedReadModels, Stored } from '../port.ts';
import { openCheckpoints } from './checkpoints.ts';
import { connect } from './connection.ts';
import { type Copy, openCopies } from './copies.ts';
import { listCopies, partitionStore, type Shared } from './partition.ts';
import { openSetAside } from './set-aside.ts';
import { mongoSnapshots } from './snapshots.ts';

const GRACE_MS = 15_000;
/** What a query gets whose collection is dropped while it runs. */
const DROPPED_MEANWHILE = new Set(['NamespaceNotFound', 'CursorNotFound', 'QueryPlanKilled', 'CursorKilled']);

/**
 * @param options.url as the driver takes it: `mongodb://` or `mongodb+srv://`, with its usual options
 * @param options.database where the URL's own (or, without one, `odeon`) is not meant
 * @param options.partitions how many partitions the log has
 * @param options.onAvailability told that it can be used once it is open, and of every change from then on
 * @param options.graceMs how long what a switch replaced is kept for those who still read it; longer than two seconds
 * @throws StoreUnavailable naming the hosts, and never the password, when none can be used within five seconds
 */
export async function openMongoReadModels(options: {
  readonly url: string;
  readonly database?: string;
  readonly partitions: number;
  readonly onAvailability: AvailabilityListener;
  readonly graceMs?: number;
}): Promise<SharedReadModels> {
  const { url, database, partitions, onAvailability, graceMs = GRACE_MS } = options;
  if (!Number.isSafeInteger(partitions) || partitions < 1) {
    throw new RangeError('partitions must be a whole number ≥ 1.');
  }
  const connection = await connect({ url, database, onAvailability });
  const { db, attempt } = connection;
  try {
    const checkpoints = openCheckpoints(connection);
    const setAside = await attempt(() => openSetAside(db));
    const copies = await openCopies(connection, { checkpoints, setAside }, { partitions, graceMs });

    /** Runs the work on the live copy; again when a switch took that away meanwhile. */
    const reading = <Result>(collection: string, work: (copy: Copy) => Promise<Result>): Promise<Result> =>
      attempt(async () => {
        for (;;) {
          let known = await copies.known();
          if (!known.live.has(collection)) known = await copies.refreshed();
          const copy = known.live.get(collection);
          if (copy === undefined) throw new Error(`There is no read model ${collection}.`);
          const isLive = async () => (await copies.refreshed()).live.get(collection) === copy;
          try {
            const result = await work(copy);
            // A collection that is gone looks like an empty one, and it is there for so long at least.
            if (performance.now() - known.at < graceMs || (await isLive())) return result;
          } catch (error) {
            const isDropped =
              error instanceof MongoServerError && DROPPED_MEANWHILE.has(error.codeName ?? '');
            if (!isDropped || (await isLive())) throw error;
          }
        }
      });

    const readers: ReadModels = {
      get: <Body>(collection: string, id: string) =>
        reading(collection, (copy) => copy.documents.get(id) as Promise<Stored<Body> | null>),
      find: <Body>(collection: string, query: Parameters<ReadModels['find']>[1]) =>
        reading(collection, (copy) => copy.documents.find(query) as Promise<Page<Body>>),
      count: (collection, where) => reading(collection, (copy) => copy.documents.count(where)),
    };
    const shared: Shared = { connection, copies, checkpoints, setAside, readers, partitions };

    return {
      ...readers,
      snapshots: mongoSnapshots(db, attempt),
      partitions,
      partition(number) {
        if (!Number.isSafeInteger(number) || number < 0 || number >= partitions) {
          throw new RangeError(`There is no partition ${number}: they are 0 to ${partitions - 1}.`);
        }
        return partitionStore(shared, number);
      },
      copies: () =>
        attempt(async () => {
          const [listed, countsOf] = await Promise.all([listCopies(shared), setAside.counts()]);
          return listed.map(
            ({ copy, checkpoints, info }): PartitionedCopy => ({
              ...info,
              checkpoints,
              setAside: countsOf(copy),
            }),
          );
        }),
      setAside: (id, { limit }) => attempt(async () => setAside.list(await copies.copyOf(id), { limit })),
      async close() {
        // What cannot be stored any more is read from the log again.
        await attempt(() => checkpoints.store([])).catch(() => {});
        await copies.close();
        await connection.close();
      },
    };
  } catch (error) {
    await connection.close();
    throw error;
  }
}
