/** Opens live feeds over HTTP: where a reader begins, what every stream begins with, and for how long it may go on. */
import type { ServerResponse } from 'node:http';
import { type Caller, sees } from '../../contracts/caller.ts';
import { isAfter, type Position } from '../../contracts/envelope.ts';
import { Refusal } from '../../contracts/errors.ts';
import { frameId } from '../../contracts/live/frames.ts';
import type { EventStore } from '../../infra/event-store/port.ts';
import type { RequestContext } from '../../infra/http/port.ts';
import type { Logger, Metrics } from '../../infra/telemetry/port.ts';
import { type Cursor, parseCursor } from './cursor.ts';
import { type Feed, resyncOf, type Start, type Transport } from './feed.ts';
import type { Hub } from './hub.ts';
import type { Logins, OpenLogin } from './logins.ts';
import { endingWith, responseSink, type Sink } from './sink.ts';

const HEADERS = {
  'Content-Type': 'text/event-stream; charset=utf-8',
  'Cache-Control': 'no-cache, no-transform',
  // Proxies (nginx) would hold frames back.
  'X-Accel-Buffering': 'no',
};
const contentTypes: { readonly [Name in Transport['name']]?: Record<string, string> } = {
  ndjson: { 'Content-Type': 'application/x-ndjson; charset=utf-8' },
};
const RETRY = 'retry: 3000\n\n';

export interface Opening {
  readonly feed: Feed;
  readonly start: Start;
  /** For the metrics. */
  readonly kind: string;
  /** What comes before the feed. */
  readonly greeting?: string;
  /** Beside those of an event stream, or in place of them. */
  readonly headers?: Record<string, string>;
  /** What comes after the feed, as a frame; null: nothing. */
  readonly last?: () => Promise<object | null>;
  /** None: the stream ends by itself. */
  readonly login?: { readonly caller: Caller; readonly may: OpenLogin['may'] };
}

/** A stream that the hub does not write: what comes when is its own matter. */
export interface Playing extends Pick<Opening, 'kind' | 'headers' | 'login'> {
  /** What comes first; the transport is server-sent events. */
  readonly greeting: string;
  /** What is said before the server ends the stream because it shuts down. */
  readonly farewell: () => string;
  /** Writes until it is done, or `gone` is aborted; what it keeps it lets go of then. */
  readonly play: (sink: Sink, gone: AbortSignal) => Promise<void>;
}

export interface Streams {
  /** Whether the log has not come so far. */
  isBeyond(position: Position): Promise<boolean>;
  /** `begin`: for who resumes nothing, or nothing that this log knows. */
  resume(id: string | undefined, begin: Cursor): Promise<Start>;
  /** As the request's `Last-Event-ID` (or `lastEventId`) says. @throws Refusal VALIDATION_ERROR */
  resumed(
    context: RequestContext,
    query: { lastEventId?: string | undefined },
    begin: Cursor,
  ): Promise<Start>;
  /** Answers with the feed until either side ends it. */
  open(response: ServerResponse, opening: Opening): void;
  /** Answers with what `play` writes until either side ends it. */
  play(response: ServerResponse, playing: Playing): void;
  /** Where a feed begins that shows what happens from now on. */
  now(): Cursor;
  /** Tells the clients of what is played, and ends it. The hub ends the others. */
  close(): void;
}

export interface StreamsDependencies {
  readonly store: Pick<EventStore, 'end'>;
  readonly hub: Hub;
  readonly logins: Logins;
  readonly metrics: Pick<Metrics, 'liveClient'>;
  readonly logger: Logger;
}

export function createStreams({ store, hub, logins, metrics, logger }: StreamsDependencies): Streams {
  /** Ends what is played, with a farewell. */
  const playing = new Set<() => void>();
  let closed = false;

  const isBeyond = async (position: Position): Promise<boolean> =>
    isAfter(position, hub.position()) && isAfter(position, await store.end());

  async function resume(id: string | undefined, begin: Cursor): Promise<Start> {
    if (id === undefined) return { cursor: begin, resync: null };
    const cursor = parseCursor(id);
    if (!(await isBeyond(cursor.position))) return { cursor, resync: null };
    return { cursor: begin, resync: `The log has not come as far as ${id}: this feed begins anew.` };
  }

  return {
    isBeyond,
    resume,
    /** The header is newer than the query of the same URL. */
    async resumed(context, query, begin) {
      const header = context.headers['last-event-id'];
      if (typeof header !== 'string' || header === '') return resume(query.lastEventId, begin);
      if (!frameId.safeParse(header).success) {
        throw invalid(
          ['headers', 'last-event-id'],
          'The Last-Event-ID header is not the id of a frame of this feed',
        );
      }
      return resume(header, begin);
    },
    open(response, { feed, start, kind, greeting, headers, last, login }) {
      const left = metrics.liveClient(kind);
      const bare = responseSink(response);
      const sink = last === undefined ? bare : endingWith(bare, encoded(feed.transport, last));
      response.writeHead(200, { ...HEADERS, ...contentTypes[feed.transport.name], ...headers });
      sink.write([
        Buffer.from((feed.transport.name === 'sse' ? RETRY : '') + resyncOf(feed, start) + (greeting ?? '')),
      ]);
      const { end } = hub.subscribe(feed, start.cursor, sink);
      const watched = login && logins.watch(login.caller, { may: login.may, end });
      sink.onClose(() => {
        watched?.forget();
        left();
      });
    },
    play(response, { kind, headers, login, greeting, farewell, play }) {
      const left = metrics.liveClient(kind);
      const sink = responseSink(response);
      const gone = new AbortController();
      const leave = (last: string): void => {
        if (gone.signal.aborted) return;
        gone.abort();
        if (last !== '') sink.write([Buffer.from(last)]);
        sink.end();
      };
      const sayFarewell = () => leave(farewell());
      response.writeHead(200, { ...HEADERS, ...headers });
      sink.write([Buffer.from(RETRY + greeting)]);
      if (closed) sayFarewell();
      playing.add(sayFarewell);
      const watched = login && logins.watch(login.caller, { may: login.may, end: () => leave('') });
      sink.onClose(() => {
        gone.abort();
        playing.delete(sayFarewell);
        watched?.forget();
        left();
      });
      play(sink, gone.signal).then(
        () => leave(''),
        (err: unknown) => {
          if (gone.signal.aborted) return;
          logger.error({ err, feed: kind }, 'A reader of what is played back could not be served.');
          sink.destroy();
        },
      );
    },
    close() {
      closed = true;
      for (const end of [...playing]) end();
    },
    now: () => ({ position: hub.position(), read: null }),
  };
}

const encoded = (transport: Transport, last: () => Promise<object | null>) => async () => {
  const data = await last();
  return data === null ? null : Buffer.from(transport.encode({ id: null, name: null, data }));
};

/** Reads conversations, and among them those of the owner (null: everybody's). */
export const reader =
  (owner: string | null): OpenLogin['may'] =>
  (caller) =>
    caller.permissions.has('chat:read') &&
    (owner === null ? caller.permissions.has('all:read') : sees(caller, owner));

export const invalid = (path: readonly string[], message: string): Refusal =>
  new Refusal('VALIDATION_ERROR', `${message}.`, { issues: [{ path, message }] });
