/** Routes for whatever runs the program: is it ready, and how is it doing. */
import { z } from 'zod';
import { route } from './route.ts';

/** Further keys may come. */
const health = z.looseObject({
  status: z.enum(['healthy', 'starting', 'stopping']),
  service: z.literal('odeon'),
  version: z.string(),
  /** RFC 3339. */
  timestamp: z.string(),
  uptimeSeconds: z.number(),
});
export type Health = z.infer<typeof health>;

export const getHealth = route({
  surface: 'odeon',
  method: 'GET',
  path: '/health',
  summary: 'Whether requests can be served: 200 when they can, 503 until then and during shutdown.',
  access: 'public',
  answers: { 200: health, 503: health },
});

export const getMetrics = route({
  surface: 'odeon',
  method: 'GET',
  path: '/metrics',
  summary: 'Numbers in the Prometheus text format. They count, and name nobody.',
  access: 'public',
  answers: { 200: 'stream' },
});
