/**
 * Feeds one copy of a projection's documents: turns events into a batch to be written, and keeps in memory
 * what the copy holds besides its documents (checkpoint, blocked documents) and the documents written last.
 * Nothing in memory changes before the batch is stored: `prepare`, write, `commit`. One batch at a time.
 */
import type { EventEnvelope, Position } from '../../contracts/envelope.ts';
import { isAfter } from '../../contracts/envelope.ts';
import type { SetAsideEvent } from '../../contracts/projections.ts';
import type { Checkpoint, CopyId, ReadModelStore, Stored, WriteBatch } from '../../infra/read-models/port.ts';
import { type Applier, applierOf } from '../fold.ts';
import type { Projection } from '../projection.ts';

/** How many of the documents written last are kept for the next events that touch them. */
const RECENT_DOCUMENTS = 1_000;

/** The document of events whose document could not be told. It blocks nothing. */
export const UNKNOWN_DOCUMENT = '';

export interface Failure {
  readonly event: EventEnvelope;
  readonly error: Error;
}

export interface Prepared {
  readonly batch: WriteBatch;
  readonly failures: readonly Failure[];
  /** To be called once the batch is stored. */
  readonly commit: () => void;
}

export interface Feed {
  readonly projection: Projection;
  readonly copy: CopyId;
  readonly types: readonly string[];
  readonly checkpoint: Checkpoint;
  /** Events that failed, and events that wait behind them. */
  readonly failed: number;
  readonly waiting: number;
  /** Why it does not get on at the moment. */
  problem: string | null;
  /** The next events of the log, and up to where that is. */
  prepare(events: readonly EventEnvelope[], position: Position): Promise<Prepared>;
  /** What was set aside of one document, with its events, in order: all that is stored for that document. */
  prepareRetry(documentId: string, aside: readonly SetAsideEvent[], events: EventSource): Promise<Prepared>;
  /** Finds the documents of the events whose document was not known; they then wait for their retry. */
  prepareIdentify(aside: readonly SetAsideEvent[], events: EventSource): Promise<Prepared>;
}

export type EventSource = (position: Position) => EventEnvelope;

type Documents = Map<string, Stored<unknown> | null>;

