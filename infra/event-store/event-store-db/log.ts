/** Reads the whole log: pages between two positions, and subscriptions that never lose their place. */
import { setTimeout as pause } from 'node:timers/promises';
import {
  comparePositions,
  type EventEnvelope,
  isAfter,
  laterOf,
  type Position,
  START,
} from '../../../contracts/envelope.ts';
import {
  type EventFilter,
  type EventPage,
  passes,
  type ReadAllOptions,
  StoreUnavailable,
  type SubscribeOptions,
} from '../port.ts';
import { type LogPosition, logPositionOf, tokenOf } from './log-position.ts';
import { envelopeOf, isSystemName, type LogRecord } from './record.ts';
import { PAGE_RECORDS, type Received, type Server, type ServerFilter } from './server.ts';

/** Scanning back for the last event mostly ends at once. */
const FIRST_LOOK = 16;
const RETRY_MS = { first: 25, longest: 2_000 } as const;

export interface Log {
  /** The position of the last event, in one or a few reads from the end. */
  head(): Promise<Position>;
  /** The position of the last record of any kind. */
  end(): Promise<Position>;
  readAll(options: ReadAllOptions): AsyncGenerator<EventPage>;
  subscribe(options: SubscribeOptions): AsyncGenerator<EventPage>;
  /** The position of the last event committed by then. */
  positionAt(timeMs: number): Promise<Position>;
  /** The last event; null when there is none. */
  last(): Promise<EventEnvelope | null>;
  /** Tells of an event that this process appended or read. */
  seen(position: Position): void;
}

