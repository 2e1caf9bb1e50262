import type { z } from 'zod';

/** Describes version 1 of an event type. `personal` names the fields that hold personal data. */
export function event<Schema extends z.ZodType>(schema: Schema, personal: readonly string[] = []) {
  return { schema, version: 1, upcasters: {} as Record<number, (data: unknown) => unknown>, personal };
}
