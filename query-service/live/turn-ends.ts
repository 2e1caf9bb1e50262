/** Waiting for turns to end. */
import { type EventEnvelope, isAfter, type Position } from '../../contracts/envelope.ts';
import type { TurnEnd } from '../../contracts/live/feeds.ts';
import type { EventStore } from '../../infra/event-store/port.ts';
import type { ConversationEvent } from './answer.ts';
import { backwards } from './log-reading.ts';
import { isTurnEnd } from './luna.ts';

export interface TurnEnds {
  /** To be given every event from now on. */
  follow(event: EventEnvelope): void;
  /** Resolves with the end of a turn that lies after `after`; rejects when `signal` is aborted. */
  next(
    turn: { readonly stream: string; readonly turnId: string; readonly after: Position },
    signal: AbortSignal,
  ): Promise<TurnEnd>;
}

export function createTurnEnds(store: EventStore): TurnEnds {
  const waiting = new Map<string, Set<(end: TurnEnd) => void>>();

  async function find(stream: string, turnId: string, after: Position): Promise<TurnEnd | null> {
    for await (const page of backwards(store, stream)) {
      for (const event of page) {
        if (!isAfter(event.position, after)) return null;
        if (isTurnEnd(event) && event.data.turnId === turnId) return event;
      }
    }
    return null;
  }

  return {
    follow(envelope) {
      const event = envelope as ConversationEvent;
      if (!isTurnEnd(event)) return;
      for (const onEnd of waiting.get(event.data.turnId) ?? []) onEnd(event);
    },

    next({ stream, turnId, after }, signal) {
      return new Promise((resolve, reject) => {
        const finish = (settle: () => void) => {
          signal.removeEventListener('abort', onAbort);
          const waiters = waiting.get(turnId);
          waiters?.delete(onEnd);
          if (waiters?.size === 0) waiting.delete(turnId);
          settle();
        };
        const onEnd = (end: TurnEnd) => finish(() => resolve(end));
        const onAbort = () => finish(() => reject(signal.reason));
        if (signal.aborted) return reject(signal.reason);
        signal.addEventListener('abort', onAbort);
        // Listen first, then look at what is there: so the end cannot fall in between.
        waiting.set(turnId, (waiting.get(turnId) ?? new Set()).add(onEnd));
        find(stream, turnId, after).then(
          (end) => end && onEnd(end),
          (error) => finish(() => reject(error)),
        );
      });
    },
  };
}
