/**
 * Which copies there are, and which one of each projection is live. Every process reads this at most a second old;
 * what a switch replaces is kept for longer than that, so that no reader meets a collection that is gone.
 *
 *     copies       { _id: number, projection, version, indexes (JSON), partitions, dropped? }   numbers only grow
 *     live         { _id: projection, number }                     the switch is one `$max` on this document
 *     ready        { _id: 'number/partition', copy }               the partitions that have come as far as readers see
 *
 * and besides `checkpoints` (checkpoints.ts), `set_aside` (set-aside.ts), and each copy's documents in
 * `documents.<projection>.v<version>.<number>` (documents.ts).
 *
 * An entry of a copy is there before everything else of it, and marked as dropped before anything of it goes.
 */
import type { CollectionSpec, CopyId } from '../port.ts';
import { checkIndexes } from '../query.ts';
import type { Checkpoints, Partitioned } from './checkpoints.ts';
import type { Connection } from './connection.ts';
import { type Documents, documents } from './documents.ts';
import type { SetAside } from './set-aside.ts';
import { unlessThere } from './writes.ts';

/** How old what a process knows of the copies may be when it reads or writes one. */
const KNOWN_FOR_MS = 1_000;

export interface Copy extends Partitioned {
  readonly projection: string;
  readonly version: number;
  readonly indexes: CollectionSpec['indexes'];
  readonly documents: Documents;
}

export interface Known {
  /** By `performance.now()`: at least as new as that. */
  readonly at: number;
  /** Those that were replaced included, until they are dropped. */
  readonly copies: ReadonlyMap<CopyId, Copy>;
  readonly live: ReadonlyMap<string, Copy>;
  /** The last number that was given to a copy. */
  readonly lastNumber: number;
}

interface StoredCopy {
  readonly _id: number;
  readonly projection: string;
  readonly version: number;
  readonly indexes: string;
  readonly partitions: number;
  readonly dropped?: true;
}

export interface Copies {
  /** At most a second old. */
  known(): Promise<Known>;
  /** As it is now. */
  refreshed(): Promise<Known>;
  /** One of them. @throws Error when there is no such copy */
  copyOf(id: CopyId): Promise<Copy>;
  /** As the port's `createCopy`; or with `orLive`, as its `ensureLiveCopy`. */
  create(spec: CollectionSpec, options?: { readonly orLive: boolean }): Promise<Copy>;
  activate(copy: Copy, partition: number): Promise<boolean>;
  drop(copy: Copy): Promise<void>;
  /** What a write to a copy that is gone has left behind. */
  removeRemains(copy: Copy): Promise<void>;
  close(): Promise<void>;
}

export const noCopy = (id: CopyId): Error => new Error(`There is no copy ${id} of a read model.`);

/**
 * @param partitions of the log, and so of the copies that are made
 * @param graceMs how long what a switch replaced is kept; longer than the second that others may not know of it, and
 * a call of theirs
 */
