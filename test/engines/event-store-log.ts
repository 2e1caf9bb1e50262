/**
 * The log behind `event-store-server.ts`: what EventStoreDB decides about appends, deletions and reads, in memory.
 * The rules are those of its source (24.10: IndexWriter.CheckCommit, AllReader), not of its documentation.
 */

export interface Proposed {
  readonly id: string;
  readonly type: string;
  readonly contentType: string;
  readonly data: Uint8Array;
  readonly metadata: Uint8Array;
}

export interface Stored extends Proposed {
  readonly stream: string;
  readonly revision: number;
  /** Milliseconds. */
  readonly created: number;
  readonly commit: bigint;
  readonly prepare: bigint;
}

export interface At {
  readonly commit: bigint;
  readonly prepare: bigint;
}

export type Expected = 'any' | 'no stream' | 'exists' | number;

export type Appending =
  | { readonly kind: 'appended'; readonly revision: number; readonly last: Stored }
  | { readonly kind: 'wrong revision'; readonly current: number }
  | { readonly kind: 'deleted for ever' };

export type StreamReading =
  | { readonly kind: 'events'; readonly events: readonly Stored[] }
  | { readonly kind: 'no stream' }
  | { readonly kind: 'deleted for ever' };

/** How the server writes that all of a stream is deleted (2^63 - 1). */
const DELETED = '9223372036854775807';
/** Every so many appends the server writes something of its own. */
const STATISTICS_EVERY = 5;
const EMPTY = new Uint8Array();
const text = (value: unknown): Uint8Array => Buffer.from(JSON.stringify(value));

interface Stream {
  readonly events: Stored[];
  tombstone: boolean;
}

export class EventStoreLog {
  /** All records, by position. */
  readonly records: Stored[] = [];
  readonly #streams = new Map<string, Stream>();
  readonly #listeners = new Set<() => void>();
  /** Where records begin and end: only from there can be read. */
  readonly #bounds = new Set<bigint>([0n]);
  #end = 0n;
  #appends = 0;

  constructor() {
    this.#system('$settings', '$UserCreated');
    this.#system('$users', '$User');
  }

