/**
 * The value as it would come back from being stored as JSON: without keys whose value is undefined. What JSON
 * cannot hold throws. A document that is still in memory is then the same as one that was read again.
 */
export function plainJson(value: unknown): unknown {
  switch (typeof value) {
    case 'string':
    case 'boolean':
      return value;
    case 'number':
      if (!Number.isFinite(value)) throw new TypeError(`JSON has no number ${value}.`);
      return value;
    case 'object':
      if (value === null) return value;
      return Array.isArray(value) ? plainList(value) : plainObject(value as Record<string, unknown>);
    default:
      throw new TypeError(`JSON cannot hold a value of type ${typeof value}.`);
  }
}

// Both copy only when something changes, which is rare, and allocate nothing otherwise: every document of every
// event comes through here.

function plainList(list: readonly unknown[]): readonly unknown[] {
  let copy: unknown[] | null = null;
  for (let at = 0; at < list.length; at++) {
    const plain = plainJson(list[at]);
    if (plain === list[at]) continue;
    copy ??= [...list];
    copy[at] = plain;
  }
  return copy ?? list;
}

function plainObject(object: Readonly<Record<string, unknown>>): object {
  const prototype = Object.getPrototypeOf(object);
  if (prototype !== Object.prototype && prototype !== null) {
    throw new TypeError(`JSON cannot hold a ${prototype.constructor?.name ?? 'special object'}.`);
  }
  let copy: Record<string, unknown> | null = null;
  for (const key in object) {
    const value = object[key];
    const plain = value === undefined ? undefined : plainJson(value);
    if (plain === value && plain !== undefined) continue;
    copy ??= { ...object };
    if (plain === undefined) delete copy[key];
    else copy[key] = plain;
  }
  return copy ?? object;
}
