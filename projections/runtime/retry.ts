/** Applies the events that a projection has set aside again: in order, and each document in one transaction. */
import type { EventEnvelope, Position } from '../../contracts/envelope.ts';
import type { SetAsideEvent } from '../../contracts/projections.ts';
import type { EventStore } from '../../infra/event-store/port.ts';
import type { ReadModelStore } from '../../infra/read-models/port.ts';
import { type Feed, type Prepared, UNKNOWN_DOCUMENT } from './feed.ts';

export interface RetryContext {
  readonly store: EventStore;
  readonly readModels: ReadModelStore;
  readonly exclusive: <Result>(work: () => Promise<Result>) => Promise<Result>;
  readonly committed: (feed: Feed, batch: Prepared) => void;
  /** False once another copy has taken its place. */
  readonly isFed: (feed: Feed) => boolean;
}

/** Returns how many events are no longer set aside. */
export async function retryFeed(feed: Feed, context: RetryContext): Promise<number> {
  const { store, readModels, exclusive, committed, isFed } = context;
  let applied = 0;

  async function retryDocument(documentId: string): Promise<void> {
    const listed = () => readModels.setAside(feed.copy, { documentId });
    const events = new Map<Position, EventEnvelope>();
    const load = async (aside: readonly SetAsideEvent[]) => {
      for (const { position, eventId } of aside) {
        if (!events.has(position)) events.set(position, await eventAt(store, position, eventId));
      }
    };
    // Read before the turn, so that the others wait only for those that were set aside since.
    await load(await listed());
    await exclusive(async () => {
      if (!isFed(feed)) return;
      const aside = await listed();
      await load(aside);
      const source = (position: Position) => events.get(position)!;
      const before = feed.failed + feed.waiting;
      const batch =
        documentId === UNKNOWN_DOCUMENT
          ? await feed.prepareIdentify(aside, source)
          : await feed.prepareRetry(documentId, aside, source);
      await readModels.write([batch.batch]);
      committed(feed, batch);
      applied += before - (feed.failed + feed.waiting);
    });
  }

  // First those of unknown documents: once they are known, they wait with the others of theirs.
  await retryDocument(UNKNOWN_DOCUMENT);
  const documents = new Set((await readModels.setAside(feed.copy)).map((event) => event.documentId));
  documents.delete(UNKNOWN_DOCUMENT);
  for (const documentId of documents) await retryDocument(documentId);
  return applied;
}

/** @throws Error when the log does not hold the event */
export async function eventAt(store: EventStore, position: Position, id: string): Promise<EventEnvelope> {
  const range = { direction: 'backwards', upTo: position, limit: 1 } as const;
  for await (const { events } of store.readAll(range)) {
    const event = events.find((found) => found.position === position && found.id === id);
    if (event !== undefined) return event;
  }
  throw new Error(`The log does not hold the event ${id} at ${position}, which was set aside.`);
}
