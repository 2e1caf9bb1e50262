/**
 * The read models: documents by id with declared indexes, written in batches together with the checkpoint of
 * the projection that made them. A projection's documents live in a copy; a rebuild fills a second copy and
 * switches over atomically. `conformance.ts` holds every adapter to what is written here.
 */
import type { Position } from '../../contracts/envelope.ts';
import type { SetAsideEvent } from '../../contracts/projections.ts';

/** A stored document: `body` as the projection made it, `position` of the last event that touched it. */
export interface Stored<Body> {
  readonly id: string;
  readonly position: Position;
  readonly body: Body;
}

/** Names a copy of a projection's documents, made by `createCopy`. */
export type CopyId = string;

export type Scalar = string | number | boolean | null;

/**
 * Only fields that a declared index of the collection holds can be asked for or ordered by: anything else
 * throws, so that no slow scan slips in. A field that is missing, or is an object or a list, counts as null;
 * nulls come before numbers, and numbers before strings.
 */
export interface Query {
  /** Equality on fields of the body; an array means any of these. */
  readonly where?: Readonly<Record<string, Scalar | readonly Scalar[]>>;
  /** A range on one field of the body, or on `position`. It matches values of the type of its ends only. */
  readonly range?: {
    readonly field: string;
    readonly after?: string | number;
    readonly from?: string | number;
    readonly before?: string | number;
    readonly upTo?: string | number;
  };
  /** A field of the body or `position`; ties are broken by id, in the same direction. Default: by id. */
  readonly orderBy?: { readonly field: string; readonly direction: 'ascending' | 'descending' };
  readonly limit: number;
  readonly offset?: number;
  /** `next` of the page before, for the same query; anything else is refused with VALIDATION_ERROR. */
  readonly cursor?: string;
}

export interface Page<Body> {
  readonly documents: readonly Stored<Body>[];
  /** Pass it as `cursor` for the next page; null when there is none. */
  readonly next: string | null;
}

export interface Checkpoint {
  /** Everything up to here has been processed. */
  readonly position: Position;
  /** How many events of the projection's types have been processed (those set aside included). */
  readonly seen: number;
}

export interface WriteBatch {
  readonly copy: CopyId;
  readonly puts: readonly Stored<unknown>[];
  /** Ids that are not among `puts`. */
  readonly deletes: readonly string[];
  readonly checkpoint: Checkpoint;
  readonly setAside?: { readonly add: readonly SetAsideEvent[]; readonly remove: readonly Position[] };
}

export interface CopyInfo {
  readonly copy: CopyId;
  readonly projection: string;
  readonly version: number;
  /** As declared: a copy with other indexes than its projection's is as outdated as one of another version. */
  readonly indexes: CollectionSpec['indexes'];
  readonly live: boolean;
  /** Made for another number of partitions than the log has: as outdated as one of another version. */
  readonly outdated: boolean;
  /** Of the partition that this store is for; of an outdated copy, of the partition that is furthest behind. */
  readonly checkpoint: Checkpoint;
}

export interface CollectionSpec {
  readonly projection: string;
  readonly version: number;
  /** Each index is a list of fields of the body (dots reach into objects); `position` may be its last one. */
  readonly indexes: readonly (readonly string[])[];
}

/**
 * What readers need. `collection` is a projection's name: they always see its live copy. A collection that
 * does not exist throws. Every method throws StoreUnavailable (of the event store's port) when the database
 * fails.
 */
export interface ReadModels {
  get<Body>(collection: string, id: string): Promise<Stored<Body> | null>;
  find<Body>(collection: string, query: Query): Promise<Page<Body>>;
  count(collection: string, where?: Query['where']): Promise<number>;
}

/**
 * What the projection runtime needs besides: the store as it is for one partition of the log. Where there is only
 * one partition, that is all of it. Several processes may write different partitions of one copy.
 */
export interface ReadModelStore extends ReadModels {
  copies(): Promise<readonly CopyInfo[]>;
  /**
   * The live copy of the projection, whatever its spec; made, empty and with checkpoints at `START`, when there is
   * none. Of several callers at once, in whatever processes, one makes it and all get it.
   */
  ensureLiveCopy(spec: CollectionSpec): Promise<CopyId>;
  /**
   * Makes an empty copy with checkpoints at `START`; it is live at once when the projection has none yet. One for
   * the same spec that is still being filled is gone on with instead: another process may have made it just now.
   */
  createCopy(spec: CollectionSpec): Promise<CopyId>;
  /**
   * Says that this partition of the copy has come as far as readers see. Once every partition has, the copy is made
   * the live one and the others of its projection are dropped; readers see one or the other. True when the copy is
   * live now; else to be called again later, while this partition is kept up to date.
   */
  activate(copy: CopyId): Promise<boolean>;
  dropCopy(copy: CopyId): Promise<void>;
  getFrom(copy: CopyId, ids: readonly string[]): Promise<ReadonlyMap<string, Stored<unknown>>>;
  /**
   * Writes all batches with their checkpoints, or (embedded) none. Writing the same again changes nothing, and
   * where batches are not atomic, a document is never replaced by one of an earlier position. Throws when a copy
   * is gone.
   */
  write(batches: readonly WriteBatch[]): Promise<void>;
  setAside(copy: CopyId, query?: { documentId?: string; limit?: number }): Promise<readonly SetAsideEvent[]>;
  /** Every document of a copy, of all partitions, ordered by id, for comparing copies. */
  dump(copy: CopyId): AsyncIterable<Stored<unknown>>;
  close(): Promise<void>;
}

/** A copy with the checkpoints of its partitions, in their order. */
export interface PartitionedCopy extends Omit<CopyInfo, 'checkpoint' | 'outdated'> {
  readonly checkpoints: readonly Checkpoint[];
  /** How many events of each partition are set aside: those that failed, and those that wait behind them. */
  readonly setAside: readonly { readonly failed: number; readonly waiting: number }[];
}

/** Read models that several processes share: each writes the documents of the partitions that it was given. */
export interface SharedReadModels extends ReadModels {
  readonly snapshots: SnapshotStore;
  /** How many partitions the log has. A copy that was made for another number is as outdated as an old version. */
  readonly partitions: number;
  partition(number: number): ReadModelStore;
  copies(): Promise<readonly PartitionedCopy[]>;
  /** What is set aside of all partitions, in the order of the log. */
  setAside(copy: CopyId, query: { limit: number }): Promise<readonly SetAsideEvent[]>;
  close(): Promise<void>;
}

/** Snapshots of aggregates' states: a cache that saves folding long streams, and may be thrown away. */
export interface SnapshotStore {
  get(stream: string): Promise<Snapshot | null>;
  /** Keeps it unless what is stored has the same state version and is as new or newer. */
  put(stream: string, snapshot: Snapshot): Promise<void>;
}

export interface Snapshot {
  /** The revision of the last event folded into `state`. */
  readonly revision: number;
  /** The version of the state's shape; a snapshot of another version is ignored. */
  readonly stateVersion: number;
  readonly state: unknown;
}
