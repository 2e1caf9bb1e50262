/** What the write side may ask of the live feeds: to answer a request with the turn that it began. */
import type { ServerResponse } from 'node:http';
import type { Position } from '../envelope.ts';
import type { OdeonEvent } from '../events/catalogue.ts';

export type TurnEnd = OdeonEvent<'TurnCompleted' | 'TurnInterrupted' | 'TurnFailed'>;

export interface TurnFeeds {
  /**
   * Answers with server-sent events in Luna's frames, from `after` (exclusive) until the turn has ended.
   * `headers` are added to those of an event stream.
   */
  streamTurn(
    response: ServerResponse,
    turn: { conversationId: string; turnId: string; after: Position; headers?: Record<string, string> },
  ): void;
  /**
   * Resolves when the turn has ended. Rejects when `signal` is aborted, and with Refusal SERVICE_UNAVAILABLE when
   * the live feeds close first: another start will finish the turn.
   */
  turnEnded(
    turn: { conversationId: string; turnId: string; after: Position },
    signal: AbortSignal,
  ): Promise<TurnEnd>;
}
