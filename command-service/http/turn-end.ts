/** Waits for the end of a turn, for requests that are answered with it. */
import { Refusal } from '../../contracts/errors.ts';
import type { TurnEnd, TurnFeeds } from '../../contracts/live/feeds.ts';

/** Why a request cannot be answered with the end: the turn takes too long, or this process ends first. */
export type NoEnd = 'still running' | 'shutting down';

/** @throws whatever, when the client has gone */
export async function endOf(
  turn: Parameters<TurnFeeds['turnEnded']>[0],
  {
    feeds,
    timeoutMs,
    clientGone,
  }: {
    readonly feeds: Pick<TurnFeeds, 'turnEnded'>;
    readonly timeoutMs: number;
    readonly clientGone: AbortSignal;
  },
): Promise<TurnEnd | NoEnd> {
  const patience = new AbortController();
  const timer = setTimeout(() => patience.abort(), timeoutMs);
  try {
    return await feeds.turnEnded(turn, AbortSignal.any([clientGone, patience.signal]));
  } catch (error) {
    if (clientGone.aborted) throw error;
    if (patience.signal.aborted) return 'still running';
    if (error instanceof Refusal && error.code === 'SERVICE_UNAVAILABLE') return 'shutting down';
    throw error;
  } finally {
    clearTimeout(timer);
  }
}
