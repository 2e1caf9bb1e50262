/** A conversation in ZERG's frames (api-notes A4): the same ones over server-sent events and over WebSocket. */
import type { Position } from '../../contracts/envelope.ts';
import { renderMessage, type ZergMessage } from '../../contracts/http/zerg.ts';
import type { ZergFeedFrame } from '../../contracts/live/frames.ts';
import type { MessageDocument } from '../../contracts/read-models/documents.ts';
import type { ConversationEvent } from './answer.ts';
import { type Cursor, NOTHING_READ } from './cursor.ts';
import type { AnswerFormat, Frame } from './feed.ts';

/** The turn that runs; null when none does. */
type Running = string | null;

const named = ({ type, ...data }: ZergFeedFrame): Omit<Frame, 'id'> => ({ name: type, data });

export const zergConversation: AnswerFormat<Running> = {
  name: 'zerg',
  initial: null,

  fold(running, event) {
    switch (event.type) {
      case 'TurnStarted':
        return event.data.turnId;
      case 'TurnCompleted':
      case 'TurnInterrupted':
      case 'TurnFailed':
        return running === event.data.turnId ? null : running;
      default:
        return running;
    }
  },

  render(item, running) {
    switch (item.kind) {
      case 'content':
        return named({ type: 'token', data: item.text });
      case 'reasoning':
        return null;
      case 'restarted':
        return named({ type: 'restarted' });
      case 'event': {
        const frame = eventFrame(item.event, running);
        return frame && named(frame);
      }
    }
  },

  end: (event) => (event.type === 'ConversationDeleted' ? [] : null),
  resync: (reason) => ({ id: null, ...named({ type: 'resync', reason }) }),
  farewell: (timestamp) => ({ id: null, ...named({ type: 'shutdown', timestamp }) }),
};

/** What is running is shown from its beginning. */
export const fromNow = (position: Position): Cursor => ({ position, read: NOTHING_READ });

export const connected = (conversationId: string, id: string): Frame => ({
  ...named({ type: 'connected', session_id: conversationId }),
  id,
});

function eventFrame(event: ConversationEvent, running: Running): ZergFeedFrame | null {
  switch (event.type) {
    case 'TurnCompleted': {
      const { promptTokens, completionTokens } = event.data.usage;
      const usage = {
        prompt_tokens: promptTokens,
        completion_tokens: completionTokens,
        total_tokens: promptTokens + completionTokens,
      };
      return { type: 'done', usage, ...idsOf(event) };
    }
    case 'TurnInterrupted':
      // A message that was taken back while another is answered: not the end of what is being shown.
      return running === null ? { type: 'interrupted', ...idsOf(event) } : null;
    case 'TurnFailed':
      return { type: 'error', error: event.data.reason, ...idsOf(event) };
    case 'ConversationDeleted':
      return { type: 'error', error: 'The conversation was deleted.' };
    default:
      return null;
  }
}

const idsOf = ({ data }: { data: { turnId: string; messageId: string } }) => ({
  turn_id: data.turnId,
  message_id: data.messageId,
});

/** In UTF-16 code units: a frame that a client need not fear. */
const LONGEST_HISTORY = 256 * 1024;

/** The latest messages in order, as many as fit in a frame. @param latest newest first */
export function history(latest: readonly MessageDocument[]): ZergMessage[] {
  const messages: ZergMessage[] = [];
  let size = 0;
  for (const message of latest) {
    size += message.content.length;
    if (size > LONGEST_HISTORY && messages.length > 0) break;
    messages.unshift(renderMessage(message));
  }
  return messages;
}
