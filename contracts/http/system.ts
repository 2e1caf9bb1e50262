/** Routes for whatever runs the program: is it ready, and how is it doing. */
import { z } from 'zod';
import { engineStatus } from '../engines.ts';
import { route } from './route.ts';

export const serviceRoles = ['command', 'query', 'projections', 'processes'] as const;
export type ServiceRole = (typeof serviceRoles)[number];

/**
 * Further keys may come. Anybody may read it: it names addresses of engines and says why they cannot be used, and
 * never who logs in there. What faces the internet should pass on none of it (see deploy/nginx.conf).
 */
const health = z.looseObject({
  /** `unavailable`: it runs, but an engine that its roles need does not answer. */
  status: z.enum(['healthy', 'starting', 'unavailable', 'stopping']),
  service: z.literal('odeon'),
  version: z.string(),
  /** RFC 3339. */
  timestamp: z.string(),
  uptimeSeconds: z.number(),
  roles: z.array(z.enum(serviceRoles)),
  engines: z.array(engineStatus),
  /** What it waits for before it can do all that its roles ask: engines that do not answer. Null when for nothing. */
  waitingFor: z.string().nullable(),
});
export type Health = z.infer<typeof health>;

const readiness = { 200: health, 503: health };

export const getHealth = route({
  surface: 'odeon',
  method: 'GET',
  path: '/health',
  summary: 'Whether requests can be served: 200 when they can, 503 until then and during shutdown.',
  access: 'public',
  answers: readiness,
});

export const getReadiness = route({
  ...getHealth,
  path: '/health/ready',
  summary: 'As /health: whether to send requests here.',
});

export const getLiveness = route({
  ...getHealth,
  path: '/health/live',
  summary: 'Whether the process can answer at all: always 200. To be started again when it does not.',
  answers: { 200: health },
});

export const getMetrics = route({
  surface: 'odeon',
  method: 'GET',
  path: '/metrics',
  summary: 'Numbers in the Prometheus text format. They count, and name nobody.',
  access: 'public',
  streams: ['text/plain'],
  answers: { 200: 'stream' },
});

export const systemRoutes = [getHealth, getReadiness, getLiveness, getMetrics] as const;
