/** What the write side may ask of the live feeds: to answer a request with the turn that it began. */
import type { ServerResponse } from 'node:http';
import type { Position } from '../envelope.ts';
import type { OdeonEvent } from '../events/catalogue.ts';

export type TurnEnd = OdeonEvent<'TurnCompleted' | 'TurnInterrupted' | 'TurnFailed'>;

/** How a turn is shown to who asked for it. */
export type TurnFormat = { readonly name: 'luna' };

export interface TurnFeeds {
  /**
   * Answers with the turn in a surface's frames (default: Luna's), from `after` (exclusive) until the turn has ended.
   * `headers` are added to those of an event stream.
   */
  streamTurn(
    response: ServerResponse,
    turn: {
      conversationId: string;
      turnId: string;
      after: Position;
      headers?: Record<string, string>;
      format?: TurnFormat;
    },
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
