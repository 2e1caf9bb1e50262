/**
 * Tokens of one answer to many readers: through a surface, and through the bare library beneath it. Both servers are
 * in this process, and take short turns, so that whatever else the machine does falls on both. Tokens come one by
 * one, as from a model that is as fast as its readers: some, and the next ones when everybody has them.
 */
import { setImmediate as nextTurn } from 'node:timers/promises';
import { condition } from '../../test/program.ts';
import { type BenchResult, median } from '../result.ts';
import {
  bareGraphql,
  bareLuna,
  bareOpenAi,
  bareSocketIo,
  bareWebSocket,
  type Payload,
  type TokenServer,
} from './bare.ts';
import { CONVERSATION, OPENAI_PATH, type Ours, OWNER, startOurs, TURN_ID } from './ours.ts';
import { MARK, type Step, startReaders } from './readers.ts';

const READERS = 50;
const TOKENS = 400;
const BATCH = 50;
const ROUNDS = 7;

const WORDS = [' the', ' light', ' of', ' a', ' harbour', ',', ' and', ' what', ' it', ' shows', '.', ' So'];
const tokenAt = (n: number): string => `${WORDS[n % WORDS.length]}${MARK}`;

/**
 * What is asked of every surface. A token is rendered once and then written to each reader, so that with many readers
 * the system's calls that write it count most, which the floor makes as well: near 1 is right. The rest is for keeping
 * where every reader stands, which a bare library does not do, and for how much rounds differ.
 */
const TARGET = 0.7;

interface Surface {
  readonly name: string;
  readonly library: string;
  readonly hello: readonly Step[];
  readonly bare: (payload: Payload) => Promise<TokenServer>;
  readonly port: (ours: Ours) => number;
}

const HOST = 'Host: localhost';
const upgrade = (path: string, more = ''): Step => ({
  send:
    `GET ${path} HTTP/1.1\r\n${HOST}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n` +
    `Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n${more}\r\n`,
  until: '\r\n\r\n',
});
const get = (path: string): Step => ({
  send: `GET ${path} HTTP/1.1\r\n${HOST}\r\nAuthorization: Bearer ${OWNER}\r\n\r\n`,
});
const framed = (message: string | object, until?: string): Step => ({
  send: typeof message === 'string' ? message : JSON.stringify(message),
  framed: true,
  ...(until !== undefined && { until }),
});

const subscription = `subscription MessageStream($conversationId: ID!) {
  messageStream(conversationId: $conversationId) { id token finished model }
}`;

export const surfaces = {
  luna: {
    name: 'SSE (Luna)',
    library: 'res.write',
    hello: [get(`/api/turns/${TURN_ID}/stream`)],
    bare: bareLuna,
    port: ({ port }) => port,
  },
  zerg: {
    name: 'WebSocket (ZERG)',
    library: 'ws',
    hello: [upgrade(`/api/v1/chat/${CONVERSATION}/ws?token=${OWNER}`)],
    bare: bareWebSocket,
    port: ({ port }) => port,
  },
  socketIo: {
    name: 'Socket.IO',
    library: 'socket.io, a room',
    hello: [
      { ...upgrade('/socket.io/?EIO=4&transport=websocket'), until: '"sid"' },
      framed(`40${JSON.stringify({ token: OWNER })}`, '40{"sid"'),
      framed(
        `420${JSON.stringify(['subscribe', { type: 'conversation', conversation_id: CONVERSATION }])}`,
        '430[{"ok":true',
      ),
    ],
    bare: bareSocketIo,
    port: ({ port }) => port,
  },
  graphql: {
    name: 'GraphQL subscription',
    library: 'graphql-ws',
    hello: [
      upgrade('/graphql', 'Sec-WebSocket-Protocol: graphql-transport-ws\r\n'),
      framed({ type: 'connection_init', payload: { token: OWNER } }, 'connection_ack'),
      framed({
        ...{ id: '1', type: 'subscribe' },
        payload: { query: subscription, variables: { conversationId: CONVERSATION } },
      }),
    ],
    bare: bareGraphql,
    port: ({ graphqlPort }) => graphqlPort,
  },
  openAi: {
    name: 'OpenAI stream',
    library: 'res.write',
    hello: [get(OPENAI_PATH)],
    bare: bareOpenAi,
    port: ({ port }) => port,
  },
} as const satisfies Record<string, Surface>;

/** One server and who reads from it. */
interface Side extends Disposable {
  /** @returns ms until all have read the next tokens */
  batch(): Promise<number>;
  /** What the readers have read so far. */
  bytes(): number;
}

async function begin(server: TokenServer, port: number, hello: readonly Step[]): Promise<Side> {
  const readers = await startReaders({ port, hello, count: READERS });
  const all = () => server.readers() === READERS;
  try {
    await condition(all, { withinMs: 10_000, what: 'everybody to read' });
    await readers.begin();
  } catch (error) {
    readers[Symbol.dispose]();
    throw error;
  }
  let said = 0;
  let bytes = 0;
  return {
    async batch() {
      const began = performance.now();
      for (let n = 0; n < BATCH; n++) {
        server.say(tokenAt(said++));
        await nextTurn();
      }
      bytes = await readers.have(said);
      return performance.now() - began;
    },
    bytes: () => bytes,
    [Symbol.dispose]: () => readers[Symbol.dispose](),
  };
}

export async function benchTokens(surface: Surface): Promise<BenchResult> {
  await using ours = await startOurs();
  await using bare = await surface.bare(ours.payload);
  using floor = await begin(bare, bare.port, surface.hello);
  using through = await begin(ours, surface.port(ours), surface.hello);
  const rates = { floor: [] as number[], ours: [] as number[] };
  const rate = (ms: number) => (READERS * TOKENS * 1_000) / ms;
  for (let round = 0; round <= ROUNDS; round++) {
    const took = { floor: 0, ours: 0 };
    for (let said = 0; said < TOKENS; said += BATCH) {
      took.floor += await floor.batch();
      took.ours += await through.batch();
    }
    if (round === 0) continue; // warms up
    rates.floor.push(rate(took.floor));
    rates.ours.push(rate(took.ours));
  }
  // The little that comes before the first token may be among what was read.
  if (Math.abs(through.bytes() / floor.bytes() - 1) > 0.01) {
    throw new Error(`Not the same payloads: ${through.bytes()} bytes, and ${floor.bytes()} of the floor.`);
  }
  return {
    name: `tokens to ${READERS} readers, ${surface.name} / bare ${surface.library}`,
    floor: median(rates.floor),
    ours: median(rates.ours),
    unit: 'tokens/s',
    ratio: median(rates.ours) / median(rates.floor),
    target: TARGET,
  };
}
