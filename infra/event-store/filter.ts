/** Whether an event passes a filter, for adapters that filter in memory. */
import type { EventEnvelope } from '../../contracts/envelope.ts';
import type { EventFilter } from './port.ts';

export function passes(event: EventEnvelope, filter: EventFilter): boolean {
  return (
    (filter.stream === undefined || event.stream === filter.stream) &&
    (filter.streamPrefix === undefined || event.stream.startsWith(filter.streamPrefix)) &&
    (filter.types === undefined || filter.types.includes(event.type)) &&
    (filter.owner === undefined || event.owner === filter.owner) &&
    (filter.correlationId === undefined || event.correlationId === filter.correlationId)
  );
}
