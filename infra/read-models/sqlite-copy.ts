/**
 * One copy of a projection's documents as an SQLite table: `id`, `position` (as its sort key), `body` (JSON
 * text), and one column for each field that the declared indexes name, filled on every write. Columns are
 * numbered (`f0`, `f1`, …), so that no field's name ever becomes part of a statement.
 */
import type { Database, Statement } from 'better-sqlite3';
import { positionOfSortKey, positionSortKey } from '../../contracts/envelope.ts';
import type { Page, Query, Scalar, Stored } from './port.ts';
import {
  checkIndexes,
  checkPaging,
  comparable,
  decodeCursor,
  encodeCursor,
  type Indexes,
  indexedFields,
  isList,
  orderOf,
  rangeEnds,
  scalarAt,
} from './query.ts';

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
  checkIndexes(indexes);
  const columns = indexedFields(table, indexes);
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
  const { fields, nameOf } = indexedFields(collection, indexes);
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

  /** The conditions of `where` as SQL, each beginning with ` AND `; what they bind is added to `bound`. */
  function equalities(where: Query['where'], bound: ColumnValue[]): string {
    let sql = '';
    for (const [field, wanted] of Object.entries(where ?? {})) {
      if (isList(wanted)) {
        sql += ` AND ${nameOf(field)} IN (SELECT value FROM json_each(?))`;
        bound.push(`[${wanted.map((value) => toJson(toColumn(comparable(field, value)))).join(',')}]`);
      } else {
        sql += ` AND ${nameOf(field)} = ?`;
        bound.push(toColumn(comparable(field, wanted)));
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
      const fields = paths.map((path) => toColumn(scalarAt(body, path)));
      return [upsert, id, positionSortKey(position), JSON.stringify(body), ...fields];
    },

    remove: (id) => [remove, id],

    find(query) {
      const { limit, offset = 0, orderBy, range } = query;
      checkPaging(query);
      const bound: ColumnValue[] = [];
      let sql = equalities(query.where, bound);
      if (range !== undefined) sql += between(nameOf(range.field), range, bound);

      const sort = orderBy === undefined ? 'id' : nameOf(orderBy.field);
      const [sign, direction] = orderBy?.direction === 'descending' ? ['<', 'DESC'] : ['>', 'ASC'];
      const order = orderOf(query);
      if (query.cursor !== undefined) {
        sql += ` AND (${sort}, id) ${sign} (?, ?)`;
        const last = decodeCursor(query.cursor, order);
        bound.push(last.sort ?? NULL_VALUE, last.id);
      }
      const rows = prepare<Row & { sort: ColumnValue }>(
        `SELECT id, position, body, ${sort} AS sort FROM ${table} WHERE true${sql}
         ORDER BY ${sort} ${direction}, id ${direction} LIMIT ? OFFSET ?`,
      ).all(...bound, limit + 1, offset);
      const last = rows.length > limit ? rows[limit - 1] : undefined;
      return {
        documents: rows.slice(0, limit).map(toStored),
        next:
          last === undefined
            ? null
            : encodeCursor(order, last.sort === NULL_VALUE ? null : last.sort, last.id),
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

function toStored(row: Row): Stored<unknown> {
  return { id: row.id, position: positionOfSortKey(row.position), body: JSON.parse(row.body) };
}

function toColumn(value: Scalar): ColumnValue {
  if (value === null) return NULL_VALUE;
  return typeof value === 'boolean' ? Number(value) : value;
}

const toJson = (value: ColumnValue): string => (value === NULL_VALUE ? NULL_JSON : JSON.stringify(value));

/** A range compares values of its own type only: numbers never match a range of strings, nor null any. */
function between(name: string, range: NonNullable<Query['range']>, bound: ColumnValue[]): string {
  const { type, ends, hasLower, hasUpper } = rangeEnds(range);
  let sql = '';
  for (const { sign, value } of ends) {
    sql += ` AND ${name} ${sign} ?`;
    bound.push(value);
  }
  if (!hasLower) sql += type === 'string' ? ` AND ${name} >= ''` : ` AND ${name} > ${NULL_JSON}`;
  if (!hasUpper && type === 'number') sql += ` AND ${name} < ''`;
  return sql;
}
