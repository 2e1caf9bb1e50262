/**
 * The one mechanism of all live feeds. The hub follows the log once; readers of the same feed share a topic, and
 * what happens is rendered and serialised once for all of them. A reader is either live (a member of its topic)
 * or replaying (reading the log on its own, as fast as its connection takes it). It becomes live in the very
 * moment in which it has read as far as the hub has, and is sent back to replaying when too much waits for its
 * connection: so there is no gap and no repeat, and nothing is buffered without bound.
 */
import { comparePositions, type EventEnvelope, isAfter, type Position } from '../../contracts/envelope.ts';
import type { SignalBus } from '../../infra/bus/port.ts';
import type { EventPage, EventStore } from '../../infra/event-store/port.ts';
import type { Logger } from '../../infra/telemetry/port.ts';
import type { Reader } from './answer.ts';
import type { Cursor } from './cursor.ts';
import type { Feed, Source } from './feed.ts';
import { firstRevision, read } from './log-reading.ts';
import { createRunningTexts } from './running-texts.ts';
import type { Sink } from './sink.ts';
import { createTurnEnds, type TurnEnds } from './turn-ends.ts';

export interface HubOptions {
  readonly store: EventStore;
  readonly bus: SignalBus;
  readonly logger: Logger;
  /** Between heartbeats; a data-only `ping` goes out with every second one. */
  readonly heartbeatMs: number;
  /** A connection that takes nothing for so long is closed. */
  readonly stalledMs: number;
  /** Told every event before any reader is. */
  readonly follow?: (event: EventEnvelope) => void;
}

export interface Subscription {
  /** Ends the stream. */
  end(): void;
}

export interface HubStats {
  /** Readers by the name of their feed's kind are counted by the metrics; these are all of them. */
  readonly clients: number;
  readonly replaying: number;
  readonly topics: number;
  readonly runningTexts: number;
}

export interface Hub {
  /** Every event up to here has been given to the live readers. */
  position(): Position;
  /** Sends the feed from the cursor (exclusive) into the sink until either ends. */
  subscribe(feed: Feed, cursor: Cursor, sink: Sink): Subscription;
  readonly turnEnded: TurnEnds['next'];
  stats(): HubStats;
  /** Stops following the log and ends all streams. */
  close(): Promise<void>;
}

interface Client {
  readonly feed: Feed;
  readonly sink: Sink;
  /** While replaying: where it stands. */
  cursor: Cursor;
  /** While live: where it belongs. */
  group: Group | null;
  closed: boolean;
  /** What a chunk that is being written still lacks: after less, a frame would be cut. */
  rest: readonly Buffer[];
  /** What its connection had taken when that was last seen to grow, or nothing was waiting; and when (ms). */
  taken: number;
  takenAt: number;
}

/** Members of a topic that have the same of the running answer: they get the same bytes. */
interface Group {
  reader: Reader;
  readonly members: Set<Client>;
  /** What is to be written, and where its members stand before it. */
  frames: string[];
  size: number;
  before: Cursor;
}

interface Topic {
  readonly feed: Feed;
  state: unknown;
  groups: Group[];
}

/** Bytes (counted as UTF-16 code units until they are serialised). */
const CHUNK = 64 * 1024;
/** So much may wait for a connection before it is sent back to reading from the log. */
const SOFT_LIMIT = 256 * 1024;
const HARD_LIMIT = 1024 * 1024;
/** Before the log is followed again, when it was lost: at first, and after many tries. */
const FIRST_PAUSE_MS = 500;
const LONGEST_PAUSE_MS = 10_000;
const COMMENT = [Buffer.from(': hb\n\n')];

