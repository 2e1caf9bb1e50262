/**
 * What a reader is shown of an answer while it is written. The answer's text is known from two sources: events
 * say it for good once a model call has ended, and signals say it at once while the call runs. A reader has some
 * first part of it, known by its length and hash, and is given what is missing; so a reader that was cut off
 * anywhere goes on exactly there, whichever source said what it has. When an answer was begun anew (after a
 * crash) and does not begin with what the reader has, the reader is told so and gets it from its beginning.
 * Pure.
 */
import { type Position, START } from '../../contracts/envelope.ts';
import type { OdeonEvent } from '../../contracts/events/catalogue.ts';
import type { conversationEvents } from '../../contracts/events/conversation.ts';
import { type Cursor, fnv1a, NOTHING_READ, type ReadText } from './cursor.ts';

export type ConversationEvent = OdeonEvent<keyof typeof conversationEvents>;

/** What the signals have said of a model call that runs. */
export interface RunningText {
  /** The position of its ModelCalled event. */
  readonly call: Position;
  readonly text: string;
  readonly reasoning: string;
}

/** The answer of a conversation's current (or last) turn, as the events tell it. */
export interface Answer {
  readonly turnId: string | null;
  /** Of the event that began the turn. */
  readonly begunAt: Position;
  /** Of the last event, and of the one before it. */
  readonly position: Position;
  readonly previous: Position;
  /** The texts of the calls that were answered; once the turn has ended, all of it. */
  readonly answered: string;
  /** What a call that failed had said; the next call replaces it. */
  readonly failed: string;
  /** The call that runs. */
  readonly call: Position | null;
  /** True when no other attempt can change the text that is there. */
  readonly settled: boolean;
  readonly ended: boolean;
  /** Of the last event that may have made the text another; until the next such event it only grows longer. */
  readonly generation: Position;
}

export const NO_ANSWER: Answer = {
  turnId: null,
  begunAt: START,
  position: START,
  previous: START,
  answered: '',
  failed: '',
  call: null,
  settled: true,
  ended: true,
  generation: START,
};

/** What a reader has, and the generation of the text that it was compared with (null: not yet). */
export interface Reader extends ReadText {
  readonly generation: Position | null;
}

export const readerOf = (read: ReadText): Reader => ({ ...read, generation: null });

/** A reader that has what the events say, no more and no less. */
export function upToDate({ answered, failed, generation }: Answer): Reader {
  return { ...withText(NOTHING_READ, answered + failed), generation };
}

const withText = (read: ReadText, text: string): ReadText => ({
  ...read,
  length: read.length + text.length,
  hash: fnv1a(text, read.hash),
});

/** One thing to show. */
export type Item =
  | { readonly kind: 'content'; readonly text: string }
  | { readonly kind: 'reasoning'; readonly text: string }
  | { readonly kind: 'restarted' }
  | { readonly kind: 'event'; readonly event: ConversationEvent };

export interface Shown {
  readonly item: Item;
  /** Where a reader stands that has it. */
  readonly cursor: Cursor;
}

export function evolve(answer: Answer, event: ConversationEvent): Answer {
  const next = { ...answer, previous: answer.position, position: event.position };
  if (event.type === 'TurnStarted' && event.data.turnId !== answer.turnId) {
    const { position, previous } = next;
    const { turnId } = event.data;
    return { ...NO_ANSWER, turnId, position, previous, begunAt: position, generation: position, ...open };
  }
  if (!isOf(answer, event)) return next;
  const changed = { ...next, generation: event.position };
  switch (event.type) {
    case 'TurnStarted':
    case 'TurnReleased':
      return { ...changed, ...open, call: null, failed: '' };
    case 'ModelCalled':
      return { ...changed, ...open, call: event.position, failed: '' };
    case 'ModelAnswered': {
      const answered = answer.answered + event.data.text;
      return { ...changed, answered, failed: '', call: null, settled: true };
    }
    case 'ModelFailed':
      return { ...changed, ...open, failed: event.data.text, call: null };
    case 'TurnCompleted':
    case 'TurnInterrupted':
    case 'TurnFailed': {
      const answered = event.data.content;
      return { ...changed, answered, failed: '', call: null, settled: true, ended: true };
    }
    default:
      return next;
  }
}