export async function openCopies(
  { db, attempt }: Connection,
  { checkpoints, setAside }: { readonly checkpoints: Checkpoints; readonly setAside: SetAside },
  { partitions, graceMs }: { readonly partitions: number; readonly graceMs: number },
): Promise<Copies> {
  const entries = db.collection<StoredCopy>('copies');
  const pointers = db.collection<{ readonly _id: string; readonly number: number }>('live');
  const ready = db.collection<{ readonly _id: string; readonly copy: number }>('ready');

  /** Those known before: a copy never changes. */
  const opened = new Map<number, Copy>();
  let current: Known | null = null;
  let refreshing: Promise<Known> | null = null;
  const timers = new Set<NodeJS.Timeout>();
  const cleaning = new Set<Promise<void>>();

  function open({ _id: number, projection, version, indexes: text, partitions }: StoredCopy): Copy {
    const before = opened.get(number);
    if (before !== undefined) return before;
    const indexes: CollectionSpec['indexes'] = JSON.parse(text);
    const copy: Copy = {
      id: String(number),
      number,
      projection,
      version,
      indexes,
      partitions,
      documents: documents(db, collectionOf({ _id: number, projection, version }), projection, indexes),
    };
    opened.set(number, copy);
    return copy;
  }

  async function load(): Promise<Known> {
    const at = performance.now();
    // First what is live: an entry is there before it is.
    const live = await pointers.find({}).toArray();
    const all = await entries.find({}, { sort: { _id: 1 } }).toArray();
    const kept = all.filter(({ dropped }) => !dropped);
    const copies = new Map(kept.map((entry) => [String(entry._id), open(entry)]));
    return {
      at,
      copies,
      lastNumber: all.at(-1)?._id ?? 0,
      live: new Map(
        live.flatMap(({ _id: projection, number }) => {
          const copy = copies.get(String(number));
          return copy === undefined ? [] : [[projection, copy]];
        }),
      ),
    };
  }

  /** Those who ask while one is under way may have changed something since: they get the next one. */
  let next: Promise<Known> | null = null;
  function refreshed(): Promise<Known> {
    if (refreshing === null) {
      const loading = load().then((known) => (current = known));
      refreshing = loading;
      const over = () => {
        refreshing = null;
      };
      loading.then(over, over);
      return loading;
    }
    next ??= refreshing
      .catch(() => {}) // told to who asked for it
      .then(() => {
        next = null;
        return refreshed();
      });
    return next;
  }

  async function known(): Promise<Known> {
    if (current !== null && performance.now() - current.at < KNOWN_FOR_MS) return current;
    return refreshing ?? refreshed();
  }

  async function copyOf(id: CopyId): Promise<Copy> {
    const copy = (await known()).copies.get(id) ?? (await refreshed()).copies.get(id);
    if (copy === undefined) throw noCopy(id);
    return copy;
  }

  /** Makes what belongs to a copy's entry, or what of it is missing. */
  async function complete(copy: Copy): Promise<void> {
    await copy.documents.ensureIndexes();
    await checkpoints.create(copy);
    await unlessThere(() => pointers.insertOne({ _id: copy.projection, number: copy.number }));
  }

  async function create(spec: CollectionSpec, { orLive } = { orLive: false }): Promise<Copy> {
    checkIndexes(spec.indexes);
    const indexes = JSON.stringify(spec.indexes);
    const isSame = (copy: Copy) =>
      copy.projection === spec.projection &&
      copy.version === spec.version &&
      copy.partitions === partitions &&
      JSON.stringify(copy.indexes) === indexes;

    let state = await refreshed();
    const first = !state.live.has(spec.projection);
    for (;;) {
      const live = state.live.get(spec.projection);
      if (orLive && live !== undefined) return live;
      const same = [...state.copies.values()].filter((copy) => isSame(copy) && !isReplaced(copy, state));
      // One that is being filled; or the live one, if there was none when this call began: the same first copy was
      // meant.
      let copy = same.find((one) => one !== live || first);
      if (copy === undefined) {
        const entry: StoredCopy = {
          _id: state.lastNumber + 1,
          projection: spec.projection,
          version: spec.version,
          indexes,
          partitions,
        };
        // Whoever comes second to a number looks again: it may be for the same copy.
        if (await unlessThere(() => entries.insertOne(entry))) copy = open(entry);
      }
      if (copy !== undefined) await complete(copy);
      state = await refreshed();
      // It may have been dropped or replaced while it was completed.
      if (copy === undefined) continue;
      if (!state.copies.has(copy.id)) await remove(copy);
      else if (!orLive && !isReplaced(copy, state)) return copy;
    }
  }

  async function activate(copy: Copy, partition: number): Promise<boolean> {
    const before = await refreshed();
    if (before.live.get(copy.projection) === copy) return true;
    if (isReplaced(copy, before)) throw noCopy(copy.id);
    const { number } = copy;
    await unlessThere(() => ready.insertOne({ _id: `${number}/${partition}`, copy: number }));
    if ((await ready.countDocuments({ copy: number })) < copy.partitions) return false;
    await pointers.updateOne({ _id: copy.projection }, { $max: { number } });
    const state = await refreshed();
    if (state.live.get(copy.projection) !== copy) throw noCopy(copy.id);
    removeLater([...state.copies.values()].filter((other) => isReplaced(other, state)));
    return true;
  }

  async function drop(copy: Copy): Promise<void> {
    await entries.updateOne({ _id: copy.number }, { $set: { dropped: true } });
    await pointers.deleteOne({ _id: copy.projection, number: copy.number });
    await refreshed();
    await remove(copy);
  }

  /** The entry goes last: a process that ends before that leaves it to the next one. */
  async function remove(copy: Copy): Promise<void> {
    const { number } = copy;
    await entries.updateOne({ _id: number }, { $set: { dropped: true } });
    await checkpoints.remove(copy);
    await setAside.remove(copy);
    await ready.deleteMany({ copy: number });
    await copy.documents.drop();
    const [last] = await entries.find({}, { sort: { _id: -1 }, limit: 1 }).toArray();
    // The last number stays, so that none is given out twice.
    if (last !== undefined && last._id > number) await entries.deleteOne({ _id: number });
    opened.delete(number);
  }

  /** Not waited for: what it leaves behind when it fails or the process ends is removed at the next opening. */
  function removeLater(copies: readonly Copy[]): void {
    if (copies.length === 0) return;
    const timer = setTimeout(() => {
      timers.delete(timer);
      const removal = attempt(async () => {
        for (const copy of copies) await remove(copy);
      })
        .catch(() => {})
        .finally(() => cleaning.delete(removal));
      cleaning.add(removal);
    }, graceMs);
    timer.unref();
    timers.add(timer);
  }

  /** What was dropped or replaced, and collections that no entry knows. Other processes may still read the former. */
  async function removeLeftovers(): Promise<void> {
    const names = (await db.listCollections({}, { nameOnly: true }).toArray()).map(({ name }) => name);
    const all = await entries.find({}).toArray();
    const entered = new Set(all.map(collectionOf));
    const state = await refreshed();
    for (const name of names) {
      if (IS_COLLECTION.test(name) && !entered.has(name)) await db.dropCollection(name);
    }
    removeLater(
      all.filter((entry) => entry.dropped || isReplaced(open(entry), state)).map((entry) => open(entry)),
    );
  }

  await attempt(async () => {
    await removeLeftovers();
    const state = await known();
    const used = [...state.copies.values()].filter((copy) => !isReplaced(copy, state));
    await Promise.all(used.map((copy) => copy.documents.ensureIndexes()));
  });

  return {
    known,
    refreshed,
    copyOf,
    create,
    activate,
    drop,
    removeRemains: (copy) => copy.documents.drop(),
    async close() {
      for (const timer of timers) clearTimeout(timer);
      await Promise.all(cleaning);
    },
  };
}

const IS_COLLECTION = /^documents\..+\.v\d+\.\d+$/;
const collectionOf = ({
  _id,
  projection,
  version,
}: Pick<StoredCopy, '_id' | 'projection' | 'version'>): string =>
  `documents.${projection}.v${version}.${_id}`;

/** A switch goes to later copies only, so those before the live one never come back. */
export const isReplaced = (copy: Copy, { live }: Known): boolean =>
  copy.number < (live.get(copy.projection)?.number ?? 0);
