/** What the adapters have in common in how they take indexes and queries: the checks, their messages, the cursors. */
import { positionSortKey } from '../../contracts/envelope.ts';
import { Refusal } from '../../contracts/errors.ts';
import type { CollectionSpec, Query, Scalar } from './port.ts';

export type Indexes = CollectionSpec['indexes'];

/** @throws Error when an index is empty, repeats a field, or has `position` before its end */
export function checkIndexes(indexes: Indexes): void {
  for (const index of indexes) {
    if (index.length === 0) throw new Error('An index needs at least one field.');
    if (index.slice(0, -1).includes('position')) throw new Error('`position` must be the last of an index.');
    if (new Set(index).size < index.length) throw new Error(`The index ${index.join(', ')} repeats a field.`);
  }
}

export interface IndexedFields {
  /** The fields of the body that the indexes name, each once. They are stored as `f0`, `f1`, … */
  readonly fields: readonly string[];
  /** Under which name a field (or `position`) is stored. @throws Error when no index holds it */
  nameOf(field: string): string;
}

/**
 * Stored fields are numbered, so that no field's name ever becomes part of a statement.
 * @param collection only for messages
 */
export function indexedFields(collection: string, indexes: Indexes): IndexedFields {
  const fields = [...new Set(indexes.flat())].filter((field) => field !== 'position');
  const names = new Map(fields.map((field, at) => [field, `f${at}`]));
  if (indexes.some((index) => index.includes('position'))) names.set('position', 'position');
  return {
    fields,
    nameOf(field) {
      const name = names.get(field);
      if (name === undefined) {
        throw new Error(`No index of the read model ${collection} holds the field ${field}: declare one.`);
      }
      return name;
    },
  };
}

/** The scalar at a path of a body; null when there is none, or something else. */
export function scalarAt(body: unknown, path: readonly string[]): Scalar {
  let value = body;
  for (const key of path) {
    value =
      typeof value === 'object' && value !== null && Object.hasOwn(value, key)
        ? (value as Record<string, unknown>)[key]
        : undefined;
  }
  return isScalar(value) ? value : null;
}

const isScalar = (value: unknown): value is Scalar =>
  value === null || typeof value === 'string' || typeof value === 'number' || typeof value === 'boolean';

export const isList = (wanted: Scalar | readonly Scalar[]): wanted is readonly Scalar[] =>
  Array.isArray(wanted);

/**
 * What a query compares a field with: positions as their sort key.
 * @throws TypeError on what is no scalar: a mistake that must not match nothing, or everything
 */
export function comparable(field: string, value: unknown): Scalar {
  if (!isScalar(value)) throw new TypeError(`The field ${field} cannot be compared with ${typeof value}.`);
  return field === 'position' ? positionSortKey(String(value)) : value;
}

/** @throws RangeError when limit or offset is no such number */
export function checkPaging({ limit, offset = 0 }: Query): void {
  if (!Number.isSafeInteger(limit) || limit < 1) throw new RangeError('limit must be a whole number ≥ 1.');
  if (!Number.isSafeInteger(offset) || offset < 0) throw new RangeError('offset must be a whole number ≥ 0.');
}

export interface RangeEnds {
  /** Of every end, and so of every value that matches. */
  readonly type: 'string' | 'number';
  readonly ends: readonly { readonly sign: '>' | '>=' | '<' | '<='; readonly value: string | number }[];
  readonly hasLower: boolean;
  readonly hasUpper: boolean;
}

/** @throws TypeError when it has no end, or ends of different types or of one that has no order */
export function rangeEnds(range: NonNullable<Query['range']>): RangeEnds {
  const { field } = range;
  const ends = (
    [
      ['>', range.after],
      ['>=', range.from],
      ['<', range.before],
      ['<=', range.upTo],
    ] as const
  ).flatMap(([sign, end]) => {
    if (end === undefined) return [];
    const value = comparable(field, end);
    if (typeof value !== 'string' && typeof value !== 'number') {
      throw new TypeError(`The field ${field} has no range that ends at ${value}.`);
    }
    return [{ sign, value }];
  });
  const [first] = ends;
  if (first === undefined) throw new TypeError(`The range of ${field} has no end.`);
  if (ends.some(({ value }) => typeof value !== typeof first.value)) {
    throw new TypeError(`The ends of the range of ${field} differ in type.`);
  }
  return {
    type: typeof first.value === 'string' ? 'string' : 'number',
    ends,
    hasLower: range.after !== undefined || range.from !== undefined,
    hasUpper: range.before !== undefined || range.upTo !== undefined,
  };
}

/** A cursor of another order would skip or repeat: it carries the order that it was made for. */
export const orderOf = ({ orderBy }: Query): string =>
  orderBy === undefined ? '' : `${orderBy.direction === 'descending' ? 'DESC' : 'ASC'} ${orderBy.field}`;

/** @param sort what the last document of the page is sorted by; its id breaks ties */
export const encodeCursor = (order: string, sort: string | number | null, id: string): string =>
  Buffer.from(JSON.stringify([order, sort, id])).toString('base64url');

/** @throws Refusal VALIDATION_ERROR when it was not made for this order */
export function decodeCursor(cursor: string, order: string): { sort: string | number | null; id: string } {
  try {
    const parts: unknown = JSON.parse(Buffer.from(cursor, 'base64url').toString());
    if (Array.isArray(parts) && parts.length === 3 && parts[0] === order && typeof parts[2] === 'string') {
      const [, sort, id] = parts;
      if (sort === null || typeof sort === 'string' || typeof sort === 'number') return { sort, id };
    }
  } catch {
    // Not JSON: refused below, like every other cursor that this store did not make.
  }
  return refuseCursor();
}

/** @throws Refusal VALIDATION_ERROR */
export function refuseCursor(): never {
  const message = 'cursor must be the `next` of an earlier page of the same query';
  throw new Refusal('VALIDATION_ERROR', message, { issues: [{ path: ['cursor'], message }] });
}
