/**
 * Projections over MongoDB's protocol: conversations and messages, written by the runtime, against bare bulkWrite
 * upserts of the same documents in the same batches, into collections with the same indexes. The floor reads no
 * log, computes nothing and keeps no checkpoint.
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

  const times = { floor: [] as number[], ours: [] as number[] };
  let documents = 0;
  // The first one warms up.
  for (let round = 0; round <= ROUNDS; round++) {
    const batches: WriteBatch[][] = [];
    const ours = await project(url, `ours${round}`, store, batches);
    const floor = await upsert(url, `floor${round}`, batches);
    documents = batches.flat().reduce((sum, { puts }) => sum + puts.length, 0);
    if (round === 0) continue;
    times.ours.push(ours);
    times.floor.push(floor);
  }
  const per = (count: number) => ({
    floor: (count / median(times.floor)) * 1_000,
    ours: (count / median(times.ours)) * 1_000,
  });
  const what = `projections of ${EVENTS.toLocaleString('en')} events into FerretDB / bare bulkWrite`;
  return [rate(what, 'events/s', per(EVENTS)), rate(what, 'documents/s', per(documents))];
}

/** @returns ms until the read models show all of the log */
async function project(
  url: string,
  database: string,
  store: EventStore,
  batches: WriteBatch[][],
): Promise<number> {
  await using open = new AsyncDisposableStack();
  const readModels = await openMongoReadModels({
    url,
    database,
    partitions: 1,
    onAvailability: (problem) => problem !== null && onError(new Error(problem)),
  });
  open.defer(() => readModels.close());
  const partition = readModels.partition(0);
  const recording: ReadModelStore = {
    ...partition,
    write(written) {
      batches.push([...written]);
      return partition.write(written);
    },
  };
  const began = performance.now();
  const runtime = await startProjections({ store, readModels: recording, projections: PROJECTIONS, onError });
  open.defer(() => runtime.stop());
  if (!(await runtime.waitFor(await store.head(), LONGEST_MS))) throw new Error('It did not catch up.');
  return performance.now() - began;
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