  onAppend(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  append(name: string, events: readonly Proposed[], expected: Expected): Appending {
    const stream = this.#stream(name);
    if (stream.tombstone) return { kind: 'deleted for ever' };
    const current = stream.events.length - 1;
    const decision = this.#check(name, stream, events, expected);
    if (decision === 'wrong revision') return { kind: decision, current };
    if (decision !== 'write') return { kind: 'appended', revision: decision.revision, last: decision };

    const wasDeleted = this.#isSoftDeleted(name);
    this.#write(name, events);
    if (wasDeleted) this.#setMetadata(name, { ...this.#metadata(name), $tb: current + 1 });
    this.#appends += 1;
    if (this.#appends % STATISTICS_EVERY === 0) this.#system('$stats-127.0.0.1:2113', '$statsCollected');
    this.#told();
    return { kind: 'appended', revision: stream.events.length - 1, last: stream.events.at(-1)! };
  }

  #check(
    name: string,
    { events: held }: Stream,
    events: readonly Proposed[],
    expected: Expected,
  ): 'write' | 'wrong revision' | Stored {
    const current = held.length - 1;
    if (expected === 'exists') {
      const hasMetadata = this.#stream(`$$${name}`).events.length > 0;
      if (this.#isSoftDeleted(name) || (current < 0 && !hasMetadata)) return 'wrong revision';
    }
    if (expected === 'any' || expected === 'exists') {
      const found = events.map(({ id }) => held.find((event) => event.id === id));
      if (found[0] === undefined) return 'write';
      return found.every((event) => event !== undefined) ? found.at(-1)! : 'wrong revision';
    }
    const revision = expected === 'no stream' ? -1 : expected;
    if (revision > current) return 'wrong revision';
    if (revision === current) return 'write';
    const differs = events.findIndex(({ id }, i) => held[revision + 1 + i]?.id !== id);
    if (differs === -1) return held[revision + events.length]!;
    return differs === 0 && expected === 'no stream' && this.#isSoftDeleted(name)
      ? 'write'
      : 'wrong revision';
  }

  /** As a client of the old TCP protocol did: prepared first, then committed together. */
  appendTransaction(name: string, events: readonly Proposed[]): void {
    const prepared = events.map((event) => ({ event, prepare: this.#take(event) }));
    const commit = this.#take(null);
    for (const { event, prepare } of prepared) this.#store(name, event, commit, prepare);
    this.#told();
  }

  softDelete(name: string, expected: Expected): Appending {
    const stream = this.#stream(name);
    if (stream.tombstone) return { kind: 'deleted for ever' };
    const current = stream.events.length - 1;
    if (typeof expected === 'number' && expected !== current) return { kind: 'wrong revision', current };
    this.#setMetadata(name, { ...this.#metadata(name), $tb: 0 }, DELETED);
    this.#told();
    return { kind: 'appended', revision: current, last: this.records.at(-1)! };
  }

  tombstone(name: string): void {
    this.#stream(name).tombstone = true;
    this.#system(name, '$streamDeleted');
    this.#told();
  }

  readStream(name: string, from: number | 'start' | 'end', backwards: boolean, count: number): StreamReading {
    const stream = this.#stream(name);
    if (stream.tombstone) return { kind: 'deleted for ever' };
    if (stream.events.length === 0 || this.#isSoftDeleted(name)) return { kind: 'no stream' };
    const last = stream.events.length - 1;
    const { $tb = 0, $maxCount = Number.MAX_SAFE_INTEGER, $maxAge } = this.#metadata(name);
    const oldest = $maxAge === undefined ? 0 : Date.now() - Number($maxAge) * 1_000;
    const first = Math.max(Number($tb), last - Number($maxCount) + 1, 0);
    const shown = (event: Stored) => event.created >= oldest;
    if (backwards) {
      const start = typeof from === 'number' ? Math.min(from, last) : from === 'end' ? last : 0;
      return {
        kind: 'events',
        events: stream.events
          .slice(first, start + 1)
          .filter(shown)
          .reverse()
          .slice(0, count),
      };
    }
    const start = Math.max(typeof from === 'number' ? from : from === 'end' ? last + 1 : 0, first);
    const end = $maxAge === undefined ? start + count : undefined;
    return { kind: 'events', events: stream.events.slice(start, end).filter(shown).slice(0, count) };
  }

  /** Null when no record begins or ends there. Forwards the record at `from` is the first, backwards it is not. */
  readAll(from: At | 'start' | 'end', backwards: boolean, count: number): readonly Stored[] | null {
    const index = this.indexOf(from);
    if (index === null) return null;
    return backwards
      ? this.records.slice(Math.max(0, index - count), index).reverse()
      : this.records.slice(index, index + count);
  }

  /** How many records come before this place; null when there is no such place. */
  indexOf(from: At | 'start' | 'end'): number | null {
    if (from === 'start') return 0;
    if (from === 'end') return this.records.length;
    if (from.commit <= this.#end && !this.#bounds.has(from.commit)) return null;
    let [low, high] = [0, this.records.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      const { commit, prepare } = this.records[middle]!;
      if (commit < from.commit || (commit === from.commit && prepare < from.prepare)) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  /** The place after so many records, as the server names it: behind the last of them, before what was not read. */
  placeAfter(index: number): At {
    const next = this.records[index];
    return next === undefined ? { commit: this.#end, prepare: 0n } : { commit: next.commit, prepare: 0n };
  }

  #write(name: string, events: readonly Proposed[]): void {
    for (const event of events) {
      const position = this.#take(event);
      this.#store(name, event, position, position);
    }
  }

  /** The place that a record of this size gets. */
  #take(event: Proposed | null): bigint {
    const position = this.#end;
    this.#end += BigInt(event === null ? 60 : 120 + event.data.length + event.metadata.length);
    this.#bounds.add(position).add(this.#end);
    return position;
  }

  #store(name: string, event: Proposed, commit: bigint, prepare: bigint): void {
    const { events } = this.#stream(name);
    const created = Math.max(Date.now(), this.records.at(-1)?.created ?? 0);
    const stored: Stored = { ...event, stream: name, revision: events.length, created, commit, prepare };
    events.push(stored);
    this.records.push(stored);
  }

  #system(name: string, type: string): void {
    const contentType = 'application/json';
    this.#write(name, [{ id: crypto.randomUUID(), type, contentType, data: text({}), metadata: EMPTY }]);
  }

  #setMetadata(name: string, metadata: Readonly<Record<string, unknown>>, truncateBefore?: string): void {
    const json = JSON.stringify(metadata);
    const data = truncateBefore === undefined ? json : json.replace(/"\$tb":0/, `"$tb":${truncateBefore}`);
    const contentType = 'application/json';
    const event = {
      id: crypto.randomUUID(),
      type: '$metadata',
      contentType,
      data: Buffer.from(data),
      metadata: EMPTY,
    };
    this.#write(`$$${name}`, [event]);
  }

  #metadata(name: string): Record<string, unknown> {
    const last = this.#streams.get(`$$${name}`)?.events.at(-1);
    return last === undefined ? {} : JSON.parse(Buffer.from(last.data).toString());
  }

  #isSoftDeleted(name: string): boolean {
    return Number(this.#metadata(name).$tb ?? 0) >= 2 ** 63;
  }

  #stream(name: string): Stream {
    let stream = this.#streams.get(name);
    if (stream === undefined) {
      stream = { events: [], tombstone: false };
      this.#streams.set(name, stream);
    }
    return stream;
  }

  #told(): void {
    for (const listener of this.#listeners) listener();
  }
}
