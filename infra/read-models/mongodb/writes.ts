/** How writes are sent, and what it means when an insert finds that its document is there already. */
import {
  type AnyBulkWriteOperation,
  type Collection,
  type Document,
  MongoBulkWriteError,
  MongoServerError,
} from 'mongodb';

/** Operations in one command: it must not take longer than a call waits, on a slow server either. */
const MAX_OPERATIONS = 100;
/** Writers that insert one document at the same time get in each other's way once each. */
const ATTEMPTS = 5;
const DUPLICATE_KEY = 11_000;

export const isDuplicateKey = (error: unknown): boolean =>
  error instanceof MongoServerError && error.code === DUPLICATE_KEY;

/**
 * Sends operations that are harmless to repeat, in any order. Two upserts of a document that does not exist may both
 * insert it: the second one then fails, finds the document when it is sent again, and does what it has to.
 *
 * They should be `updateMany` and `deleteMany`, for a single document too: FerretDB keeps a connection of its own busy
 * for each `updateOne` and `deleteOne` of a command, and stands still for ever once it has none left.
 * @returns how many documents were found
 */
export async function sendAll<Stored extends Document>(
  collection: Collection<Stored>,
  operations: readonly AnyBulkWriteOperation<Stored>[],
): Promise<number> {
  let matched = 0;
  for (let from = 0; from < operations.length; from += MAX_OPERATIONS) {
    const chunk = operations.slice(from, from + MAX_OPERATIONS);
    for (let attempt = 1; ; attempt++) {
      try {
        matched += (await collection.bulkWrite(chunk, { ordered: false })).matchedCount;
        break;
      } catch (error) {
        if (attempt === ATTEMPTS || !isOnlyDuplicates(error)) throw error;
      }
    }
  }
  return matched;
}

/** False when what was to be inserted was there already, or a part of it. */
export async function unlessThere(insert: () => Promise<unknown>): Promise<boolean> {
  try {
    await insert();
    return true;
  } catch (error) {
    if (!isOnlyDuplicates(error)) throw error;
    return false;
  }
}

function isOnlyDuplicates(error: unknown): boolean {
  if (!(error instanceof MongoBulkWriteError)) return isDuplicateKey(error);
  const errors = [error.writeErrors].flat();
  return (
    error.code === DUPLICATE_KEY &&
    errors.every(({ code }) => code === DUPLICATE_KEY) &&
    error.result.getWriteConcernError() === undefined
  );
}