export async function openFeed(
  readModels: ReadModelStore,
  projection: Projection,
  copy: CopyId,
  stored: Checkpoint,
): Promise<Feed> {
  const applier: Applier = applierOf(projection);
  const recent: Documents = new Map();
  const blocked = new Set<string>();
  let checkpoint = stored;
  let failed = 0;
  let waiting = 0;

  function count(events: readonly SetAsideEvent[], by: 1 | -1): void {
    for (const { error } of events) {
      if (error === null) waiting += by;
      else failed += by;
    }
  }

  function block(events: readonly SetAsideEvent[]): void {
    for (const { documentId } of events) if (documentId !== UNKNOWN_DOCUMENT) blocked.add(documentId);
  }

  const aside = await readModels.setAside(copy);
  count(aside, 1);
  block(aside);

  async function load(ids: Iterable<string>): Promise<Documents> {
    const documents: Documents = new Map();
    const missing: string[] = [];
    for (const id of ids) {
      const document = recent.get(id);
      if (document === undefined) missing.push(id);
      else documents.set(id, document);
    }
    if (missing.length > 0) {
      for (const [id, document] of await readModels.getFrom(copy, missing)) documents.set(id, document);
    }
    return documents;
  }

  /** Changes `documents`; true when the event changed anything. Throws when it fails. */
  function apply(documents: Documents, id: string, event: EventEnvelope): boolean {
    const stored = documents.get(id) ?? null;
    // A store that cannot write documents and checkpoint as one may hold the document of a batch that is replayed.
    if (stored !== null && !isAfter(event.position, stored.position)) return false;
    const before = stored?.body ?? null;
    const body = applier.next(before, event);
    if (body === before) return false;
    documents.set(id, body === null ? null : { id, position: event.position, body });
    return true;
  }

  function prepared(
    next: Checkpoint,
    documents: Documents,
    changed: ReadonlySet<string>,
    setAside: { add: SetAsideEvent[]; remove: readonly SetAsideEvent[] },
    failures: readonly Failure[],
    unblocked: string | null,
  ): Prepared {
    const puts: Stored<unknown>[] = [];
    const deletes: string[] = [];
    for (const id of changed) {
      const document = documents.get(id) ?? null;
      if (document === null) deletes.push(id);
      else puts.push(document);
    }
    const { add, remove } = setAside;
    const kept = new Set(add.map((event) => event.position));
    const removed = remove.map((event) => event.position).filter((position) => !kept.has(position));
    return {
      batch: {
        copy,
        puts,
        deletes,
        checkpoint: next,
        ...((add.length > 0 || removed.length > 0) && { setAside: { add, remove: removed } }),
      },
      failures,
      commit() {
        checkpoint = next;
        count(remove, -1);
        count(add, 1);
        if (unblocked !== null) blocked.delete(unblocked);
        block(add);
        for (const id of changed) {
          recent.delete(id); // so that it becomes the newest
          recent.set(id, documents.get(id) ?? null);
        }
        for (const id of recent.keys()) {
          if (recent.size <= RECENT_DOCUMENTS) break;
          recent.delete(id);
        }
      },
    };
  }

  return {
    projection,
    copy,
    types: applier.types,
    get checkpoint() {
      return checkpoint;
    },
    get failed() {
      return failed;
    },
    get waiting() {
      return waiting;
    },
    problem: null,

    async prepare(events, position) {
      const add: SetAsideEvent[] = [];
      const failures: Failure[] = [];
      const fail = (event: EventEnvelope, documentId: string, reason: unknown) => {
        const error = toError(reason);
        add.push(asideOf(event, documentId, error.message));
        failures.push({ event, error });
      };

      let seen = checkpoint.seen;
      const touching: { event: EventEnvelope; id: string }[] = [];
      const wanted = new Set<string>();
      for (const event of events) {
        if (!applier.takes(event)) continue;
        seen++;
        try {
          const id = applier.idOf(event);
          if (id === null) continue;
          touching.push({ event, id });
          if (!blocked.has(id)) wanted.add(id);
        } catch (error) {
          fail(event, UNKNOWN_DOCUMENT, error);
        }
      }

      const documents = wanted.size === 0 ? new Map() : await load(wanted);
      const changed = new Set<string>();
      const blockedHere = new Set<string>();
      for (const { event, id } of touching) {
        if (blocked.has(id) || blockedHere.has(id)) {
          add.push(asideOf(event, id, null));
          continue;
        }
        try {
          if (apply(documents, id, event)) changed.add(id);
        } catch (error) {
          blockedHere.add(id);
          fail(event, id, error);
        }
      }
      return prepared({ position, seen }, documents, changed, { add, remove: [] }, failures, null);
    },

    async prepareRetry(documentId, aside, eventAt) {
      const documents = await load([documentId]);
      const changed = new Set<string>();
      const add: SetAsideEvent[] = [];
      const failures: Failure[] = [];
      for (const { position } of aside) {
        const event = eventAt(position);
        if (add.length > 0) {
          add.push(asideOf(event, documentId, null));
          continue;
        }
        try {
          if (apply(documents, documentId, event)) changed.add(documentId);
        } catch (reason) {
          const error = toError(reason);
          add.push(asideOf(event, documentId, error.message));
          failures.push({ event, error });
        }
      }
      return prepared(checkpoint, documents, changed, { add, remove: aside }, failures, documentId);
    },

    async prepareIdentify(aside, eventAt) {
      const add: SetAsideEvent[] = [];
      const failures: Failure[] = [];
      for (const { position } of aside) {
        const event = eventAt(position);
        try {
          const id = applier.idOf(event);
          if (id === null) continue;
          const document = (await load([id])).get(id);
          // Applied now it would come after events that followed it, and a rebuild would give other bytes.
          if (document && isAfter(document.position, position)) {
            throw new Error(`Later events of ${id} were applied already: rebuild the projection.`);
          }
          add.push(asideOf(event, id, null));
        } catch (reason) {
          const error = toError(reason);
          add.push(asideOf(event, UNKNOWN_DOCUMENT, error.message));
          failures.push({ event, error });
        }
      }
      return prepared(checkpoint, new Map(), new Set(), { add, remove: aside }, failures, null);
    },
  };
}

function asideOf(event: EventEnvelope, documentId: string, error: string | null): SetAsideEvent {
  return {
    position: event.position,
    eventId: event.id,
    eventType: event.type,
    documentId,
    error,
    failedAt: new Date().toISOString(),
  };
}

export const toError = (reason: unknown): Error =>
  reason instanceof Error ? reason : new Error(String(reason));
