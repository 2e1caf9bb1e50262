/**
 * One copy of a projection's documents as a collection. A stored document is
 *
 *     { _id, state: { position, body, f0, f1, … } }    or, once it was deleted, { _id, state: { position, body: null } }
 *
 * with the position as its sort key, the body as JSON text (its keys may hold `.` and `$`, and it comes back byte for
 * byte), and one key for each field that the declared indexes name.
 *
 * Every write is `$max` on `state`. Databases compare documents field by field, and the position comes first: a
 * later state replaces an earlier one, an earlier or equal one changes nothing, in one atomic step and without a
 * condition that an upsert could miss. Deleted documents stay until the copy is dropped, so that a late write of an
 * earlier state does not bring them back; where positions are equal, a body comes after none.
 */
import type { Collection, Db, Filter, FindOptions } from 'mongodb';
import { isAfter, type Position, positionOfSortKey, positionSortKey } from '../../../contracts/envelope.ts';
import type { Page, Query, Scalar, Stored, WriteBatch } from '../port.ts';
import {
  checkPaging,
  comparable,
  decodeCursor,
  encodeCursor,
  type Indexes,
  indexedFields,
  isList,
  orderOf,
  rangeEnds,
  refuseCursor,
  scalarAt,
} from '../query.ts';
import { sendAll } from './writes.ts';

/** A key of its own for each kind, so that one comparison of strings has the port's order: null, numbers, strings. */
const NULL_KEY = '0';
const NUMBER = '1';
const STRING = '2';
const SIGN_BIT = 1n << 63n;
const ALL_BITS = (1n << 64n) - 1n;

interface StoredDocument {
  readonly _id: string;
  readonly state: { readonly position: string; readonly body: string | null };
}

export interface Documents {
  /** Makes the indexes that are missing. */
  ensureIndexes(): Promise<void>;
  get(id: string): Promise<Stored<unknown> | null>;
  getAll(ids: readonly string[]): Promise<ReadonlyMap<string, Stored<unknown>>>;
  find(query: Query): Promise<Page<unknown>>;
  count(where: Query['where']): Promise<number>;
  /** Documents in the order of their ids, those after `id`. */
  after(id: string, limit: number): Promise<readonly Stored<unknown>[]>;
  write(batch: WriteBatch): Promise<void>;
  drop(): Promise<void>;
}

const EXISTS: Filter<StoredDocument> = { 'state.body': { $ne: null } };

/** A condition on a field of the body leaves deleted documents out: they have none. An index alone can answer it. */
const existing = (where: Query['where'], range?: Query['range']): Filter<StoredDocument>[] =>
  [...Object.keys(where ?? {}), range?.field ?? 'position'].some((field) => field !== 'position')
    ? []
    : [EXISTS];

const FEW = 20;

const SIGNS = { '>': '$gt', '>=': '$gte', '<': '$lt', '<=': '$lte' } as const;

