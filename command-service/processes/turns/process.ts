/**
 * The turn process: follows the log for requested turns and carries each to its end, one at a time in a
 * conversation. Killed at any instant and started again, it goes on with every turn that has not ended.
 *
 * Of several such processes each looks after the conversations in the partitions of the log that it was given. A
 * partition may move while one of its turns runs: its worker carries that turn to its end all the same, and the next
 * one is the new owner's.
 */
import pLimit from 'p-limit';
import { v4 as uuid } from 'uuid';
import type { EventEnvelope, Position } from '../../../contracts/envelope.ts';
import { Refusal } from '../../../contracts/errors.ts';
import type { TurnDocument } from '../../../contracts/read-models/documents.ts';
import type { Consumer, EventBus, Partition } from '../../../infra/bus/port.ts';
import type { CommandMeta } from '../../command.ts';
import {
  type ConversationEventType,
  type ConversationState,
  claimTurn,
  conversation,
  type WaitingTurn,
} from '../../domain/conversation.ts';
import type { Workers } from '../workers.ts';
import { type HeldTurn, runTurn, type StopReason, type TurnDependencies } from './turn.ts';

/** So many turns run at the same time; the others wait. */
const DEFAULT_CONCURRENCY = 64;
/** So many conversations wait at most to be looked after; while more do, the log is not read on. */
const MAX_WAITING = 2_000;
/** Waits after unexpected errors (e.g. a full disk): 1 s, 2 s, 4 s, … 30 s. */
const backOff = (failures: number): number => Math.min(1_000 * 2 ** failures, 30_000);

export interface TurnProcessOptions extends TurnDependencies {
  readonly events: EventBus;
  /** A turn held by a worker that is gone is taken over. */
  readonly workers: Workers;
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
  const { bus, store, readModels, signals, events, workers, onError } = options;
  const worker = workers.self;
  const stopping = new AbortController();
  const limit = pLimit(options.concurrency ?? DEFAULT_CONCURRENCY);
  const partitions = new Map<number, Partition>();
  /** The conversations that are being looked after; `again` when something happened meanwhile. */
  const active = new Map<string, { again: boolean }>();
  const held = new Map<string, { turnId: string; stop: AbortController }>();
  /** Conversations whose turn another worker holds, by that worker. */
  const heldByOthers = new Map<string, Set<string>>();
  const work = new Set<Promise<void>>();
  /** For all that wait for room, in whatever partition; null while nobody does. */
  let roomMade: PromiseWithResolvers<void> | null = null;

  const interrupt = (conversationId: string, turnId: string): void => {
    const turn = held.get(conversationId);
    if (turn?.turnId === turnId) turn.stop.abort('interrupt' satisfies StopReason);
  };
  const unsubscribe = signals.subscribe((signal) => {
    if (signal.kind === 'interrupt') interrupt(signal.conversationId, signal.turnId);
  });

