/**
 * A projection applied to events. The runtime uses it to advance read models; `fold` answers the same question
 * in memory, for reads from the past (`?asOf=`).
 */
import { z } from 'zod';
import type { EventEnvelope } from '../contracts/envelope.ts';
import type { Stored } from '../infra/read-models/port.ts';
import { plainJson } from './plain-json.ts';
import type { EventHandler, Projection } from './projection.ts';

/** A projection's functions, for events of any type. */
export interface Applier {
  /** The event types that the projection takes. */
  readonly types: readonly string[];
  takes(event: EventEnvelope): boolean;
  /** The document that the event touches; null for none. Throws what the projection throws. */
  idOf(event: EventEnvelope): string | null;
  /**
   * The document after the event, as its schema gives it and as JSON holds it: the same keys in the same order
   * whatever `apply` did, so that the same history gives the same bytes. Throws what the projection throws, and
   * when the document does not fit.
   */
  next(document: unknown, event: EventEnvelope): unknown;
}

export function applierOf(projection: Projection): Applier {
  const handlers = new Map(
    Object.entries(projection.on as Record<string, EventHandler<unknown, EventEnvelope>>),
  );
  const handlerOf = (event: EventEnvelope) => {
    const handler = handlers.get(event.type);
    if (handler === undefined) throw new Error(`${projection.name} does not take ${event.type} events.`);
    return handler;
  };
  return {
    types: [...handlers.keys()],
    takes: (event) => handlers.has(event.type),
    idOf(event) {
      return checkedId(handlerOf(event).id(event));
    },
    next(document, event) {
      const next = handlerOf(event).apply(document, event);
      if (next === null || next === document) return next;
      // In full, on every event: at a quarter to a few microseconds a document it is not what a batch costs.
      const checked = projection.document.safeParse(next);
      if (!checked.success) throw new Error(`The document does not fit: ${z.prettifyError(checked.error)}`);
      return plainJson(checked.data);
    },
  };
}

/** An event may lack what its type promises. No store could keep a document under what then comes out as its id. */
function checkedId(id: unknown): string | null {
  if (id === null) return null;
  if (typeof id !== 'string') throw new TypeError(`The id of a document is ${typeof id}, not a string.`);
  if (id === '') throw new Error('The id of a document is empty.');
  // Databases keep text as UTF-8, which would make different ids of this kind the same.
  if (!id.isWellFormed()) throw new Error('The id of a document is not well-formed Unicode.');
  return id;
}

/** Documents being made from events, one event after the other. */
export interface Folding<Document> {
  readonly documents: ReadonlyMap<string, Stored<Document>>;
  add(event: EventEnvelope): void;
}

/**
 * Makes documents, by id, as the runtime would have made them: an event that fails, and those of its document
 * after it, leave no trace. The events must come in the order of the log, and from the beginning for each
 * document that is wanted; types that the projection does not take are skipped.
 */
export function foldingOf<Document>(projection: Projection<Document>): Folding<Document> {
  const applier = applierOf(projection);
  const documents = new Map<string, Stored<Document>>();
  const blocked = new Set<string>();
  return {
    documents,
    add(event) {
      if (!applier.takes(event)) return;
      const id = idOrNull(applier, event);
      if (id === null || blocked.has(id)) return;
      try {
        const before = documents.get(id)?.body ?? null;
        const next = applier.next(before, event);
        if (next === null) documents.delete(id);
        else if (next !== before) documents.set(id, { id, position: event.position, body: next as Document });
      } catch {
        // The runtime has set the same event aside and shown its error to the operator.
        blocked.add(id);
      }
    },
  };
}

/** The documents that the events make. */
export function fold<Document>(
  projection: Projection<Document>,
  events: Iterable<EventEnvelope>,
): ReadonlyMap<string, Document> {
  const folding = foldingOf(projection);
  for (const event of events) folding.add(event);
  return new Map([...folding.documents.values()].map(({ id, body }) => [id, body]));
}

function idOrNull(applier: Applier, event: EventEnvelope): string | null {
  try {
    return applier.idOf(event);
  } catch {
    return null; // As above: set aside by the runtime, and of no known document.
  }
}
