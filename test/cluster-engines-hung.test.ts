/** An engine stands still under a deployment of several processes: connections stay open, and nothing answers. */
import { addresses, type Outage, outlasts, withCluster } from './engine-outage.ts';
import { describeWithEngines } from './engines/availability.ts';

const outages: readonly Outage[] = [
  {
    engine: 'Kafka stands still',
    address: addresses.kafka,
    begin: ({ cluster }) => cluster.kafka.suspend(),
    end: ({ cluster }) => cluster.kafka.resume(),
  },
  {
    engine: 'MongoDB stands still',
    address: addresses.database,
    begin: ({ cluster }) => cluster.database.suspend(),
    end: ({ cluster }) => cluster.database.resume(),
  },
  {
    engine: 'EventStoreDB stands still',
    address: addresses.eventStore,
    begin: ({ eventStore }) => eventStore.hold(true),
    end: ({ eventStore }) => eventStore.hold(false),
  },
];

describeWithEngines(['kafka', 'ferretdb'], 'an engine that stands still', function (this: Mocha.Suite) {
  this.timeout(120_000);
  const fixture = withCluster();
  for (const outage of outages) outlasts(outage, fixture);
});
