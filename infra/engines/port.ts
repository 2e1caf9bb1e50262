/** What the adapters of engines (event store, bus, read models) tell of their servers. */

/**
 * Told by an adapter whenever what it knows of its server changes: why it cannot be used, naming the address, or
 * null when it can (again). Must not throw.
 */
export type AvailabilityListener = (problem: string | null) => void;
