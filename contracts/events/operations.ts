/** What operators do, and the answers that belong to idempotency keys. Stored format: version with care. */
import { z } from 'zod';
import { event } from './define.ts';

export const operationsEvents = {
  // projection-<name>
  ProjectionRebuildRequested: event(z.strictObject({ projection: z.string() })),
  ProjectionRetryRequested: event(z.strictObject({ projection: z.string() })),

  // services-<process>
  ServicesStartRequested: event(
    z.strictObject({ process: z.string(), services: z.array(z.string()).min(1) }),
  ),
  ServicesStopRequested: event(z.strictObject({ process: z.string(), services: z.array(z.string()).min(1) })),

  // request-<hash of caller and Idempotency-Key>
  RequestAccepted: event(
    z.strictObject({
      /** Keyed SHA-256 of method, path and body (bodies hold passwords): with another one the key is refused. */
      fingerprint: z.string(),
    }),
  ),
  RequestAnswered: event(
    z.strictObject({
      status: z.int(),
      /** JSON text; null where the answer holds a secret or is a stream, and is derived again instead. */
      body: z.string().nullable(),
    }),
    ['body'],
  ),
};
