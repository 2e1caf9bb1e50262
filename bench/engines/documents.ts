/**
 * Projections over MongoDB's protocol: conversations and messages, written by the runtime, against bare bulkWrite
 * upserts of the same documents in the same batches, into collections with the same indexes. The floor reads no
 * log, computes nothing and keeps no checkpoint.
 *
 * Nor does it look for the documents that are there already. FerretDB reads the whole collection for that (it uses
 * its index for one id, and for no list of ids), MongoDB does not: so the writes are held against the floor alone, too.
 */
import { type Document, MongoClient } from 'mongodb';
import type { EventStore } from '../../infra/event-store/port.ts';
import { openMongoReadModels } from '../../infra/read-models/mongodb/store.ts';
import type { ReadModelStore, WriteBatch } from '../../infra/read-models/port.ts';
import { conversations } from '../../projections/conversations.ts';
import { messages } from '../../projections/messages.ts';
import { startProjections } from '../../projections/runtime/runtime.ts';
import { startFerretDb } from '../../test/engines/ferretdb.ts';
import { type BenchResult, median } from '../result.ts';
import { fillLog, onError, openLog, rate, temporaryFolder } from './setting.ts';

const EVENTS = 3_000;
const CONVERSATIONS = 300;
const ROUNDS = 3;
const LONGEST_MS = 120_000;
const PROJECTIONS = [conversations, messages];

export async function benchDocuments(): Promise<BenchResult[]> {
  await using open = new AsyncDisposableStack();
  const { url, stop } = await startFerretDb();
  open.defer(stop);
  const store = await openLog(await temporaryFolder(open));
  open.defer(() => store.close());
  await fillLog(store, EVENTS, CONVERSATIONS);

  const times = { floor: [] as number[], ours: [] as number[], writes: [] as number[] };
  let documents = 0;
  // The first one warms up.
  for (let round = 0; round <= ROUNDS; round++) {
    const batches: WriteBatch[][] = [];
    const ours = await project(url, `ours${round}`, store, batches);
    const floor = await upsert(url, `floor${round}`, batches);
    documents = batches.flat().reduce((sum, { puts }) => sum + puts.length, 0);
    if (round === 0) continue;
    times.ours.push(ours.durationMs);
    times.writes.push(ours.writingMs);
    times.floor.push(floor);
  }
  const share = Math.round((1 - median(times.writes) / median(times.ours)) * 100);
  console.error(
    `  ${share} % of the time is not writing: nearly all of it FerretDB looking, without an index, for the documents ` +
      'that a batch is about. MongoDB uses its index.',
  );
  const per = (count: number, ours: readonly number[]) => ({
    floor: (count / median(times.floor)) * 1_000,
    ours: (count / median(ours)) * 1_000,
  });
  const what = `projections of ${EVENTS.toLocaleString('en')} events into FerretDB`;
  return [
    rate(`${what} / bare bulkWrite`, 'events/s', per(EVENTS, times.ours)),
    rate(`${what} / bare bulkWrite`, 'documents/s', per(documents, times.ours)),
    rate(`${what}, their writes alone / bare bulkWrite`, 'documents/s', per(documents, times.writes)),
  ];
}

/** @returns ms until the read models show all of the log, and how much of it were writes (with checkpoints) */
async function project(
  url: string,
  database: string,
  store: EventStore,
  batches: WriteBatch[][],
): Promise<{ durationMs: number; writingMs: number }> {
  await using open = new AsyncDisposableStack();
  const readModels = await openMongoReadModels({
    url,
    database,
    partitions: 1,
    onAvailability: (problem) => problem !== null && onError(new Error(problem)),
  });
  open.defer(() => readModels.close());
  const partition = readModels.partition(0);
  let writingMs = 0;
  const recording: ReadModelStore = {
    ...partition,
    async write(written) {
      batches.push([...written]);
      const began = performance.now();
      await partition.write(written);
      writingMs += performance.now() - began;
    },
  };
  const began = performance.now();
  const runtime = await startProjections({ store, readModels: recording, projections: PROJECTIONS, onError });
  open.defer(() => runtime.stop());
  if (!(await runtime.waitFor(await store.head(), LONGEST_MS))) throw new Error('It did not catch up.');
  return { durationMs: performance.now() - began, writingMs };
}

/** @returns ms until all batches are written */
async function upsert(url: string, database: string, batches: readonly WriteBatch[][]): Promise<number> {
  await using open = new AsyncDisposableStack();
  const client = new MongoClient(url);
  open.defer(() => client.close());
  const db = client.db(database);
  const [copies = []] = batches;
  const collections = new Map(
    copies.map(({ copy }, at) => [copy, db.collection<{ _id: string }>(PROJECTIONS[at]!.name)]),
  );
  const began = performance.now();
  for (const [at, { copy }] of copies.entries()) {
    for (const fields of PROJECTIONS[at]!.indexes) {
      await collections
        .get(copy)!
        .createIndex({ ...Object.fromEntries(fields.map((field) => [field, 1])), _id: 1 });
    }
  }
  for (const batch of batches) {
    await Promise.all(
      batch.map(({ copy, puts }) => {
        // FerretDB stands still over many updateOne in one command: see infra/read-models/mongodb/writes.ts.
        const operations = puts.map(({ id, position, body }) => ({
          updateMany: {
            filter: { _id: id },
            update: { $set: { position, ...(body as Document) } },
            upsert: true,
          },
        }));
        return operations.length > 0 && collections.get(copy)!.bulkWrite(operations, { ordered: false });
      }),
    );
  }
  return performance.now() - began;
}
