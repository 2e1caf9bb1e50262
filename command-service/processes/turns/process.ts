/**
 * The turn process: follows the log for requested turns and carries each to its end, one at a time in a
 * conversation. Killed at any instant and started again, it goes on with every turn that has not ended.
 */
import pLimit from 'p-limit';
import { v4 as uuid } from 'uuid';
import type { EventEnvelope, Position } from '../../../contracts/envelope.ts';
import { Refusal } from '../../../contracts/errors.ts';
import type { TurnDocument } from '../../../contracts/read-models/documents.ts';
import type { CommandMeta } from '../../command.ts';
import {
  type ConversationEventType,
  type ConversationState,
  claimTurn,
  conversation,
  type WaitingTurn,
} from '../../domain/conversation.ts';
import { type HeldTurn, runTurn, type StopReason, type TurnDependencies } from './turn.ts';

/** So many turns run at the same time; the others wait. */
const DEFAULT_CONCURRENCY = 64;
/** Waits after unexpected errors (e.g. a full disk): 1 s, 2 s, 4 s, … 30 s. */
const backOff = (failures: number): number => Math.min(1_000 * 2 ** failures, 30_000);

export interface TurnProcessOptions extends TurnDependencies {
  /** Names this worker in events; different at every start. */
  readonly worker: string;
  /** Whether another worker still runs. A turn held by one that does not is taken over. */
  readonly isAlive: (worker: string) => boolean;
  /** Resolves when the read models have reached the position. */
  readonly reached: (position: Position, signal: AbortSignal) => Promise<void>;
  readonly onError: (error: unknown, context: { conversationId?: string; turnId?: string }) => void;
  readonly concurrency?: number;
}

export interface TurnProcess {
  /** Gives running turns back, so that the next start goes on with them. Resolves when that is recorded. */
  stop(): Promise<void>;
  /** How many turns run now. */
  running(): number;
}

const wakingEvents: readonly ConversationEventType[] = [
  'MessageSent',
  'TurnReleased',
  'TurnCompleted',
  'TurnInterrupted',
  'TurnFailed',
];

