/**
 * ZERG's WebSocket, `/api/v1/chat/:id/ws` (seeds/zerg-chat.txt, api-notes A4): the feed of a conversation, and
 * messages and interrupts in the other direction.
 */
import { createHash, randomUUID } from 'node:crypto';
import { type IncomingHttpHeaders, type IncomingMessage, type Server, STATUS_CODES } from 'node:http';
import type { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { type RawData, type WebSocket, WebSocketServer } from 'ws';
import { type Caller, sees } from '../../contracts/caller.ts';
import { type ChatCommands, conversationId, type Issuer } from '../../contracts/commands/conversation.ts';
import type { Position } from '../../contracts/envelope.ts';
import { Refusal, refuse } from '../../contracts/errors.ts';
import {
  frameId,
  type ZergClientFrame,
  type ZergSocketFrame,
  zergClientFrame,
} from '../../contracts/live/frames.ts';
import type { ConversationDocument, MessageDocument } from '../../contracts/read-models/documents.ts';
import type { Authenticator, Credentials } from '../../infra/auth/port.ts';
import type { ReadModels } from '../../infra/read-models/port.ts';
import type { Logger, Metrics } from '../../infra/telemetry/port.ts';
import { type Cursor, formatCursor } from './cursor.ts';
import { conversationFeed, type Frame, resyncOf, type Start, webSocket } from './feed.ts';
import type { Hub } from './hub.ts';
import type { Logins } from './logins.ts';
import { webSocketSink } from './sink.ts';
import { connected, fromNow, history, zergConversation } from './zerg.ts';

export interface WebSocketOptions {
  readonly hub: Hub;
  readonly logins: Logins;
  readonly readModels: ReadModels;
  readonly commands: ChatCommands;
  /** Waits, bounded, until the read models show everything up to the position. */
  readonly settled: (position: Position) => Promise<unknown>;
  readonly authenticator: Authenticator;
  readonly logger: Logger;
  readonly metrics: Pick<Metrics, 'liveClient'>;
  /** @throws Refusal FORBIDDEN for what another site's page made a browser send with the user's cookies */
  readonly refuseForeign: (headers: IncomingHttpHeaders) => void;
  /** Where a reader with this frame id begins; `begin` for who has none, or none of this log. */
  readonly resume: (id: string | undefined, begin: Cursor) => Promise<Start>;
  /** Between pings; a client that answers none of three is closed. */
  readonly pingMs: number;
  /**
   * Between the challenges to prove that the login still holds, and how long the client has to send the token of
   * another one. It need not while the session (or API key) lives that it came with: see `logins.ts`.
   */
  readonly authRefreshMs: number;
  readonly authGraceMs: number;
}

/** Who takes the upgrades of some paths. */
export interface Upgrade {
  owns(path: string): boolean;
  take(request: IncomingMessage, stream: Duplex, head: Buffer): void;
}

export interface WebSockets {
  /** Refuses what neither this nor any of the others owns. */
  attach(server: Server, others?: readonly Upgrade[]): void;
  size(): number;
  /** Closes all with 1012 (service restart). */
  close(): void;
}

const PATH = /^\/api\/v1\/chat\/([^/]+)\/ws\/?$/;
const LONGEST_FRAME = 256 * 1024;
/** More may not wait for a client that asks and does not read the answers. */
const LONGEST_BACKLOG = 512 * 1024;
const UNANSWERED_PINGS = 3;
/** Who sends more in a row that is refused is not listening. */
const REFUSED_IN_A_ROW = 100;
const CLOSE = {
  refused: 1008,
  failed: 1011,
  restart: 1012,
  overloaded: 1013,
  unresponsive: 4000,
  unauthorised: 4001,
} as const;

interface Connection {
  readonly socket: WebSocket;
  /** Pings. */
  unanswered: number;
  /** Closed from here. */
  ended: boolean;
}

export function createWebSockets(options: WebSocketOptions): WebSockets {
  const { hub, logins, readModels, commands, authenticator, logger } = options;
  const connections = new Set<Connection>();
  let closed = false;
  const acceptor = new WebSocketServer({ noServer: true, clientTracking: false, maxPayload: LONGEST_FRAME });
  acceptor.on('wsClientError', (error, stream) =>
    reject(stream, new Refusal('VALIDATION_ERROR', `${error.message}.`)),
  );

  const heart = setInterval(() => {
    for (const connection of connections) {
      const { socket } = connection;
      if (connection.unanswered >= UNANSWERED_PINGS) {
        close(connection, CLOSE.unresponsive, 'no answer to three pings');
        continue;
      }
      connection.unanswered++;
      send(socket, { type: 'ping' });
      socket.ping();
    }
  }, options.pingMs);
  heart.unref();

  // ── the upgrade ─────────────────────────────────────────────────────────
  async function upgrade(
    request: IncomingMessage,
    stream: Duplex,
    head: Buffer,
    id: string,
    query: URLSearchParams,
  ) {
    const onError = () => stream.destroy();
    stream.on('error', onError);
    try {
      const credentials = credentialsOf(request, query);
      // A page can make a browser open a WebSocket to anywhere, with cookies; a token it has to know.
      if (credentials.queryToken === undefined) options.refuseForeign(request.headers);
      const caller = await readerWith(credentials);
      const conversation = await ownConversation(caller, id);
      const start = await options.resume(lastEventIdIn(query), fromNow(hub.position()));
      stream.off('error', onError);
      acceptor.handleUpgrade(request, stream, head, (socket) => {
        serve(socket, stream as Socket, { conversation, caller, start });
      });
    } catch (error) {
      if (!(error instanceof Refusal)) logger.error({ err: error }, 'A WebSocket could not be opened.');
      reject(
        stream,
        error instanceof Refusal ? error : new Refusal('SERVICE_UNAVAILABLE', 'Try again later.'),
      );
    }
  }

  /** @throws Refusal when nobody is logged in with these credentials, or may not read conversations */
  async function readerWith(credentials: Credentials): Promise<Caller> {
    const caller = await authenticator.authenticate(credentials);
    if (caller === null) refuse('UNAUTHORIZED', 'Log in first.');
    if (!caller.permissions.has('chat:read')) refuse('FORBIDDEN', 'This needs the permission chat:read.');
    return caller;
  }

  async function ownConversation(caller: Caller, id: string): Promise<ConversationDocument> {
    const known = conversationId.safeParse(id);
    const found = known.success
      ? await readModels.get<ConversationDocument>('conversations', known.data)
      : null;
    if (found === null || !sees(caller, found.body.owner)) refuse('NOT_FOUND', 'Session not found.');
    return found.body;
  }

  // ── a connection ────────────────────────────────────────────────────────
  interface Opened {
    readonly conversation: ConversationDocument;
    readonly caller: Caller;
    readonly start: Start;
  }

  function serve(socket: WebSocket, stream: Socket, { conversation, caller, start }: Opened): void {
    const conversationId = conversation.id;
    const connection: Connection = { socket, unanswered: 0, ended: false };
    const left = options.metrics.liveClient('zerg-ws');
    const may = (reader: Caller) => reader.permissions.has('chat:read') && sees(reader, conversation.owner);
    const login = logins.watch(caller, { may, end: expel });
    connections.add(connection);

    let refresh = setTimeout(challenge, options.authRefreshMs);
    socket.on('close', () => {
      clearTimeout(refresh);
      connections.delete(connection);
      login.forget();
      left();
    });
    // Broken frames and connections: ws closes the socket with the reason.
    socket.on('error', (error) => logger.debug({ err: error }, 'A WebSocket broke.'));
    socket.on('pong', () => {
      connection.unanswered = 0;
    });

    if (closed) {
      close(connection, CLOSE.restart, 'the server restarts');
      return;
    }

    // One frame after the other, in turn with everybody else's. What was read at once may hold thousands of
    // frames: nothing more is read until all of them are done, so that no flood can pile up.
    let handled: Promise<void> = begin();
    /** What the client has written here, and must find in what it reads next. */
    let written: Position | null = null;
    let waiting = 0;
    let refused = 0;
    socket.on('message', (data, isBinary) => {
      connection.unanswered = 0;
      if (waiting++ === 0) socket.pause();
      handled = handled
        .then(() => nextTurn())
        .then(() => receive(data, isBinary))
        .then(
          () => {
            refused = 0;
          },
          (error: unknown) => {
            report(error);
            if (++refused >= REFUSED_IN_A_ROW) {
              close(connection, CLOSE.refused, 'too much in a row is refused');
            }
          },
        )
        .finally(() => {
          if (--waiting === 0) socket.resume();
        });
    });

    async function begin(): Promise<void> {
      try {
        const feed = conversationFeed(zergConversation, webSocket, conversationId, null);
        if (start.resync !== null) socket.send(resyncOf(feed, start));
        socket.send(webSocket.encode(connected(conversationId, formatCursor(start.cursor))));
        await sendHistory();
        hub.subscribe(feed, start.cursor, webSocketSink(socket, stream));
      } catch (error) {
        report(error);
        close(connection, CLOSE.failed, 'the conversation could not be read');
      }
    }

    async function receive(data: RawData, isBinary: boolean): Promise<void> {
      // What it had asked for before it was closed here is not done any more.
      if (connection.ended) return;
      if (socket.bufferedAmount > LONGEST_BACKLOG) {
        close(connection, CLOSE.overloaded, 'answers are not being read');
        return;
      }
      if (isBinary) refuse('VALIDATION_ERROR', 'Send JSON in text frames.');
      const frame = parseFrame(String(data));
      switch (frame.type) {
        case 'message': {
          const { content, model } = frame;
          const issuer = await writer(frame);
          if (issuer !== null) {
            const sent = await commands.sendMessage(
              { conversationId, content, model: model ?? null },
              issuer,
            );
            written = sent.position;
          }
          return;
        }
        case 'interrupt': {
          const issuer = await writer(frame);
          if (issuer !== null) await commands.interrupt({ conversationId, turnId: null }, issuer);
          return;
        }
        case 'history':
          if (written !== null) await options.settled(written);
          written = null;
          return sendHistory();
        case 'ping':
          return send(socket, { type: 'pong', ts: Date.now() });
        case 'pong':
          return;
        case 'auth':
          return prove(frame.token);
      }
    }

    /** Null when the login has ended, which every command asks anew. */
    async function writer(frame: ZergClientFrame & { id?: string | undefined }): Promise<Issuer | null> {
      const caller = await login.check();
      if (caller === null) return null;
      if (!caller.permissions.has('chat:write')) refuse('FORBIDDEN', 'This needs the permission chat:write.');
      const commandId =
        frame.id === undefined
          ? randomUUID()
          : createHash('sha256')
              .update(JSON.stringify([caller.userId, conversationId, frame.type, frame.id]))
              .digest('hex');
      return {
        caller,
        commandId,
        correlationId: randomUUID(),
        surface: 'zerg',
        retried: frame.id !== undefined,
      };
    }

    async function sendHistory(): Promise<void> {
      const { documents } = await readModels.find<MessageDocument>('messages', {
        where: { conversationId },
        orderBy: { field: 'revision', direction: 'descending' },
        limit: 50,
      });
      send(socket, { type: 'history', messages: history(documents.map(({ body }) => body)) });
    }

    function report(error: unknown): void {
      if (!(error instanceof Refusal))
        logger.error({ err: error, conversationId }, 'A WebSocket frame failed.');
      const text = error instanceof Refusal ? describe(error) : 'Something went wrong here. Try again.';
      socket.send(webSocket.encode(errorFrame(text)));
    }

    // ── the login ─────────────────────────────────────────────────────────
    function expel(): void {
      if (connection.ended) return;
      socket.send(webSocket.encode(errorFrame('The login is no longer valid: log in again.')));
      close(connection, CLOSE.unauthorised, 'the login is no longer valid');
    }

    async function prove(token: string): Promise<void> {
      const proved = await readerWith({ queryToken: token });
      if (proved.userId !== caller.userId) refuse('UNAUTHORIZED', 'The token belongs to another user.');
      if (!may(proved)) refuse('FORBIDDEN', 'The token is not good for this conversation.');
      login.replace(proved);
    }

    function challenge(): void {
      send(socket, { type: 'auth_refresh', expires_in: Math.ceil(options.authGraceMs / 1_000) });
      refresh = setTimeout(() => void judge(), options.authGraceMs);
    }

    async function judge(): Promise<void> {
      try {
        await login.check();
      } catch (error) {
        logger.error({ err: error }, 'A login could not be checked; it is checked again later.');
      }
      if (socket.readyState === socket.OPEN) {
        refresh = setTimeout(challenge, Math.max(options.authRefreshMs - options.authGraceMs, 0));
      }
    }
  }

  return {
    attach(server, others = []) {
      server.on('upgrade', (request: IncomingMessage, stream: Duplex, head: Buffer) => {
        const url = URL.parse(request.url ?? '', 'http://localhost');
        const id = url && PATH.exec(url.pathname)?.[1];
        if (url && id) {
          void upgrade(request, stream, head, id, url.searchParams);
          return;
        }
        const other = url && others.find(({ owns }) => owns(url.pathname));
        if (other) other.take(request, stream, head);
        else reject(stream, new Refusal('NOT_FOUND', 'Not found'));
      });
    },
    size: () => connections.size,
    close() {
      clearInterval(heart);
      closed = true;
      for (const connection of connections) close(connection, CLOSE.restart, 'the server restarts');
    },
  };
}

const send = (socket: WebSocket, { type, ...data }: ZergSocketFrame): void =>
  socket.send(webSocket.encode({ id: null, name: type, data }));

const errorFrame = (error: string): Frame => ({ id: null, name: 'error', data: { error } });

/** A peer that does not answer the close is cut off soon after. */
function close(connection: Connection, code: number, reason: string): void {
  if (connection.ended) return;
  connection.ended = true;
  const { socket } = connection;
  socket.close(code, reason);
  const cut = setTimeout(() => socket.terminate(), 1_000);
  cut.unref();
  socket.once('close', () => clearTimeout(cut));
}

function credentialsOf({ headers }: IncomingMessage, query: URLSearchParams): Credentials {
  const apiKey = headers['x-api-key'];
  return {
    authorization: headers.authorization,
    cookie: headers.cookie,
    apiKey: Array.isArray(apiKey) ? apiKey[0] : apiKey,
    queryToken: query.get('token') ?? undefined,
  };
}

function lastEventIdIn(query: URLSearchParams): string | undefined {
  const id = query.get('lastEventId');
  if (id === null || id === '') return undefined;
  if (!frameId.safeParse(id).success) {
    throw new Refusal('VALIDATION_ERROR', 'lastEventId is not the id of a frame of this feed.', {
      issues: [{ path: ['query', 'lastEventId'], message: 'not a frame id' }],
    });
  }
  return id;
}

/** @throws Refusal VALIDATION_ERROR */
function parseFrame(text: string): ZergClientFrame {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch {
    return refuse('VALIDATION_ERROR', 'The frame is not valid JSON.');
  }
  const parsed = zergClientFrame.safeParse(json);
  if (parsed.success) return parsed.data;
  const issues = parsed.error.issues.map(({ path, message }) => ({ path: path.map(String), message }));
  throw new Refusal('VALIDATION_ERROR', 'The frame is not one that is understood here', { issues });
}

const describe = ({ message, issues }: Refusal): string =>
  issues.length === 0
    ? message
    : `${message}: ${issues.map((issue) => `${issue.path.join('.') || 'frame'}: ${issue.message}`).join('; ')}`;

/** Answers an upgrade as HTTP. */
function reject(stream: Duplex, refusal: Refusal): void {
  const body = JSON.stringify({ ok: false, error: describe(refusal) });
  stream.on('error', () => stream.destroy());
  stream.end(
    [
      `HTTP/1.1 ${refusal.status} ${STATUS_CODES[refusal.status]}`,
      'Connection: close',
      'Content-Type: application/json; charset=utf-8',
      'Cache-Control: no-store',
      'Sec-WebSocket-Version: 13',
      `Content-Length: ${Buffer.byteLength(body)}`,
      '',
      body,
    ].join('\r\n'),
    () => stream.destroy(),
  );
}
