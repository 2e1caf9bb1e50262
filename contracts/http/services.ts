/**
 * Agent Chat's management of services (seeds/agent-chat.txt): those of the process that answers, shown as its clients
 * know containers. What serves HTTP goes on: nobody could start the others again.
 */
import { z } from 'zod';
import { serviceProfiles } from '../services.ts';
import { route } from './route.ts';

const names = z.array(z.string().max(100)).min(1).max(100);

export const startServices = route({
  surface: 'agent-chat',
  method: 'POST',
  path: '/api/cli/start',
  summary:
    'Starts services of the process that answers: those of a profile (`simple`: what is needed to chat; `full`: all, ' +
    'which is the default), or those that are named. What runs already goes on.',
  access: 'services:manage',
  rateLimit: 'default',
  example: { body: { profile: 'simple' } },
  body: z
    .strictObject({
      profile: z.enum(serviceProfiles, { error: `a profile is ${serviceProfiles.join(' or ')}` }).optional(),
      services: names.optional(),
    })
    .refine(({ profile, services }) => profile === undefined || services === undefined, {
      error: 'give a profile or services, not both',
      path: ['profile'],
    })
    .prefault({}),
  answers: {
    200: z.strictObject({
      success: z.literal(true),
      message: z.string(),
      /** Those that were asked for: they run now. */
      services: z.array(z.string()),
    }),
  },
});

export const stopServices = route({
  surface: 'agent-chat',
  method: 'POST',
  path: '/api/cli/stop',
  summary:
    'Stops the services of the process that answers, or those that are named. Without `projections` reads stay as ' +
    'they are (and say `X-Read-Model: behind`); without `turns` messages wait for their answers.',
  access: 'services:manage',
  rateLimit: 'default',
  example: { body: { services: ['search'] } },
  body: z.strictObject({ services: names.optional() }).prefault({}),
  answers: {
    200: z.strictObject({
      success: z.literal(true),
      message: z.string(),
      /** Those that were asked for: they are stopped now. */
      services: z.array(z.string()),
    }),
  },
});

export const serviceStatus = route({
  surface: 'agent-chat',
  method: 'GET',
  path: '/api/cli/status',
  summary: 'How the services of the process that answers are doing.',
  access: 'services:manage',
  rateLimit: 'default',
  answers: {
    200: z.strictObject({
      containers: z.array(
        z.strictObject({
          name: z.string(),
          /** `Up 2 hours`, or `Exited (0) 5 minutes ago`. */
          status: z.string(),
          /** Of the process that it is part of; empty while it is stopped. */
          ports: z.string(),
          image: z.string(),
          state: z.enum(['running', 'exited']),
          /** Since it was started; 0 while it is stopped. */
          uptime_seconds: z.int(),
        }),
      ),
    }),
  },
});

/** In this order a visit of each leaves them running. */
export const serviceRoutes = [stopServices, startServices, serviceStatus] as const;
