/** `?asOf=`: which reads answer a request, the present's or the past's, and what the answer says of it. */
import { isAfter, type Position, position } from '../../contracts/envelope.ts';
import { Refusal } from '../../contracts/errors.ts';
import type { ChatReads, History } from '../../contracts/read-models/chat-reads.ts';
import type { EventStore } from '../../infra/event-store/port.ts';

export interface AsOfDependencies {
  readonly store: Pick<EventStore, 'end' | 'positionAt'>;
  readonly present: ChatReads;
  readonly history: History;
}

export interface AsOfReads {
  readonly reads: ChatReads;
  /** Of the answer: the position that it answers for, where that is in the past. */
  readonly headers: Readonly<Record<string, string>>;
}

/**
 * @param asOf a position or an RFC 3339 time; undefined for the present
 * @throws Refusal VALIDATION_ERROR for a position that the log has not reached
 */
export async function readsAsOf(
  asOf: string | undefined,
  { store, present, history }: AsOfDependencies,
): Promise<AsOfReads> {
  if (asOf === undefined) return { reads: present, headers: {} };
  const at = await asOfPosition(asOf, store);
  return { reads: history(at), headers: { 'X-Event-Position': at } };
}

/**
 * @param asOf a position or an RFC 3339 time
 * @throws Refusal VALIDATION_ERROR for a position that the log has not reached
 */
export async function asOfPosition(asOf: string, store: AsOfDependencies['store']): Promise<Position> {
  if (!position.safeParse(asOf).success) return store.positionAt(new Date(asOf).toISOString());
  // Not its head: what answers say of their freshness may lie after the last event, at a record of the store's own.
  const end = await store.end();
  if (isAfter(asOf, end)) {
    throw new Refusal('VALIDATION_ERROR', 'The request is not valid.', {
      issues: [{ path: ['query', 'asOf'], message: `asOf lies beyond the log, which ends at ${end}` }],
    });
  }
  return asOf;
}
