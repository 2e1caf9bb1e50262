/**
 * Live feeds: frames delivered to 1,000 clients over server-sent events, held against a bare loop that writes the
 * same bytes to as many responses; and how long it takes from a commit until the last client has the frame.
 * Run it alone: `node bench/live.ts`.
 */
import { fork } from 'node:child_process';
import { createServer, type ServerResponse } from 'node:http';
import { type AddressInfo, connect, type Socket } from 'node:net';
import type { EventEnvelope } from '../contracts/envelope.ts';
import { createInProcessSignalBus } from '../infra/bus/in-process.ts';
import type { EventPage, EventStore } from '../infra/event-store/port.ts';
import { createHub } from '../query-service/live/hub.ts';
import { logFeeds } from '../query-service/live/log.ts';
import { responseSink } from '../query-service/live/sink.ts';
import { newEvent } from '../test/live-scenario.ts';
import { startLiveServer, until } from '../test/live-server.ts';
import type { BenchResult } from './result.ts';

const CLIENTS = 1_000;
const FRAMES = 100;
const ROUNDS = 3;

/** The clients live in a process of their own: what they cost must not count as what the server costs. */
interface Clients {
  /** Resolves when every client has received so many frames since it was last asked. */
  received(frames: number): Promise<void>;
  close(): void;
}

async function startClients(port: number, path: string, count: number): Promise<Clients> {
  const child = fork(new URL(import.meta.url), [], {
    env: { ...process.env, BENCH_LIVE_CLIENTS: JSON.stringify({ port, path, count }) },
  });
  const next = () => new Promise<void>((resolve) => child.once('message', () => resolve()));
  await next();
  return {
    received(frames) {
      const done = next();
      child.send(frames);
      return done;
    },
    close: () => child.kill(),
  };
}

/** The other process: counts blank lines, of which each frame has one. */
async function beClients({
  port,
  path,
  count,
}: {
  port: number;
  path: string;
  count: number;
}): Promise<void> {
  const END = Buffer.from('\n\n');
  const frames = new Uint32Array(count);
  let wanted: number | null = null;
  const check = () => {
    if (wanted === null || frames.some((seen) => seen < wanted!)) return;
    for (let i = 0; i < count; i++) frames[i]! -= wanted;
    wanted = null;
    process.send!('received');
  };
  let connected = 0;
  for (let i = 0; i < count; i++) {
    const socket: Socket = connect(port, '127.0.0.1', () => {
      socket.write(`GET ${path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer admin\r\n\r\n`);
    });
    let greeted = false;
    socket.on('data', (chunk) => {
      let from = 0;
      if (!greeted) {
        // The greeting is one block, after the head.
        from = chunk.indexOf(END) + END.length;
        if (from < END.length) return;
        greeted = true;
        if (++connected === count) process.send!('connected');
      }
      for (let at = chunk.indexOf(END, from); at >= 0; at = chunk.indexOf(END, at + END.length)) frames[i]!++;
      if (wanted !== null && frames[i]! >= wanted) check();
    });
    if (i % 100 === 99) await new Promise((resolve) => setTimeout(resolve, 5));
  }
  process.on('message', (message) => {
    wanted = Number(message);
    check();
  });
}

const frameOf = (event: EventEnvelope): Buffer =>
  Buffer.from(`id: ${event.position}\ndata: ${JSON.stringify(event)}\n\n`);

/** Frames a second that reach all clients; the server is given by how it answers a request and sends an event. */
async function delivery(answer: (response: ServerResponse) => void, send: (event: EventEnvelope) => void) {
  const server = createServer((_request, response) => answer(response));
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  const clients = await startClients(port, '/', CLIENTS);
  let position = 0;
  const event = (): EventEnvelope => ({
    ...newEvent('FactForgotten', { factId: 'f', reason: 'x'.repeat(200) }, 'ada'),
    ...{
      stream: 'fact-f',
      revision: position,
      position: String(++position),
      time: '2026-01-01T00:00:00.000Z',
    },
  });
  const rates: number[] = [];
  for (let round = 0; round <= ROUNDS; round++) {
    const events = Array.from({ length: FRAMES }, event);
    const began = performance.now();
    const received = clients.received(FRAMES);
    for (const each of events) {
      send(each);
      // As commits come: one after the other, each in a turn of the event loop of its own.
      await new Promise((resolve) => setImmediate(resolve));
    }
    await received;
    // The first round warms up.
    if (round > 0) rates.push((CLIENTS * FRAMES * 1_000) / (performance.now() - began));
  }
  clients.close();
  server.closeAllConnections();
  server.close();
  return rates.sort((a, b) => a - b)[Math.floor(rates.length / 2)]!;
}

