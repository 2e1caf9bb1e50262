/** A projection is data and pure functions: which events it takes, which document each touches, and how. */
import type { z } from 'zod';
import type { EventType, OdeonEvent } from '../contracts/events/catalogue.ts';

/** Written as methods, so that a list can hold projections of different documents (`readonly Projection[]`). */
export interface EventHandler<Document, Event> {
  /** The id of the one document that the event touches; null when it touches none. Never empty. Pure. */
  id(event: Event): string | null;
  /**
   * The document after the event; null deletes it (or keeps it absent); the same object says that the event
   * changed nothing. Pure: `document` is not to be changed. What the schema does not name is dropped.
   */
  apply(document: Document | null, event: Event): Document | null;
}

export type Handlers<Document> = {
  readonly [Type in EventType]?: EventHandler<Document, OdeonEvent<Type>>;
};

export interface Projection<Document = unknown> {
  readonly name: string;
  /** Raise it when documents made from the same events change: the runtime then rebuilds. */
  readonly version: number;
  /** Every document is checked against it; one that does not fit counts as an error of `apply`. */
  readonly document: z.ZodType<Document>;
  /** As in the read models' port. A change of them is rebuilt like a change of version. */
  readonly indexes: readonly (readonly string[])[];
  readonly on: Handlers<Document>;
}

export const projection = <Document>(
  name: string,
  definition: Omit<Projection<Document>, 'name'>,
): Projection<Document> => ({ name, ...definition });
