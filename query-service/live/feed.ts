/**
 * A feed: which events it takes and what they look like to its readers. Data and pure functions; the hub reads,
 * keeps the order and writes.
 */
import type { EventEnvelope, Position } from '../../contracts/envelope.ts';
import type { EventFilter } from '../../infra/event-store/port.ts';
import { passes } from '../../infra/event-store/port.ts';
import {
  type Answer,
  type ConversationEvent,
  cursorAt,
  evolve,
  type Item,
  NO_ANSWER,
  type Reader,
  type RunningText,
  readerOf,
  show,
  upToDate,
} from './answer.ts';
import { type Cursor, formatCursor, NOTHING_READ } from './cursor.ts';

/** Where the events of a feed are read. */
export type Source =
  | { readonly kind: 'log'; readonly filter: EventFilter }
  | {
      readonly kind: 'conversation';
      readonly stream: string;
      /** Null: all turns. */
      readonly turnId: string | null;
      /** Where the turn begins, where that is known. */
      readonly firstRevision?: number;
    };

/** How frames are written down. */
export interface Transport {
  readonly name: 'sse' | 'ndjson' | 'ws' | 'socket.io' | 'graphql';
  /** True where frames written one after the other make a sound stream: they then go out in one piece. */
  readonly joins: boolean;
  /** @param data JSON text of an object */
  encode(frame: Frame): string;
}

export interface Frame {
  /** The frame id that resumes after this frame; null for frames that are not part of what is resumed. */
  readonly id: string | null;
  /** The event's name; null for data-only frames. */
  readonly name: string | null;
  readonly data: object | string;
}

export interface Rendered {
  readonly frames: readonly string[];
  readonly reader: Reader;
}

/** `State` is what all readers share at a position; a `Reader` is what one of them has of a running answer. */
export interface Feed<State = unknown> {
  /** Feeds with the same key are the same. */
  readonly key: string;
  readonly transport: Transport;
  readonly source: Source;
  readonly initial: State;
  takes(event: EventEnvelope): boolean;
  evolve(state: State, event: EventEnvelope): State;
  reader(state: State, cursor: Cursor): Reader;
  /** `event` has just been folded into `state`; null: show what signals have said. */
  render(state: State, reader: Reader, event: EventEnvelope | null, running: RunningText | null): Rendered;
  /** True when nothing follows the event. */
  ends(event: EventEnvelope): boolean;
  /** Where a reader stands at `position`, at which the feed's state is `state`. */
  cursor(state: State, reader: Reader, position: Position): Cursor;
  /** What comes first when the reader's frame id is not of this log, without its id. */
  resync(reason: string, timestamp: string): Frame;
  /** A frame that keeps a data-only client informed that the feed lives; null where a comment does. */
  readonly ping?: (timestamp: string) => Frame;
  /** What is said before the server ends the stream because it shuts down; null where closing says it. */
  readonly farewell: ((timestamp: string) => Frame) | null;
}

const NO_TEXT: Reader = readerOf(NOTHING_READ);

/** A feed of single events, each at most one frame; `text` is that frame, encoded, or null. */
export function eventFeed(
  feed: Pick<Feed, 'key' | 'transport' | 'resync' | 'ping' | 'farewell'> & {
    filter: EventFilter;
    text: (event: EventEnvelope) => string | null;
  },
): Feed {
  const { filter, text, ...rest } = feed;
  return {
    ...rest,
    source: { kind: 'log', filter },
    initial: null,
    takes: (event) => passes(event, filter),
    evolve: (state) => state,
    reader: () => NO_TEXT,
    render(_state, reader, event) {
      const frame = event === null ? null : text(event);
      return { frames: frame === null ? [] : [frame], reader };
    },
    ends: () => false,
    cursor: (_state, _reader, position) => ({ position, read: null }),
  };
}

/** Feeds that differ in their filter only are given the same event one after the other: it is rendered once. */
export function rememberingLast(render: (event: EventEnvelope) => string | null) {
  let last: EventEnvelope | null = null;
  let text: string | null = null;
  return (event: EventEnvelope): string | null => {
    if (event !== last) {
      text = render(event);
      last = event;
    }
    return text;
  };
}

