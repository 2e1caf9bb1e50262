/** Answers in Socket.IO's events: `chat_response`, for each piece, or (`whole`) once with all of the text. */
import type { Seq, ServerEvent, ServerEventName } from '../../../contracts/live/socket-io.ts';
import type { ConversationEvent, Item } from '../answer.ts';
import type { AnswerFormat, Frame, Transport } from '../feed.ts';
import { isTurnEnd } from '../luna.ts';

/**
 * Events as they go over the wire: `4` for a message of Engine.IO, `2` for an event of Socket.IO, in JSON. So they
 * are written once, whoever reads them.
 */
export const packet = (name: ServerEventName, data: object): string => `42${JSON.stringify([name, data])}`;

/** @param of what is subscribed to: the second part of `seq` */
export const socketIo = (of: string): Transport => ({
  name: 'socket.io',
  joins: false,
  encode: ({ id, name, data }) =>
    packet(
      name as ServerEventName,
      id === null ? (data as object) : { ...(data as object), seq: `${id}@${of}` },
    ),
});

export const subscriptionName = ({ kind, id }: Omit<Seq, 'frame'>): string =>
  id === '' ? kind : `${kind}:${id}`;

/** Of which answer the text is, and who writes it. */
export interface Writing {
  readonly turnId: string | null;
  readonly model: string | null;
}
export const NOBODY: Writing = { turnId: null, model: null };

export function foldWriting(fold: Writing, event: ConversationEvent): Writing {
  switch (event.type) {
    case 'TurnStarted':
      return { turnId: event.data.turnId, model: fold.turnId === event.data.turnId ? fold.model : null };
    case 'ModelCalled':
      return { ...fold, model: event.data.model };
    default:
      return fold;
  }
}

export type AnswerId = (turnId: string) => string;
type Response = Omit<ServerEvent<'chat_response'>, 'seq'>;
type Shown = Omit<Frame, 'id'>;

export const statusOf = {
  TurnCompleted: 'complete',
  TurnInterrupted: 'interrupted',
  TurnFailed: 'failed',
} as const;

function ending(conversationId: string, event: Parameters<typeof isTurnEnd>[0], token: string): Shown | null {
  if (!isTurnEnd(event)) return null;
  const { messageId, model, requestedModel } = event.data;
  const data: Response = {
    conversation_id: conversationId,
    message_id: messageId,
    token,
    finished: true,
    model: model ?? requestedModel,
    status: statusOf[event.type],
    ...(event.type === 'TurnFailed' && { error: event.data.reason }),
  };
  return { name: 'chat_response', data };
}

const common = (conversationId: string) => ({
  initial: NOBODY,
  fold: foldWriting,
  resync: (reason: string): Frame => ({
    id: null,
    name: 'resync',
    data: { reason, conversation_id: conversationId },
  }),
  // Who is cut off by a restart is told by that.
  farewell: (): Frame => ({ id: null, name: 'resync', data: {} }),
});

/** All answers of a conversation, piece by piece. */
export function answers(conversationId: string, answerId: AnswerId): AnswerFormat<Writing> {
  const piece = ({ turnId, model }: Writing, token: string): Response => ({
    conversation_id: conversationId,
    message_id: turnId === null ? '' : answerId(turnId),
    token,
    finished: false,
    model,
  });
  return {
    ...common(conversationId),
    name: 'answers',
    render(item: Item, fold) {
      switch (item.kind) {
        case 'content':
          return { name: 'chat_response', data: piece(fold, item.text) };
        case 'reasoning':
          return null;
        case 'restarted':
          return { name: 'chat_response', data: { ...piece(fold, ''), restarted: true } };
        case 'event':
          return ending(conversationId, item.event, '');
      }
    },
    end: (event) => (event.type === 'ConversationDeleted' ? [] : null),
  };
}

/** One answer, when it has ended. */
export const wholeAnswer = (conversationId: string): AnswerFormat<Writing> => ({
  ...common(conversationId),
  name: 'whole answer',
  render: (item) =>
    item.kind === 'event' && isTurnEnd(item.event)
      ? ending(conversationId, item.event, item.event.data.content)
      : null,
  end: (event) => (isTurnEnd(event) ? [] : null),
});
