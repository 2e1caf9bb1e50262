/** The events of one turn, from its conversation's stream. */
import type { EventEnvelope } from '../envelope.ts';
import type { OdeonEvent } from '../events/catalogue.ts';
import type { conversationEvents } from '../events/conversation.ts';
import { CONVERSATION_STREAM } from './conversation.ts';
import type { TurnDocument } from './documents.ts';

type ConversationEvent = OdeonEvent<keyof typeof conversationEvents>;

/** Of the event store's port. */
export interface StreamReader {
  readStream(stream: string, options?: { readonly from?: number }): AsyncIterable<readonly EventEnvelope[]>;
}

/** @returns the turn's events so far, in order */
export async function eventsOfTurn(
  store: StreamReader,
  turn: Pick<TurnDocument, 'id' | 'conversationId' | 'firstRevision' | 'lastRevision'>,
): Promise<readonly ConversationEvent[]> {
  const found: ConversationEvent[] = [];
  const pages = store.readStream(CONVERSATION_STREAM + turn.conversationId, { from: turn.firstRevision });
  for await (const page of pages) {
    for (const event of page) {
      if (turn.lastRevision !== null && event.revision > turn.lastRevision) return found;
      if ((event.data as { turnId?: string }).turnId === turn.id) found.push(event as ConversationEvent);
    }
  }
  return found;
}
