/** An engine ends under a deployment of several processes, and is started again. */
import { expect } from 'chai';
import { addresses, begunAnswer, known, type Outage, outlasts, withCluster } from './engine-outage.ts';
import { describeWithEngines } from './engines/availability.ts';

const kafka: Outage = {
  engine: 'Kafka is gone',
  address: addresses.kafka,
  begin: ({ cluster }) => cluster.kafka.kill(),
  end: ({ cluster }) => cluster.kafka.restart(),
};
const database: Outage = {
  engine: 'MongoDB is gone',
  address: addresses.database,
  begin: ({ cluster }) => cluster.database.kill(),
  end: ({ cluster }) => cluster.database.restart(),
};
const eventStore: Outage = {
  engine: 'EventStoreDB is gone',
  address: addresses.eventStore,
  begin: ({ eventStore }) => eventStore.refuse(),
  end: ({ eventStore }) => eventStore.accept(),
};

describeWithEngines(['kafka', 'ferretdb'], 'an engine that ends', function (this: Mocha.Suite) {
  this.timeout(90_000);
  const fixture = withCluster();

  for (const outage of [kafka, database, eventStore]) outlasts(outage, fixture);

  it('does not keep any process from ending in time', async () => {
    const { cluster } = fixture();
    await begunAnswer(fixture(), 'cut off');
    await kafka.begin(fixture());
    await known(fixture(), kafka);
    const took = await Promise.all(
      cluster.nodes.map(async ({ name, program }) => {
        const since = performance.now();
        const ending = await program.kill('SIGTERM');
        expect(ending, `${name}\n${program.stderr}`).to.deep.equal({ code: 0, signal: null });
        return [name, Math.round(performance.now() - since)] as const;
      }),
    );
    console.log(`without Kafka ended after: ${took.map(([name, ms]) => `${name} ${ms} ms`).join(', ')}`);
    for (const [name, ms] of took) expect(ms, name).to.be.below(5_000);
  });
});
