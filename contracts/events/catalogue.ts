/**
 * The catalogue of event types: a stored format. A changed shape is a new version with an upcaster from the
 * one before, and each version keeps a fixture in `fixtures/` that the tests read.
 */
import type { z } from 'zod';
import type { EventEnvelope } from '../envelope.ts';
import { agentEvents } from './agent.ts';
import { conversationEvents } from './conversation.ts';
import { deliberationEvents } from './deliberation.ts';
import { identityEvents } from './identity.ts';
import { memoryEvents } from './memory.ts';
import { operationsEvents } from './operations.ts';
import { orchestrationEvents } from './orchestration.ts';
import { publicLinkEvents } from './public-link.ts';

export interface EventDefinition<Schema extends z.ZodType = z.ZodType> {
  readonly schema: Schema;
  readonly version: number;
  /** `upcasters[v]` turns data of version v into data of version v + 1. */
  readonly upcasters: Readonly<Record<number, (data: unknown) => unknown>>;
  /** Paths into `data` that hold personal data (`*` for every element), so that they can be sealed by owner. */
  readonly personal: readonly string[];
}

export const catalogue = {
  ...conversationEvents,
  ...identityEvents,
  ...memoryEvents,
  ...operationsEvents,
  ...agentEvents,
  ...orchestrationEvents,
  ...deliberationEvents,
  ...publicLinkEvents,
} as const;

export type Catalogue = typeof catalogue;
export type EventType = keyof Catalogue;
export type EventData<Type extends EventType> = z.infer<Catalogue[Type]['schema']>;

/** An event of the catalogue as it is read. */
export type OdeonEvent<Type extends EventType = EventType> = {
  [T in Type]: EventEnvelope<T, EventData<T>>;
}[Type];

/** What a decider returns: an event's type with its data. */
export type DecidedEvent<Type extends EventType = EventType> = {
  [T in Type]: { readonly type: T; readonly data: EventData<T> };
}[Type];

export const isEventType = (type: string): type is EventType => Object.hasOwn(catalogue, type);