/** @param closed aborted when the store is closed: subscriptions end then */
export function createLog(server: Server, closed: AbortSignal): Log {
  /** No event is known after `head`; up to `lookedTo` none is there. */
  let newest: { head: Position; lookedTo: Position } = { head: START, lookedTo: START };

  function seen(position: Position): void {
    if (!isAfter(position, newest.head)) return;
    newest = { head: position, lookedTo: laterOf(position, newest.lookedTo) };
  }

  async function head(): Promise<Position> {
    const { lookedTo } = newest;
    let from: LogPosition | 'end' = 'end';
    let end: Position | undefined;
    for (let count = FIRST_LOOK; ; count = PAGE_RECORDS) {
      const records: LogRecord[] = await server.readAll(from, 'backwards', count);
      for (const record of records) {
        const position = tokenOf(record.position!);
        end ??= position;
        const isEvent = envelopeOf(record) !== null;
        if (isEvent) seen(position);
        if (isEvent || !isAfter(position, lookedTo)) return lookedUpTo(end);
      }
      if (records.length < count) return lookedUpTo(end ?? START);
      from = records.at(-1)!.position!;
    }
  }

  function lookedUpTo(end: Position): Position {
    newest = { ...newest, lookedTo: laterOf(end, newest.lookedTo) };
    return newest.head;
  }

  async function end(): Promise<Position> {
    const [last] = await server.readAll('end', 'backwards', 1);
    return last === undefined ? START : tokenOf(last.position!);
  }

  /** Of a log that was read to its end the server tells the place behind it, which looks like one of another log. */
  const insideOf = async (checkpoint: LogPosition): Promise<Position> =>
    earlierOf(tokenOf(checkpoint), await end());

  /**
   * From where to read on after a position: the server reads from where a record is. A position that is none of this
   * log's (an old client's, from before the log was moved here) is looked for from the beginning; who reads leaves
   * out what is not after it.
   */
  async function startAfter(position: Position): Promise<LogPosition | 'start' | 'beyond'> {
    const from = logPositionOf(position);
    if (from === 'start' || from === 'beyond') return from;
    try {
      await server.readAll(from, 'forwards', 1);
      return from;
    } catch (error) {
      if (error instanceof RangeError) return 'start';
      throw error;
    }
  }

  /** From where a backwards read gives the record at `upTo` first, or later ones that are to be skipped. */
  async function justAfter(upTo: LogPosition): Promise<LogPosition | 'end'> {
    try {
      const [, next] = await server.readAll(upTo, 'forwards', 2);
      return next === undefined ? 'end' : next.position!;
    } catch (error) {
      // Nothing is exactly there: the bound is not one of this log's, and its end will do.
      if (error instanceof RangeError) return 'end';
      throw error;
    }
  }

  async function* forwards(options: ReadAllOptions): AsyncGenerator<EventPage> {
    const { upTo, filter = {}, limit = Number.POSITIVE_INFINITY } = options;
    let position = options.after ?? START;
    let from = await startAfter(position);
    let left = limit;
    while (left > 0 && from !== 'beyond') {
      // The record at `from` comes again.
      const records: LogRecord[] = await server.readAll(from, 'forwards', PAGE_RECORDS + 1);
      const atEnd = records.length <= PAGE_RECORDS;
      const events: EventEnvelope[] = [];
      let looked = position;
      let beyond = false;
      let eventsBeyond = false;
      for (const record of records) {
        const at = tokenOf(record.position!);
        if (!isAfter(at, position)) continue;
        beyond ||= (upTo !== undefined && isAfter(at, upTo)) || events.length === left;
        const event = envelopeOf(record);
        if (beyond) {
          eventsBeyond ||= event !== null;
          continue;
        }
        looked = at;
        if (event !== null && passes(event, filter)) events.push(event);
      }
      if (beyond && events.length < left) looked = laterOf(looked, upTo!);
      left -= events.length;
      if (events.length > 0 || isAfter(looked, position)) {
        position = looked;
        yield { events, position, caughtUp: atEnd && !eventsBeyond };
      }
      if (beyond || atEnd) return;
      from = records.at(-1)!.position!;
    }
  }

  async function* backwards(options: ReadAllOptions): AsyncGenerator<EventPage> {
    const { after = START, upTo, filter = {}, limit = Number.POSITIVE_INFINITY } = options;
    const bound = upTo === undefined ? 'beyond' : logPositionOf(upTo);
    if (bound === 'start') return;
    let from = bound === 'beyond' ? 'end' : await justAfter(bound);
    let left = limit;
    while (left > 0) {
      const records: LogRecord[] = await server.readAll(from, 'backwards', PAGE_RECORDS);
      const events: EventEnvelope[] = [];
      let looked: Position | undefined;
      let done = records.length < PAGE_RECORDS;
      for (const record of records) {
        const at = tokenOf(record.position!);
        if (upTo !== undefined && isAfter(at, upTo)) continue;
        if (!isAfter(at, after) || events.length === left) {
          done = true;
          break;
        }
        looked = at;
        const event = envelopeOf(record);
        if (event !== null && passes(event, filter)) events.push(event);
      }
      left -= events.length;
      if (looked !== undefined)
        yield { events, position: looked, caughtUp: done && left > 0 && after === START };
      if (done) return;
      from = records.at(-1)!.position!;
    }
  }

  /** One stream is read by itself: its events are in the log's order, too. */
  async function* ofStream(stream: string, options: ReadAllOptions): AsyncGenerator<EventPage> {
    const { direction = 'forwards', after = START, upTo, filter = {} } = options;
    const until = await end();
    let left = options.limit ?? Number.POSITIVE_INFINITY;
    let position = direction === 'forwards' ? after : undefined;
    let from: number | 'start' | 'end' = direction === 'forwards' ? 'start' : 'end';
    while (left > 0) {
      const records: LogRecord[] = (await server.readStream(stream, from, direction, PAGE_RECORDS)) ?? [];
      const found = records.map(envelopeOf).filter((event) => event !== null);
      const inside = found.filter(
        (event) => isAfter(event.position, after) && (upTo === undefined || !isAfter(event.position, upTo)),
      );
      const events = inside.filter((event) => passes(event, filter)).slice(0, left);
      left -= events.length;
      const last = events.at(-1)?.position;
      const revision = records.length < PAGE_RECORDS ? null : Number(records.at(-1)!.revision);
      const outside =
        found.length > inside.length &&
        (direction === 'forwards'
          ? isAfter(found.at(-1)!.position, upTo ?? found.at(-1)!.position)
          : !isAfter(found.at(-1)!.position, after));
      const over = outside || revision === null || (direction === 'backwards' && revision === 0);
      if (direction === 'backwards') {
        if (last !== undefined)
          yield { events, position: last, caughtUp: over && left > 0 && after === START };
      } else {
        const looked = over && left > 0 ? earlierOf(laterOf(until, last ?? START), upTo) : last;
        if (looked !== undefined && isAfter(looked, position!)) {
          position = looked;
          yield { events, position, caughtUp: comparePositions(looked, until) >= 0 };
        }
      }
      if (over) return;
      from = direction === 'forwards' ? revision + 1 : revision - 1;
    }
  }

  /** With a filter that the server knows, a subscription until it has caught up sends much less than all. */
  async function* filtered(
    serverFilter: ServerFilter,
    { after = START, upTo, filter = {}, limit = Number.POSITIVE_INFINITY }: ReadAllOptions,
    stop: AbortSignal,
  ): AsyncGenerator<EventPage> {
    const from = await startAfter(after);
    const last = await head();
    if (from === 'beyond') return;
    let left = limit;
    let position = after;
    if (left === 0 || !isAfter(last, after)) return;
    for await (const received of server.subscribe(from, serverFilter, stop)) {
      const events: EventEnvelope[] = [];
      let looked =
        received.checkpoint === null ? position : laterOf(position, await insideOf(received.checkpoint));
      for (const record of received.records) {
        const at = tokenOf(record.position!);
        if (!isAfter(at, position)) continue;
        looked = laterOf(looked, at);
        const event = envelopeOf(record);
        const wanted = event !== null && passes(event, filter) && (upTo === undefined || !isAfter(at, upTo));
        if (wanted) events.push(event);
      }
      const cut = events.splice(left).length > 0 || events.length === left;
      left -= events.length;
      const reached = received.live && received.drained;
      if (reached) looked = laterOf(looked, last);
      const over = cut || reached || (upTo !== undefined && !isAfter(upTo, looked));
      const now = cut ? events.at(-1)!.position : earlierOf(looked, upTo);
      if (events.length > 0 || isAfter(now, position)) {
        position = now;
        // The last page must say so: nothing may come after it.
        const atHead = !isAfter(last, position) && !isAfter(await head(), position);
        yield { events, position, caughtUp: atHead };
      }
      if (over) return;
    }
    throw new StoreUnavailable('the event store is closed');
  }

  function readAll(options: ReadAllOptions): AsyncGenerator<EventPage> {
    const { direction = 'forwards', after = START, upTo, filter = {} } = options;
    if (options.limit === 0 || (upTo !== undefined && !isAfter(upTo, after))) return nothing();
    if (filter.stream !== undefined) {
      return isSystemName(filter.stream) ? nothing() : ofStream(filter.stream, options);
    }
    if (direction === 'backwards') return backwards(options);
    const serverFilter = serverFilterOf(filter);
    return serverFilter === null ? forwards(options) : filtered(serverFilter, options, closed);
  }

  async function* subscribe({ after, filter = {}, signal }: SubscribeOptions): AsyncGenerator<EventPage> {
    const stop = AbortSignal.any([signal, closed]);
    const place: Place = { position: after, resumeAfter: after };
    let wait: number = RETRY_MS.first;
    while (!stop.aborted) {
      try {
        for await (const page of follow(place, filter, stop)) {
          wait = RETRY_MS.first;
          if (stop.aborted) return;
          yield page;
        }
      } catch (error) {
        if (stop.aborted) return;
        if (!(error instanceof StoreUnavailable)) throw error;
        await pause(wait, undefined, { signal: stop }).catch(() => {});
        wait = Math.min(wait * 2, RETRY_MS.longest);
      }
    }
  }

  /** One connection's worth of a subscription. `place` tells the next one where to go on. */
  async function* follow(place: Place, filter: EventFilter, stop: AbortSignal): AsyncGenerator<EventPage> {
    let last = await head();
    const serverFilter = serverFilterOf(filter);
    if (serverFilter !== null && isAfter(last, place.resumeAfter)) {
      // What lies behind is filtered by the server. What is committed from now on is not: its position is wanted
      // at once, whether it passes or not, and the server tells that only now and then.
      for await (const page of filtered(serverFilter, { after: place.resumeAfter, filter }, stop)) {
        place.position = page.position;
        place.resumeAfter = page.position;
        yield page;
      }
    }
    const from = await startAfter(place.resumeAfter);
    let wasLive = false;
    for await (const received of server.subscribe(from === 'beyond' ? 'end' : from, null, stop)) {
      const { events, looked } = take(received, place, filter);
      let moved = looked;
      if (received.checkpoint !== null) {
        place.resumeAfter = laterOf(place.resumeAfter, tokenOf(received.checkpoint));
        // Records of the server's own move the position, too, but not those right behind the head when a
        // subscription begins there: it has nothing to say yet.
        if (wasLive || isAfter(last, place.position)) {
          moved = laterOf(looked, await insideOf(received.checkpoint));
        }
      }
      wasLive ||= received.live;
      if (!isAfter(moved, place.position)) continue;
      let caughtUp = received.drained && !isAfter(newest.head, moved);
      if (caughtUp && !(received.live && received.quiet)) {
        if (!isAfter(last, moved)) last = await head();
        caughtUp = !isAfter(last, moved);
      }
      place.position = moved;
      place.resumeAfter = laterOf(moved, place.resumeAfter);
      yield { events, position: moved, caughtUp };
    }
  }

  function take(received: Received, place: Place, filter: EventFilter) {
    const events: EventEnvelope[] = [];
    let looked = place.position;
    for (const record of received.records) {
      const at = tokenOf(record.position!);
      // Sent again, or begun before where the subscription asked for.
      if (!isAfter(at, place.resumeAfter)) continue;
      looked = at;
      const event = envelopeOf(record);
      if (event === null) continue;
      seen(at);
      if (passes(event, filter)) events.push(event);
    }
    return { events, looked };
  }

  async function positionAt(timeMs: number): Promise<Position> {
    for await (const page of backwards({})) {
      const event = page.events.find(({ time }) => Date.parse(time) <= timeMs);
      if (event !== undefined) return event.position;
    }
    return START;
  }

  async function last(): Promise<EventEnvelope | null> {
    for await (const { events } of backwards({ limit: 1 })) if (events[0] !== undefined) return events[0];
    return null;
  }

  return { head, end, readAll, subscribe, positionAt, last, seen };
}

/** Where a subscription is: what was delivered, and how far the server has looked. */
interface Place {
  position: Position;
  resumeAfter: Position;
}

const earlierOf = (position: Position, bound: Position | undefined): Position =>
  bound !== undefined && isAfter(position, bound) ? bound : position;

async function* nothing(): AsyncGenerator<never> {}

/** Of a filter the part that a server knows: one list of prefixes. Null when it knows none of it. */
function serverFilterOf(filter: EventFilter): ServerFilter | null {
  const prefix = filter.stream ?? (filter.streamPrefix === '' ? undefined : filter.streamPrefix);
  if (prefix === undefined && filter.types === undefined) return null;
  const on = prefix === undefined ? 'eventType' : 'streamName';
  const prefixes = (prefix === undefined ? filter.types! : [prefix]).filter(
    (name) => name !== '' && !isSystemName(name),
  );
  // A list without an entry would let everything through.
  return { on, prefixes: prefixes.length > 0 ? prefixes : ['\u0001'] };
}
