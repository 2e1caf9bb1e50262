/**
 * Theater mode: a deliberation as it goes on, or played back at its own rhythm. Both make their frames of its events
 * with the same function, one frame an event.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { type Caller, sees } from '../../contracts/caller.ts';
import { isAfter, type Position } from '../../contracts/envelope.ts';
import { refuse } from '../../contracts/errors.ts';
import type { OdeonEvent } from '../../contracts/events/catalogue.ts';
import * as routes from '../../contracts/http/autonomous.ts';
import type { TheaterFrame } from '../../contracts/live/theater.ts';
import type { DeliberationDocument } from '../../contracts/read-models/documents.ts';
import type { EventStore } from '../../infra/event-store/port.ts';
import { callerOf, type Endpoint, endpoint } from '../../infra/http/port.ts';
import type { ReadModels, Stored } from '../../infra/read-models/port.ts';
import { readerOf } from './answer.ts';
import { BEGINNING, type Cursor, NOTHING_READ } from './cursor.ts';
import { type Feed, type Frame, resyncOf, type Start, sse } from './feed.ts';
import type { Sink } from './sink.ts';
import { invalid, reader, type Streams } from './streams.ts';

// ── frames ────────────────────────────────────────────────────────────────
/** What frames need of earlier events. */
interface Scene {
  /** The session's, or the deliberation's where it belongs to none. */
  readonly sessionId: string;
  readonly toolUseCount: number;
  readonly maxToolUses: number;
  readonly starts: number;
}
const NO_SCENE: Scene = { sessionId: '', toolUseCount: 0, maxToolUses: 0, starts: 0 };

const deliberationIdOf = ({ stream }: { readonly stream: string }): string =>
  stream.slice('deliberation-'.length);

function follow(scene: Scene, event: OdeonEvent): Scene {
  switch (event.type) {
    case 'DeliberationOpened': {
      const { sessionId, maxToolUses } = event.data;
      return { ...scene, sessionId: sessionId ?? deliberationIdOf(event), maxToolUses };
    }
    case 'DeliberationStarted':
      return { ...scene, starts: scene.starts + 1 };
    case 'MaterialSought':
      return { ...scene, toolUseCount: scene.toolUseCount + 1 };
    default:
      return scene;
  }
}

/** Tools whose use is shown as a search. */
const searches = (tool: string): boolean => /^(?:search|recall|find)_/.test(tool);
const queryOf = (given: unknown): string => {
  const { query } = (typeof given === 'object' && given !== null ? given : {}) as { query?: unknown };
  return typeof query === 'string' ? query : '';
};

