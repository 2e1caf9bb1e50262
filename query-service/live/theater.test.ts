import { once } from 'node:events';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { expect } from 'chai';
import fc from 'fast-check';
import type { Caller } from '../../contracts/caller.ts';
import { readyMadeMembers } from '../../contracts/council.ts';
import type { EventEnvelope, Position } from '../../contracts/envelope.ts';
import type { DecidedEvent } from '../../contracts/events/catalogue.ts';
import { rolePermissions } from '../../contracts/http/route.ts';
import type { EventStore } from '../../infra/event-store/port.ts';
import type { RequestContext } from '../../infra/http/port.ts';
import type { ReadModels } from '../../infra/read-models/port.ts';
import { deliberations } from '../../projections/deliberations.ts';
import { fold } from '../../projections/fold.ts';
import { until } from '../../test/live-server.ts';
import { createLog } from '../../test/log.ts';
import { createHub } from './hub.ts';
import { createStreams } from './streams.ts';
import { type Clock, theaterEndpoints } from './theater.ts';

const ID = 'delib_1';
const STREAM = `deliberation-${ID}`;
const voice = {
  ...{ model: null, costUsd: 0, durationMs: 0 },
  usage: { promptTokens: 0, completionTokens: 0, cachedTokens: 0 },
};
const opened: DecidedEvent<'DeliberationOpened'> = {
  type: 'DeliberationOpened',
  data: {
    ...{ topic: 'Move it?', purpose: 'autonomous', material: [], members: [...readyMadeMembers] },
    ...{ maxLoops: 3, maxToolUses: 6, sessionId: 'session_1', mode: 'standard' },
  },
};
const started: DecidedEvent<'DeliberationStarted'> = {
  type: 'DeliberationStarted',
  data: { attempt: 1, worker: 'w1' },
};
const ended: DecidedEvent<'DeliberationEnded'> = {
  type: 'DeliberationEnded',
  data: { outcome: 'decided', reason: null, usage: voice.usage, costUsd: 0, durationMs: 1 },
};
const said = (text: string): DecidedEvent<'MemberSpoke'> => ({
  type: 'MemberSpoke',
  data: { phase: 'statements', loop: 1, member: 'sceptic', kind: 'statement', text, cites: [], voice },
});
const steps = fc.array(
  fc.oneof(
    fc.string().map(said),
    fc.constant<DecidedEvent>({ type: 'DeliberationReleased', data: { worker: 'w1' } }),
    fc.constant<DecidedEvent>({ type: 'DeliberationStopRequested', data: {} }),
    fc.constant<DecidedEvent>({ type: 'PhaseStarted', data: { phase: 'vote', loop: 1 } }),
    fc.constantFrom('calculate', 'recall_facts').map(
      (tool): DecidedEvent => ({
        type: 'MaterialSought',
        data: { phase: 'gathering', loop: 1, tool, arguments: { query: 'x' } },
      }),
    ),
    fc.constant<DecidedEvent>({
      type: 'VoteCast',
      data: { loop: 1, member: 'judge', vote: 'for', reason: 'so', voice },
    }),
  ),
  { maxLength: 15 },
);

/** Events a given time apart, in a log that says no more than they do. */
function logOf(events: readonly DecidedEvent[], apartMs: (index: number) => number): EventEnvelope[] {
  const log = createLog();
  let time = Date.parse('2026-03-01T00:00:00.000Z');
  return events.map(({ type, data }, index) => {
    if (index > 0) time += apartMs(index);
    return { ...log.add(STREAM, type, data as never), time: new Date(time).toISOString() } as EventEnvelope;
  });
}

function storeOf(events: readonly EventEnvelope[]): EventStore {
  const head = events.at(-1)!.position;
  return {
    head: async () => head,
    end: async () => head,
    async *readStream() {
      for (let from = 0; from < events.length; from += 4) yield events.slice(from, from + 4);
    },
    async *subscribe({ signal }: { signal: AbortSignal }) {
      if (!signal.aborted) await once(signal, 'abort');
      yield* [];
    },
  } as unknown as EventStore;
}

/** Time that goes on only while somebody sleeps, who then wakes at once. */
function quickClock(): Clock & { readonly slept: number[]; asleep: number } {
  let now = 0;
  const clock = {
    slept: [] as number[],
    asleep: 0,
    now: () => now,
    async sleep(ms: number, signal: AbortSignal) {
      // Who waits for a connection to take something is not part of the rhythm.
      if (ms === STALLED_MS) {
        clock.asleep++;
        await once(signal, 'abort');
        clock.asleep--;
        throw signal.reason;
      }
      clock.slept.push(ms);
      now += ms;
      signal.throwIfAborted();
    },
  };
  return clock;
}
const STALLED_MS = 54_321;
const HEARTBEAT_MS = 15_000;

const caller: Caller = {
  ...{ userId: 'ada', email: 'ada@example.org', displayName: 'Ada', role: 'user', sessionId: null },
  ...{ actor: { kind: 'user', id: 'ada' }, permissions: new Set(rolePermissions.user), expiresAtMs: null },
};

