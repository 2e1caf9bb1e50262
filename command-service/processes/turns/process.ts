/** The turn process: follows the log for requested turns and carries each to its end, one at a time in a conversation. */
import type { TurnDocument } from '../../../contracts/read-models/documents.ts';
import {
  type ConversationState,
  claimTurn,
  conversation,
  type WaitingTurn,
} from '../../domain/conversation.ts';
import { startWork, type WorkDependencies, type WorkItem, type WorkProcess } from '../work.ts';
import { runTurn, type TurnDependencies } from './turn.ts';

/** So many turns run at the same time; the others wait. */
const DEFAULT_CONCURRENCY = 64;

export interface TurnProcessOptions extends TurnDependencies, WorkDependencies {
  readonly concurrency?: number;
}

interface TurnItem extends WorkItem, Pick<WaitingTurn, 'agent'> {}

const itemOf = (turn: WaitingTurn, worker: string | null, stopRequested: boolean): TurnItem => {
  const { turnId, requestId, correlationId, surface, agent } = turn;
  return { workId: turnId, requestId, correlationId, surface, agent, worker, stopRequested };
};

function nextTurn({ running, waiting }: ConversationState): TurnItem | null {
  if (running !== null) return itemOf(running, running.worker, running.interruptRequested);
  return waiting[0] === undefined ? null : itemOf(waiting[0], null, false);
}

export function startTurnProcess(options: TurnProcessOptions): Promise<WorkProcess> {
  const { bus, concurrency = DEFAULT_CONCURRENCY } = options;
  return startWork<ConversationState, TurnItem>(
    {
      group: 'turns',
      aggregate: conversation,
      wakingEvents: ['MessageSent', 'TurnReleased', 'TurnCompleted', 'TurnInterrupted', 'TurnFailed'],
      stopEvents: { InterruptRequested: ({ data }) => data.turnId },
      open: {
        collection: 'turns',
        where: { status: ['queued', 'running'] },
        idOf: (turn: TurnDocument) => turn.conversationId,
      },
      next: nextTurn,
      async claim({ id, item, worker, takeOverFrom, meta }) {
        const input = { conversationId: id, turnId: item.workId, worker, takeOverFrom };
        return (await bus.dispatch(claimTurn, input, meta)).state;
      },
      run({ id, workId, worker, state, lend }, stop) {
        const { attempt } = state.running!;
        return runTurn({ conversationId: id, turnId: workId, worker, attempt, state, lend }, options, stop);
      },
      limits: ({ agent }) => [
        { key: 'turns', atOnce: concurrency },
        ...(agent === null ? [] : [{ key: `runs of ${agent.id}`, atOnce: agent.atOnce }]),
      ],
    },
    options,
  );
}
