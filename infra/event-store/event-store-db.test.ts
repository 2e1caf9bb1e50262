/** EventStoreDB as the event store, against a server that speaks its protocol (see test/engines). */
import { type EventStoreServer, startEventStoreServer } from '../../test/engines/event-store-server.ts';
import { eventStoreConformance } from './conformance.ts';
import { openEventStoreDb } from './event-store-db.ts';

eventStoreConformance(
  'EventStoreDB',
  async () => {
    const server: EventStoreServer = await startEventStoreServer();
    const store = await openEventStoreDb({ url: server.url, onAvailability() {} });
    return {
      store,
      async cleanUp() {
        await store.close();
        await server.stop();
      },
    };
  },
  { capabilities: { 'ids unique across streams': false } },
);
