/** Agent Chat's GraphQL: over HTTP (with server-sent events for subscriptions) and over WebSocket, at `/graphql`. */
import { randomUUID } from 'node:crypto';
import type { IncomingHttpHeaders, IncomingMessage } from 'node:http';
import type { Duplex } from 'node:stream';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { type ExecutionArgs, GraphQLError, MaxIntrospectionDepthRule, type ValidationRule } from 'graphql';
import type { Context as ConnectionContext } from 'graphql-ws';
import { type Extra, useServer } from 'graphql-ws/use/ws';
import { createSchema, createYoga, type Plugin } from 'graphql-yoga';
import { WebSocketServer } from 'ws';
import { z } from 'zod';
import type { Caller } from '../../contracts/caller.ts';
import { Refusal, refuse } from '../../contracts/errors.ts';
import { getGraphql, LONGEST_QUERY, postGraphql } from '../../contracts/http/graphql.ts';
import type { Authenticator, Credentials } from '../../infra/auth/port.ts';
import {
  callerOf,
  type Endpoint,
  endpoint,
  type RequestContext,
  type StreamAnswer,
} from '../../infra/http/port.ts';
import type { Logger } from '../../infra/telemetry/port.ts';
import type { WatchedLogin } from '../live/logins.ts';
import type { Upgrade } from '../live/websocket.ts';
import { createErrorMask, type Describe } from './errors.ts';
import { checkLimits, checkSize, limits } from './limits.ts';
import { graphiqlPage } from './page.ts';
import { type Context, createLoaders, createResolvers, type ResolverDependencies } from './resolvers.ts';
import { typeDefs } from './schema.ts';

export interface GraphqlOptions extends ResolverDependencies {
  readonly authenticator: Pick<Authenticator, 'authenticate'>;
  readonly logger: Logger;
  readonly describe: Describe;
  /** @throws Refusal FORBIDDEN for what another site's page made a browser send with the user's cookies */
  readonly refuseForeign: (headers: IncomingHttpHeaders) => void;
  /** The address that a request really came from, whatever proxies there are. */
  readonly addressOf: (request: IncomingMessage) => string;
  /** Between pings; a client that does not answer one until the next is gone. */
  readonly pingMs: number;
}

export interface Graphql {
  readonly endpoints: readonly Endpoint[];
  readonly upgrade: Upgrade;
  size(): number;
  /** Tells all clients and ends their connections. */
  close(): void;
}

const PATH = /^\/graphql\/?$/;
const LONGEST_FRAME = 256 * 1024;
/** Until a connection has said who it is. */
const CONNECT_MS = 10_000;
const MAX_OPERATIONS = 100;
/** As the protocol has them. */
const CLOSE = { restart: 1012, unauthorised: 4401, forbidden: 4403, tooMany: 4429 } as const;

/** What one operation may ask for. */
const limiting: Plugin = {
  onParse: ({ params }) => {
    const { length } = String(params.source);
    if (length > LONGEST_QUERY) {
      throw badRequest(`The document has ${length} of at most ${LONGEST_QUERY} characters.`);
    }
    params.options = { ...params.options, maxTokens: limits.tokens };
  },
  onValidate: ({ params, addValidationRule, setResult }) => {
    const errors = checkSize(params.documentAST);
    if (errors.length > 0) setResult(errors);
    else addValidationRule(MaxIntrospectionDepthRule as ValidationRule);
  },
  onExecute: ({ args, setResultAndStopExecution }) => {
    const errors = excessOf(args);
    if (errors.length > 0) setResultAndStopExecution({ errors });
  },
  onSubscribe: ({ args, setResultAndStopExecution }) => {
    const errors = excessOf(args);
    if (errors.length > 0) setResultAndStopExecution({ errors });
  },
};
const excessOf = ({
  document,
  operationName,
  variableValues,
}: Pick<ExecutionArgs, 'document' | 'operationName' | 'variableValues'>) =>
  checkLimits(document, operationName, variableValues ?? {});
const badRequest = (message: string): GraphQLError =>
  new GraphQLError(message, { extensions: { code: 'BAD_REQUEST', http: { status: 400 } } });

