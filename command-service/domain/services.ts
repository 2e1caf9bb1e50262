/** What operators ask of the services of a process, on record: who asked, and when. */
import { z } from 'zod';
import { SYSTEM_OWNER } from '../../contracts/envelope.ts';
import type { Aggregate, Command } from '../command.ts';

type ServicesEventType = 'ServicesStartRequested' | 'ServicesStopRequested';

/** Every request stands for itself: after a start of the process all its services run. */
const services: Aggregate<null, ServicesEventType> = {
  category: 'services',
  initial: null,
  evolve: (state) => state,
  stateVersion: 1,
};

const input = z.strictObject({ process: z.string(), services: z.array(z.string()).min(1) });

const request = (
  name: string,
  type: ServicesEventType,
): Command<z.infer<typeof input>, null, ServicesEventType> => ({
  name,
  aggregate: services,
  schema: input,
  id: (wanted) => wanted.process,
  owner: () => SYSTEM_OWNER,
  decide: (data) => [{ type, data }],
});

export const requestStart = request('RequestStart', 'ServicesStartRequested');
export const requestStop = request('RequestStop', 'ServicesStopRequested');
