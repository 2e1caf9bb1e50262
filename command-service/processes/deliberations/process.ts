/** The process of the Council: follows the log for deliberations that were opened, and carries each to its end. */
import type { DeliberationDocument } from '../../../contracts/read-models/documents.ts';
import { claimDeliberation, type DeliberationState, deliberation } from '../../domain/deliberation.ts';
import { startWork, type WorkDependencies, type WorkItem, type WorkProcess } from '../work.ts';
import { carryOn, type DeliberationDependencies } from './carry-on.ts';

/** So many run at the same time; the others wait. */
const DEFAULT_CONCURRENCY = 32;

export interface DeliberationProcessOptions extends DeliberationDependencies, WorkDependencies {
  readonly concurrency?: number;
}

function nextWork(deliberationId: string, state: DeliberationState): WorkItem | null {
  if (state.status !== 'open') return null;
  const { worker, stopRequested, requestId, correlationId, surface } = state;
  return { workId: deliberationId, worker, stopRequested, requestId, correlationId, surface };
}

export function startDeliberationProcess(options: DeliberationProcessOptions): Promise<WorkProcess> {
  const { bus, concurrency = DEFAULT_CONCURRENCY } = options;
  return startWork<DeliberationState, WorkItem>(
    {
      group: 'deliberations',
      aggregate: deliberation,
      wakingEvents: ['DeliberationOpened', 'DeliberationReleased'],
      stopEvents: {
        DeliberationStopRequested: ({ stream }) => stream.slice(`${deliberation.category}-`.length),
      },
      open: {
        collection: 'deliberations',
        where: { status: ['queued', 'running', 'paused'] },
        idOf: (document: DeliberationDocument) => document.id,
      },
      next: (state) => nextWork(state.id, state),
      async claim({ id, worker, takeOverFrom, meta }) {
        const input = { deliberationId: id, worker, takeOverFrom };
        return (await bus.dispatch(claimDeliberation, input, meta)).state;
      },
      run: ({ id, worker, state }, stop) => carryOn({ deliberationId: id, worker, state }, options, stop),
      limits: () => [{ key: 'deliberations', atOnce: concurrency }],
    },
    options,
  );
}
