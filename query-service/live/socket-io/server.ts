/**
 * Agent Chat's Socket.IO (seeds/agent-chat.txt, "WebSocket API"; api-notes B5), at `/socket.io/`. Who begins with
 * polling stays with one process until it has changed to WebSocket: what spreads connections over several has to
 * see to that (deploy/nginx.conf does, by the client's address).
 */
import { randomUUID } from 'node:crypto';
import type { IncomingHttpHeaders, IncomingMessage, ServerResponse } from 'node:http';
import type { Duplex } from 'node:stream';
import { type Socket as Connection, Server as Engine } from 'engine.io';
import { type Socket, Server as SocketIo } from 'socket.io';
import type { Caller } from '../../../contracts/caller.ts';
import { Refusal, refuse } from '../../../contracts/errors.ts';
import { type Seq, socketAuth } from '../../../contracts/live/socket-io.ts';
import type { Authenticator } from '../../../infra/auth/port.ts';
import type { Metrics } from '../../../infra/telemetry/port.ts';
import { cut } from './outbox.ts';
import { parse, type SessionOptions, serveClient } from './session.ts';

export interface SocketIoOptions extends SessionOptions {
  readonly authenticator: Pick<Authenticator, 'authenticate'>;
  readonly metrics: Pick<Metrics, 'liveClient'>;
  /** @throws Refusal FORBIDDEN for what another site's page made a browser send with the user's cookies */
  readonly refuseForeign: (headers: IncomingHttpHeaders) => void;
  /** Origins whose pages may call. */
  readonly corsOrigins: readonly string[];
  /** The address that a request really came from, whatever proxies there are. */
  readonly addressOf: (request: IncomingMessage) => string;
  /** Between pings; a client that answers none for as long is gone. */
  readonly pingMs: number;
}

export interface SocketIoServer {
  /** Whether the path is one of its. */
  owns(path: string): boolean;
  /** Polling. */
  handle(request: IncomingMessage, response: ServerResponse): void;
  upgrade(request: IncomingMessage, stream: Duplex, head: Buffer): void;
  size(): number;
  /** Cuts off all clients: they come again by themselves. */
  close(): void;
}

const PATH = '/socket.io/';
const CLOSE_MS = 1_000;
const LONGEST_PACKET = 256 * 1024;
/** Until a connection has said who it is. */
const CONNECT_MS = 10_000;
const HEADERS = {
  'X-Content-Type-Options': 'nosniff',
  'Referrer-Policy': 'no-referrer',
  'Cache-Control': 'no-store',
};

interface Begin {
  readonly caller: Caller;
  readonly resumed: readonly Seq[];
}

export function createSocketIo(options: SocketIoOptions): SocketIoServer {
  const { logger, metrics } = options;
  const engine = new Engine({
    transports: ['polling', 'websocket'],
    maxHttpBufferSize: LONGEST_PACKET,
    pingInterval: options.pingMs,
    pingTimeout: options.pingMs,
    perMessageDeflate: false,
    httpCompression: false,
    ...(options.corsOrigins.length > 0 && { cors: { origin: [...options.corsOrigins], credentials: true } }),
  });
  engine.on('headers', (headers: Record<string, string>) => void Object.assign(headers, HEADERS));
  const connections = new Set<Connection>();
  engine.on('connection', (connection: Connection) => {
    connections.add(connection);
    connection.once('close', () => connections.delete(connection));
  });
  const io = new SocketIo({ serveClient: false, connectTimeout: CONNECT_MS });
  io.bind(engine);
  let closed = false;

  io.use((socket, next) => {
    begin(socket).then(
      (begun) => {
        socket.data = begun;
        next();
      },
      (error: unknown) => {
        const correlationId = randomUUID();
        if (!(error instanceof Refusal)) {
          logger.error({ err: error, correlationId }, 'A client of Socket.IO could not be let in.');
        }
        const data = options.describe(error, correlationId);
        next(Object.assign(new Error(data.error), { data }));
      },
    );
  });

  /** @throws Refusal */
  async function begin({ handshake }: Socket): Promise<Begin> {
    if (closed) refuse('SERVICE_UNAVAILABLE', 'The server restarts: try again.');
    const { token, apiKey, lastSeq: resumed } = parse(socketAuth, handshake.auth ?? {});
    const { authorization, cookie } = handshake.headers;
    const header = handshake.headers['x-api-key'];
    // A page can make a browser open a connection to anywhere, with cookies; a token it has to know.
    if (token === undefined && apiKey === undefined) options.refuseForeign(handshake.headers);
    const caller = await options.authenticator.authenticate(
      token !== undefined
        ? { authorization: /^bearer /i.test(token) ? token : `Bearer ${token}` }
        : apiKey !== undefined
          ? { apiKey }
          : { authorization, cookie, apiKey: Array.isArray(header) ? header[0] : header },
    );
    if (caller === null) refuse('UNAUTHORIZED', 'No authorization provided');
    if (!caller.permissions.has('chat:read')) refuse('FORBIDDEN', 'This needs the permission chat:read.');
    return { caller, resumed };
  }

  io.on('connection', (socket) => {
    const left = metrics.liveClient('socket.io');
    socket.on('disconnect', left);
    serveClient(socket, options.addressOf(socket.request), socket.data as Begin, options);
  });

  return {
    owns: (path) => path.startsWith(PATH),
    handle: (request, response) => engine.handleRequest(request as never, response),
    upgrade: (request, stream, head) => engine.handleUpgrade(request as never, stream, head),
    size: () => io.of('/').sockets.size,
    close() {
      closed = true;
      // Told to go by the server, clients would not come again: their connections are cut instead.
      for (const connection of connections) {
        // A peer that does not answer the close is cut off soon after.
        setTimeout(cut, CLOSE_MS, connection).unref();
        connection.close(true);
      }
      engine.close();
    },
  };
}
