/** What every event store adapter refuses before it does anything: input that no log could hold or serve. */
import { type NewEvent, type Position, position } from '../../contracts/envelope.ts';
import { EventIdConflict, type ExpectedRevision, type Imported } from './port.ts';

const MAX_NAME_LENGTH = 255;

/** @throws RangeError naming what is wrong with the batch, EventIdConflict when it names an id twice. */
export function checkAppend(stream: string, events: readonly NewEvent[], expected: ExpectedRevision): void {
  checkName('stream', stream);
  checkExpectedRevision(expected);
  if (events.length === 0) throw new RangeError(`Stream ${stream}: an empty batch cannot be appended`);
  const ids = new Set<string>();
  for (const event of events) {
    if (events.length > 1 && ids.has(event.id)) throw new EventIdConflict(stream, event.id);
    ids.add(event.id);
    checkName('event id', event.id);
    checkName('event type', event.type);
    checkName('owner', event.owner);
    checkName('correlationId', event.correlationId);
    if (!Number.isSafeInteger(event.schemaVersion) || event.schemaVersion < 1) {
      throw new RangeError(`schemaVersion must be a whole number from 1, not ${event.schemaVersion}`);
    }
  }
}

/** @throws RangeError when there is not one time, as envelopes say it, for each event, in order. */
export function checkImported(events: readonly NewEvent[], { times }: Imported): void {
  if (times.length !== events.length) {
    throw new RangeError(`${events.length} events cannot be imported with ${times.length} times`);
  }
  for (const [i, time] of times.entries()) {
    if (!isLogTime(time)) {
      throw new RangeError(`not a time as the log has them (UTC, milliseconds): ${JSON.stringify(time)}`);
    }
    if (i > 0 && time < times[i - 1]!) {
      throw new RangeError(`times must not go back: ${time} after ${times[i - 1]}`);
    }
  }
}

/** Whether it is a time as envelopes have them: UTC, milliseconds. */
export function isLogTime(time: string): boolean {
  const ms = Date.parse(time);
  return !Number.isNaN(ms) && new Date(ms).toISOString() === time;
}

/** Names are compared and sorted by databases, so they must survive the way there and back unchanged. */
export function checkName(what: string, name: string): void {
  if (
    typeof name !== 'string' ||
    name.length === 0 ||
    name.length > MAX_NAME_LENGTH ||
    !name.isWellFormed() ||
    name.includes('\0')
  ) {
    throw new RangeError(
      `${what} must be 1 to ${MAX_NAME_LENGTH} well-formed characters, not ${JSON.stringify(name)}`,
    );
  }
}

function checkExpectedRevision(expected: ExpectedRevision): void {
  if (expected === 'any' || expected === 'exists' || expected === 'no stream') return;
  if (!Number.isSafeInteger(expected) || expected < 0) {
    throw new RangeError(
      `expectedRevision must be 'no stream', 'exists', 'any' or a whole number from 0, not ${expected}`,
    );
  }
}

/** `value` itself, checked. @throws RangeError when it is not a whole number from 0. */
export function checkCount(what: string, value: number): number {
  if (!Number.isSafeInteger(value) || value < 0) {
    throw new RangeError(`${what} must be a whole number from 0, not ${value}`);
  }
  return value;
}

/** `value` itself, checked. @throws RangeError when it is not a position. */
export function checkPosition(value: Position): Position {
  const checked = position.safeParse(value);
  if (!checked.success) throw new RangeError(`Not a position: ${JSON.stringify(value)}`);
  return value;
}

const RFC_3339 = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)$/i;

/** Milliseconds since the epoch. @throws RangeError when it is not an RFC 3339 time. */
export function parseTime(time: string): number {
  const milliseconds = RFC_3339.test(time) ? Date.parse(time) : Number.NaN;
  if (Number.isNaN(milliseconds)) throw new RangeError(`Not an RFC 3339 time: ${JSON.stringify(time)}`);
  return milliseconds;
}
