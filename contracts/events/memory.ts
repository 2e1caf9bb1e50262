/** What is known about a user: one stream a fact, `fact-<id>`. Stored format: version with care. */
import { z } from 'zod';
import { event } from './define.ts';

export const factCategory = z.enum([
  'personal',
  'work',
  'preference',
  'hobby',
  'relationship',
  'goal',
  'context',
]);
export type FactCategory = z.infer<typeof factCategory>;

export const memoryEvents = {
  FactRemembered: event(
    z.strictObject({
      factId: z.string(),
      category: factCategory,
      key: z.string(),
      value: z.string(),
      confidence: z.number().min(0).max(1),
      conversationId: z.string().nullable(),
      turnId: z.string().nullable(),
    }),
    ['key', 'value'],
  ),
  FactForgotten: event(z.strictObject({ factId: z.string(), reason: z.string() })),
};
