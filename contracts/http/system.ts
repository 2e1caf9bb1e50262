/** Routes for whatever runs the program: is it ready, and how is it doing. */
import { z } from 'zod';
import { engineStatus } from '../engines.ts';
import { route } from './route.ts';

export const serviceRoles = ['command', 'query', 'projections', 'processes'] as const;
export type ServiceRole = (typeof serviceRoles)[number];

const part = z.object({ enabled: z.boolean(), status: z.string() });

/**
 * Agent Chat's keys, and those of this program. Further keys may come. Anybody may read it: it names addresses of engines and says why they cannot be used, and
 * never who logs in there. What faces the internet should pass on none of it (see deploy/nginx.conf).
 */
const health = z.looseObject({
  /** `unavailable`: it runs, but an engine that its roles need does not answer. */
  status: z.enum(['healthy', 'starting', 'unavailable', 'stopping']),
  /** What Agent Chat's clients look for. */
  service: z.literal('bluefly-enterprise-chat'),
  product: z.literal('odeon'),
  version: z.string(),
  /** RFC 3339. */
  timestamp: z.string(),
  uptimeSeconds: z.number(),
  roles: z.array(z.enum(serviceRoles)),
  engines: z.array(engineStatus),
  /** What it waits for before it can do all that its roles ask: engines that do not answer. Null when for nothing. */
  waitingFor: z.string().nullable(),
  /** Addresses of what plays these parts here; null where this program does so itself, or nothing does. */
  ecosystem: z.object({
    gateway: z.string().nullable(),
    vector: z.string().nullable(),
    tddai: z.string().nullable(),
  }),
  voice: part,
  /** What the program that Agent Chat was built on brought along, and who uses it: false is what is not here. */
  librechat: z.object({
    enhanced: z.boolean(),
    kagent: z.boolean(),
    ossa: z.boolean(),
    agentStudio: z.boolean(),
  }),
  consumers: z.object({ drupal: z.boolean(), llmPlatform: z.boolean() }),
  /** How many features this deployment has, and where they are listed. */
  rocketship: z.object({
    enabled: z.boolean(),
    features: z.int(),
    statusEndpoint: z.literal('/api/rocketship/status'),
  }),
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

export const getInfo = route({
  surface: 'agent-chat',
  method: 'GET',
  path: '/api/info',
  summary: 'What this deployment is, what it can do, and where.',
  access: 'public',
  rateLimit: 'default',
  answers: {
    200: z.strictObject({
      name: z.string(),
      description: z.string(),
      version: z.string(),
      features: z.array(z.string()),
      endpoints: z.record(z.string(), z.string()),
    }),
  },
});

export const getFeatures = route({
  surface: 'agent-chat',
  method: 'GET',
  path: '/api/rocketship/status',
  summary: 'The features that are known, and which of them this deployment has.',
  access: 'public',
  rateLimit: 'default',
  answers: {
    200: z.strictObject({
      enabled: z.boolean(),
      /** Of those that are here. */
      count: z.int(),
      features: z.array(
        z.strictObject({ name: z.string(), enabled: z.boolean(), endpoint: z.string().nullable() }),
      ),
      timestamp: z.string(),
    }),
  },
});

export const systemRoutes = [getHealth, getReadiness, getLiveness, getMetrics, getInfo, getFeatures] as const;