/** @param scene with the event in it. Null: not shown */
function frameOf(scene: Scene, event: OdeonEvent): TheaterFrame | null {
  const { time: timestamp } = event;
  const { toolUseCount, maxToolUses, sessionId } = scene;
  const uses = { toolUseCount, maxToolUses };
  switch (event.type) {
    case 'DeliberationOpened': {
      const { topic, purpose, mode: sessionMode, members, material, maxLoops } = event.data;
      return {
        type: 'deliberation',
        deliberationId: deliberationIdOf(event),
        sessionId,
        ...{ topic, purpose, sessionMode },
        members: members.map(({ name, displayName, role, avatarEmoji, color }) => ({
          ...{ name, displayName, role, avatarEmoji, color },
        })),
        material: material.map(({ id, title }) => ({ id, title })),
        ...{ maxLoops, maxToolUses, timestamp },
      };
    }
    case 'DeliberationStarted':
      return scene.starts > 1 ? { type: 'session_resumed', sessionId, attempt: event.data.attempt } : null;
    case 'DeliberationReleased':
      return { type: 'session_paused', message: PAUSED };
    case 'PhaseStarted': {
      const { phase, loop: loopCount } = event.data;
      return { type: 'phase_start', phase, loopCount, ...uses, timestamp };
    }
    case 'PhaseEnded': {
      const { phase, loop: loopCount } = event.data;
      return { type: 'phase_end', phase, loopCount, toolUseCount, timestamp };
    }
    case 'MaterialSought': {
      const { tool, arguments: given } = event.data;
      return searches(tool)
        ? { type: 'search_start', query: queryOf(given), tool, ...uses, timestamp }
        : null;
    }
    case 'MaterialGathered': {
      const { tool, arguments: given, material, isError } = event.data;
      const found = { tool, materialId: material.id, isError, ...uses, timestamp };
      if (!searches(tool)) {
        return { type: 'tool_count_update', arguments: given, result: material.text, ...found };
      }
      const lines = material.text.split('\n').filter((line) => line.startsWith('- '));
      return {
        type: 'search_complete',
        query: queryOf(given),
        resultCount: lines.length,
        results: lines.map((line) => ({ title: material.title, url: null, snippet: line.slice(2) })),
        ...found,
      };
    }
    case 'DeliberationLimited': {
      const { limit, message, loop: loopCount } = event.data;
      return limit === 'tools'
        ? { type: 'tool_limit_reached', ...uses, message, loopCount, timestamp }
        : { type: 'circuit_breaker', message, loopCount, timestamp };
    }
    case 'VoiceFailed':
      return {
        type: 'error',
        message: `No model answered for ${event.data.member}: ${event.data.reason}`,
        timestamp,
      };
    case 'MemberSpoke': {
      const { phase, loop: loopCount, member: speaker, text: message, kind, cites, voice } = event.data;
      const said = { phase, speaker, message, loopCount, toolUseCount, kind, cites };
      return { type: 'council_message', ...said, model: voice.model, timestamp };
    }
    case 'VoteCast': {
      const { loop: loopCount, member: speaker, vote, reason, voice } = event.data;
      return { type: 'vote', loopCount, speaker, vote, reason, model: voice.model, timestamp };
    }
    case 'DecisionReached': {
      const { loop: loopCount, outcome, decision, by, tally, dissent } = event.data;
      const reached = { loopCount, outcome, decision, by, tally, dissent };
      return { type: 'decision', decisionId: event.id, ...reached, timestamp };
    }
    case 'ActionTaken':
      return { type: 'action', ...event.data, timestamp };
    case 'DeliberationEnded': {
      const { outcome, reason } = event.data;
      return { type: 'session_end', sessionId, outcome, reason, timestamp };
    }
    default:
      return null;
  }
}

const PAUSED = 'No worker runs this session at the moment: it goes on when one does.';
const dataOnly = (data: TheaterFrame, id: string | null = null): Frame => ({ id, name: null, data });
const encode = (data: TheaterFrame, id: string | null = null): string => sse.encode(dataOnly(data, id));
const ping = (timestamp: string): Frame => dataOnly({ type: 'ping', timestamp });
const farewell = (timestamp: string): Frame => dataOnly({ type: 'shutdown', timestamp });
const isLast = ({ type }: { readonly type: string }): boolean => type === 'DeliberationEnded';

// ── live ──────────────────────────────────────────────────────────────────
const NO_TEXT = readerOf(NOTHING_READ);

function theaterFeed(deliberationId: string): Feed {
  const stream = `deliberation-${deliberationId}`;
  const feed: Feed<Scene> = {
    key: `theater ${deliberationId}`,
    transport: sse,
    // Of any one stream: without a turn to look for it is read from its beginning.
    source: { kind: 'conversation', stream, turnId: null, firstRevision: 0 },
    initial: NO_SCENE,
    takes: (event) => event.stream === stream,
    evolve: (scene, event) => follow(scene, event as OdeonEvent),
    reader: () => NO_TEXT,
    render(scene, reader, event) {
      const frame = event === null ? null : frameOf(scene, event as OdeonEvent);
      return { frames: frame === null ? [] : [encode(frame, event!.position)], reader };
    },
    ends: isLast,
    cursor: (_scene, _reader, position) => ({ position, read: null }),
    resync: (reason, timestamp) => dataOnly({ type: 'resync', reason, timestamp }),
    ping,
    farewell,
  };
  // Only the feed itself looks into its state.
  return feed as Feed;
}

// ── routes ────────────────────────────────────────────────────────────────
/** What playing back waits by. */
export interface Clock {
  /** Milliseconds. */
  now(): number;
  /** @throws when the signal is aborted */
  sleep(ms: number, signal: AbortSignal): Promise<void>;
}