/** How a surface shows what happens in a conversation. `Fold` is what its frames need of earlier events. */
export interface AnswerFormat<Fold> {
  readonly name: string;
  readonly initial: Fold;
  fold(fold: Fold, event: ConversationEvent): Fold;
  /** `fold` has the item's event in it. Null: not shown. Of several frames the last one can be resumed after. */
  render(item: Item, fold: Fold): Omit<Frame, 'id'> | readonly Omit<Frame, 'id'>[] | null;
  /** What comes after the frame of an event that ends the feed; null for events that do not. */
  end(event: ConversationEvent): readonly Frame[] | null;
  resync(reason: string): Frame;
  farewell(timestamp: string): Frame;
}

interface ConversationState<Fold> {
  readonly answer: Answer;
  readonly fold: Fold;
}

/** The answers of a conversation, or of one turn of it. */
export function conversationFeed<Fold>(
  format: AnswerFormat<Fold>,
  transport: Transport,
  conversationId: string,
  turn: { readonly turnId: string; readonly firstRevision?: number } | null,
): Feed {
  const stream = `conversation-${conversationId}`;
  const turnId = turn?.turnId ?? null;
  const feed: Feed<ConversationState<Fold>> = {
    key: `${format.name} ${transport.name} ${turnId ?? conversationId}`,
    transport,
    source: { kind: 'conversation', stream, turnId: null, ...turn },
    initial: { answer: NO_ANSWER, fold: format.initial },
    takes: (event) =>
      event.stream === stream &&
      (turnId === null ||
        (event as ConversationEvent & { data: { turnId?: string } }).data.turnId === turnId),
    evolve: (state, event) => ({
      answer: evolve(state.answer, event as ConversationEvent),
      fold: format.fold(state.fold, event as ConversationEvent),
    }),
    reader: ({ answer }, { read }) => (read === null ? upToDate(answer) : readerOf(read)),
    render(state, before, event, running) {
      const { shown, reader } = show(state.answer, before, event as ConversationEvent | null, running);
      const frames: string[] = [];
      for (const { item, cursor } of shown) {
        const all = [format.render(item, state.fold) ?? []].flat();
        for (const [at, frame] of all.entries()) {
          const id = at === all.length - 1 ? formatCursor(cursor) : null;
          frames.push(transport.encode({ ...frame, id }));
        }
      }
      const last = event === null ? null : format.end(event as ConversationEvent);
      for (const frame of last ?? []) frames.push(transport.encode(frame));
      return { frames, reader };
    },
    ends: (event) => format.end(event as ConversationEvent) !== null,
    cursor: ({ answer }, reader, position) => ({ ...cursorAt(answer, reader), position }),
    resync: format.resync,
    farewell: transport.name === 'sse' ? format.farewell : null,
  };
  // Only the feed itself looks into its state.
  return feed as Feed;
}

/** Server-sent events. */
export const sse: Transport = {
  name: 'sse',
  joins: true,
  encode: ({ id, name, data }) =>
    `${id === null ? '' : `id: ${id}\n`}${name === null ? '' : `event: ${name}\n`}data: ${
      typeof data === 'string' ? data : JSON.stringify(data)
    }\n\n`,
};

/** A line of JSON each; they have no ids, and so nothing to resume after. */
export const ndjson: Transport = {
  name: 'ndjson',
  joins: true,
  encode: ({ data }) => `${typeof data === 'string' ? data : JSON.stringify(data)}\n`,
};

/** WebSocket messages: JSON with `type` and, where there is one, `id`. */
export const webSocket: Transport = {
  name: 'ws',
  joins: false,
  encode: ({ id, name, data }) =>
    JSON.stringify({ type: name, ...(data as object), ...(id === null ? {} : { id }) }),
};

/** Where a reader begins, and why not where it asked to. */
export interface Start {
  readonly cursor: Cursor;
  readonly resync: string | null;
}

/** The frame that comes first where a reader has to begin anew, encoded; else empty. */
export function resyncOf({ transport, ...feed }: Feed, { cursor, resync }: Start): string {
  if (resync === null) return '';
  return transport.encode({ ...feed.resync(resync, new Date().toISOString()), id: formatCursor(cursor) });
}