const open = { settled: false, ended: false } as const;

function isOf(answer: Answer, event: ConversationEvent): boolean {
  return answer.turnId !== null && 'turnId' in event.data && event.data.turnId === answer.turnId;
}

/**
 * What a reader is to be shown, in order, and what it has then.
 * @param answer with `event` in it
 * @param event the one that has just happened; null when there are signals, or a reader has joined
 * @param running what is known of the running call's text, if it is the call of this answer
 */
export function show(
  answer: Answer,
  reader: Reader,
  event: ConversationEvent | null,
  running: RunningText | null,
): { readonly shown: readonly Shown[]; readonly reader: Reader } {
  const shown: Shown[] = [];
  if (event !== null) {
    if (answer.begunAt === event.position) reader = { ...NOTHING_READ, generation: answer.generation };
    // Until the event is shown, the reader stands before it, with more text than the events before say.
    const before = answer.previous;
    if (isOf(answer, event)) {
      if (event.type === 'ModelAnswered') reader = showReasoning(event.data.reasoning, reader, before, shown);
      reader = showText(answer, reader, '', before, shown);
      // The reasoning that counts is the running call's.
      if (answer.call === null || answer.call === event.position) reader = { ...reader, reasoning: 0 };
    }
    shown.push({ item: { kind: 'event', event }, cursor: cursorAt(answer, reader) });
  }
  if (running !== null && running.call === answer.call) {
    reader = showReasoning(running.reasoning, reader, answer.position, shown);
    reader = showText(answer, reader, running.text, answer.position, shown);
  }
  return { shown, reader };
}

/** Longer pieces are cut, so that no frame grows without bound. */
const LONGEST_PIECE = 16_384;

function* pieces(text: string): Generator<string> {
  for (let from = 0; from < text.length; ) {
    let to = Math.min(from + LONGEST_PIECE, text.length);
    // Not between the halves of a surrogate pair.
    if (to < text.length && text.charCodeAt(to - 1) >>> 10 === 0x36) to--;
    yield text.slice(from, to);
    from = to;
  }
}

function showReasoning(reasoning: string, reader: Reader, position: Position, shown: Shown[]): Reader {
  for (const text of pieces(reasoning.slice(reader.reasoning))) {
    reader = { ...reader, reasoning: reader.reasoning + text.length };
    shown.push({ item: { kind: 'reasoning', text }, cursor: { position, read: reader } });
  }
  return reader;
}

/** Shows what the reader has not got of the answer, which is what the events say and `running` after it. */
function showText(
  answer: Answer,
  reader: Reader,
  running: string,
  position: Position,
  shown: Shown[],
): Reader {
  const known = answer.answered + answer.failed;
  const length = known.length + running.length;
  if (reader.generation !== answer.generation) {
    // Too short to compare, but more may come.
    if (length < reader.length && !answer.settled) return reader;
    const begin = fnv1a(known, undefined, Math.min(reader.length, known.length));
    const hash = fnv1a(running, begin, Math.max(reader.length - known.length, 0));
    const same = length >= reader.length && hash === reader.hash;
    if (!same) {
      reader = { ...reader, length: 0, hash: NOTHING_READ.hash };
      shown.push({ item: { kind: 'restarted' }, cursor: { position, read: reader } });
    }
    reader = { ...reader, generation: answer.generation };
  }
  const missing =
    reader.length < known.length
      ? known.slice(reader.length) + running
      : running.slice(reader.length - known.length);
  for (const text of pieces(missing)) {
    reader = { ...reader, ...withText(reader, text) };
    shown.push({ item: { kind: 'content', text }, cursor: { position, read: reader } });
  }
  return reader;
}

/** Where a reader stands after the last event of `answer`. */
export function cursorAt(answer: Answer, reader: Reader): Cursor {
  const { position } = answer;
  const complete =
    reader.generation === answer.generation &&
    reader.length === answer.answered.length + answer.failed.length &&
    reader.reasoning === 0;
  return { position, read: complete ? null : reader };
}