const systemClock: Clock = {
  now: () => performance.now(),
  sleep: (ms, signal) => delay(ms, undefined, { signal }),
};

export interface TheaterDependencies {
  readonly store: EventStore;
  readonly readModels: ReadModels;
  readonly streams: Streams;
  /** Whether this worker is known to run no more, though it has given back nothing. */
  readonly isGone: (worker: string) => boolean;
  readonly timing: { readonly heartbeatMs: number; readonly stalledMs: number };
  readonly clock?: Clock;
}

type Shown = Stored<DeliberationDocument>;
/** A session that was opened so shortly before is about to be taken by a worker. */
const SOON_MS = 1_500;
const LOOK_AGAIN_MS = 25;
/** So many of a user's sessions are looked through for the one that a reader was following. */
const LOOKED_THROUGH = 50;

export function theaterEndpoints(dependencies: TheaterDependencies): Endpoint[] {
  const { store, readModels, streams, isGone, timing, clock = systemClock } = dependencies;

  return [
    endpoint(routes.streamDeliberations, async ({ query, context }) => {
      const caller = callerOf(context);
      if (query.deliberation !== undefined) {
        const found = await readModels.get<DeliberationDocument>('deliberations', query.deliberation);
        if (found === null || !sees(caller, found.body.owner)) refuse('NOT_FOUND', 'Deliberation not found.');
        const { from, speed = 1 } = query;
        if (from !== undefined && (await streams.isBeyond(from))) {
          throw invalid(['query', 'from'], 'from lies beyond the end of the log: begin without it');
        }
        const begin: Cursor = from === undefined ? BEGINNING : { position: from, read: null };
        const start = await streams.resumed(context, query, begin);
        const resumes = start.cursor !== begin;
        if (resumes && !routes.isOpen(found.body) && !isAfter(found.position, start.cursor.position)) {
          return { status: 204 };
        }
        return { stream: (response) => playBack(response, found.body, start, speed, caller) };
      }

      const start = await streams.resumed(context, query, BEGINNING);
      const resumes = start.cursor !== BEGINNING;
      const chosen = await sessionOf(caller, resumes ? start.cursor.position : null);
      if (chosen === null) {
        if (resumes) return { status: 204 };
        return { stream: sayNothingToFollow };
      }
      const current = await aboutToRun(chosen, context.signal);
      return { stream: (response) => show(response, current, start, resumes, caller) };
    }),
  ];

  /** The session that is active; who resumes goes on with the one that was not read to its end. */
  async function sessionOf(caller: Caller, read: Position | null): Promise<Shown | null> {
    const { documents } = await readModels.find<DeliberationDocument>('deliberations', {
      where: { owner: caller.userId, purpose: 'autonomous' },
      orderBy: { field: 'openedAt', direction: 'descending' },
      limit: LOOKED_THROUGH,
    });
    const sessions = documents.filter(({ body }) => routes.isSession(body));
    const unread =
      read === null
        ? undefined
        : sessions.findLast(
            ({ body, position }) =>
              !isAfter(body.openedPosition, read) && isAfter(position, read) && !routes.isOpen(body),
          );
    return unread ?? sessions.find(({ body }) => routes.isOpen(body)) ?? null;
  }

  /** A session that has only just been opened is not yet said to stand still. */
  async function aboutToRun(session: Shown, signal: AbortSignal): Promise<Shown> {
    const deadline = Date.parse(session.body.openedAt) + SOON_MS;
    let current = session;
    while (current.body.status === 'queued' && Date.now() < deadline && !signal.aborted) {
      await delay(LOOK_AGAIN_MS);
      current = (await readModels.get<DeliberationDocument>('deliberations', session.id)) ?? current;
    }
    return current;
  }

  function show(
    response: Parameters<Streams['open']>[0],
    { id, position, body }: Shown,
    start: Start,
    resumes: boolean,
    caller: Caller,
  ): void {
    const stands = routes.isOpen(body) && (body.worker === null || isGone(body.worker));
    let greeting = encode(connectedTo(body));
    let { cursor } = start;
    if (stands && !resumes) {
      const deliberations = [routes.renderDeliberation(body)];
      greeting += encode({ type: 'history_load', deliberations, currentLoop: body.loop }, position);
      cursor = { position, read: null };
    }
    if (stands) greeting += encode({ type: 'session_paused', message: PAUSED });
    streams.open(response, {
      feed: theaterFeed(id),
      start: { ...start, cursor },
      kind: 'theater',
      greeting,
      login: { caller, may: reader(body.owner) },
    });
  }

  // ── playing back ────────────────────────────────────────────────────────
  function playBack(
    response: Parameters<Streams['play']>[0],
    body: DeliberationDocument,
    start: Start,
    speed: number,
    caller: Caller,
  ): void {
    streams.play(response, {
      kind: 'theater playback',
      greeting: resyncOf(theaterFeed(body.id), start) + encode(connectedTo(body)),
      farewell: () => sse.encode(farewell(new Date().toISOString())),
      login: { caller, may: reader(body.owner) },
      play: (sink, gone) => play(sink, gone, body.id, start.cursor.position, speed),
    });
  }

  async function play(
    sink: Sink,
    gone: AbortSignal,
    deliberationId: string,
    after: Position,
    speed: number,
  ): Promise<void> {
    let scene = NO_SCENE;
    /** When the first frame was shown, and when that happened. */
    let begun: { readonly at: number; readonly time: number } | null = null;
    for await (const event of eventsOf(deliberationId, gone)) {
      if (gone.aborted) return;
      scene = follow(scene, event);
      if (!isAfter(event.position, after)) {
        if (isLast(event)) return;
        continue;
      }
      const frame = frameOf(scene, event);
      if (frame === null) continue;
      const time = Date.parse(event.time);
      begun ??= { at: clock.now(), time };
      await waitUntil(begun.at + (time - begun.time) / speed, sink, gone);
      sink.write([Buffer.from(encode(frame, event.position))]);
      if (isLast(event)) return;
      await taken(sink, gone);
    }
  }

  /** What there is, page by page as it is played, and then what comes. */
  async function* eventsOf(deliberationId: string, gone: AbortSignal): AsyncGenerator<OdeonEvent> {
    const stream = `deliberation-${deliberationId}`;
    let last: Position = BEGINNING.position;
    for await (const page of store.readStream(stream)) {
      for (const event of page as readonly OdeonEvent[]) {
        last = event.position;
        yield event;
      }
    }
    for await (const page of store.subscribe({ after: last, filter: { stream }, signal: gone })) {
      yield* page.events as readonly OdeonEvent[];
    }
  }

  /** Long pauses are as long as they were: meanwhile the client is told that the stream lives. */
  async function waitUntil(due: number, sink: Sink, gone: AbortSignal): Promise<void> {
    let beats = 0;
    for (let left = due - clock.now(); left > 0; left = due - clock.now()) {
      await clock.sleep(Math.min(left, timing.heartbeatMs), gone);
      if (due - clock.now() <= 0) return;
      beats++;
      sink.write([COMMENT]);
      if (beats % 2 === 0) sink.write([Buffer.from(sse.encode(ping(new Date().toISOString())))]);
    }
  }

  /** A connection that takes nothing for long is closed. */
  async function taken(sink: Sink, gone: AbortSignal): Promise<void> {
    const patience = new AbortController();
    const signal = AbortSignal.any([gone, patience.signal]);
    const stalled = clock.sleep(timing.stalledMs, signal).then(
      () => sink.destroy(),
      () => {},
    );
    await Promise.race([sink.drained(), stalled]);
    patience.abort();
  }
}

const COMMENT = Buffer.from(': hb\n\n');

const connectedTo = ({ id, sessionId }: DeliberationDocument): TheaterFrame => ({
  type: 'connected',
  sessionId: sessionId ?? id,
  deliberationId: id,
});

function sayNothingToFollow(response: Parameters<Streams['open']>[0]): void {
  response.writeHead(200, {
    'Content-Type': 'text/event-stream; charset=utf-8',
    'Cache-Control': 'no-cache',
  });
  response.end(encode({ type: 'error', message: 'No active session' }));
}
