import { once } from 'node:events';
import net from 'node:net';
import { expect } from 'chai';
import { describeWithEngines, FIRST_START_MS } from '../../../test/engines/availability.ts';
import { type KafkaBroker, startKafka } from '../../../test/engines/kafka.ts';
import { availabilityOf } from './availability.ts';
import { createKafka, type KafkaLog } from './client.ts';

describe('a client of Kafka', () => {
  it('is refused addresses that are none', () => {
    for (const brokers of [[], ['localhost'], ['kafka://a:9092'], ['a:9092', 'b:']]) {
      expect(() => createKafka({ brokers, clientId: 'test' })).to.throw(RangeError);
    }
  });

  it('gives up soon where nobody listens, and tells what kafkajs says of it', async () => {
    const log: KafkaLog[] = [];
    const kafka = createKafka({
      brokers: ['127.0.0.1:1'],
      clientId: 'test',
      onLog: (entry) => log.push(entry),
    });
    const began = performance.now();
    for (const client of [kafka.producer(), kafka.admin(), kafka.reader('topic')]) {
      let refused: unknown;
      await client.connect().catch((error: unknown) => {
        refused = error;
      });
      expect(String(refused)).to.contain('ECONNREFUSED 127.0.0.1:1');
      await client.disconnect();
    }
    expect(performance.now() - began).to.be.lessThan(12_000);
    expect(log.map(({ level }) => level)).to.include('error');
    expect(log[0]!.message).to.contain('ECONNREFUSED');
  });

  it('is closed within seconds though the broker does not answer, and leaves no connection', async () => {
    const sockets = new Set<net.Socket>();
    const silent = net.createServer((socket) => {
      sockets.add(socket);
      socket.on('error', () => {}).on('close', () => sockets.delete(socket));
      socket.resume();
    });
    await once(silent.listen(0, '127.0.0.1'), 'listening');
    const { port } = silent.address() as net.AddressInfo;
    const producer = createKafka({ brokers: [`127.0.0.1:${port}`], clientId: 'test' }).producer();
    const connecting = producer.connect().catch(() => {});
    await once(silent, 'connection');
    const began = performance.now();
    await producer.disconnect();
    expect(performance.now() - began).to.be.lessThan(4_000);
    while (sockets.size > 0) await new Promise((resolve) => setTimeout(resolve, 5));
    await connecting;
    silent.close();
  });
});

describe('what is known of Kafka', () => {
  it('is the problem of any part, told when it changes', () => {
    const told: (string | null)[] = [];
    const part = availabilityOf(['a:1', 'b:2'], (problem) => told.push(problem));
    const [one, two] = [part(), part()];
    one(null);
    two(null);
    one(new Error('refused'));
    two(new Error('late'));
    one(new Error('refused'));
    one(null);
    two(null);
    two(null);
    expect(told).to.deep.equal([null, 'Kafka at a:1, b:2: refused', 'Kafka at a:1, b:2: late', null]);
  });
});

describeWithEngines(['kafka'], 'A client of a real Kafka', () => {
  let broker: KafkaBroker;
  const warnings: Error[] = [];
  const listen = (warning: Error) => warnings.push(warning);
  before(async function () {
    this.timeout(FIRST_START_MS);
    process.on('warning', listen); // from the start: Node warns of a kind once
    broker = await startKafka();
  });
  after(async () => {
    process.off('warning', listen);
    await broker.stop();
  });

  it('sets no timers of a negative time, which Node warns of', async () => {
    const admin = createKafka({ brokers: [broker.brokers], clientId: 'test' }).admin();
    await admin.connect();
    await admin.listTopics();
    await admin.disconnect();
    await new Promise((resolve) => setImmediate(resolve));
    expect(warnings).to.deep.equal([]);
  });
});
