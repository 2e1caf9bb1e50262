/** The orchestration process: follows the log for orchestrations and carries each to its end. */
import type { OrchestrationDocument } from '../../../contracts/read-models/documents.ts';
import { claimOrchestration, type OrchestrationState, orchestration } from '../../domain/orchestration.ts';
import { startWork, type WorkDependencies, type WorkItem, type WorkProcess } from '../work.ts';
import { carryOn, type OrchestrationDependencies } from './carry-on.ts';

/** The one piece of work in an orchestration's stream. */
const WHOLE = 'orchestration';
/** They mostly wait: what they wait for has limits of its own. */
const CONCURRENCY = 1_000;

export type OrchestrationProcessOptions = OrchestrationDependencies & WorkDependencies;

function next({ status, request, worker, cancelRequested }: OrchestrationState): WorkItem | null {
  if (request === null || status === 'ended') return null;
  const { requestId, correlationId, surface } = request;
  return { workId: WHOLE, requestId, correlationId, surface, worker, stopRequested: cancelRequested };
}

export function startOrchestrationProcess(options: OrchestrationProcessOptions): Promise<WorkProcess> {
  const { bus } = options;
  return startWork<OrchestrationState, WorkItem>(
    {
      group: 'orchestrations',
      aggregate: orchestration,
      wakingEvents: ['OrchestrationRequested', 'OrchestrationReleased'],
      stopEvents: { OrchestrationCancelRequested: () => WHOLE },
      open: {
        collection: 'orchestrations',
        where: { status: ['pending', 'running'] },
        idOf: (document: OrchestrationDocument) => document.id,
      },
      next,
      async claim({ id, worker, takeOverFrom, meta }) {
        return (await bus.dispatch(claimOrchestration, { orchestrationId: id, worker, takeOverFrom }, meta))
          .state;
      },
      run: (held, stop) => carryOn(held, options, stop),
      limits: () => [{ key: 'orchestrations', atOnce: CONCURRENCY }],
    },
    options,
  );
}
