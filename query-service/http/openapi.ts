/** Writes the OpenAPI 3.1 document from the route table: the schemas in it are those that parse the requests. */
import { z } from 'zod';
import { createDocument, type ZodOpenApiOperationObject, type ZodOpenApiPathsObject } from 'zod-openapi';
import type { RouteContract, RouteSurface } from '../../contracts/http/route.ts';

const surfaces: Readonly<Record<RouteSurface, { readonly tag: string; readonly description: string }>> = {
  luna: { tag: 'Luna Chat', description: 'camelCase, bare objects; errors `{error, details?}`.' },
  trinity: { tag: 'Trinity', description: 'snake_case, bare objects and arrays; errors `{detail}`.' },
  'agent-chat': {
    tag: 'Agent Chat',
    description: 'snake_case; errors `{success: false, error, details, code, timestamp}`.',
  },
  zerg: { tag: 'ZERG', description: '`{ok: true, data}`; errors `{ok: false, error}`.' },
  odeon: {
    tag: 'Odeon',
    description: 'For operators: health, the log, projections. Errors as in Luna Chat.',
  },
};

const issue = z.object({ path: z.array(z.union([z.string(), z.number()])), message: z.string() });
const luna = z
  .looseObject({ error: z.string(), details: z.array(issue).optional() })
  .meta({ id: 'LunaError', example: { error: 'Session not found.' } });
const agentChatFields = {
  success: z.literal(false),
  details: z.string(),
  code: z.string(),
  timestamp: z.iso.datetime(),
};
const errors = {
  luna,
  odeon: luna,
  trinity: z
    .looseObject({
      detail: z.union([z.string(), z.array(z.looseObject({ msg: z.string() })), z.looseObject({})]),
    })
    .meta({ id: 'TrinityError', example: { detail: 'Agent not found.' } }),
  'agent-chat': z.looseObject({ error: z.string(), ...agentChatFields }).meta({
    id: 'AgentChatError',
    example: {
      success: false,
      error: 'Conversation not found.',
      details: 'Conversation not found.',
      code: 'NOT_FOUND',
      timestamp: '2026-11-22T10:00:00.000Z',
    },
  }),
  openai: z
    .looseObject({
      error: z.looseObject({
        message: z.string(),
        type: z.string(),
        param: z.string().nullable(),
        code: z.string().nullable(),
      }),
      ...agentChatFields,
    })
    .meta({ id: 'OpenAiError' }),
  graphql: z
    .looseObject({
      errors: z.array(
        z.looseObject({ message: z.string(), extensions: z.looseObject({ code: z.string() }).optional() }),
      ),
    })
    .meta({ id: 'GraphqlError' }),
  zerg: z
    .looseObject({ ok: z.literal(false), error: z.string() })
    .meta({ id: 'ZergError', example: { ok: false, error: 'Session not found.' } }),
} satisfies Record<RouteSurface | 'openai' | 'graphql', z.ZodType>;

const statuses: Readonly<Record<number, string>> = {
  200: 'Done.',
  201: 'Made.',
  202: 'Accepted: it is being done.',
  204: 'Done: there is nothing to say.',
  400: 'The request is not sound; the body says which field.',
  401: 'No credential, or one that does not hold (any more).',
  403: 'The credential does not permit it.',
  404: 'There is no such thing, or none that the caller may see.',
  409: 'It does not go with what is there, or the Idempotency-Key belongs to another request.',
  413: 'The body is too large.',
  415: 'The body is of another media type.',
  422: 'It does not fit its schema, or the Idempotency-Key came with another request before.',
  429: 'Too many: Retry-After says when to come again.',
  502: 'No model answered.',
  503: 'Not now: Retry-After says when to come again.',
  504: 'It takes longer than a request may; the body says where to look.',
};
const describe = (status: number): string => statuses[status] ?? `Status ${status}.`;

const position = z.string().meta({
  description: 'What the answer is as fresh as: a position of the log.',
  example: '1042',
});

/** What any route of the kind may answer, beside what it says itself. */
function refusalsOf(contract: RouteContract): number[] {
  const { access, surface, params, query, body, method, rateLimit } = contract;
  const changes = method !== 'GET';
  return [
    400,
    // The Idempotency-Key of another request; and Trinity's way to say that something does not fit its schema.
    ...(changes || (surface === 'trinity' && (params || query || body)) ? [422] : []),
    // Public commands bring their credential in the body.
    ...(access === 'public' && !changes ? [] : [401]),
    ...(access === 'public' || access === 'authenticated' ? (changes ? [403] : []) : [403]),
    ...(params === undefined ? [] : [404]),
    ...(changes ? [409] : []),
    ...(body === undefined ? [] : [413, 415]),
    ...(rateLimit === undefined && !(changes && access === 'public') ? [] : [429]),
    503,
  ];
}

type Responses = NonNullable<ZodOpenApiOperationObject['responses']>;

