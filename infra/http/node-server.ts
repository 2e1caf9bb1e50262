/** The HTTP server under the app: time-outs, bounds, and answers to what is not HTTP. */
import {
  createServer,
  type IncomingMessage,
  type RequestListener,
  type Server,
  type ServerResponse,
  STATUS_CODES,
} from 'node:http';
import type { Duplex } from 'node:stream';

export interface HttpServerLimits {
  /** Until a request's headers must be complete. */
  readonly headersTimeoutMs: number;
  /** Until a request, with its body, must be complete. Answers, and so streams, may take as long as they like. */
  readonly requestTimeoutMs: number;
  /** How long a connection may wait for its next request. */
  readonly keepAliveTimeoutMs: number;
  readonly maxHeaderBytes: number;
  /** Further connections are closed at once. */
  readonly maxConnections: number;
}

const DEFAULT_LIMITS: HttpServerLimits = {
  headersTimeoutMs: 15_000,
  requestTimeoutMs: 60_000,
  keepAliveTimeoutMs: 65_000, // longer than the 60 s after which load balancers drop idle connections
  maxHeaderBytes: 16 * 1024,
  maxConnections: 20_000,
};
/** After so long without traffic the kernel asks whether the other side is still there. */
const PROBE_AFTER_MS = 30_000;
/** How long a client that sent nonsense has to read why it is cut off. */
const LINGER_MS = 1_000;

const STATUS_BY_CODE: Readonly<Record<string, number>> = {
  HPE_HEADER_OVERFLOW: 431,
  HPE_CHUNK_EXTENSIONS_OVERFLOW: 413,
  ERR_HTTP_REQUEST_TIMEOUT: 408,
};

const JSON_TYPE = 'application/json; charset=utf-8';
/** ASCII. */
const failureBody = (status: number): string => JSON.stringify({ error: STATUS_CODES[status] });

/**
 * Whether a request leaves HTTP for a WebSocket. Offers of other protocols (`curl --http2` makes one with every
 * request) need not be taken: such requests are answered as if they had not been made (RFC 9110, 7.8).
 */
const wantsWebSocket = ({ method, headers }: IncomingMessage): boolean =>
  method === 'GET' && headers.upgrade?.toLowerCase() === 'websocket';

/** Proxies may name the host in the request line, too; what parses such URLs stumbles over unsound hosts. */
function originForm(url: string): string {
  if (url.startsWith('/') || url === '*') return url;
  const rest = url.replace(/^[^:/?]*:\/\/[^/?]*/, '');
  return rest.startsWith('/') ? rest : `/${rest}`;
}

export function createHttpServer(app: RequestListener, limits: Partial<HttpServerLimits> = {}): Server {
  const bounds = { ...DEFAULT_LIMITS, ...limits };
  const latest = new WeakMap<Duplex, ServerResponse>();
  const server: Server = createServer(
    {
      headersTimeout: bounds.headersTimeoutMs,
      requestTimeout: bounds.requestTimeoutMs,
      keepAliveTimeout: bounds.keepAliveTimeoutMs,
      connectionsCheckingInterval: Math.min(5_000, bounds.headersTimeoutMs),
      maxHeaderSize: bounds.maxHeaderBytes,
      keepAlive: true,
      keepAliveInitialDelay: PROBE_AFTER_MS,
      shouldUpgradeCallback: (request) => wantsWebSocket(request) && server.listenerCount('upgrade') > 0,
    },
    (request, response) => {
      latest.set(request.socket, response);
      request.url = originForm(request.url ?? '/');
      app(request, response);
    },
  );
  server.maxConnections = bounds.maxConnections;
  // Expectations other than 100-continue, which Node answers itself.
  server.on('checkExpectation', (_request: IncomingMessage, response: ServerResponse) => {
    const body = failureBody(417);
    response.writeHead(417, { 'Content-Type': JSON_TYPE, 'Content-Length': body.length }).end(body);
  });
  server.on('clientError', (error: NodeJS.ErrnoException, socket) => {
    const response = latest.get(socket);
    const isAnswering = response?.headersSent === true && !response.writableFinished;
    if (!socket.writable || isAnswering || error.code === 'ECONNRESET') {
      socket.destroy();
      return;
    }
    const status = STATUS_BY_CODE[error.code ?? ''] ?? 400;
    const body = failureBody(status);
    socket.end(
      `HTTP/1.1 ${status} ${STATUS_CODES[status]}\r\nContent-Type: ${JSON_TYPE}\r\n` +
        `Content-Length: ${body.length}\r\nConnection: close\r\n\r\n${body}`,
    );
    setTimeout(() => socket.destroy(), LINGER_MS).unref();
  });
  return server;
}