/** @param projection only for messages */
export function documents(db: Db, name: string, projection: string, indexes: Indexes): Documents {
  const collection: Collection<StoredDocument> = db.collection(name);
  const { fields, nameOf } = indexedFields(projection, indexes);
  const paths = fields.map((field) => field.split('.'));
  const pathOf = (field: string) => `state.${nameOf(field)}`;
  const keyOf = (field: string, value: unknown): string => {
    const scalar = comparable(field, value);
    return field === 'position' ? String(scalar) : sortKey(scalar);
  };

  function equalities(where: Query['where']): Filter<StoredDocument>[] {
    return Object.entries(where ?? {}).map(([field, wanted]) => ({
      [pathOf(field)]: isList(wanted)
        ? { $in: wanted.map((value) => keyOf(field, value)) }
        : { $eq: keyOf(field, wanted) },
    }));
  }

  /** A range compares values of its own type only. */
  function between(range: NonNullable<Query['range']>): Filter<StoredDocument>[] {
    const path = pathOf(range.field);
    const { type, ends, hasLower, hasUpper } = rangeEnds(range);
    const isPosition = range.field === 'position';
    const clauses = ends.map(({ sign, value }) => ({
      [path]: { [SIGNS[sign]]: isPosition ? value : sortKey(value) },
    }));
    if (isPosition) return clauses;
    if (!hasLower) clauses.push({ [path]: { $gte: type === 'string' ? STRING : NUMBER } });
    if (!hasUpper && type === 'number') clauses.push({ [path]: { $lt: STRING } });
    return clauses;
  }

  function stateOf({ position, body }: Stored<unknown>): StoredDocument['state'] {
    const indexed = paths.map((path, at) => [`f${at}`, sortKey(scalarAt(body, path))]);
    return {
      position: positionSortKey(position), // compared first
      body: JSON.stringify(body),
      ...Object.fromEntries(indexed),
    };
  }

  const list = async (filter: Filter<StoredDocument>, options: FindOptions): Promise<StoredDocument[]> =>
    collection.find(filter, options).toArray();

  return {
    async ensureIndexes() {
      await Promise.all(
        // One by one: FerretDB breaks down over a list of which some exist.
        indexes.map((index, at) => {
          // The id at the end gives ties their order without sorting.
          const key = Object.fromEntries([...index.map((field) => [pathOf(field), 1]), ['_id', 1]]);
          return collection.createIndex(key, { name: `i${at}` });
        }),
      );
    },

    async get(id) {
      const found = await collection.findOne({ _id: id });
      return found === null ? null : toStored(found);
    },

    async getAll(ids) {
      // A few are asked for side by side: that takes no longer, and FerretDB reads the whole collection for a list.
      const found =
        ids.length <= FEW
          ? await Promise.all(ids.map((id) => collection.findOne({ _id: id })))
          : await list({ _id: { $in: ids } }, { batchSize: ids.length });
      const stored = found.map((document) => (document === null ? null : toStored(document)));
      return new Map(
        stored.filter((document) => document !== null).map((document) => [document.id, document]),
      );
    },

    async find(query) {
      checkPaging(query);
      const { limit, offset = 0, orderBy, range } = query;
      const clauses = [...existing(query.where, range), ...equalities(query.where)];
      if (range !== undefined) clauses.push(...between(range));

      const path = orderBy === undefined ? '_id' : pathOf(orderBy.field);
      const descending = orderBy?.direction === 'descending';
      const beyond = descending ? '$lt' : '$gt';
      const order = orderOf(query);
      if (query.cursor !== undefined) {
        const { sort, id } = decodeCursor(query.cursor, order);
        if (typeof sort !== 'string') return refuseCursor();
        if (path === '_id') clauses.push({ _id: { [beyond]: id } });
        else {
          // The first clause bounds the index, the second leaves out the ties that were given.
          clauses.push({ [path]: { [`${beyond}e`]: sort } });
          clauses.push({ $or: [{ [path]: { [beyond]: sort } }, { _id: { [beyond]: id } }] });
        }
      }
      const direction = descending ? -1 : 1;
      const found = await list(
        { $and: clauses },
        {
          sort: path === '_id' ? { _id: direction } : { [path]: direction, _id: direction },
          skip: offset,
          limit: limit + 1,
          batchSize: limit + 1, // all in one answer
        },
      );
      const last = found.length > limit ? found[limit - 1] : undefined;
      return {
        documents: found.slice(0, limit).map((document) => toStored(document)!),
        next: last === undefined ? null : encodeCursor(order, sortedBy(last, path), last._id),
      };
    },

    count: (where) => collection.countDocuments({ $and: [...existing(where), ...equalities(where)] }),

    async after(id, limit) {
      const filter = { $and: [EXISTS, { _id: { $gt: id } }] };
      const found = await list(filter, { sort: { _id: 1 }, limit, batchSize: limit });
      return found.map((document) => toStored(document)!);
    },

    async write(batch) {
      const states = [
        ...batch.puts.map((document) => [document.id, stateOf(document)] as const),
        ...batch.deletes.map(
          (id) => [id, { position: positionSortKey(deletedBefore(id, batch)), body: null }] as const,
        ),
      ];
      await sendAll(
        collection,
        states.map(([_id, state]) => ({
          updateMany: { filter: { _id }, update: { $max: { state } }, upsert: true },
        })),
      );
    },

    drop: async () => void (await collection.drop()),
  };
}

/**
 * What deleted the document comes before this position or is at it, and no write that is still to come for this
 * document is before it: what was set aside of it may be applied later.
 */
function deletedBefore(id: string, { checkpoint, setAside }: WriteBatch): Position {
  const waiting = (setAside?.add ?? []).filter(({ documentId }) => documentId === id);
  return waiting.reduce(
    (first, { position }) => (isAfter(first, position) ? position : first),
    checkpoint.position,
  );
}

/** Of a deleted document: null. */
function toStored({ _id, state: { position, body } }: StoredDocument): Stored<unknown> | null {
  return body === null ? null : { id: _id, position: positionOfSortKey(position), body: JSON.parse(body) };
}

const sortedBy = (document: StoredDocument, path: string): string =>
  path === '_id'
    ? document._id
    : (document.state as unknown as Record<string, string>)[path.slice('state.'.length)]!;

/** A string for a scalar, in whose order the scalars come as the port says: nulls, numbers, strings. */
export function sortKey(value: Scalar): string {
  if (typeof value === 'string') return STRING + value;
  const number = typeof value === 'boolean' ? Number(value) : value;
  // What JSON cannot hold is null in the body.
  if (number === null || !Number.isFinite(number)) return NULL_KEY;
  const bits = new DataView(new ArrayBuffer(8));
  bits.setFloat64(0, number === 0 ? 0 : number); // 0 and -0 are equal
  const raw = bits.getBigUint64(0);
  // The order of the bits is that of the numbers once the negative ones are turned around.
  const ordered = raw & SIGN_BIT ? raw ^ ALL_BITS : raw | SIGN_BIT;
  return NUMBER + ordered.toString(16).padStart(16, '0');
}
