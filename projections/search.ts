/**
 * What the events of conversations do to the search index. Only what people say and are answered in conversations of
 * their own is found: not the conversations that are made for runs of agents, nor those of visitors.
 */
import { z } from 'zod';
import type { EventEnvelope } from '../contracts/envelope.ts';
import { catalogue, type EventType } from '../contracts/events/catalogue.ts';
import { conversationIdOf } from '../contracts/read-models/conversation.ts';
import type { IndexChange, IndexedMessage } from '../infra/search/port.ts';

/** A change without its place in the log, and without vectors: making them is not for a pure function. */
export type SearchChange =
  | { readonly kind: 'message'; readonly message: Omit<IndexedMessage, 'vectors'> }
  | Omit<Extract<IndexChange, { kind: 'title' }>, 'position'>
  | Omit<Extract<IndexChange, { kind: 'deleted' }>, 'position'>
  | { readonly kind: 'nothing' };

type Handler<Type extends EventType> = (
  event: EventEnvelope,
  data: z.infer<(typeof catalogue)[Type]['schema']>,
) => SearchChange;

const nothing: SearchChange = { kind: 'nothing' };

function message(
  event: EventEnvelope,
  { messageId, content }: { messageId: string; content: string },
  role: IndexedMessage['role'],
  model: string | null,
): SearchChange {
  // A turn may end before anything was written.
  if (content.trim() === '') return nothing;
  const { owner, time } = event;
  const conversationId = conversationIdOf(event);
  return {
    kind: 'message',
    message: { id: messageId, conversationId, owner, role, model, text: content, time },
  };
}

const answer: Handler<'TurnCompleted' | 'TurnInterrupted' | 'TurnFailed'> = (event, data) =>
  message(event, data, 'assistant', data.model);

const on: { readonly [Type in EventType]?: Handler<Type> } = {
  ConversationStarted: (event, { kind, title }) => {
    const conversationId = conversationIdOf(event);
    if (kind !== 'chat') return { kind: 'deleted', conversationId };
    return title === null ? nothing : { kind: 'title', conversationId, title };
  },
  ConversationRenamed: (event, { title }) => ({
    kind: 'title',
    conversationId: conversationIdOf(event),
    title,
  }),
  ConversationDeleted: (event) => ({ kind: 'deleted', conversationId: conversationIdOf(event) }),
  MessageSent: (event, data) => message(event, data, 'user', null),
  TurnCompleted: answer,
  TurnInterrupted: answer,
  TurnFailed: answer,
};

/** The event types that it takes. */
export const searchTypes: readonly string[] = Object.keys(on);

/** @throws Error when the event is not what its type promises */
export function searchChange(event: EventEnvelope): SearchChange {
  const type = event.type as EventType;
  const handler = on[type] as Handler<EventType> | undefined;
  if (handler === undefined) return nothing;
  const parsed = catalogue[type].schema.safeParse(event.data);
  if (!parsed.success) throw new Error(`The event does not fit: ${z.prettifyError(parsed.error)}`);
  return handler(event, parsed.data as never);
}
