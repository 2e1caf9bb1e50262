/**
 * One copy of a projection's documents as an SQLite table: `id`, `position` (as its sort key), `body` (JSON
 * text), and one column for each field that the declared indexes name, filled on every write. Columns are
 * numbered (`f0`, `f1`, …), so that no field's name ever becomes part of a statement.
 */
import type { Database, Statement } from 'better-sqlite3';
import { positionOfSortKey, positionSortKey } from '../../contracts/envelope.ts';
import { Refusal } from '../../contracts/errors.ts';
import type { CollectionSpec, Page, Query, Scalar, Stored } from './port.ts';

type Indexes = CollectionSpec['indexes'];
type ColumnValue = string | number;
type Run = readonly [sql: string, ...bound: ColumnValue[]];

/**
 * Null (and whatever is not a scalar) in a field's column. It is below every number that JSON can hold, so
 * nulls come first in order, and columns, rows and cursors compare without a special case.
 */
const NULL_VALUE = Number.NEGATIVE_INFINITY;
const NULL_JSON = '-9e999';

export interface CopyTable {
  get(id: string): Stored<unknown> | null;
  /** The statement that stores the document, or removes it. */
  put(document: Stored<unknown>): Run;
  remove(id: string): Run;
  find(query: Query): Page<unknown>;
  count(where: Query['where']): number;
  /** Documents in the order of their ids, those after `id`. */
  after(id: string, limit: number): readonly Stored<unknown>[];
}

interface Row {
  readonly id: string;
  readonly position: string;
  readonly body: string;
}

/** The statements that make the table. */
export function createTable(table: string, indexes: Indexes): Run[] {
  for (const index of indexes) {
    if (index.length === 0) throw new Error('An index needs at least one field.');
    if (index.slice(0, -1).includes('position')) throw new Error('`position` must be the last of an index.');
    if (new Set(index).size < index.length) throw new Error(`The index ${index.join(', ')} repeats a field.`);
  }
  const columns = columnsOf(indexes);
  const fields = columns.fields.map((_, at) => `, f${at} NOT NULL`).join('');
  return [
    [
      `CREATE TABLE ${table} (id TEXT NOT NULL PRIMARY KEY, position TEXT NOT NULL, body TEXT NOT NULL${fields})`,
    ],
    ...indexes.map((index, at): Run => {
      // The id at the end gives ties their order without sorting.
      const names = [...index.map((field) => columns.nameOf(field)), 'id'].join(', ');
      return [`CREATE INDEX ${table}_i${at} ON ${table} (${names})`];
    }),
  ];
}

/** `collection` is only for messages. The table is made by `createTable` with the same indexes. */
export function copyTable(db: Database, table: string, collection: string, indexes: Indexes): CopyTable {
  const { fields, nameOf } = columnsOf(indexes);
  const paths = fields.map((field) => field.split('.'));
  const statements = new Map<string, Statement<unknown[], unknown>>();
  const prepare = <Result>(sql: string): Statement<unknown[], Result> => {
    let statement = statements.get(sql);
    if (statement === undefined) {
      statement = db.prepare<unknown[], unknown>(sql);
      statements.set(sql, statement);
    }
    return statement as Statement<unknown[], Result>;
  };

  const columnNames = ['id', 'position', 'body', ...fields.map((_, at) => `f${at}`)];
  const upsert = `INSERT INTO ${table} (${columnNames.join(', ')}) VALUES (${columnNames.map(() => '?').join(', ')})
     ON CONFLICT (id) DO UPDATE SET ${columnNames
       .slice(1)
       .map((name) => `${name} = excluded.${name}`)
       .join(', ')}`;
  const remove = `DELETE FROM ${table} WHERE id = ?`;
  const get = db.prepare<[string], Row>(`SELECT id, position, body FROM ${table} WHERE id = ?`);
  const after = db.prepare<[string, number], Row>(
    `SELECT id, position, body FROM ${table} WHERE id > ? ORDER BY id LIMIT ?`,
  );

  function column(field: string): string {
    const name = nameOf(field);
    if (name === undefined) {
      throw new Error(`No index of the read model ${collection} holds the field ${field}: declare one.`);
    }
    return name;
  }

  /** The conditions of `where` as SQL, each beginning with ` AND `; what they bind is added to `bound`. */
  function equalities(where: Query['where'], bound: ColumnValue[]): string {
    let sql = '';
    for (const [field, wanted] of Object.entries(where ?? {})) {
      if (isList(wanted)) {
        sql += ` AND ${column(field)} IN (SELECT value FROM json_each(?))`;
        bound.push(`[${wanted.map((value) => toJson(toColumn(field, value))).join(',')}]`);
      } else {
        sql += ` AND ${column(field)} = ?`;
        bound.push(toColumn(field, wanted));
      }
    }
    return sql;
  }

  return {
    get(id) {
      const row = get.get(id);
      return row === undefined ? null : toStored(row);
    },

    put({ id, position, body }) {
      const fields = paths.map((path) => valueAt(body, path));
      return [upsert, id, positionSortKey(position), JSON.stringify(body), ...fields];
    },

    remove: (id) => [remove, id],

    find(query) {
      const { limit, offset = 0, orderBy, range } = query;
      if (!Number.isSafeInteger(limit) || limit < 1)
        throw new RangeError('limit must be a whole number ≥ 1.');
      if (!Number.isSafeInteger(offset) || offset < 0)
        throw new RangeError('offset must be a whole number ≥ 0.');
      const bound: ColumnValue[] = [];
      let sql = equalities(query.where, bound);
      if (range !== undefined) sql += between(column(range.field), range, bound);

      const sort = orderBy === undefined ? 'id' : column(orderBy.field);
      const [sign, direction] = orderBy?.direction === 'descending' ? ['<', 'DESC'] : ['>', 'ASC'];
      // A cursor of another order would skip or repeat: it carries the order that it was made for.
      const order = orderBy === undefined ? '' : `${direction} ${orderBy.field}`;
      if (query.cursor !== undefined) {
        sql += ` AND (${sort}, id) ${sign} (?, ?)`;
        bound.push(...decodeCursor(query.cursor, order));
      }
      const rows = prepare<Row & { sort: ColumnValue }>(
        `SELECT id, position, body, ${sort} AS sort FROM ${table} WHERE true${sql}
         ORDER BY ${sort} ${direction}, id ${direction} LIMIT ? OFFSET ?`,
      ).all(...bound, limit + 1, offset);
      const last = rows.length > limit ? rows[limit - 1] : undefined;
      return {
        documents: rows.slice(0, limit).map(toStored),
        next: last === undefined ? null : encodeCursor(order, last.sort, last.id),
      };
    },

    count(where) {
      const bound: ColumnValue[] = [];
      const sql = `SELECT count(*) AS n FROM ${table} WHERE true${equalities(where, bound)}`;
      return prepare<{ n: number }>(sql).get(...bound)?.n ?? 0;
    },

    after: (id, limit) => after.all(id, limit).map(toStored),
  };
}

