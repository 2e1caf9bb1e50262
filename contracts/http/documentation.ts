/** The API's own description, and the pages that show it. */
import { z } from 'zod';
import { asOf } from './parameters.ts';
import { route } from './route.ts';

export const getOpenApi = route({
  surface: 'odeon',
  method: 'GET',
  path: '/openapi.json',
  summary: 'This API as an OpenAPI 3.1 document: every route of all surfaces.',
  access: 'public',
  answers: { 200: z.looseObject({ openapi: z.string() }) },
});

const page = { surface: 'odeon', method: 'GET', access: 'public', streams: ['text/html'] } as const;

export const getDocs = route({
  ...page,
  path: '/docs',
  summary: 'The API to read and to try out in a browser.',
  answers: { 200: 'stream' },
});

export const getDocsFile = route({
  ...page,
  path: '/docs/:file',
  summary: 'What that page consists of.',
  params: z.object({ file: z.string() }),
  streams: ['text/javascript', 'text/css', 'image/png'],
  answers: { 200: 'stream' },
  example: { params: { file: 'swagger-ui.css' } },
});

export const getParity = route({
  surface: 'odeon',
  method: 'GET',
  path: '/api/log/parity/:conversationId',
  summary:
    'One conversation as each surface renders it at one position, reduced to the same canonical form (see ' +
    '`canonicalForm`): the digests are equal, or a surface does not tell the truth.',
  access: 'log:read',
  params: z.object({ conversationId: z.string() }),
  query: z.object({ asOf }),
  example: { params: { conversationId: '0123456789ab' } },
  answers: {
    200: z.strictObject({
      conversationId: z.string(),
      /** What was read: the conversation up to here. */
      position: z.string(),
      equal: z.boolean(),
      canonicalForm: z.string(),
      messages: z.int(),
      /** SHA-256 (hexadecimal) of the canonical form, by surface. */
      digests: z.record(z.string(), z.string()),
      /** The first messages that are not the same everywhere, with the canonical form that each surface gives. */
      differences: z.array(
        z.strictObject({ messageId: z.string(), surfaces: z.record(z.string(), z.unknown()) }),
      ),
    }),
  },
});

export const documentationRoutes = [getOpenApi, getDocs, getDocsFile, getParity] as const;
