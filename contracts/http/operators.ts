/** Routes for operators: the log as it is, and the projections that read it. */
import { z } from 'zod';
import { eventEnvelope, type Position, position } from '../envelope.ts';
import { catalogue, type EventType } from '../events/catalogue.ts';
import { projectionStatus, setAsideEvent } from '../projections.ts';
import { limit } from './parameters.ts';
import { route } from './route.ts';

const eventType = z.enum(Object.keys(catalogue) as [EventType, ...EventType[]]);
const event = eventEnvelope.extend({ actor: eventEnvelope.shape.actor.strict() }).strict();

/** Which events of the log are asked for. */
export const eventFilter = {
  stream: z.string().optional(),
  /** Repeated or separated by commas: any of them. */
  type: z
    .union([z.string(), z.array(z.string())])
    .transform((value) => [value].flat().flatMap((names) => names.split(',')))
    .pipe(z.array(eventType))
    .optional(),
  owner: z.string().optional(),
  correlationId: z.string().optional(),
};

/** What is left of the log where a descending page ended: after the first and before the second position. */
const remainder = z.templateLiteral([position, '..', position]).transform((text) => {
  const [after, before] = text.split('..') as [Position, Position];
  return { after, before };
});

export const listEvents = route({
  surface: 'odeon',
  method: 'GET',
  path: '/api/log/events',
  summary:
    'The events of the log, oldest first, or newest first with `order=desc`. `next` continues: pass it as ' +
    '`from`, with everything else as it was; null when there is nothing more.',
  access: 'log:read',
  query: z.strictObject({
    ...eventFilter,
    /** After this position, and up to and including that one, whatever the order; or `from` is a `next`. */
    from: z
      .union([position.transform((after) => ({ after, before: undefined })), remainder], {
        error: 'from is a position (as X-Event-Position gave it), or the `next` of a page',
      })
      .optional(),
    to: position.optional(),
    limit: limit(1_000, 100),
    order: z.enum(['asc', 'desc']).default('asc'),
  }),
  answers: { 200: z.strictObject({ events: z.array(event), next: z.string().nullable() }) },
});

export const readStream = route({
  surface: 'odeon',
  method: 'GET',
  path: '/api/log/streams/:stream',
  summary:
    'The events of one stream from the revision `from` (included), oldest first, or newest first with ' +
    '`order=desc`. `next` is the `from` that continues; null when there is nothing more.',
  access: 'log:read',
  params: z.object({ stream: z.string() }),
  query: z.strictObject({
    from: z.coerce.number().int().nonnegative().optional(),
    limit: limit(1_000, 100),
    order: z.enum(['asc', 'desc']).default('asc'),
  }),
  answers: {
    200: z.strictObject({ stream: z.string(), events: z.array(event), next: z.int().nullable() }),
  },
});

const nameParams = z.object({ name: z.string() });
const status = projectionStatus.strict();

export const listProjections = route({
  surface: 'odeon',
  method: 'GET',
  path: '/api/projections',
  summary: 'Where each projection stands.',
  access: 'log:read',
  answers: { 200: z.strictObject({ projections: z.array(status) }) },
});

export const rebuildProjection = route({
  surface: 'odeon',
  method: 'POST',
  path: '/api/projections/:name/rebuild',
  summary: 'Fills a new copy from the beginning of the log and switches over when it has caught up.',
  access: 'projections:manage',
  params: nameParams,
  answers: { 202: z.strictObject({ projection: z.string(), status: z.literal('rebuilding') }) },
});

export const listFailures = route({
  surface: 'odeon',
  method: 'GET',
  path: '/api/projections/:name/failures',
  summary: 'The events that a projection could not apply, and those that wait behind them.',
  access: 'log:read',
  params: nameParams,
  answers: { 200: z.strictObject({ failures: z.array(setAsideEvent.strict()) }) },
});

export const retryFailures = route({
  surface: 'odeon',
  method: 'POST',
  path: '/api/projections/:name/failures/retry',
  summary: 'Applies what was set aside again, in order.',
  access: 'projections:manage',
  params: nameParams,
  answers: {
    200: z.strictObject({ applied: z.int(), failed: z.int(), waiting: z.int() }),
  },
});

export const operatorRoutes = [
  listEvents,
  readStream,
  listProjections,
  rebuildProjection,
  listFailures,
  retryFailures,
] as const;