/** What a reader is sent, in blocks, until the stream ends or `enough` blocks have come. */
async function shown(
  events: readonly EventEnvelope[],
  query: Record<string, unknown>,
  {
    clock = quickClock(),
    lastEventId,
    signal = null,
    known = events.length,
  }: { clock?: Clock; lastEventId?: Position | undefined; signal?: AbortSignal | null; known?: number } = {},
): Promise<{ status: number; blocks: string[] }> {
  const store = storeOf(events);
  const { position } = events[known - 1]!;
  const body = fold(deliberations, events.slice(0, known)).get(ID)!;
  const document = { id: ID, position, body };
  const readModels = {
    get: async () => document,
    find: async () => ({ documents: [document], next: null }),
  } as unknown as ReadModels;
  const logger = { error() {}, info() {} } as never;
  const signals = { publish() {}, subscribe: () => () => {}, close: async () => {} };
  const timing = { heartbeatMs: HEARTBEAT_MS, stalledMs: STALLED_MS };
  const hub = await createHub({ ...timing, store, bus: signals, logger });
  const logins = { watch: () => ({ forget() {} }) } as never;
  const streams = createStreams({ store, hub, logins, metrics: { liveClient: () => () => {} }, logger });
  const [endpoint] = theaterEndpoints({ store, readModels, streams, isGone: () => false, timing, clock });
  const headers = lastEventId === undefined ? {} : { 'last-event-id': lastEventId };
  const context = { caller, headers, signal: new AbortController().signal } as unknown as RequestContext;
  const answer = await endpoint!.handle({ params: {}, query, body: undefined, context } as never);
  if ('status' in answer) {
    await hub.close();
    return { status: answer.status, blocks: [] };
  }
  const server: Server = createServer((request, response) => void answer.stream(response, request));
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  try {
    const { port } = server.address() as AddressInfo;
    const response = await fetch(`http://127.0.0.1:${port}`, { signal });
    const text = await response.text();
    return { status: response.status, blocks: text.split('\n\n').filter((block) => block !== '') };
  } finally {
    await hub.close();
    server.close();
    server.closeAllConnections();
  }
}
const frames = (blocks: readonly string[]): string[] => blocks.filter((block) => block.startsWith('id: '));

describe('theater mode', () => {
  it('shows what is played back frame for frame as it was live, and goes on after any frame', async () => {
    await fc.assert(
      fc.asyncProperty(steps, fc.nat(), async (between, cut) => {
        const events = logOf([opened, started, ...between, ended], () => 10);
        const live = await shown(events, {}, { lastEventId: '0', known: events.length - 1 });
        const played = await shown(events, { deliberation: ID });
        expect(frames(played.blocks)).to.deep.equal(frames(live.blocks));
        const ids = frames(played.blocks).map((block) => /^id: (\S+)/.exec(block)![1]!);
        const at = cut % ids.length;
        const resumed = await shown(events, { deliberation: ID }, { lastEventId: ids[at] });
        expect(frames(resumed.blocks)).to.deep.equal(frames(played.blocks).slice(at + 1));
      }),
      { numRuns: 15 },
    );
  });

  it('plays at the rhythm of the past, as many times as fast as is asked for', async () => {
    const pauses = [0, 40, 5_000, 20, 0, 1_000];
    const texts = ['a', 'b', 'c', 'd'].map(said);
    const events = logOf([opened, started, ...texts, ended], (index) => pauses[index - 1]!);
    for (const speed of [0.5, 1, 4, 100]) {
      const clock = quickClock();
      const { blocks } = await shown(events, { deliberation: ID, speed }, { clock });
      expect(frames(blocks)).to.have.length(6);
      expect(clock.now()).to.be.closeTo(6_060 / speed, 0.001);
      expect(clock.slept.some((ms) => Math.abs(ms - 5_000 / speed) < 0.001)).to.equal(true);
      expect(clock.asleep).to.equal(0);
    }
  });

  it('begins where it is told to, at once', async () => {
    const events = logOf([opened, started, said('a'), said('b'), ended], () => 60_000);
    const clock = quickClock();
    const { blocks } = await shown(events, { deliberation: ID, from: events[2]!.position }, { clock });
    expect(frames(blocks).map((block) => /"type":"(\w+)"/.exec(block)![1])).to.deep.equal([
      'council_message',
      'session_end',
    ]);
    expect(clock.now()).to.equal(60_000);
  });

  it('keeps a client informed through a long pause', async () => {
    const events = logOf([opened, said('a'), ended], (index) => (index === 1 ? 100_000 : 0));
    const { blocks } = await shown(events, { deliberation: ID });
    expect(blocks.filter((block) => block === ': hb')).to.have.length(6);
    expect(blocks.filter((block) => block.includes('"type":"ping"'))).to.have.length(3);
  });

  it('keeps no timer when the client goes', async () => {
    const events = logOf([opened, said('a'), ended], () => 3_600_000);
    let asleep = 0;
    const waking = Promise.withResolvers<void>();
    const clock: Clock = {
      now: () => 0,
      async sleep(_ms, signal) {
        asleep++;
        waking.resolve();
        await once(signal, 'abort');
        asleep--;
        throw signal.reason;
      },
    };
    const gone = new AbortController();
    const reading = shown(events, { deliberation: ID }, { clock, signal: gone.signal }).catch(() => null);
    await waking.promise;
    expect(asleep).to.equal(1);
    gone.abort();
    await reading;
    await until(() => asleep === 0);
  });
});
