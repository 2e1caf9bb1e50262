/** What operators ask of a projection, on record: who asked, and when. */
import { z } from 'zod';
import { SYSTEM_OWNER } from '../../contracts/envelope.ts';
import type { Aggregate, Command } from '../command.ts';

type ProjectionEventType = 'ProjectionRebuildRequested' | 'ProjectionRetryRequested';

/** Every request stands for itself: there is nothing to remember. */
const projection: Aggregate<null, ProjectionEventType> = {
  category: 'projection',
  initial: null,
  evolve: (state) => state,
  stateVersion: 1,
};

const input = z.strictObject({ projection: z.string() });

const request = (
  name: string,
  type: ProjectionEventType,
): Command<z.infer<typeof input>, null, ProjectionEventType> => ({
  name,
  aggregate: projection,
  schema: input,
  id: (wanted) => wanted.projection,
  owner: () => SYSTEM_OWNER,
  decide: (data) => [{ type, data }],
});

export const requestRebuild = request('RequestRebuild', 'ProjectionRebuildRequested');
export const requestRetry = request('RequestRetry', 'ProjectionRetryRequested');