export function createGraphql(options: GraphqlOptions): Graphql {
  const { authenticator, logger, logins } = options;
  const mask = createErrorMask(options.describe, logger);
  const yoga = createYoga<Context>({
    schema: createSchema<Context>({ typeDefs, resolvers: createResolvers(options) as never }),
    plugins: [limiting],
    maskedErrors: { maskError: mask },
    graphqlEndpoint: '/graphql',
    batching: false,
    multipart: false,
    cors: false,
    graphiql: false,
    landingPage: false,
    // Masked errors are logged where they are masked.
    logging: false,
    // Node's own: their streams end at once when their reader goes.
    fetchAPI: { fetch, Request, Response, Headers, ReadableStream, TransformStream, URL, URLSearchParams },
  });

  const contextOf = (from: Omit<Context, 'loaders'>): Context => ({
    ...from,
    loaders: createLoaders(options),
  });

  // ── over HTTP ───────────────────────────────────────────────────────────
  async function answer(request: Request, caller: Caller, context: RequestContext): Promise<StreamAnswer> {
    const { address, correlationId, signal } = context;
    const response = await yoga.fetch(request, contextOf({ caller, address, correlationId, signal }));
    // It says that nothing is compressed in a word that is no coding.
    response.headers.delete('content-encoding');
    const headers = Object.fromEntries(response.headers);
    const { status, body } = response;
    if (headers['content-type']?.startsWith('text/event-stream') && body !== null) {
      return {
        async stream(to) {
          to.writeHead(status, {
            ...headers,
            'Cache-Control': 'no-cache, no-transform',
            'X-Accel-Buffering': 'no',
          });
          to.flushHeaders();
          // Its reader goes: the subscription ends with it.
          await pipeline(Readable.fromWeb(body as never), to).catch(() => to.destroy());
        },
      };
    }
    const text = await response.text();
    return {
      stream(to) {
        to.writeHead(status, { ...headers, 'Content-Length': Buffer.byteLength(text) }).end(text);
      },
    };
  }

  /** Of what is asked over HTTP, the parts that say what is wanted. */
  const requestOf = (context: RequestContext, url: string, body?: object): Request =>
    new Request(`http://localhost${url}`, {
      method: body === undefined ? 'GET' : 'POST',
      headers: { accept: String(context.headers.accept ?? '*/*'), 'content-type': 'application/json' },
      ...(body !== undefined && { body: JSON.stringify(body) }),
      signal: context.signal,
    });

  const endpoints: Endpoint[] = [
    endpoint(postGraphql, async ({ body, context }) => {
      options.refuseForeign(context.headers as IncomingHttpHeaders);
      const { query, variables, operationName, extensions } = body;
      const asked = {
        query,
        ...(variables && { variables }),
        ...(operationName && { operationName }),
        ...(extensions && { extensions }),
      };
      return answer(requestOf(context, '/graphql', asked), callerOf(context), context);
    }),

    endpoint(getGraphql, async ({ query, context }) => {
      const { accept = '*/*' } = context.headers;
      const isPage = query.query === undefined && /text\/html|\*\/\*/.test(String(accept));
      if (isPage) {
        const { bytes, headers } = await graphiqlPage();
        return {
          stream(to) {
            if (context.headers['if-none-match'] === headers.ETag) to.writeHead(304, headers).end();
            else to.writeHead(200, { ...headers, 'Content-Length': bytes.length }).end(bytes);
          },
        };
      }
      const caller = await authenticator.authenticate(credentialsIn(context.headers));
      if (caller === null) refuse('UNAUTHORIZED', 'No authorization provided');
      const search = new URLSearchParams(
        Object.entries(query).filter((entry): entry is [string, string] => entry[1] !== undefined),
      );
      return answer(requestOf(context, `/graphql?${search}`), caller, context);
    }),
  ];

  // ── over WebSocket ──────────────────────────────────────────────────────
  interface Connected {
    readonly login: WatchedLogin;
    readonly gone: AbortController;
  }
  type Connection = ConnectionContext<Record<string, unknown>, Extra & Partial<Connected>>;

  const acceptor = new WebSocketServer({ noServer: true, clientTracking: true, maxPayload: LONGEST_FRAME });
  useServer<Record<string, unknown>, Partial<Connected>>(
    {
      connectionInitWaitTimeout: CONNECT_MS,

      async onConnect(connection) {
        try {
          await connect(connection as Connection);
          return true;
        } catch (error) {
          const { message, extensions } = options.describe(error, randomUUID());
          const unauthorised = extensions.code === 'UNAUTHENTICATED';
          if (!(error instanceof Refusal))
            logger.error({ err: error }, 'A GraphQL client could not be let in.');
          connection.extra.socket.close(
            unauthorised ? CLOSE.unauthorised : CLOSE.forbidden,
            message.slice(0, 100),
          );
          return false;
        }
      },

      async onSubscribe(connection, id, payload) {
        const { login, gone, socket, request } = connection.extra as Connection['extra'] & Connected;
        try {
          if (Object.keys(connection.subscriptions).length > MAX_OPERATIONS) {
            socket.close(CLOSE.tooMany, `at most ${MAX_OPERATIONS} operations at once`);
            return [];
          }
          // Every operation asks anew who it is from.
          const caller = await login.check();
          if (caller === null) return [mask(new Refusal('UNAUTHORIZED', 'The login is no longer valid.'))];
          const address = options.addressOf(request);
          await options.limit('default', caller, address);
          const { signal } = gone;
          const context = contextOf({ caller, address, correlationId: randomUUID(), signal });
          const { schema, parse, validate, contextFactory, execute, subscribe } = yoga.getEnveloped({
            ...context,
            params: payload,
            connectionId: id,
          } as never);
          const document = parse(payload.query);
          const errors = validate(schema, document);
          if (errors.length > 0) return errors.map(mask);
          return {
            schema,
            document,
            operationName: payload.operationName ?? null,
            variableValues: payload.variables ?? null,
            contextValue: await contextFactory(),
            rootValue: { execute, subscribe },
          } as unknown as ExecutionArgs;
        } catch (error) {
          return [mask(error)];
        }
      },
      execute: (args) => (args.rootValue as Root).execute({ ...args, rootValue: undefined }),
      subscribe: (args) => (args.rootValue as Root).subscribe({ ...args, rootValue: undefined }),
      onError: (_connection, _id, _payload, errors) => errors.map((error) => mask(error).toJSON()),
      onDisconnect: ({ extra }) => leave(extra as Connection['extra']),
      onClose: ({ extra }) => leave(extra as Connection['extra']),
    },
    acceptor,
    options.pingMs,
  );

  function leave({ login, gone }: Connection['extra']): void {
    login?.forget();
    gone?.abort();
  }

  /** @throws Refusal */
  async function connect({ connectionParams, extra }: Connection): Promise<void> {
    const { socket, request } = extra;
    const parsed = initPayload.safeParse(connectionParams ?? {});
    if (!parsed.success)
      refuse('UNAUTHORIZED', 'The payload of connection_init holds no credential as text.');
    const said = parsed.data;
    const named = Object.keys(said).length > 0;
    // A page can make a browser open a WebSocket to anywhere, with cookies; a token it has to know.
    if (!named) options.refuseForeign(request.headers);
    const caller = await authenticator.authenticate(named ? said : credentialsIn(request.headers));
    if (caller === null) refuse('UNAUTHORIZED', 'No authorization provided');
    const end = () => socket.close(CLOSE.forbidden, 'the login is no longer valid');
    const login = logins.watch(caller, { may: () => true, end });
    Object.assign(extra, { login, gone: new AbortController() } satisfies Connected);
    if (socket.readyState !== socket.OPEN) leave(extra);
  }

  let closed = false;
  return {
    endpoints,
    upgrade: {
      owns: (path) => PATH.test(path),
      take(request, stream: Duplex, head) {
        if (closed) {
          stream.destroy();
          return;
        }
        acceptor.handleUpgrade(request, stream, head, (socket) =>
          acceptor.emit('connection', socket, request),
        );
      },
    },
    size: () => acceptor.clients.size,
    close() {
      closed = true;
      for (const socket of acceptor.clients) {
        socket.close(CLOSE.restart, 'the server restarts');
        // A peer that does not answer the close is cut off soon after.
        setTimeout(() => socket.terminate(), 1_000).unref();
      }
    },
  };
}

