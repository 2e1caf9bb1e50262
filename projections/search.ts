/**
 * What the events of conversations do to the search index. Only what people say and are answered in conversations of
 * their own is found: not the conversations that are made for runs of agents, nor those of visitors.
 */
import { z } from 'zod';
import type { EventEnvelope } from '../contracts/envelope.ts';
import type { EventType } from '../contracts/events/catalogue.ts';
import { conversationKind } from '../contracts/events/conversation.ts';
import { conversationIdOf } from '../contracts/read-models/conversation.ts';
import type { IndexChange, IndexedMessage } from '../infra/search/port.ts';

/** A change without its place in the log, and without vectors: making them is not for a pure function. */
export type SearchChange =
  | { readonly kind: 'message'; readonly message: Omit<IndexedMessage, 'vectors'> }
  | Omit<Extract<IndexChange, { kind: 'title' }>, 'position'>
  | Omit<Extract<IndexChange, { kind: 'deleted' }>, 'position'>
  | { readonly kind: 'nothing' };

const nothing: SearchChange = { kind: 'nothing' };

/** What is read of each type; the rest of its data may change as it likes. */
const said = z.object({ messageId: z.string().min(1), content: z.string() });
const answered = said.extend({ model: z.string().nullable() });
const started = z.object({ kind: conversationKind, title: z.string().nullable() });
const renamed = z.object({ title: z.string() });

function message(
  event: EventEnvelope,
  { messageId: id, content: text, model }: z.infer<typeof answered>,
  role: IndexedMessage['role'],
): SearchChange {
  // A turn may end before anything was written.
  if (text.trim() === '') return nothing;
  const { owner, time } = event;
  const conversationId = conversationIdOf(event);
  return { kind: 'message', message: { id, conversationId, owner, role, model, text, time } };
}

const answer = (event: EventEnvelope): SearchChange =>
  message(event, answered.parse(event.data), 'assistant');

const on: { readonly [Type in EventType]?: (event: EventEnvelope) => SearchChange } = {
  ConversationStarted: (event) => {
    const { kind, title } = started.parse(event.data);
    const conversationId = conversationIdOf(event);
    if (kind !== 'chat') return { kind: 'deleted', conversationId };
    return title === null ? nothing : { kind: 'title', conversationId, title };
  },
  ConversationRenamed: (event) => {
    const { title } = renamed.parse(event.data);
    return { kind: 'title', conversationId: conversationIdOf(event), title };
  },
  ConversationDeleted: (event) => ({ kind: 'deleted', conversationId: conversationIdOf(event) }),
  MessageSent: (event) => message(event, { ...said.parse(event.data), model: null }, 'user'),
  TurnCompleted: answer,
  TurnInterrupted: answer,
  TurnFailed: answer,
};

/** The event types that it takes. */
export const searchTypes: readonly string[] = Object.keys(on);

/** @throws Error when the event is not what its type promises */
export function searchChange(event: EventEnvelope): SearchChange {
  try {
    return on[event.type as EventType]?.(event) ?? nothing;
  } catch (error) {
    if (!(error instanceof z.ZodError)) throw error;
    throw new Error(`The event does not fit: ${z.prettifyError(error)}`, { cause: error });
  }
}