  workers.onChange(() => {
    if (!workers.inTouch()) {
      // Others will take the turns over: they are given back before.
      for (const { stop } of held.values()) stop.abort('shutdown' satisfies StopReason);
      return;
    }
    for (const [other, conversations] of heldByOthers) {
      if (workers.isAlive(other)) continue;
      heldByOthers.delete(other);
      for (const conversationId of conversations) wake(conversationId);
    }
    for (const conversationId of waitingForTouch.splice(0)) wake(conversationId);
  });
  const waitingForTouch: string[] = [];

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
      if (active.size < MAX_WAITING) tellRoom();
    });
    work.add(done);
  }

  function tellRoom(): void {
    roomMade?.resolve();
    roomMade = null;
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
    // A turn that this worker dropped on an unexpected error is still its own: while it lives, nobody takes it over.
    const isOwn = state.running?.worker === worker;
    if (!isOwn && !partitions.has(events.partitionOf(state.owner))) return false; // another process looks after it
    const next = claimable(conversationId, state);
    if (next === null) return false;
    if (!workers.inTouch()) {
      waitingForTouch.push(conversationId);
      return false;
    }
    const claimed = await claim(conversationId, next.turn, next.takeOverFrom);
    if (claimed === null) return true; // somebody else was first, or the turn ended: look again

    const stop = new AbortController();
    held.set(conversationId, { turnId: claimed.turnId, stop });
    const onStopping = () => stop.abort('shutdown' satisfies StopReason);
    stopping.signal.addEventListener('abort', onStopping, { once: true });
    if (stopping.signal.aborted) onStopping();
    if (!workers.inTouch()) onStopping();
    if (claimed.state.running?.interruptRequested) stop.abort('interrupt' satisfies StopReason);
    try {
      await runTurn(claimed, options, stop.signal);
    } finally {
      stopping.signal.removeEventListener('abort', onStopping);
      held.delete(conversationId);
    }
    return true;
  }

  function claimable(
    conversationId: string,
    state: ConversationState,
  ): { turn: WaitingTurn; takeOverFrom: string | null } | null {
    const { running, waiting } = state;
    if (running === null) return waiting[0] === undefined ? null : { turn: waiting[0], takeOverFrom: null };
    if (running.worker === null) return { turn: running, takeOverFrom: null };
    // This worker's own: a turn that it dropped on an unexpected error, as it runs one at a time here.
    if (running.worker === worker || !workers.isAlive(running.worker)) {
      return { turn: running, takeOverFrom: running.worker };
    }
    if (running.interruptRequested) {
      // Whoever read the request may have ended before the worker was told.
      signals.publish({ kind: 'interrupt', conversationId, turnId: running.turnId });
    }
    const others = heldByOthers.get(running.worker);
    if (others === undefined) heldByOthers.set(running.worker, new Set([conversationId]));
    else others.add(conversationId);
    return null;
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

  async function follow(partition: Partition, after: Position, signal: AbortSignal): Promise<void> {
    const types = [...wakingEvents, 'InterruptRequested'];
    const filter = { streamPrefix: `${conversation.category}-`, types };
    signal.addEventListener('abort', tellRoom, { once: true });
    for await (const page of partition.subscribe({ after, filter, signal })) {
      page.events.forEach(react);
      while (active.size >= MAX_WAITING && !signal.aborted) {
        roomMade ??= Promise.withResolvers();
        await roomMade.promise;
      }
    }
    if (!signal.aborted) throw new Error('The subscription of the log ended.');
  }

  function react(event: EventEnvelope): void {
    const conversationId = event.stream.slice(conversation.category.length + 1);
    if (event.type !== 'InterruptRequested') {
      for (const conversations of heldByOthers.values()) conversations.delete(conversationId);
      wake(conversationId);
      return;
    }
    const { turnId } = event.data as { turnId: string };
    // A turn that began before the partition moved here runs elsewhere.
    if (held.get(conversationId)?.turnId === turnId) interrupt(conversationId, turnId);
    else signals.publish({ kind: 'interrupt', conversationId, turnId });
  }

  /** What had not ended when this worker was given the partition. */
  async function resume(partition: Partition, from: Position, signal: AbortSignal): Promise<void> {
    // Turns asked for after `from` are seen by `follow`.
    await options.reached(from, signal);
    let cursor: string | null = null;
    do {
      if (signal.aborted) return;
      const page: Awaited<ReturnType<typeof readModels.find<TurnDocument>>> =
        await readModels.find<TurnDocument>('turns', {
          where: { status: ['queued', 'running'] },
          limit: 500,
          ...(cursor !== null && { cursor }),
        });
      for (const { body } of page.documents) if (partition.holds(body.owner)) wake(body.conversationId);
      cursor = page.next;
    } while (cursor !== null);
  }

  async function lookAfterPartition(partition: Partition): Promise<void> {
    const ending = new AbortController();
    const signal = AbortSignal.any([partition.signal, ending.signal]);
    partitions.set(partition.number, partition);
    let parts: Promise<void>[] = [];
    try {
      const head = await store.head();
      parts = [follow(partition, head, signal), resume(partition, head, signal)];
      await Promise.all(parts);
    } catch (error) {
      // Begun again by the bus, with a look at all that is open.
      if (!signal.aborted) onError(error, {});
    } finally {
      ending.abort();
      await Promise.allSettled(parts);
      partitions.delete(partition.number);
    }
  }

  const consumer: Consumer = await events.consume('turns', lookAfterPartition);

  return {
    running: () => held.size,
    async stop() {
      stopping.abort();
      unsubscribe();
      await Promise.all([consumer.stop(), ...work]);
      workers.stop();
    },
  };
}
