import type { z } from 'zod';

/** Describes version 1 of an event type. `personal` names the fields that hold personal data. */
export function event<Schema extends z.ZodType>(schema: Schema, personal: readonly string[] = []) {
  return { schema, version: 1, upcasters: {} as Record<number, (data: unknown) => unknown>, personal };
}

/** Describes a later version: `upcasters` has one for each version before it. */
export function revisedEvent<Schema extends z.ZodType>(
  schema: Schema,
  upcasters: Readonly<Record<number, (data: unknown) => unknown>>,
  personal: readonly string[] = [],
) {
  return { schema, version: Object.keys(upcasters).length + 1, upcasters, personal };
}

/** An upcaster that adds fields that the version before did not know. */
export const adding =
  (fields: object) =>
  (data: unknown): unknown => ({ ...(data as object), ...fields });
