import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { openSqliteEventStore } from '../event-store/sqlite.ts';
import { eventBusConformance } from './events-conformance.ts';
import { createInProcessEventBus } from './in-process-events.ts';

eventBusConformance('in-process', async () => {
  const directory = await mkdtemp(join(tmpdir(), 'odeon-bus-'));
  const store = await openSqliteEventStore({ directory });
  return {
    store,
    openBus: (onError) => createInProcessEventBus({ store, onError }),
    async close() {
      await store.close();
      await rm(directory, { recursive: true });
    },
  };
});
