/** Far below where writing JSON would run out of stack: what passes here can be stored. */
const MAX_DEPTH = 1_000;

/**
 * The value as it would come back from being stored as JSON: without keys whose value is undefined. What JSON
 * cannot hold throws, and so does what is nested too deeply to be written. A document that is still in memory is
 * then the same as one that was read again.
 */
export const plainJson = (value: unknown): unknown => plain(value, 0);

function plain(value: unknown, depth: number): unknown {
  switch (typeof value) {
    case 'string':
    case 'boolean':
      return value;
    case 'number':
      if (!Number.isFinite(value)) throw new TypeError(`JSON has no number ${value}.`);
      return value;
    case 'object':
      if (value === null) return value;
      if (depth === MAX_DEPTH)
        throw new RangeError(`The value is nested more than ${MAX_DEPTH} levels deep.`);
      return Array.isArray(value)
        ? plainList(value, depth + 1)
        : plainObject(value as Record<string, unknown>, depth + 1);
    default:
      throw new TypeError(`JSON cannot hold a value of type ${typeof value}.`);
  }
}

// Both copy only when something changes, which is rare, and allocate nothing otherwise: every document of every
// event comes through here.

function plainList(list: readonly unknown[], depth: number): readonly unknown[] {
  let copy: unknown[] | null = null;
  for (let at = 0; at < list.length; at++) {
    const stored = plain(list[at], depth);
    if (stored === list[at]) continue;
    copy ??= [...list];
    copy[at] = stored;
  }
  return copy ?? list;
}

function plainObject(object: Readonly<Record<string, unknown>>, depth: number): object {
  const prototype = Object.getPrototypeOf(object);
  if (prototype !== Object.prototype && prototype !== null) {
    throw new TypeError(`JSON cannot hold a ${prototype.constructor?.name ?? 'special object'}.`);
  }
  let copy: Record<string, unknown> | null = null;
  for (const key in object) {
    const value = object[key];
    const stored = value === undefined ? undefined : plain(value, depth);
    if (stored === value && stored !== undefined) continue;
    copy ??= { ...object };
    if (stored === undefined) delete copy[key];
    else copy[key] = stored;
  }
  return copy ?? object;
}