export async function createHub(options: HubOptions): Promise<Hub> {
  const { store, bus, logger } = options;
  const stopping = new AbortController();
  const clients = new Set<Client>();
  const topics = new Map<string, Topic>();
  /** Topics by what they could be concerned with: a stream, an owner, or everything. */
  const index = new Map<string, Set<Topic>>();
  const texts = createRunningTexts();
  const turnEnds = createTurnEnds(store);
  let positionWaiters: { position: Position; resolve: () => void }[] = [];
  let position = await store.head();

  // ── what happens ────────────────────────────────────────────────────────
  async function follow(): Promise<void> {
    let pauseMs = FIRST_PAUSE_MS;
    while (!stopping.signal.aborted) {
      try {
        for await (const page of store.subscribe({ after: position, signal: stopping.signal })) {
          dispatch(page);
          pauseMs = FIRST_PAUSE_MS;
        }
        if (!stopping.signal.aborted) throw new Error('The subscription of the log ended.');
      } catch (error) {
        if (stopping.signal.aborted) return;
        logger.error({ err: error, position }, 'The live feeds lost the log; they follow it again.');
        await pause(pauseMs, stopping.signal);
        pauseMs = Math.min(2 * pauseMs, LONGEST_PAUSE_MS);
      }
    }
  }

  function dispatch(page: EventPage): void {
    const touched = new Set<Topic>();
    for (const event of page.events) {
      texts.follow(event);
      options.follow?.(event);
      for (const key of keysOf(event)) {
        for (const topic of index.get(key) ?? []) {
          guarded(topic, () => {
            if (!topic.feed.takes(event)) return;
            touched.add(topic);
            take(topic, event);
          });
        }
      }
      position = event.position;
      for (const topic of touched) {
        if (topic.groups.some((group) => group.size > CHUNK) || topic.feed.ends(event)) flush(topic, event);
      }
      turnEnds.follow(event);
    }
    if (isAfter(page.position, position)) position = page.position;
    for (const topic of touched) flush(topic, null);
    tellPosition();
  }

  const endSignals = bus.subscribe((signal) => {
    if ((signal.kind !== 'text' && signal.kind !== 'reasoning') || !texts.take(signal, position)) return;
    for (const topic of index.get(`stream ${streamOf(signal)}`) ?? []) {
      guarded(topic, () => {
        for (const group of topic.groups) collect(topic, group, null);
        flush(topic, null);
      });
    }
  });

  /** A feed that fails must not stop the others: its readers are cut off, and told why when they come again. */
  function guarded(topic: Topic, action: () => void): void {
    try {
      action();
    } catch (error) {
      logger.error({ err: error, feed: topic.feed.key, position }, 'A live feed failed.');
      for (const client of topic.groups.flatMap((group) => [...group.members])) {
        remove(client);
        client.sink.destroy();
      }
    }
  }

  // ── topics ──────────────────────────────────────────────────────────────
  function take(topic: Topic, event: EventEnvelope): void {
    for (const group of topic.groups) {
      if (group.frames.length === 0) group.before = topic.feed.cursor(topic.state, group.reader, position);
    }
    topic.state = topic.feed.evolve(topic.state, event);
    for (const group of topic.groups) collect(topic, group, event);
  }

  function collect({ feed, state }: Topic, group: Group, event: EventEnvelope | null): void {
    if (group.frames.length === 0 && event === null)
      group.before = feed.cursor(state, group.reader, position);
    const { frames, reader } = feed.render(state, group.reader, event, runningIn(feed.source));
    group.reader = reader;
    for (const frame of frames) {
      group.frames.push(frame);
      group.size += frame.length;
    }
  }

  const runningIn = (source: Source) => (source.kind === 'log' ? null : texts.of(source.stream));

  /** Writes what was collected. `last`: the event that it ends with, when it may end the feed. */
  function flush(topic: Topic, last: EventEnvelope | null): void {
    const { feed } = topic;
    const ends = last !== null && feed.ends(last);
    for (const group of topic.groups) {
      const { frames, before } = group;
      if (frames.length === 0 && !ends) continue;
      group.frames = [];
      group.size = 0;
      const chunk = serialise(feed, frames);
      const bytes = chunk.reduce((sum, part) => sum + part.length, 0);
      const after = feed.cursor(topic.state, group.reader, position);
      for (const client of group.members) {
        const { sink } = client;
        if (bytes > 0) {
          if (sink.pending() + bytes > HARD_LIMIT) {
            sendBack(client, before);
            continue;
          }
          sink.write(chunk);
        }
        if (ends) {
          remove(client);
          sink.end();
        } else if (bytes > 0 && sink.pending() > SOFT_LIMIT) {
          sendBack(client, after);
        }
      }
    }
    if (topic.groups.length > 1) merge(topic);
  }

  /** Groups whose members have come to have the same become one. */
  function merge(topic: Topic): void {
    const merged: Group[] = [];
    for (const group of topic.groups) {
      const same = merged.find(({ reader }) => sameReader(reader, group.reader));
      if (same === undefined) {
        merged.push(group);
        continue;
      }
      for (const client of group.members) {
        client.group = same;
        same.members.add(client);
      }
    }
    topic.groups = merged;
  }

  function join(client: Client, state: unknown, reader: Reader): void {
    const { feed } = client;
    let topic = topics.get(feed.key);
    if (topic === undefined) {
      topic = { feed, state, groups: [] };
      topics.set(feed.key, topic);
      const key = keyOf(feed.source);
      const indexed = index.get(key);
      if (indexed === undefined) index.set(key, new Set([topic]));
      else indexed.add(topic);
    }
    const same = topic.groups.find((group) => sameReader(group.reader, reader));
    if (same !== undefined) {
      client.group = same;
      same.members.add(client);
      return;
    }
    const group: Group = {
      reader,
      members: new Set([client]),
      frames: [],
      size: 0,
      before: client.cursor,
    };
    client.group = group;
    topic.groups.push(group);
    const joined = topic;
    guarded(joined, () => {
      collect(joined, group, null);
      flush(joined, null);
    });
  }

  function leave(client: Client): void {
    const { group, feed } = client;
    if (group === null) return;
    client.group = null;
    group.members.delete(client);
    if (group.members.size > 0) return;
    const topic = topics.get(feed.key)!;
    topic.groups = topic.groups.filter((other) => other !== group);
    if (topic.groups.length > 0) return;
    topics.delete(feed.key);
    const key = keyOf(feed.source);
    const indexed = index.get(key)!;
    indexed.delete(topic);
    if (indexed.size === 0) index.delete(key);
  }

  function remove(client: Client): void {
    client.closed = true;
    clients.delete(client);
    leave(client);
  }

  // ── replay ──────────────────────────────────────────────────────────────
  function sendBack(client: Client, cursor: Cursor): void {
    leave(client);
    client.cursor = cursor;
    void replay(client);
  }

  async function replay(client: Client): Promise<void> {
    try {
      while (!client.closed) {
        await client.sink.drained();
        await untilReached(client.cursor.position);
        if (client.closed || (await readLog(client)) !== 'blocked') return;
      }
    } catch (error) {
      if (client.closed) return;
      logger.error({ err: error, feed: client.feed.key }, 'A reader of a live feed could not be served.');
      client.sink.destroy();
    }
  }

  /** Reads on from the client's cursor until it is live, its connection is blocked, or the feed has ended. */
  async function readLog(client: Client): Promise<'live' | 'blocked' | 'ended'> {
    const { feed } = client;
    const { source } = feed;
    let state = feed.initial;
    let reader: Reader | null = source.kind === 'log' ? feed.reader(state, client.cursor) : null;
    let revision =
      source.kind === 'log'
        ? 0
        : (source.firstRevision ?? (await firstRevision(store, source, client.cursor.position)));
    let frames: string[] = [];
    let size = 0;
    let ended = false;

    for (;;) {
      const upTo = position;
      for await (const events of read(store, source, { after: client.cursor.position, revision, upTo })) {
        if (client.closed) return 'ended';
        for (const event of events) {
          revision = event.revision + 1;
          if (!feed.takes(event)) continue;
          ended = feed.ends(event);
          if (!isAfter(event.position, client.cursor.position)) {
            state = feed.evolve(state, event);
            if (ended) break;
            continue;
          }
          reader ??= feed.reader(state, client.cursor);
          state = feed.evolve(state, event);
          const rendered = feed.render(state, reader, event, null);
          reader = rendered.reader;
          for (const frame of rendered.frames) {
            frames.push(frame);
            size += frame.length;
          }
          if (ended) break;
          if (size <= CHUNK) continue;
          await writeAll(client, serialise(feed, frames));
          if (client.closed) return 'ended';
          client.cursor = feed.cursor(state, reader, event.position);
          frames = [];
          size = 0;
          if (client.sink.pending() > SOFT_LIMIT) return 'blocked';
        }
        if (ended) break;
      }
      if (client.closed) return 'ended';
      reader ??= feed.reader(state, client.cursor);
      if (frames.length > 0) {
        await writeAll(client, serialise(feed, frames));
        if (client.closed) return 'ended';
        frames = [];
        size = 0;
      }
      if (ended) {
        remove(client);
        client.sink.end();
        return 'ended';
      }
      client.cursor = feed.cursor(state, reader, upTo);
      if (client.sink.pending() > SOFT_LIMIT) return 'blocked';
      if (upTo === position) {
        join(client, state, reader);
        return 'live';
      }
    }
  }

  /** Writes even what is larger than may be pending, piece by piece. */
  async function writeAll(client: Client, chunk: readonly Buffer[]): Promise<void> {
    for (const bytes of chunk) {
      if (!client.feed.transport.joins) {
        client.sink.write([bytes]);
        continue;
      }
      for (let from = 0; from < bytes.length && !client.closed; from += SOFT_LIMIT) {
        client.rest = [bytes.subarray(from)];
        if (from > 0) await client.sink.drained();
        if (!client.closed) client.sink.write([bytes.subarray(from, from + SOFT_LIMIT)]);
      }
      client.rest = [];
    }
  }

  function untilReached(wanted: Position): Promise<void> {
    if (!isAfter(wanted, position) || stopping.signal.aborted) return Promise.resolve();
    return new Promise((resolve) => positionWaiters.push({ position: wanted, resolve }));
  }

  function tellPosition(): void {
    if (positionWaiters.length === 0) return;
    const reached = positionWaiters.filter((waiter) => !isAfter(waiter.position, position));
    positionWaiters = positionWaiters.filter((waiter) => isAfter(waiter.position, position));
    for (const { resolve } of reached) resolve();
  }

  // ── heartbeats ──────────────────────────────────────────────────────────
  let beats = 0;
  const heart = setInterval(() => {
    beats++;
    const now = Date.now();
    const pings = new Map<unknown, readonly Buffer[]>();
    for (const client of clients) {
      const { feed, sink } = client;
      const waiting = sink.pending() > 0;
      const taken = sink.taken();
      if (!waiting || taken !== client.taken) {
        client.taken = taken;
        client.takenAt = now;
      } else if (now - client.takenAt > options.stalledMs) {
        logger.info(
          { feed: feed.key },
          'A reader of a live feed takes nothing any more: its connection is closed.',
        );
        sink.destroy();
      }
      // Who replays is in the middle of something; who has bytes waiting need not be told that the feed lives.
      if (waiting || client.group === null || feed.transport.name !== 'sse') continue;
      sink.write(COMMENT);
      if (feed.ping === undefined || beats % 2 === 1) continue;
      let ping = pings.get(feed.ping);
      if (ping === undefined) {
        ping = serialise(feed, [feed.transport.encode(feed.ping(new Date(now).toISOString()))]);
        pings.set(feed.ping, ping);
      }
      sink.write(ping);
    }
  }, options.heartbeatMs);
  heart.unref();

  function end(client: Client, last: readonly Buffer[] = []): void {
    if (client.closed) return;
    const { sink, rest } = client;
    remove(client);
    sink.write([...rest, ...last]);
    sink.end();
  }

  function sayFarewell(client: Client): void {
    const { feed } = client;
    const frame = feed.farewell?.(new Date().toISOString());
    end(client, frame && serialise(feed, [feed.transport.encode(frame)]));
  }

  const following = follow();

  return {
    position: () => position,

    subscribe(feed, cursor, sink) {
      const takenAt = Date.now();
      const client: Client = { feed, sink, cursor, group: null, closed: false, rest: [], taken: 0, takenAt };
      clients.add(client);
      sink.onClose(() => remove(client));
      const topic = topics.get(feed.key);
      const known = topic?.state ?? (feed.source.kind === 'log' ? feed.initial : undefined);
      if (stopping.signal.aborted) {
        sayFarewell(client);
      } else if (known !== undefined && comparePositions(cursor.position, position) === 0) {
        join(client, known, feed.reader(known, cursor));
      } else {
        void replay(client);
      }
      return { end: () => end(client) };
    },

    turnEnded: turnEnds.next,

    stats: () => ({
      clients: clients.size,
      replaying: [...clients].filter((client) => client.group === null).length,
      topics: topics.size,
      runningTexts: texts.size,
    }),

    async close() {
      clearInterval(heart);
      endSignals();
      stopping.abort();
      turnEnds.close();
      for (const client of [...clients]) sayFarewell(client);
      for (const { resolve } of positionWaiters) resolve();
      await following;
    },
  };
}

const streamOf = ({ conversationId }: { conversationId: string }) => `conversation-${conversationId}`;

/** Under which key a topic is found, and under which keys topics are looked for. */
const keyOf = (source: Source): string =>
  source.kind === 'conversation'
    ? `stream ${source.stream}`
    : source.filter.stream !== undefined
      ? `stream ${source.filter.stream}`
      : source.filter.owner !== undefined
        ? `owner ${source.filter.owner}`
        : 'everything';
const keysOf = ({ stream, owner }: EventEnvelope): readonly string[] => [
  `stream ${stream}`,
  `owner ${owner}`,
  'everything',
];

const serialise = ({ transport }: Feed, frames: readonly string[]): readonly Buffer[] =>
  transport.joins ? [Buffer.from(frames.join(''))] : frames.map((frame) => Buffer.from(frame));

const sameReader = (a: Reader, b: Reader): boolean =>
  a.length === b.length && a.hash === b.hash && a.reasoning === b.reasoning && a.generation === b.generation;

function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(done, ms);
    signal.addEventListener('abort', done, { once: true });
    function done() {
      clearTimeout(timer);
      signal.removeEventListener('abort', done);
      resolve();
    }
  });
}
