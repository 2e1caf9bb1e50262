/**
 * Which event ids are in a stream, for the streams that were used last: EventStoreDB does not look for an id
 * elsewhere in the stream when the expected revision is the current one.
 */

export interface KnownEvent {
  readonly id: string;
  readonly revision: number;
}

export interface KnownStream {
  /** The last event; null when none can be read. */
  readonly last: KnownEvent | null;
  /** By id, of every event up to the last. */
  readonly revisions: ReadonlyMap<string, number>;
}

export interface KnownIds {
  get(stream: string): KnownStream | undefined;
  /** Takes in what was read of a stream from revision `from` on, when that joins what is known of it. */
  extend(stream: string, from: number, read: readonly KnownEvent[]): void;
  set(stream: string, known: KnownStream): void;
  forget(stream: string): void;
}

/** `known`, with what was read from revision `from` on; as it was where that leaves a gap. Adds to its map. */
export function joined(
  known: KnownStream | undefined,
  from: number,
  read: readonly KnownEvent[],
): KnownStream | undefined {
  const next = known?.last == null ? 0 : known.last.revision + 1;
  if (from > next) return known;
  const added = read.filter(({ revision }) => revision >= next);
  if (known !== undefined && added.length === 0) return known;
  const revisions = (known?.revisions ?? new Map()) as Map<string, number>;
  for (const { id, revision } of added) revisions.set(id, revision);
  const last = added.at(-1);
  return { last: last === undefined ? null : { id: last.id, revision: last.revision }, revisions };
}

/** @param limit so many ids are kept, over all streams; the stream used last is kept whatever its length. */
export function createKnownIds(limit: number): KnownIds {
  // A Map keeps the order of insertion: the least recently used stream is its first.
  const streams = new Map<string, { readonly known: KnownStream; readonly weight: number }>();
  let held = 0;

  function forget(stream: string): void {
    held -= streams.get(stream)?.weight ?? 0;
    streams.delete(stream);
  }

  function set(stream: string, known: KnownStream): void {
    forget(stream);
    // A stream without events weighs something too.
    const weight = 1 + known.revisions.size;
    streams.set(stream, { known, weight });
    held += weight;
    for (const oldest of streams.keys()) {
      if (held <= limit || oldest === stream) return;
      forget(oldest);
    }
  }

  return {
    set,
    forget,
    get(stream) {
      const known = streams.get(stream)?.known;
      if (known !== undefined) set(stream, known);
      return known;
    },
    extend(stream, from, read) {
      const known = joined(streams.get(stream)?.known, from, read);
      if (known !== undefined) set(stream, known);
    },
  };
}
