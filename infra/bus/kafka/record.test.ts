import { expect } from 'chai';
import fc from 'fast-check';
import { Partitioners } from 'kafkajs';
import type { EventEnvelope } from '../../../contracts/envelope.ts';
import type { KafkaMessage, Message } from './client.ts';
import { eventMessage, partitionOf, progressMessage, readRecord } from './record.ts';

const event: EventEnvelope = {
  id: '6f1c1f6e-5a1d-4b59-9d0e-2f7f0e7b7a01',
  type: 'MessageSent',
  schemaVersion: 2,
  stream: 'conversation-1',
  revision: 3,
  position: '17-4',
  time: '2026-11-22T10:00:00.000Z',
  owner: 'ada',
  actor: { kind: 'user', id: 'ada' },
  correlationId: 'c',
  causationId: null,
  commandId: 'd',
  surface: 'odeon',
  data: { text: 'ä €' },
};

/** As a consumer is given it. */
const received = ({ key = null, value, headers = {} }: Message): KafkaMessage => ({
  key: key === null ? null : Buffer.from(key),
  value: value === null ? null : Buffer.from(value),
  headers: Object.fromEntries(
    Object.entries(headers).map(([name, text]) => [name, Buffer.from(text as string)]),
  ),
  offset: '9',
  timestamp: '0',
  attributes: 0,
});

describe('a record of the events topic', () => {
  it('holds the event, and says in its headers what it is and up to where the partition was complete', () => {
    const message = eventMessage(event, 4, '12');
    expect(message).to.include({ key: 'ada', partition: 4 });
    expect(JSON.parse(String(message.value))).to.deep.equal(event);
    expect(message.headers).to.deep.equal({
      type: 'MessageSent',
      position: '17-4',
      owner: 'ada',
      schemaVersion: '2',
      after: '12',
    });
    expect(readRecord(received(message))).to.deep.equal({ event, position: '17-4', after: '12' });
  });

  it('may say only how far its partition is', () => {
    const message = progressMessage(4, '20', '17-4');
    expect(message).to.include({ key: null, partition: 4, value: '' });
    expect(readRecord(received(message))).to.deep.equal({ event: null, position: '20', after: '17-4' });
  });

  it('is skipped when it is of a kind that is not known yet', () => {
    expect(readRecord(received({ value: 'x', headers: { type: '$other' } }))).to.equal(null);
  });

  it('is refused when it is none of ours', () => {
    const message = eventMessage(event, 4, '12');
    const wrong: [Partial<Message>, string][] = [
      [{ headers: {} }, 'header type'],
      [{ headers: { type: 'MessageSent', position: 'x', after: '1' } }, 'position'],
      [{ value: null }, 'does not hold the event'],
      [{ value: '{}' }, 'does not hold the event'],
      [{ value: '{' }, 'JSON'],
      [{ headers: { ...message.headers, position: '18' } }, 'does not hold the event'],
    ];
    for (const [part, problem] of wrong) {
      expect(() => readRecord(received({ ...message, ...part }))).to.throw(problem);
    }
  });
});

describe('the partition of an owner', () => {
  it("is the one that Kafka's default partitioner gives the key", () => {
    const ofKafka = Partitioners.DefaultPartitioner();
    fc.assert(
      fc.property(
        fc.oneof(fc.string(), fc.string({ unit: 'binary' }), fc.uuid()).filter((owner) => owner !== ''),
        fc.integer({ min: 1, max: 64 }),
        (owner, partitions) => {
          const partitionMetadata = Array.from({ length: partitions }, (_, partitionId) => ({
            partitionId,
            partitionErrorCode: 0,
            leader: 1,
            replicas: [1],
            isr: [1],
          }));
          const message = { key: owner, value: '' };
          expect(partitionOf(owner, partitions)).to.equal(
            ofKafka({ topic: 't', partitionMetadata, message }),
          );
        },
      ),
    );
  });
});
