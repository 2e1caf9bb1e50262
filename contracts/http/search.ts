/** Agent Chat's search (seeds/agent-chat.txt): messages by what they mean and by their words. */
import { z } from 'zod';
import { asOf, time } from './parameters.ts';
import { route } from './route.ts';

const DAY_MS = 24 * 60 * 60 * 1_000;
const LONGEST_QUERY = 32_768;

/** A day, or a moment. */
const when = z.union([z.iso.date(), time], {
  error: 'must be a date (2025-10-01) or an RFC 3339 time with its offset (2025-10-01T12:00:00Z)',
});
const isDay = (text: string): boolean => text.length === 'YYYY-MM-DD'.length;

const dateRange = z
  .strictObject({ start: when.optional(), end: when.optional() })
  .transform(({ start, end }) => ({
    /** Milliseconds since the epoch: at `from` or later, and before `before`. Of the day of the end, all counts. */
    ...(start !== undefined && { from: Date.parse(start) }),
    ...(end !== undefined && { before: Date.parse(end) + (isDay(end) ? DAY_MS : 1) }),
  }))
  .refine(({ from, before }) => from === undefined || before === undefined || from < before, {
    error: 'end lies before start',
    path: ['end'],
  });

export const searchResult = z.strictObject({
  /** Of the message. */
  id: z.string(),
  /** The message, or its first 8,000 characters and an ellipsis. */
  content: z.string(),
  /** From 0 to 1: the same text has 1, an unrelated one 0 or little more. */
  score: z.number(),
  conversation_id: z.string(),
  timestamp: z.string(),
  metadata: z.strictObject({
    /** Who answered; null for what a user wrote. */
    model: z.string().nullable(),
    /** The title of the conversation. */
    topic: z.string().nullable(),
    role: z.enum(['user', 'assistant']),
  }),
});

export const searchConversations = route({
  surface: 'agent-chat',
  method: 'POST',
  path: '/api/search',
  summary:
    'Finds messages by what they mean and by their words, the best first. `total` counts those with at least ' +
    '`min_score` among the some hundred that are compared closely. A message can be found moments after it was sent: ' +
    'the search waits for it a while, and says `X-Read-Model: behind` when it could not wait any longer.',
  access: 'chat:read',
  reads: true,
  example: { body: { query: 'python csv file reading', limit: 5, min_score: 0.7 } },
  rateLimit: 'search',
  query: z.object({ asOf }),
  body: z.object({
    query: z
      .string()
      .max(LONGEST_QUERY, `must have at most ${LONGEST_QUERY} characters`)
      .refine((text) => text.trim() !== '', 'must say what to look for')
      .refine((text) => text.isWellFormed(), 'must be well-formed Unicode'),
    limit: z.int().min(1).max(100).default(10),
    min_score: z.number().min(0).max(1).default(0),
    filters: z
      .strictObject({
        /** Those who see what belongs to others may name one of them; to everybody else others have nothing. */
        user_id: z.string().optional(),
        conversation_id: z.string().optional(),
        role: searchResult.shape.metadata.shape.role.optional(),
        /** Who answered, as `metadata.model` says it. */
        model: z.string().optional(),
        date_range: dateRange.optional(),
      })
      .default({}),
  }),
  answers: {
    200: z.strictObject({
      results: z.array(searchResult),
      total: z.int().nonnegative(),
      query_time_ms: z.int().nonnegative(),
    }),
  },
});

export const searchRoutes = [searchConversations] as const;
