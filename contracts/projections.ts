/** What other parts may ask of the projections while they run. */
import { z } from 'zod';
import { position } from './envelope.ts';

/**
 * How a projection is doing. While an old version's copy serves the readers, `version`, `position` and `lag`
 * are of that copy, and the counts (`seen` to `waiting`) of the new one that is being filled.
 */
export const projectionStatus = z.object({
  name: z.string(),
  version: z.int(),
  state: z.enum(['live', 'catching up', 'rebuilding', 'stopped']),
  position,
  /** Events of the log that it has not processed yet. */
  lag: z.int().nonnegative(),
  /** How many events of its types it has processed, and how many the log holds up to its position. */
  seen: z.int().nonnegative(),
  expected: z.int().nonnegative(),
  /** seen = expected: nothing was skipped. */
  complete: z.boolean(),
  /** Events that failed, and events that wait behind them. */
  failed: z.int().nonnegative(),
  waiting: z.int().nonnegative(),
  /** Why it does not get on at the moment (the log or the read models cannot be used); null when all is well. */
  problem: z.string().nullable(),
  /** While a rebuild runs: where the new copy stands, and what failed in it. */
  rebuild: z
    .object({
      version: z.int(),
      position,
      lag: z.int().nonnegative(),
      failed: z.int().nonnegative(),
      waiting: z.int().nonnegative(),
    })
    .nullable(),
});
export type ProjectionStatus = z.infer<typeof projectionStatus>;

export interface ProjectionRuntime {
  /** True once every live projection has reached `position`; false when that took longer than `timeoutMs`. */
  waitFor(position: string, timeoutMs: number): Promise<boolean>;
  /** The position that every live projection has reached. */
  position(): string;
  status(): Promise<readonly ProjectionStatus[]>;
  /**
   * Begins a rebuild beside the live copy, or joins the one that runs; resolves when it has begun.
   * Throws Refusal NOT_FOUND, as the next two do.
   */
  rebuild(name: string): Promise<void>;
  /** What was set aside, in the order of the log: the first 1,000 (the status has the numbers). */
  failures(name: string): Promise<readonly SetAsideEvent[]>;
  /** Applies what was set aside again, in order; returns what then still is. */
  retry(name: string): Promise<{ applied: number; failed: number; waiting: number }>;
  stop(): Promise<void>;
}

export const setAsideEvent = z.object({
  position,
  eventId: z.string(),
  eventType: z.string(),
  /** Empty when finding the document is what failed. */
  documentId: z.string(),
  /** Why it failed; null for an event that only waits behind a failed one. */
  error: z.string().nullable(),
  failedAt: z.string(),
});
export type SetAsideEvent = z.infer<typeof setAsideEvent>;
