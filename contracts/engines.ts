/** What Odeon runs on, and how each is doing. */
import { z } from 'zod';

export const engineName = z.enum(['event store', 'bus', 'read models']);
export type EngineName = z.infer<typeof engineName>;

export const engineStatus = z.object({
  name: engineName,
  kind: z.enum(['embedded', 'server']),
  /** Without credentials; null where it is part of this process. */
  address: z.string().nullable(),
  available: z.boolean(),
  /** Why it cannot be used at the moment. */
  problem: z.string().nullable(),
});
export type EngineStatus = Readonly<z.infer<typeof engineStatus>>;

/** What a client is told, who has no business with addresses. */
export const cannotAnswer = (engine: EngineName): string => `The ${engine} cannot answer now: try again.`;
