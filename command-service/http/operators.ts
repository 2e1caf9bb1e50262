/** What operators do to projections. Each request is recorded before it is carried out. */
import { refuse } from '../../contracts/errors.ts';
import * as operators from '../../contracts/http/operators.ts';
import type { ProjectionRuntime } from '../../contracts/projections.ts';
import { type Endpoint, endpoint, type RequestContext } from '../../infra/http/port.ts';
import type { CommandBus } from '../command.ts';
import { requestRebuild, requestRetry } from '../domain/projection.ts';
import { requestMeta } from './conversations.ts';

export interface OperatorCommandDependencies {
  readonly bus: CommandBus;
  readonly projections: Pick<ProjectionRuntime, 'status' | 'rebuild' | 'retry'>;
}

export function operatorCommandEndpoints({ bus, projections }: OperatorCommandDependencies): Endpoint[] {
  const record = async (command: typeof requestRebuild, name: string, context: RequestContext) => {
    const known = await projections.status();
    if (!known.some((one) => one.name === name)) refuse('NOT_FOUND', 'Projection not found.');
    const { position } = await bus.dispatch(command, { projection: name }, requestMeta(context));
    if (position !== null) context.reached(position);
  };
  return [
    endpoint(operators.rebuildProjection, async ({ params: { name }, context }) => {
      await record(requestRebuild, name, context);
      await projections.rebuild(name);
      return { status: 202, body: { projection: name, status: 'rebuilding' } };
    }),

    endpoint(operators.retryFailures, async ({ params: { name }, context }) => {
      await record(requestRetry, name, context);
      return { status: 200, body: await projections.retry(name) };
    }),
  ];
}