/** A log that only has a live end. */
function liveEnd() {
  let deliver: (page: EventPage) => void = () => {};
  const store = {
    head: async () => '0',
    async *subscribe({ signal }: { signal: AbortSignal }) {
      while (!signal.aborted) {
        yield await new Promise<EventPage>((resolve) => {
          deliver = resolve;
          signal.addEventListener('abort', () => resolve({ events: [], position: '0', caughtUp: true }));
        });
      }
    },
  } as unknown as EventStore;
  const commit = (event: EventEnvelope) =>
    deliver({ events: [event], position: event.position, caughtUp: true });
  return { store, commit };
}

async function ours(): Promise<number> {
  const { store, commit } = liveEnd();
  const logger = { debug() {}, info() {}, warn() {}, error: console.error, child: () => logger };
  const bus = createInProcessSignalBus({ onError: console.error });
  const hub = await createHub({ store, bus, logger, heartbeatMs: 60_000, stalledMs: 60_000 });
  const feed = logFeeds()({});
  const rate = await delivery((response) => {
    const sink = responseSink(response);
    response.writeHead(200, { 'Content-Type': 'text/event-stream' });
    sink.write([Buffer.from(': hello\n\n')]);
    hub.subscribe(feed, { position: hub.position(), read: null }, sink);
  }, commit);
  await hub.close();
  return rate;
}

async function floor(): Promise<number> {
  const responses = new Set<ServerResponse>();
  return delivery(
    (response) => {
      response.writeHead(200, { 'Content-Type': 'text/event-stream' });
      response.write(': hello\n\n');
      responses.add(response);
      response.on('close', () => responses.delete(response));
    },
    (event) => {
      const bytes = frameOf(event);
      for (const response of responses) response.write(bytes);
    },
  );
}

export async function benchSse(): Promise<BenchResult> {
  const bare = await floor();
  const hub = await ours();
  return {
    name: `frames to ${CLIENTS} SSE clients, against bare res.write`,
    floor: Math.round(bare),
    ours: Math.round(hub),
    unit: 'frames/s',
    ratio: hub / bare,
    target: 0.7,
  };
}

/** ms from the call of append until all clients have the frame, on the SQLite event store. */
export async function benchCommitToClient(): Promise<BenchResult[]> {
  const live = await startLiveServer();
  const clients = await startClients(live.port, '/api/log/live', CLIENTS);
  await until(() => live.live.stats().clients === CLIENTS && live.live.stats().replaying === 0);
  const times: number[] = [];
  for (let i = 0; i < 300; i++) {
    const received = clients.received(1);
    const began = performance.now();
    await live.append('fact-f', 'ada', 'FactForgotten', { factId: 'f', reason: 'x'.repeat(200) });
    await received;
    times.push(performance.now() - began);
  }
  clients.close();
  await live.close();
  times.sort((a, b) => a - b);
  const at = (name: string, share: number): BenchResult => ({
    name: `append until ${CLIENTS} SSE clients have it, ${name}`,
    ...{ floor: null, ours: Math.round(times[Math.floor(times.length * share)]! * 100) / 100, unit: 'ms' },
    ...{ ratio: null, target: null },
  });
  return [at('median', 0.5), at('p99', 0.99)];
}

const asClients = process.env.BENCH_LIVE_CLIENTS;
if (asClients !== undefined && process.send !== undefined) await beClients(JSON.parse(asClients));
else if (import.meta.main) {
  console.log(await benchSse());
  console.log(await benchCommitToClient());
}
