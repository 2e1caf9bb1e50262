/**
 * What the signals have said of the answers that are being written, kept until an event says it for good, so that
 * who joins in mid-answer gets the text so far.
 */
import { type EventEnvelope, isAfter, type Position } from '../../contracts/envelope.ts';
import type { TextSignal } from '../../contracts/live/signals.ts';
import type { ConversationEvent, RunningText } from './answer.ts';

interface Running {
  readonly turnId: string;
  readonly call: Position;
  text: string;
  reasoning: string;
}

/** In UTF-16 code units. What goes beyond is shown when the call has ended. */
const LONGEST = 2 ** 20;

export interface RunningTexts {
  readonly size: number;
  /** Of a conversation's stream; null when none of its calls runs. */
  of(stream: string): RunningText | null;
  /** Notes a piece; false when it says nothing new. `position`: every event up to there has been followed. */
  take(signal: TextSignal, position: Position): boolean;
  /** Begins and drops texts as their calls begin and end. */
  follow(event: EventEnvelope): void;
}

export function createRunningTexts(): RunningTexts {
  /** By stream: a conversation has one call at a time. */
  const texts = new Map<string, Running>();

  return {
    get size() {
      return texts.size;
    },
    of: (stream) => texts.get(stream) ?? null,

    take({ kind, conversationId, turnId, call, offset, text }, position) {
      const stream = `conversation-${conversationId}`;
      let running = texts.get(stream);
      if (running?.call !== call) {
        // Late pieces of a call that has ended; a signal may also come before its call's event.
        if (!isAfter(call, position) || (running !== undefined && !isAfter(call, running.call))) return false;
        running = { turnId, call, text: '', reasoning: '' };
        texts.set(stream, running);
      }
      const known = running[kind].length;
      // A piece was missed (this process began in mid-call): the rest is shown when the call has ended.
      if (offset > known || offset + text.length <= known || known > LONGEST) return false;
      running[kind] += text.slice(known - offset);
      return true;
    },

    follow(envelope) {
      const event = envelope as ConversationEvent;
      const running = texts.get(event.stream);
      switch (event.type) {
        case 'ModelCalled':
          if (running === undefined || isAfter(event.position, running.call)) {
            const { turnId } = event.data;
            texts.set(event.stream, { turnId, call: event.position, text: '', reasoning: '' });
          }
          break;
        case 'TurnStarted':
        case 'TurnReleased':
        case 'ModelAnswered':
        case 'ModelFailed':
        case 'TurnCompleted':
        case 'TurnInterrupted':
        case 'TurnFailed':
          if (running?.turnId === event.data.turnId && isAfter(event.position, running.call)) {
            texts.delete(event.stream);
          }
          break;
      }
    },
  };
}