function responsesOf(contract: RouteContract): Responses {
  const error = errors[contract.errors ?? contract.surface];
  const responses: Responses = {};
  for (const status of refusalsOf(contract)) {
    responses[`${status as 400}`] = {
      description: describe(status),
      content: { 'application/json': { schema: error } },
    };
  }
  for (const [status, answer] of Object.entries(contract.answers)) {
    const streams = contract.streams ?? (answer === 'stream' ? ['text/event-stream'] : []);
    const text = Object.fromEntries(
      (status === '200' ? streams : []).map((type) => [
        type,
        type.startsWith('text/') && type !== 'text/event-stream' ? { schema: z.string() } : {},
      ]),
    );
    const example = contract.example?.answer;
    const json =
      typeof answer === 'string'
        ? {}
        : {
            'application/json': {
              schema: answer,
              ...(status.startsWith('2') && example !== undefined && { example }),
            },
          };
    const content = { ...json, ...text };
    responses[`${Number(status) as 200}`] = {
      description: describe(Number(status)),
      headers: z.object({ 'X-Event-Position': position.optional() }),
      ...(Object.keys(content).length > 0 && { content }),
    };
  }
  return responses;
}

/** `GET /api/chat/sessions/:id` → `getApiChatSessionsId`. */
const operationIdOf = ({ method, path }: RouteContract): string =>
  method.toLowerCase() +
  path
    .split(/[^A-Za-z0-9]+/)
    .filter((part) => part !== '')
    .map((part) => part[0]!.toUpperCase() + part.slice(1))
    .join('');

/** The object among the wrappers (defaults, pipes) that a schema may have around it. */
function objectIn(schema: z.ZodType | undefined): z.ZodObject | undefined {
  let current = schema as z.ZodType | undefined;
  while (current !== undefined && !(current instanceof z.ZodObject)) {
    const { def } = current as unknown as { def: { innerType?: z.ZodType; in?: z.ZodType } };
    current = def.innerType ?? def.in;
  }
  return current;
}

function withExamples(
  schema: z.ZodObject | undefined,
  examples: object | undefined,
): z.ZodObject | undefined {
  if (schema === undefined || examples === undefined) return schema;
  const shape: Record<string, z.ZodType> = { ...(schema.shape as Record<string, z.ZodType>) };
  for (const [name, example] of Object.entries(examples)) {
    const parameter = shape[name];
    if (parameter === undefined) throw new Error(`There is no parameter ${name} to give an example of.`);
    shape[name] = parameter.meta({ ...parameter.meta(), example });
  }
  return z.object(shape);
}

/** Path parameters that the route reads without a schema of its own are any text. */
function pathParametersOf({ path, params }: RouteContract): z.ZodObject | undefined {
  const names = [...path.matchAll(/:(\w+)/g)].map(([, name]) => name!);
  if (names.length === 0) return undefined;
  const known = objectIn(params)?.shape as Record<string, z.ZodType> | undefined;
  return z.object(Object.fromEntries(names.map((name) => [name, known?.[name] ?? z.string()])));
}

function operationOf(contract: RouteContract): ZodOpenApiOperationObject {
  const { summary, surface, access, body, bodyType, example, method } = contract;
  const path = withExamples(pathParametersOf(contract), example?.params);
  const query = withExamples(objectIn(contract.query), example?.query);
  const permission = access === 'public' || access === 'authenticated' ? null : [access].flat().join(' or ');
  const content = body && { schema: body, ...(example?.body !== undefined && { example: example.body }) };
  return {
    operationId: operationIdOf(contract),
    tags: [surfaces[surface].tag],
    summary,
    ...(permission !== null && { description: `Needs the permission \`${permission}\`.` }),
    ...(access === 'public' && { security: [] }),
    requestParams: {
      ...(path && { path }),
      ...(query && { query }),
      ...(method !== 'GET' && {
        header: z.object({
          'Idempotency-Key': z
            .string()
            .min(1)
            .max(200)
            .regex(/^[\x21-\x7e]+$/)
            .optional()
            .meta({ description: 'The same request again with the same key is done once.' }),
        }),
      }),
    },
    ...(content && {
      requestBody: {
        content: {
          'application/json': content,
          ...(bodyType === 'form' && { 'application/x-www-form-urlencoded': content }),
        },
      },
    }),
    responses: responsesOf(contract),
  };
}

/**
 * @param routes of which those between services are left out: nobody else can call them
 * @returns the document as plain JSON
 */
export function openApiDocument(routes: readonly RouteContract[], version: string): object {
  const paths: Record<string, Record<string, ZodOpenApiOperationObject>> = {};
  for (const contract of routes) {
    if (contract.access === 'service') continue;
    const path = contract.path.replace(/:(\w+)/g, '{$1}');
    paths[path] = { ...paths[path], [contract.method.toLowerCase()]: operationOf(contract) };
  }
  return createDocument(
    {
      openapi: '3.1.0',
      info: {
        title: 'Odeon',
        version,
        description:
          'An event-sourced backend for AI chat and agents. Four chat APIs over one domain: a conversation begun on ' +
          'one can be read on every other. Each has its own names, envelope and errors. Times are RFC 3339 in UTC ' +
          'where not said otherwise, money is in US dollars. Live feeds are server-sent events with an `id:` to ' +
          'resume after (`Last-Event-ID`, or `?lastEventId=`).',
      },
      servers: [{ url: '/' }],
      tags: Object.values(surfaces).map(({ tag, description }) => ({ name: tag, description })),
      security: [{ bearer: [] }, { apiKey: [] }, { session: [] }],
      paths: paths as ZodOpenApiPathsObject,
      components: {
        securitySchemes: {
          bearer: {
            type: 'http',
            scheme: 'bearer',
            description: 'An access token of a login, or an API key.',
          },
          apiKey: { type: 'apiKey', in: 'header', name: 'X-API-Key' },
          session: { type: 'apiKey', in: 'cookie', name: 'session' },
        },
      },
    },
    { reused: 'inline' },
  );
}