export async function startTurnProcess(options: TurnProcessOptions): Promise<TurnProcess> {
  const { bus, store, readModels, signals, worker, isAlive, onError } = options;
  const stopping = new AbortController();
  const limit = pLimit(options.concurrency ?? DEFAULT_CONCURRENCY);
  /** The conversations that are being looked after; `again` when something happened meanwhile. */
  const active = new Map<string, { again: boolean }>();
  const held = new Map<string, { turnId: string; stop: AbortController }>();
  const work = new Set<Promise<void>>();

  const interrupt = (conversationId: string, turnId: string): void => {
    const turn = held.get(conversationId);
    if (turn?.turnId === turnId) turn.stop.abort('interrupt' satisfies StopReason);
  };
  const unsubscribe = signals.subscribe((signal) => {
    if (signal.kind === 'interrupt') interrupt(signal.conversationId, signal.turnId);
  });

  function wake(conversationId: string): void {
    const already = active.get(conversationId);
    if (already !== undefined) {
      already.again = true;
      return;
    }
    if (stopping.signal.aborted) return;
    const looking = { again: false };
    active.set(conversationId, looking);
    const done = lookAfter(conversationId, looking).finally(() => {
      active.delete(conversationId);
      work.delete(done);
    });
    work.add(done);
  }

  async function lookAfter(conversationId: string, looking: { again: boolean }): Promise<void> {
    let failures = 0;
    do {
      looking.again = false;
      try {
        while (!stopping.signal.aborted && (await limit(() => runNext(conversationId)))) failures = 0;
      } catch (error) {
        onError(error, { conversationId });
        looking.again = true;
        await pause(backOff(failures++));
      }
    } while (looking.again && !stopping.signal.aborted);
  }

  /** Claims and runs the conversation's next turn. False when there is none for this worker. */
  async function runNext(conversationId: string): Promise<boolean> {
    if (stopping.signal.aborted) return false;
    const { state } = await bus.load(conversation, conversationId);
    const next = claimable(state);
    if (next === null) return false;
    const claimed = await claim(conversationId, next.turn, next.takeOverFrom);
    if (claimed === null) return true; // somebody else was first, or the turn ended: look again

    const stop = new AbortController();
    held.set(conversationId, { turnId: claimed.turnId, stop });
    const onStopping = () => stop.abort('shutdown' satisfies StopReason);
    stopping.signal.addEventListener('abort', onStopping, { once: true });
    if (stopping.signal.aborted) onStopping();
    if (claimed.state.running?.interruptRequested) stop.abort('interrupt' satisfies StopReason);
    try {
      await runTurn(claimed, options, stop.signal);
    } finally {
      stopping.signal.removeEventListener('abort', onStopping);
      held.delete(conversationId);
    }
    return true;
  }

  function claimable(state: ConversationState): { turn: WaitingTurn; takeOverFrom: string | null } | null {
    const { running, waiting } = state;
    if (running === null) return waiting[0] === undefined ? null : { turn: waiting[0], takeOverFrom: null };
    if (running.worker === null) return { turn: running, takeOverFrom: null };
    // This worker's own: a turn that it dropped on an unexpected error, as it runs one at a time here.
    const gone = running.worker === worker || !isAlive(running.worker);
    return gone ? { turn: running, takeOverFrom: running.worker } : null;
  }

  async function claim(
    conversationId: string,
    { turnId, correlationId, requestId, surface }: WaitingTurn,
    takeOverFrom: string | null,
  ): Promise<HeldTurn | null> {
    const meta: CommandMeta = {
      commandId: uuid(),
      correlationId,
      causationId: requestId,
      surface,
      actor: { kind: 'system', id: 'turns' },
      caller: null,
      retried: false,
    };
    try {
      const { state } = await bus.dispatch(claimTurn, { conversationId, turnId, worker, takeOverFrom }, meta);
      return { conversationId, turnId, worker, attempt: state.running!.attempt, state };
    } catch (error) {
      if (error instanceof Refusal && error.code === 'CONFLICT') return null;
      throw error;
    }
  }

  const pause = (milliseconds: number): Promise<void> =>
    new Promise((resolve) => {
      const timer = setTimeout(finish, milliseconds);
      function finish() {
        clearTimeout(timer);
        stopping.signal.removeEventListener('abort', finish);
        resolve();
      }
      stopping.signal.addEventListener('abort', finish, { once: true });
    });

  async function follow(from: Position): Promise<void> {
    const types = [...wakingEvents, 'InterruptRequested'];
    const filter = { streamPrefix: `${conversation.category}-`, types };
    let after = from;
    let failures = 0;
    while (!stopping.signal.aborted) {
      try {
        for await (const page of store.subscribe({ after, filter, signal: stopping.signal })) {
          page.events.forEach(react);
          after = page.position;
          failures = 0;
        }
        if (!stopping.signal.aborted) throw new Error('The subscription of the log ended.');
      } catch (error) {
        onError(error, {});
        await pause(backOff(failures++));
      }
    }
  }

  function react(event: EventEnvelope): void {
    const conversationId = event.stream.slice(conversation.category.length + 1);
    if (event.type !== 'InterruptRequested') wake(conversationId);
    else interrupt(conversationId, (event.data as { turnId: string }).turnId);
  }

  /** What had not ended when this worker started. */
  async function resume(from: Position): Promise<void> {
    // Turns asked for after `from` are seen by `follow`.
    await options.reached(from, stopping.signal);
    let cursor: string | null = null;
    do {
      const page: Awaited<ReturnType<typeof readModels.find<TurnDocument>>> =
        await readModels.find<TurnDocument>('turns', {
          where: { status: ['queued', 'running'] },
          limit: 500,
          ...(cursor !== null && { cursor }),
        });
      for (const { body } of page.documents) wake(body.conversationId);
      cursor = page.next;
    } while (cursor !== null && !stopping.signal.aborted);
  }

  const head = await store.head();
  const resuming = resume(head).catch((error: unknown) => {
    if (!stopping.signal.aborted) onError(error, {});
  });
  const following = Promise.all([follow(head), resuming]);

  return {
    running: () => held.size,
    async stop() {
      stopping.abort();
      unsubscribe();
      await following;
      await Promise.all(work);
    },
  };
}
