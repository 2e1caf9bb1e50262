import { randomUUID } from 'node:crypto';
import { expect } from 'chai';
import { describeWithEngines, FIRST_START_MS } from '../../../test/engines/availability.ts';
import { type KafkaBroker, startKafka } from '../../../test/engines/kafka.ts';
import { type Admin, ConfigResourceTypes, createKafka, type Kafka } from './client.ts';
import { ensureTopics } from './topics.ts';

describeWithEngines(['kafka'], 'the topics', () => {
  let broker: KafkaBroker;
  let kafka: Kafka;
  let admin: Admin;
  let prefix: string;
  let warnings: string[];
  before(async function () {
    this.timeout(FIRST_START_MS);
    broker = await startKafka();
    kafka = createKafka({ brokers: [broker.brokers], clientId: 'test' });
    admin = kafka.admin();
    await admin.connect();
  });
  after(async () => {
    await admin?.disconnect();
    await broker?.stop();
  });
  beforeEach(() => {
    prefix = `test.${randomUUID()}`;
    warnings = [];
  });

  const onWarning = (message: string) => warnings.push(message);
  const ensure = (partitions: number, replicationFactor?: number) =>
    ensureTopics({ kafka, prefix, partitions, replicationFactor, onWarning });
  const failure = (work: Promise<unknown>): Promise<Error> =>
    work.then(
      () => expect.fail('It did not fail.'),
      (error) => error,
    );

  it('are made once, as configured, by several processes that start at once', async () => {
    const made = await Promise.all([ensure(5), ensure(5), ensure(5)]);
    const topics = { events: `${prefix}.events`, signals: `${prefix}.signals` };
    expect(made).to.deep.equal([topics, topics, topics]);
    const { topics: found } = await admin.fetchTopicMetadata({ topics: [topics.events, topics.signals] });
    const counts = found.map(({ name, partitions }) => [name, partitions.length]);
    expect(counts).to.have.deep.members([
      [topics.events, 5],
      [topics.signals, 3],
    ]);
    const { resources } = await admin.describeConfigs({
      includeSynonyms: false,
      resources: Object.values(topics).map((name) => ({ type: ConfigResourceTypes.TOPIC, name })),
    });
    const wanted = ['cleanup.policy', 'retention.ms', 'segment.ms', 'max.message.bytes'];
    const settings = resources.map(({ configEntries }) =>
      wanted.map((name) => configEntries.find(({ configName }) => configName === name)?.configValue),
    );
    expect(settings).to.deep.equal([
      ['delete', '-1', '604800000', '16777216'],
      ['delete', '600000', '60000', '1048588'],
    ]);
    expect(warnings).to.deep.equal([]);
  });

  it('are left as they are when they exist', async () => {
    await ensure(2, 1);
    await ensure(2, 1);
    expect(warnings).to.deep.equal([]);
  });

  it('are refused with another number of partitions for events than configured', async () => {
    await ensure(2);
    const error = await failure(ensure(3));
    expect(error.message).to.match(/\.events has 2 partitions, and 3 are configured\..*KAFKA_PARTITIONS/);
  });

  it('are refused when the brokers cannot keep as many copies as configured', async () => {
    const error = await failure(ensure(2, 3));
    expect(error.message).to.match(/^Kafka does not make the topic test\..*\.events: .*[Rr]eplication/);
    expect(await admin.listTopics()).to.not.include(`${prefix}.events`);
  });

  it('are used with a warning when they were made otherwise', async () => {
    await admin.createTopics({
      topics: [
        {
          topic: `${prefix}.events`,
          numPartitions: 2,
          configEntries: [
            { name: 'cleanup.policy', value: 'compact' },
            { name: 'retention.ms', value: '-1' },
          ],
        },
        { topic: `${prefix}.signals`, numPartitions: 7 },
      ],
    });
    await ensure(2, 2);
    expect(warnings.map((warning) => warning.replaceAll(prefix, 'p'))).to.have.members([
      'The topic p.events has 1 copies of each partition, and 2 are configured.',
      'The topic p.signals has 1 copies of each partition, and 2 are configured.',
      'The topic p.events has cleanup.policy=compact; Odeon makes it with delete.',
      'The topic p.events has max.message.bytes=1048588; Odeon makes it with 16777216.',
      'The topic p.signals has retention.ms=604800000; Odeon makes it with 600000.',
      'The topic p.signals has segment.ms=604800000; Odeon makes it with 60000.',
    ]);
  });
});
