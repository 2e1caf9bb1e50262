/** What Odeon runs on, and how each is doing. */
import { z } from 'zod';

export const engineName = z.enum(['event store', 'bus', 'read models']);
export type EngineName = z.infer<typeof engineName>;

export const engineStatus = z.object({
  name: engineName,
  /** `embedded`, or which server it is: `EventStoreDB`, `Kafka`, `MongoDB`. */
  kind: z.string(),
  /** Where it is: a folder or file of the embedded one, or the server's address. */
  address: z.string(),
  available: z.boolean(),
  /** Why it cannot be used; null when it can. */
  problem: z.string().nullable(),
});
export type EngineStatus = z.infer<typeof engineStatus>;

/** What a client is told, who has no business with addresses. */
export const cannotAnswer = (engine: EngineName): string => `The ${engine} cannot answer now: try again.`;
