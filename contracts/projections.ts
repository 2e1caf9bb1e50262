/** What other parts may ask of the projections while they run. */
import { z } from 'zod';
import { position } from './envelope.ts';

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
  /** While a rebuild runs: where the new copy stands. */
  rebuild: z.object({ version: z.int(), position, lag: z.int().nonnegative() }).nullable(),
});
export type ProjectionStatus = z.infer<typeof projectionStatus>;

export interface ProjectionRuntime {
  /** True once every live projection has reached `position`; false when that took longer than `timeoutMs`. */
  waitFor(position: string, timeoutMs: number): Promise<boolean>;
  /** The position that every live projection has reached. */
  position(): string;
  status(): Promise<readonly ProjectionStatus[]>;
  /** Begins a rebuild beside the live copy; resolves when it has begun. Throws Refusal NOT_FOUND. */
  rebuild(name: string): Promise<void>;
  failures(name: string): Promise<readonly SetAsideEvent[]>;
  /** Applies what was set aside again, in order. */
  retry(name: string): Promise<{ applied: number; failed: number; waiting: number }>;
  stop(): Promise<void>;
}

export const setAsideEvent = z.object({
  position,
  eventId: z.string(),
  eventType: z.string(),
  documentId: z.string(),
  /** Why it failed; null for an event that only waits behind a failed one. */
  error: z.string().nullable(),
  failedAt: z.string(),
});
export type SetAsideEvent = z.infer<typeof setAsideEvent>;
