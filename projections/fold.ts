/** Makes a projection's documents from events at once, without a store: for the past, and for tests. */
import type { EventEnvelope } from '../contracts/envelope.ts';
import type { EventHandler, Projection } from './projection.ts';

/** Which of a projection's handlers takes the event. */
export const handlerOf = <Document>(
  { on }: Projection<Document>,
  event: EventEnvelope,
): EventHandler<Document, EventEnvelope> | undefined =>
  (on as Readonly<Record<string, EventHandler<Document, EventEnvelope>>>)[event.type];

/** The documents by id after the events, which come in the log's order. */
export async function foldAll<Document>(
  projection: Projection<Document>,
  events: AsyncIterable<EventEnvelope> | Iterable<EventEnvelope>,
): Promise<Map<string, Document>> {
  const documents = new Map<string, Document>();
  for await (const event of events) {
    const handler = handlerOf(projection, event);
    const id = handler?.id(event) ?? null;
    if (handler === undefined || id === null) continue;
    const document = handler.apply(documents.get(id) ?? null, event);
    if (document === null) documents.delete(id);
    else documents.set(id, document);
  }
  return documents;
}
