/** A projection is data and pure functions: which events it takes, which document each touches, and how. */
import type { z } from 'zod';
import type { EventType, OdeonEvent } from '../contracts/events/catalogue.ts';

export interface EventHandler<Document, Event> {
  /** The id of the one document that the event touches; null when it touches none. */
  readonly id: (event: Event) => string | null;
  /** The document after the event; null deletes it (or keeps it absent). Pure. */
  readonly apply: (document: Document | null, event: Event) => Document | null;
}

export type Handlers<Document> = {
  readonly [Type in EventType]?: EventHandler<Document, OdeonEvent<Type>>;
};

export interface Projection<Document = unknown> {
  readonly name: string;
  /** Raise it when documents made from the same events change: the runtime then rebuilds. */
  readonly version: number;
  readonly document: z.ZodType<Document>;
  readonly indexes: readonly (readonly string[])[];
  readonly on: Handlers<Document>;
}

export const projection = <Document>(
  name: string,
  definition: Omit<Projection<Document>, 'name'>,
): Projection<Document> => ({ name, ...definition });
