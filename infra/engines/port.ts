/** What Odeon runs on: the event store, the bus and the read models, each embedded or a server at an address. */

/**
 * Told by an adapter whenever what it knows of its server changes: why it cannot be used, naming the address, or
 * null when it can (again). Must not throw.
 */
export type AvailabilityListener = (problem: string | null) => void;

export type EngineName = 'event store' | 'bus' | 'read models';

export interface EngineStatus {
  readonly name: EngineName;
  readonly kind: 'embedded' | 'server';
  /** Without credentials; null where it is part of this process. */
  readonly address: string | null;
  readonly available: boolean;
  /** Why it cannot be used at the moment. */
  readonly problem: string | null;
}