function columnsOf(indexes: Indexes) {
  const fields = [...new Set(indexes.flat())].filter((field) => field !== 'position');
  const names = new Map(fields.map((field, at) => [field, `f${at}`]));
  if (indexes.some((index) => index.includes('position'))) names.set('position', 'position');
  return { fields, nameOf: (field: string) => names.get(field) };
}

function toStored(row: Row): Stored<unknown> {
  return { id: row.id, position: positionOfSortKey(row.position), body: JSON.parse(row.body) };
}

function valueAt(body: unknown, path: readonly string[]): ColumnValue {
  let value = body;
  for (const key of path) {
    value =
      typeof value === 'object' && value !== null && Object.hasOwn(value, key)
        ? (value as Record<string, unknown>)[key]
        : undefined;
  }
  return isScalar(value) ? fromScalar(value) : NULL_VALUE;
}

const isScalar = (value: unknown): value is Scalar =>
  value === null || typeof value === 'string' || typeof value === 'number' || typeof value === 'boolean';
const isList = (wanted: Scalar | readonly Scalar[]): wanted is readonly Scalar[] => Array.isArray(wanted);

function fromScalar(value: Scalar): ColumnValue {
  if (value === null) return NULL_VALUE;
  return typeof value === 'boolean' ? Number(value) : value;
}

/** What a query compares a field with. Values that are not scalars are mistakes that must not match nothing. */
function toColumn(field: string, value: unknown): ColumnValue {
  if (!isScalar(value)) throw new TypeError(`The field ${field} cannot be compared with ${typeof value}.`);
  return field === 'position' ? positionSortKey(String(value)) : fromScalar(value);
}

const toJson = (value: ColumnValue): string => (value === NULL_VALUE ? NULL_JSON : JSON.stringify(value));

/** A range compares values of its own type only: numbers never match a range of strings, nor null any. */
function between(name: string, range: NonNullable<Query['range']>, bound: ColumnValue[]): string {
  const ends = [
    ['>', range.after],
    ['>=', range.from],
    ['<', range.before],
    ['<=', range.upTo],
  ] as const;
  let sql = '';
  const given: ColumnValue[] = [];
  for (const [sign, end] of ends) {
    if (end === undefined) continue;
    sql += ` AND ${name} ${sign} ?`;
    given.push(toColumn(range.field, end));
  }
  const [first] = given;
  if (first === undefined) throw new TypeError(`The range of ${range.field} has no end.`);
  if (given.some((end) => typeof end !== typeof first)) {
    throw new TypeError(`The ends of the range of ${range.field} differ in type.`);
  }
  bound.push(...given);
  const hasLower = range.after !== undefined || range.from !== undefined;
  const hasUpper = range.before !== undefined || range.upTo !== undefined;
  if (!hasLower) sql += typeof first === 'string' ? ` AND ${name} >= ''` : ` AND ${name} > ${NULL_JSON}`;
  if (!hasUpper && typeof first === 'number') sql += ` AND ${name} < ''`;
  return sql;
}

function encodeCursor(order: string, sort: ColumnValue, id: string): string {
  const text = JSON.stringify([order, sort === NULL_VALUE ? null : sort, id]);
  return Buffer.from(text).toString('base64url');
}

function decodeCursor(cursor: string, order: string): [ColumnValue, string] {
  try {
    const parts: unknown = JSON.parse(Buffer.from(cursor, 'base64url').toString());
    if (Array.isArray(parts) && parts.length === 3 && parts[0] === order && typeof parts[2] === 'string') {
      const [, sort, id] = parts;
      if (sort === null) return [NULL_VALUE, id];
      if (typeof sort === 'string' || typeof sort === 'number') return [sort, id];
    }
  } catch {
    // Not JSON: refused below, like every other cursor that this store did not make.
  }
  const message = 'cursor must be the `next` of an earlier page of the same query';
  throw new Refusal('VALIDATION_ERROR', message, { issues: [{ path: ['cursor'], message }] });
}
