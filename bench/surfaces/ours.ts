/** The live feeds on a log of their own, with one answer that is being written, which any surface can show. */
import type { Caller } from '../../contracts/caller.ts';
import { createRateLimits } from '../../infra/http/rate-limits.ts';
import { createTwoWay } from '../../infra/http/two-way.ts';
import type { ReadModels } from '../../infra/read-models/port.ts';
import { createGraphql } from '../../query-service/graphql/server.ts';
import { formatCursor } from '../../query-service/live/cursor.ts';
import { seeded, turnScript } from '../../test/live-scenario.ts';
import { type LiveServer, startLiveServer } from '../../test/live-server.ts';
import { listen, type Payload, PING_MS, type TokenServer } from './bare.ts';

export const OWNER = 'ada';
export const CONVERSATION = 'dddddddddddd';
const TURN = '1'.repeat(24);
export const TURN_ID = `turn_${TURN}`;
export const OPENAI_PATH = '/openai';

export interface Ours extends TokenServer {
  /** For GraphQL. */
  readonly graphqlPort: number;
  readonly payload: Payload;
}

export async function startOurs(): Promise<Ours> {
  const live = await startLiveServer({ pingMs: PING_MS, heartbeatMs: PING_MS });
  await live.start(CONVERSATION, OWNER);
  const { steps } = turnScript(seeded(1), TURN);
  for (const type of ['MessageSent', 'TurnStarted', 'ModelCalled']) {
    await live.play(CONVERSATION, OWNER, steps.find((step) => step.kind === 'event' && step.type === type)!);
  }
  await live.caughtUp();
  const position = live.live.position();
  const messageId = `msg_${TURN}`;
  live.handlers.set(OPENAI_PATH, (response) => {
    void live.live.turnFeeds.streamTurn(response, {
      ...{ conversationId: CONVERSATION, turnId: TURN_ID, after: '0' },
      format: { name: 'openai', includeUsage: false, messageId },
    });
  });

  const server = await listen();
  const graphql = graphqlOf(live);
  live.live.attachWebSockets(server, [graphql.upgrade]);
  let offset = 0;
  return {
    port: live.port,
    graphqlPort: server.port,
    payload: {
      ...{ conversationId: CONVERSATION, messageId, model: 'assistant' },
      // Its hash is another, and as long.
      id: (length) => formatCursor({ position, read: { length, hash: 0, reasoning: 0 } }),
    },
    readers() {
      const { clients, replaying } = live.live.stats();
      return clients - replaying;
    },
    say(text) {
      void live.play(CONVERSATION, OWNER, { kind: 'text', offset, text });
      offset += text.length;
    },
    async [Symbol.asyncDispose]() {
      graphql.close();
      await live.close();
      server.closeAllConnections();
      server.close();
      if (live.errors.length > 0) throw new Error(live.errors.join('\n'));
    },
  };
}

function graphqlOf({ live, logins }: LiveServer) {
  const none = {} as never;
  const caller: Caller = logins.get(OWNER)!;
  const get: ReadModels['get'] = async () => ({
    ...{ id: CONVERSATION, position: '1' },
    body: { id: CONVERSATION, owner: OWNER } as never,
  });
  const twoWay = createTwoWay({ rateLimits: createRateLimits({ default: 0, chat: 0, search: 0 }), trustedProxies: [] }); // biome-ignore format: one line
  return createGraphql({
    ...live,
    ...twoWay,
    describe: twoWay.describeForGraphql,
    resume: live.streams.resume,
    readModels: { get, find: none, count: none },
    ...{ commands: none, agents: none, search: null, settled: async () => {} },
    authenticator: { authenticate: async () => caller },
    refuseForeign() {},
    answerId: (turnId) => turnId.replace(/^turn_/, 'msg_'),
    ...{ answerTimeoutMs: 1_000, defaultModel: 'builtin/assistant', pingMs: PING_MS },
    metrics: { liveClient: () => () => {} },
    logger: { debug() {}, info() {}, warn() {}, error: console.error, child: none },
  });
}
