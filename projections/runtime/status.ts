/** How the projections are doing, for operators: measured against the log itself. */
import { isAfter, type Position, START } from '../../contracts/envelope.ts';
import type { ProjectionStatus } from '../../contracts/projections.ts';
import type { EventStore } from '../../infra/event-store/port.ts';
import { fedCopy, type Running, readerPosition } from './running.ts';

export function statusReporter(store: EventStore) {
  /** The log never changes before a position: counted once, only what came since is counted again. */
  const counted = new Map<string, { upTo: Position; events: number }>();

  async function expected(name: string, types: readonly string[], upTo: Position): Promise<number> {
    if (types.length === 0) return 0;
    const known = counted.get(name) ?? { upTo: START, events: 0 };
    const from = isAfter(known.upTo, upTo) ? { upTo: START, events: 0 } : known; // a rebuild begins anew
    const events = from.events + (await store.count({ after: from.upTo, upTo, filter: { types } }));
    counted.set(name, { upTo, events });
    return events;
  }

  return async (
    one: Running,
    { stopped, caughtUp }: { stopped: boolean; caughtUp: boolean },
  ): Promise<ProjectionStatus> => {
    const { projection, outdated, rebuild } = one;
    // Taken before the first await, so that they belong together.
    const fed = fedCopy(one);
    const { position: fedPosition, seen } = fed.checkpoint;
    const { failed, waiting, problem } = fed;
    const position = readerPosition(one);
    const version = outdated?.version ?? projection.version;
    const filling = rebuild && {
      position: rebuild.checkpoint.position,
      failed: rebuild.failed,
      waiting: rebuild.waiting,
    };

    const lag = await store.count({ after: position });
    const expectedEvents = await expected(projection.name, fed.types, fedPosition);
    return {
      name: projection.name,
      version,
      state: stopped ? 'stopped' : filling ? 'rebuilding' : caughtUp || lag === 0 ? 'live' : 'catching up',
      position,
      lag,
      seen,
      expected: expectedEvents,
      complete: seen === expectedEvents,
      failed,
      waiting,
      problem,
      rebuild: filling && {
        ...filling,
        version: projection.version,
        lag: await store.count({ after: filling.position }),
      },
    };
  };
}
