/** How the sources of feeds are read from the event store. */
import { type EventEnvelope, isAfter, type Position } from '../../contracts/envelope.ts';
import type { EventStore } from '../../infra/event-store/port.ts';
import type { ConversationEvent } from './answer.ts';
import type { Cursor } from './cursor.ts';
import type { Source } from './feed.ts';

type Conversation = Extract<Source, { kind: 'conversation' }>;

/** Pages up to `upTo`: of the log those after `after`, of a conversation those from `revision`. */
export async function* read(
  store: EventStore,
  source: Source,
  { after, revision, upTo }: { after: Position; revision: number; upTo: Position },
): AsyncGenerator<readonly EventEnvelope[]> {
  if (source.kind === 'log') {
    const { filter } = source;
    for await (const page of store.readAll({ after, upTo, filter })) yield page.events;
    return;
  }
  for await (const events of store.readStream(source.stream, { from: revision })) {
    const beyond = events.findIndex((event) => isAfter(event.position, upTo));
    yield beyond < 0 ? events : events.slice(0, beyond);
    if (beyond >= 0) return;
  }
}

/** Where to begin to fold, so that the answer that was current at `at` is known in full. */
export async function firstRevision(store: EventStore, source: Conversation, at: Position): Promise<number> {
  let { turnId } = source;
  for await (const page of backwards(store, source.stream)) {
    for (const event of page) {
      if (turnId === null) {
        if (event.type === 'TurnStarted' && !isAfter(event.position, at)) turnId = event.data.turnId;
      } else if (event.type === 'MessageSent' && event.data.turnId === turnId) {
        return event.revision;
      }
    }
  }
  return 0;
}

/** A conversation from its end. What is looked for is mostly near it: a little is read first, then more. */
export async function* backwards(
  store: EventStore,
  stream: string,
): AsyncGenerator<readonly ConversationEvent[]> {
  let from: number | undefined;
  for (let limit = 16; ; limit = Math.min(limit * 4, 1_024)) {
    let read = 0;
    const options = { direction: 'backwards', limit, ...(from !== undefined && { from }) } as const;
    for await (const page of store.readStream(stream, options)) {
      yield page as readonly ConversationEvent[];
      read += page.length;
      from = page.at(-1)!.revision - 1;
    }
    if (read < limit || from === undefined || from < 0) return;
  }
}

/** Whether the stream's event with the revision lies at or before the cursor. */
export async function hasRead(
  store: Pick<EventStore, 'readStream'>,
  stream: string,
  revision: number,
  { position }: Cursor,
): Promise<boolean> {
  for await (const [event] of store.readStream(stream, { from: revision, limit: 1 })) {
    if (event !== undefined) return !isAfter(event.position, position);
  }
  return false;
}
