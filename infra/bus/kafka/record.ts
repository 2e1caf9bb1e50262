/**
 * The records of the topic `<prefix>.events`: the log, for Odeon's own processes and for whoever else wants it.
 *
 * An event:
 *
 * | part              | content                                                                              |
 * |-------------------|--------------------------------------------------------------------------------------|
 * | key               | the owner of the event, UTF-8                                                        |
 * | partition         | murmur2 of the key, as Kafka's default partitioner does it                           |
 * | value             | the envelope (contracts/envelope.ts) as JSON: id, type, schemaVersion, stream,       |
 * |                   | revision, position, time, owner, actor, correlationId, causationId, commandId,       |
 * |                   | surface, data                                                                        |
 * | header `type`     | the event's type                                                                     |
 * | header `position` | its position in the log, an opaque token (see `comparePositions`)                    |
 * | header `owner`    | the key again                                                                        |
 * | header `schemaVersion` | the version of the type's schema that `data` has, in decimal                    |
 * | header `after`    | the position up to which the partition was complete before this record: between      |
 * |                   | `after` and `position` the log holds no event of this partition                      |
 *
 * A progress record has no key, an empty value, `type` `$progress`, and `position` and `after`: there is no event of
 * this partition in (after, position]. The relay writes one into every partition that its batch ends without an
 * event for. Types that begin with `$` are not events: skip them.
 *
 * Records are written in transactions. Read with `isolation.level=read_committed`: then each event is there once,
 * and in each partition in the order of the log. `after` of a record is `position` of the record before it in the
 * partition; the first one's is `0`. What begins again with a lower `after` was relayed again, into a topic that
 * had lost it: skip what is not beyond the last position seen.
 */
import type { EventEnvelope, Position } from '../../../contracts/envelope.ts';
import { position } from '../../../contracts/envelope.ts';
import type { IHeaders, KafkaMessage, Message } from './client.ts';

/** In which of so many partitions the events of an owner are. */
export function partitionOf(owner: string, partitions: number): number {
  return (murmur2(Buffer.from(owner)) & 0x7fffffff) % partitions;
}

export type EventRecord =
  | { readonly event: EventEnvelope; readonly position: Position; readonly after: Position }
  /** Progress. */
  | { readonly event: null; readonly position: Position; readonly after: Position };

const PROGRESS = '$progress';

/** @param after up to where the partition is complete without it */
export function eventMessage(event: EventEnvelope, partition: number, after: Position): Message {
  return {
    key: event.owner,
    partition,
    value: Buffer.from(JSON.stringify(event)),
    headers: {
      type: event.type,
      position: event.position,
      owner: event.owner,
      schemaVersion: String(event.schemaVersion),
      after,
    },
  };
}

export function progressMessage(partition: number, upTo: Position, after: Position): Message {
  return { key: null, partition, value: '', headers: { type: PROGRESS, position: upTo, after } };
}

/**
 * @returns null when it is of a kind that is no event (its `type` begins with `$`) and no progress
 * @throws Error when it is not a record as described here
 */
export function readRecord(message: KafkaMessage): EventRecord | null {
  const type = header(message, 'type');
  if (type.startsWith('$') && type !== PROGRESS) return null;
  const at = {
    position: position.parse(header(message, 'position')),
    after: position.parse(header(message, 'after')),
  };
  if (type === PROGRESS) return { event: null, ...at };
  const event: EventEnvelope = JSON.parse(message.value?.toString() ?? 'null');
  if (event?.position !== at.position || event.type !== type || typeof event.owner !== 'string') {
    throw new Error(`The record at offset ${message.offset} does not hold the event that its headers name.`);
  }
  return { event, ...at };
}

function header({ headers = {}, offset }: KafkaMessage, name: keyof IHeaders & string): string {
  const value = headers[name];
  if (value === undefined || Array.isArray(value)) {
    throw new Error(`The record at offset ${offset} has no header ${name}.`);
  }
  return value.toString();
}

/** MurmurHash2, 32 bits, with the seed that Kafka's clients use. */
function murmur2(data: Buffer): number {
  const M = 0x5bd1e995;
  const whole = data.length & ~3;
  let h = 0x9747b28c ^ data.length;
  for (let i = 0; i < whole; i += 4) {
    let k = Math.imul(data.readInt32LE(i), M);
    k = Math.imul(k ^ (k >>> 24), M);
    h = Math.imul(h, M) ^ k;
  }
  const rest = data.length - whole;
  if (rest > 2) h ^= data[whole + 2]! << 16;
  if (rest > 1) h ^= data[whole + 1]! << 8;
  if (rest > 0) h = Math.imul(h ^ data[whole]!, M);
  h = Math.imul(h ^ (h >>> 13), M);
  return h ^ (h >>> 15);
}