interface Root {
  execute(args: ExecutionArgs): never;
  subscribe(args: ExecutionArgs): never;
}

function credentialsIn(
  headers: Readonly<Record<string, string | readonly string[] | undefined>>,
): Credentials {
  const one = (name: string): string | undefined => {
    const value = headers[name];
    return typeof value === 'string' ? value : value?.[0];
  };
  return { authorization: one('authorization'), cookie: one('cookie'), apiKey: one('x-api-key') };
}

const bearer = (token: string): string => (/^bearer /i.test(token) ? token : `Bearer ${token}`);
const token = z.string().min(1).max(8_192).optional();
/** The credential in `connection_init.payload`, under any of the names that clients give it. */
const initPayload = z
  .looseObject({
    Authorization: token,
    authorization: token,
    authToken: token,
    token,
    accessToken: token,
    apiKey: token,
    'X-API-Key': token,
    'x-api-key': token,
  })
  .transform((said): Credentials => {
    const authorization =
      said.Authorization ?? said.authorization ?? said.authToken ?? said.token ?? said.accessToken;
    const apiKey = said.apiKey ?? said['X-API-Key'] ?? said['x-api-key'];
    return {
      ...(authorization !== undefined && { authorization: bearer(authorization) }),
      ...(authorization === undefined && apiKey !== undefined && { apiKey }),
    };
  });
