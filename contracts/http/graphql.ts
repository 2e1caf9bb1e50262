/**
 * Agent Chat's GraphQL over HTTP (seeds/agent-chat.txt, api-notes B4). Over WebSocket it is at the same path
 * (subprotocol `graphql-transport-ws`). What is asked and answered says the schema: a query for `__schema` tells it.
 */
import { z } from 'zod';
import { route } from './route.ts';

/** Characters of a document. */
export const LONGEST_QUERY = 20_000;

const query = z
  .string('must be a GraphQL document')
  .max(LONGEST_QUERY, `must have at most ${LONGEST_QUERY} characters`);

/** As GraphQL has it: what was asked for, and what went wrong with parts of it. */
const result = z.looseObject({
  data: z.record(z.string(), z.unknown()).nullish(),
  errors: z
    .array(
      z.looseObject({
        message: z.string(),
        extensions: z.looseObject({ code: z.string().optional() }).optional(),
      }),
    )
    .optional(),
});

export const postGraphql = route({
  surface: 'agent-chat',
  method: 'POST',
  path: '/graphql',
  summary:
    'Carries out a GraphQL operation. A subscription is answered with server-sent events (`next`, `complete`), where ' +
    'Accept names them. One operation a request. What an operation may do, its fields say.',
  access: 'authenticated',
  rateLimit: 'default',
  // Mutations are passed on as commands, each with an id of its own; so this is served where it is read.
  reads: true,
  errors: 'graphql',
  body: z.object({
    query,
    variables: z.record(z.string(), z.unknown()).nullish(),
    operationName: z.string().nullish(),
    extensions: z.record(z.string(), z.unknown()).nullish(),
  }),
  streams: ['text/event-stream'],
  answers: { 200: result },
  example: { body: { query: '{ conversations(limit: 10) { id title messageCount } }' } },
});

export const getGraphql = route({
  surface: 'agent-chat',
  method: 'GET',
  path: '/graphql',
  summary:
    'GraphiQL, where a browser asks for a page; else carries out the query or subscription in `query`, for whoever is ' +
    'logged in.',
  access: 'public',
  rateLimit: 'default',
  errors: 'graphql',
  query: z.object({
    query: query.optional(),
    variables: z.string().optional(),
    operationName: z.string().optional(),
    extensions: z.string().optional(),
  }),
  streams: ['text/event-stream', 'text/html'],
  answers: { 200: result },
});

export const graphqlRoutes = [postGraphql, getGraphql] as const;
