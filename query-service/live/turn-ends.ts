/** Waiting for turns to end. */
import { type EventEnvelope, isAfter, type Position } from '../../contracts/envelope.ts';
import { Refusal } from '../../contracts/errors.ts';
import type { TurnEnd } from '../../contracts/live/feeds.ts';
import type { EventStore } from '../../infra/event-store/port.ts';
import type { ConversationEvent } from './answer.ts';
import { backwards } from './log-reading.ts';
import { isTurnEnd } from './luna.ts';

export interface TurnEnds {
  /** To be given every event from now on. */
  follow(event: EventEnvelope): void;
  /**
   * Resolves with the end of a turn that lies after `after`; rejects when `signal` is aborted, and with Refusal
   * SERVICE_UNAVAILABLE when this closes.
   */
  next(
    turn: { readonly stream: string; readonly turnId: string; readonly after: Position },
    signal: AbortSignal,
  ): Promise<TurnEnd>;
  /** Nobody waits any longer. */
  close(): void;
}

interface Waiter {
  end(end: TurnEnd): void;
  giveUp(reason: unknown): void;
}

export function createTurnEnds(store: EventStore): TurnEnds {
  const waiting = new Map<string, Set<Waiter>>();
  let closed = false;
  const shutdown = () => new Refusal('SERVICE_UNAVAILABLE', 'The server shuts down.');

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
      for (const waiter of waiting.get(event.data.turnId) ?? []) waiter.end(event);
    },

    next({ stream, turnId, after }, signal) {
      return new Promise((resolve, reject) => {
        const finish = (settle: () => void) => {
          signal.removeEventListener('abort', onAbort);
          const waiters = waiting.get(turnId);
          waiters?.delete(waiter);
          if (waiters?.size === 0) waiting.delete(turnId);
          settle();
        };
        const waiter: Waiter = {
          end: (end) => finish(() => resolve(end)),
          giveUp: (reason) => finish(() => reject(reason)),
        };
        const onAbort = () => waiter.giveUp(signal.reason);
        if (signal.aborted) return reject(signal.reason);
        if (closed) return reject(shutdown());
        signal.addEventListener('abort', onAbort);
        // Listen first, then look at what is there: so the end cannot fall in between.
        waiting.set(turnId, (waiting.get(turnId) ?? new Set()).add(waiter));
        find(stream, turnId, after).then((end) => end && waiter.end(end), waiter.giveUp);
      });
    },

    close() {
      closed = true;
      for (const waiter of [...waiting.values()].flatMap((waiters) => [...waiters])) {
        waiter.giveUp(shutdown());
      }
    },
  };
}
