/** What the write side may ask of the live feeds: to answer a request with the turn that it began. */
import type { ServerResponse } from 'node:http';
import type { Position } from '../envelope.ts';
import type { OdeonEvent } from '../events/catalogue.ts';

export type TurnEnd = OdeonEvent<'TurnCompleted' | 'TurnInterrupted' | 'TurnFailed'>;

/** How a turn is shown to who asked for it. */
export type TurnFormat =
  | { readonly name: 'luna' }
  /** Chunks of a chat completion. */
  | {
      readonly name: 'openai';
      /** A chunk before the end says what the answer took. */
      readonly includeUsage: boolean;
      /** Of the answer. */
      readonly messageId: string;
    }
  /** The entries of an execution's log. */
  | { readonly name: 'trinity'; readonly transport: 'sse' | 'ndjson' };

export interface TurnFeeds {
  /**
   * Answers with the turn in a surface's frames (default: Luna's), from `after` (exclusive) until the turn has ended.
   * `headers` are added to those of an event stream. `lastEventId`: of a frame that was read, after which it goes on.
   * `last` is what comes as the last frame of a stream that has shown the end of the turn; null: nothing.
   */
  streamTurn(
    response: ServerResponse,
    turn: {
      conversationId: string;
      turnId: string;
      after: Position;
      headers?: Record<string, string>;
      format?: TurnFormat;
      lastEventId?: string;
      last?: () => Promise<object | null>;
    },
  ): void | Promise<void>;
  /**
   * Resolves when the turn has ended. Rejects when `signal` is aborted, and with Refusal SERVICE_UNAVAILABLE when
   * the live feeds close first: another start will finish the turn.
   */
  turnEnded(
    turn: { conversationId: string; turnId: string; after: Position },
    signal: AbortSignal,
  ): Promise<TurnEnd>;
}
