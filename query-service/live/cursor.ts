/** Where a reader of a feed stands, and the frame ids that say it. */
import { type Position, START } from '../../contracts/envelope.ts';

/** What a reader has of the answer that is being written. */
export interface ReadText {
  /** Of the answer's text, in UTF-16 code units. */
  readonly length: number;
  /** FNV-1a (32 bits) of that text. */
  readonly hash: number;
  /** Of the running call's reasoning, in UTF-16 code units. */
  readonly reasoning: number;
}

export interface Cursor {
  /** The reader has every event up to here. */
  readonly position: Position;
  /** Null: the text that the events up to `position` say, no more and no less. */
  readonly read: ReadText | null;
}

const OFFSET_BASIS = 0x811c9dc5;
const PRIME = 0x01000193;

/** FNV-1a over UTF-16 code units. `hash` is that of the text before, so that it can go on piece by piece. */
export function fnv1a(text: string, hash: number = OFFSET_BASIS, end: number = text.length): number {
  for (let i = 0; i < end; i++) hash = Math.imul(hash ^ text.charCodeAt(i), PRIME);
  return hash >>> 0;
}

export const NOTHING_READ: ReadText = { length: 0, hash: OFFSET_BASIS, reasoning: 0 };

export const BEGINNING: Cursor = { position: START, read: null };

export function formatCursor({ position, read }: Cursor): string {
  if (read === null) return position;
  const reasoning = read.reasoning > 0 ? `.${read.reasoning}` : '';
  return `${position}.${read.length}.${read.hash.toString(16).padStart(8, '0')}${reasoning}`;
}

/** @param id of a frame, which the contract's `frameId` accepts */
export function parseCursor(id: string): Cursor {
  const [position = START, length, hash, reasoning = '0'] = id.split('.');
  if (length === undefined || hash === undefined) return { position, read: null };
  return {
    position,
    read: { length: Number(length), hash: Number.parseInt(hash, 16), reasoning: Number(reasoning) },
  };
}
