/** The log as the runtime of one partition sees it. */
import type { Partition } from '../../infra/bus/port.ts';
import type { EventStore } from '../../infra/event-store/port.ts';

/** The same store, but what follows the log gets the partition's events only. */
export const partOf = (store: EventStore, partition: Partition): EventStore => ({
  ...store,
  subscribe: (options) => partition.subscribe(options),
  async *readAll(options) {
    for await (const page of store.readAll(options)) {
      yield { ...page, events: page.events.filter((event) => partition.holds(event.owner)) };
    }
  },
});
