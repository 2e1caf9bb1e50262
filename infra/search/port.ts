/**
 * Search: the index of what was said in conversations, and the model that turns texts into vectors of their meaning.
 * The index is derived from the log: it may be thrown away, and is then filled again. `conformance.ts` holds every
 * adapter of the index to what is written here.
 *
 * The embedded index is one file of one machine. On a cluster every process with the query role keeps an index of its
 * own, or a vector store takes its place behind this port.
 */
import type { Position } from '../../contracts/envelope.ts';
import type { SetAsideEvent } from '../../contracts/projections.ts';

/** Turns texts into vectors: the nearer in meaning, the nearer to 1 is their cosine. */
export interface Embedder {
  /** Names the model and how texts are cut: vectors of other names cannot be compared with these. */
  readonly model: string;
  /** How many numbers a vector has. */
  readonly dimensions: number;
  /**
   * The vectors of each text, of length 1: one for each passage of it. What the model takes well is one passage; of a
   * long text a few passages count, spread over all of it. A text without any sign has none.
   * @param urgent goes before what is not: somebody waits for the answer
   * @throws EmbedderUnavailable; any other error when the model takes none of the texts, or not all of them
   */
  embed(
    texts: readonly string[],
    options?: { readonly urgent?: boolean },
  ): Promise<readonly (readonly Float32Array[])[]>;
  close(): Promise<void>;
}

/** The model cannot be run now: no text is at fault. */
export class EmbedderUnavailable extends Error {
  constructor(message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = 'EmbedderUnavailable';
  }
}

export interface IndexedMessage {
  readonly id: string;
  readonly conversationId: string;
  readonly owner: string;
  readonly role: SearchRole;
  /** Who answered; null for what users wrote, and where it is not known. */
  readonly model: string | null;
  readonly text: string;
  /** RFC 3339. */
  readonly time: string;
  readonly vectors: readonly Float32Array[];
}
export type SearchRole = 'user' | 'assistant';

/** What one event does to the index. Each event of the index's types is given as one change. */
export type IndexChange = { readonly position: Position } & (
  | { readonly kind: 'message'; readonly message: IndexedMessage }
  | { readonly kind: 'title'; readonly conversationId: string; readonly title: string }
  /** All messages of the conversation vanish, those that are still to come too. */
  | { readonly kind: 'deleted'; readonly conversationId: string }
  | { readonly kind: 'nothing' }
  /** The event could not be applied. */
  | { readonly kind: 'failed'; readonly event: SetAsideEvent }
);

/** Names a copy of the index. */
export type IndexCopyId = string;

export interface IndexCopy {
  readonly copy: IndexCopyId;
  readonly live: boolean;
  /** Everything up to here is in it. */
  readonly position: Position;
  /** How many events were given to it. */
  readonly seen: number;
  /** How many of them are set aside. */
  readonly failed: number;
}

export interface IndexBatch {
  readonly copy: IndexCopyId;
  /** In the order of the log. */
  readonly changes: readonly IndexChange[];
  /** Everything up to here is in it then; null leaves the checkpoint where it is (for what was set aside before). */
  readonly position: Position | null;
}

export interface IndexQuery {
  /** Whose messages; null: everybody's. */
  readonly owner: string | null;
  /** What is looked for by its words. */
  readonly text: string;
  /** And by its meaning: the vectors of its passages. The first four count. */
  readonly vectors: readonly Float32Array[];
  readonly conversationId?: string;
  readonly role?: SearchRole;
  readonly model?: string;
  /** Milliseconds since the epoch: sent at `from` or later, and before `before`. */
  readonly from?: number;
  readonly before?: number;
  /** As the index was at this position of the log; undefined: as it is. */
  readonly asOf?: Position;
  /** Only what has this score or a higher one, from 0 to 1. */
  readonly minScore: number;
  readonly limit: number;
}

export interface SearchHit {
  readonly id: string;
  readonly conversationId: string;
  readonly owner: string;
  readonly role: SearchRole;
  readonly model: string | null;
  /** The message, or its beginning (`LONGEST_CONTENT` UTF-16 code units) and an ellipsis. */
  readonly content: string;
  readonly time: string;
  /** Of the conversation, as it was called then; null when it had none. */
  readonly title: string | null;
  /** How near it is to what is looked for: from 0 to 1, with 4 decimals. */
  readonly score: number;
}

export interface SearchFound {
  /** The best first; of equal ones the newest. */
  readonly hits: readonly SearchHit[];
  /** How many messages have `minScore`, of those that were looked at closely (some hundreds). */
  readonly total: number;
  /** Everything up to here was searched, if `asOf` did not say less. */
  readonly position: Position;
}

/** So much of a message is kept to be shown. All of it is searched by its words. */
export const LONGEST_CONTENT = 8_000;

/** Every method throws StoreUnavailable (of the event store's port) when the database fails. */
export interface SearchIndex {
  /**
   * Takes the right to write, which one process at a time has, and makes the live copy if there is none that fits.
   * False while another process has it. Without it only `copies`, `search`, `count` and `setAside` may be called.
   */
  lead(): Promise<boolean>;
  /** The live copy and the one that is being filled to take its place. Empty before the first `lead`. */
  copies(): Promise<readonly IndexCopy[]>;
  /** An empty copy to be filled, or the one that is being filled already. */
  createCopy(): Promise<IndexCopy>;
  /**
   * All of the batch with its checkpoint, or nothing. An event that was given before changes nothing, except where it
   * is set aside: it is then applied in its place in the log.
   * @returns the copy after it
   */
  write(batch: IndexBatch): Promise<IndexCopy>;
  /** Makes the copy the live one and drops the other: a search sees one or the other. */
  activate(copy: IndexCopyId): Promise<void>;
  /** In the order of the log. */
  setAside(copy: IndexCopyId, limit: number): Promise<readonly SetAsideEvent[]>;
  search(query: IndexQuery): Promise<SearchFound>;
  /** How many messages the live copy holds, those included that have vanished since. */
  count(): Promise<number>;
  close(): Promise<void>;
}
