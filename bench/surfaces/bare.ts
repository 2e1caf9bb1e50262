/**
 * The floors: each library by itself, as its documentation uses it, saying the same tokens in the same payloads. A
 * payload is written once for all readers where the library lets its user do that.
 */
import { once } from 'node:events';
import { createServer, type RequestListener, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { buildSchema } from 'graphql';
import { useServer } from 'graphql-ws/use/ws';
import { Server as SocketIo } from 'socket.io';
import { WebSocketServer } from 'ws';

/** Says tokens to everybody who reads. */
export interface TokenServer extends AsyncDisposable {
  readonly port: number;
  /** How many would be told the next token. */
  readers(): number;
  say(token: string): void;
}

/** Of the answer that is being written. */
export interface Payload {
  readonly conversationId: string;
  readonly messageId: string;
  readonly model: string;
  /** The frame id after so many characters. */
  readonly id: (length: number) => string;
}

/** More often there is nothing to be heard in a benchmark. */
export const PING_MS = 600_000;

export async function listen(handle?: RequestListener): Promise<Server & { readonly port: number }> {
  const server = createServer(handle);
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return Object.assign(server, { port: (server.address() as AddressInfo).port });
}

async function end(server: Server): Promise<void> {
  server.closeAllConnections();
  if (!server.listening) return;
  server.close();
  await once(server, 'close');
}

async function eventStream(frame: (token: string) => string): Promise<TokenServer> {
  const responses = new Set<ServerResponse>();
  const server = await listen((_request, response) => {
    response.writeHead(200, { 'Content-Type': 'text/event-stream' });
    response.write('retry: 3000\n\n');
    responses.add(response);
    response.on('close', () => responses.delete(response));
  });
  return {
    port: server.port,
    readers: () => responses.size,
    say(token) {
      const bytes = Buffer.from(frame(token));
      for (const response of responses) response.write(bytes);
    },
    [Symbol.asyncDispose]: () => end(server),
  };
}

export function bareLuna({ id }: Payload): Promise<TokenServer> {
  let length = 0;
  return eventStream((content) => {
    length += content.length;
    return `id: ${id(length)}\ndata: ${JSON.stringify({ type: 'content', content })}\n\n`;
  });
}

export function bareOpenAi({ id, messageId, conversationId, model }: Payload): Promise<TokenServer> {
  const created = Math.floor(Date.now() / 1_000);
  let length = 0;
  return eventStream((content) => {
    length += content.length;
    const chunk = {
      ...{ id: messageId, object: 'chat.completion.chunk', created, model },
      choices: [{ index: 0, delta: { content }, finish_reason: null, logprobs: null }],
      conversation_id: conversationId,
    };
    return `id: ${id(length)}\ndata: ${JSON.stringify(chunk)}\n\n`;
  });
}

export async function bareWebSocket({ id }: Payload): Promise<TokenServer> {
  const server = await listen();
  const sockets = new WebSocketServer({ server });
  let length = 0;
  return {
    port: server.port,
    readers: () => sockets.clients.size,
    say(token) {
      length += token.length;
      const text = JSON.stringify({ type: 'token', data: token, id: id(length) });
      for (const socket of sockets.clients) socket.send(text);
    },
    async [Symbol.asyncDispose]() {
      for (const socket of sockets.clients) socket.terminate();
      await end(server);
    },
  };
}

export async function bareSocketIo(payload: Payload): Promise<TokenServer> {
  const { id, conversationId, messageId, model } = payload;
  const server = await listen();
  const io = new SocketIo(server, { pingInterval: PING_MS });
  const room = `conversation:${conversationId}`;
  io.on('connection', (socket) => {
    socket.on('subscribe', (_what, done) => {
      void socket.join(room);
      done({ ok: true });
    });
  });
  let length = 0;
  return {
    port: server.port,
    readers: () => io.of('/').adapter.rooms.get(room)?.size ?? 0,
    say(token) {
      length += token.length;
      io.to(room).emit('chat_response', {
        ...{ conversation_id: conversationId, message_id: messageId, token, finished: false, model },
        seq: `${id(length)}@${room}`,
      });
    },
    async [Symbol.asyncDispose]() {
      await io.close();
      await end(server);
    },
  };
}

export async function bareGraphql({ messageId: id, model }: Payload): Promise<TokenServer> {
  const schema = buildSchema(`
    type Query { nothing: Int }
    type Subscription { messageStream(conversationId: ID!): MessageChunk! }
    type MessageChunk { id: ID! token: String! finished: Boolean! model: String }
  `);
  /** What each reader has not been given yet, and how it is woken. */
  const queues = new Set<{ chunks: object[]; wake: () => void }>();
  async function* messageStream() {
    const queue = { chunks: [] as object[], wake: () => {} };
    queues.add(queue);
    try {
      for (;;) {
        const { promise, resolve } = Promise.withResolvers<void>();
        queue.wake = resolve;
        const chunks = queue.chunks;
        queue.chunks = [];
        for (const chunk of chunks) yield { messageStream: chunk };
        if (queue.chunks.length === 0) await promise;
      }
    } finally {
      queues.delete(queue);
    }
  }
  const server = await listen();
  const sockets = new WebSocketServer({ server, path: '/graphql' });
  useServer({ schema, roots: { subscription: { messageStream } } }, sockets, PING_MS);
  return {
    port: server.port,
    readers: () => queues.size,
    say(token) {
      const chunk = { id, token, finished: false, model };
      for (const queue of queues) {
        queue.chunks.push(chunk);
        queue.wake();
      }
    },
    async [Symbol.asyncDispose]() {
      for (const socket of sockets.clients) socket.terminate();
      await end(server);
    },
  };
}
