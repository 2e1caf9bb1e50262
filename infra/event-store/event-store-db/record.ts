/**
 * How an event stands in EventStoreDB: data as JSON, and the rest of the envelope as JSON metadata, with the names
 * that its system projections know for correlation and causation. Its time is the server's, unless it was committed
 * in another log before: then that time is in the metadata.
 */
import {
  type Actor,
  actor,
  type EventEnvelope,
  type NewEvent,
  type Surface,
  surface,
} from '../../../contracts/envelope.ts';
import { isLogTime } from '../input.ts';
import { type LogPosition, tokenOf } from './log-position.ts';

/** A record as the client gives it. */
export interface LogRecord {
  readonly streamId: string;
  readonly id: string;
  readonly revision: bigint;
  readonly type: string;
  readonly isJson: boolean;
  readonly data: unknown;
  readonly metadata?: unknown;
  readonly created: Date;
  readonly position?: LogPosition | undefined;
}

/** An event as the client takes it. */
export interface ProposedEvent {
  readonly id: string;
  readonly contentType: 'application/json';
  readonly type: string;
  readonly data: unknown;
  readonly metadata: Readonly<Record<string, unknown>>;
}

const UUID = /^[\da-f]{8}-[\da-f]{4}-[\da-f]{4}-[\da-f]{4}-[\da-f]{12}$/;
const NIL = '00000000-0000-0000-0000-000000000000';

/** Streams and types of the server's own begin so. */
export const isSystemName = (name: string): boolean => name.startsWith('$');

/**
 * The events as they are now, whatever becomes of the objects given.
 * @param times when they were committed in the log that they come from
 * @throws RangeError when EventStoreDB cannot hold one of them
 */
export function proposed(events: readonly NewEvent[], times?: readonly string[]): ProposedEvent[] {
  return events.map((event, at) => {
    // The server gives ids back in lower case.
    if (!UUID.test(event.id) || event.id === NIL) {
      throw new RangeError(`event id must be a UUID in lower case, not ${JSON.stringify(event.id)}`);
    }
    if (isSystemName(event.type)) {
      throw new RangeError(`event type must not begin with $, as the server's own do: ${event.type}`);
    }
    return {
      id: event.id,
      contentType: 'application/json',
      type: event.type,
      data: snapshot(event),
      metadata: {
        $correlationId: event.correlationId,
        ...(event.causationId === null ? {} : { $causationId: event.causationId }),
        owner: event.owner,
        actor: { kind: event.actor.kind, id: event.actor.id },
        commandId: event.commandId,
        surface: event.surface,
        schemaVersion: event.schemaVersion,
        ...(times === undefined ? {} : { time: times[at] }),
      },
    };
  });
}

function snapshot(event: NewEvent): unknown {
  let text: string | undefined;
  try {
    text = JSON.stringify(event.data);
  } catch (error) {
    throw new RangeError(`data of ${event.type} cannot be written as JSON: ${(error as Error).message}`);
  }
  if (text === undefined) throw new RangeError(`data of ${event.type} cannot be written as JSON`);
  return JSON.parse(text);
}

/** The event that a record holds; null when it is the server's own or another application's. */
export function envelopeOf(record: LogRecord): EventEnvelope | null {
  if (isSystemName(record.streamId) || isSystemName(record.type) || !record.isJson) return null;
  const metadata = metadataOf(record.metadata);
  if (metadata === null) return null;
  if (record.position === undefined) throw new Error(`the server gave no position for event ${record.id}`);
  return {
    id: record.id,
    type: record.type,
    schemaVersion: metadata.schemaVersion,
    stream: record.streamId,
    revision: Number(record.revision),
    position: tokenOf(record.position),
    time: metadata.time ?? record.created.toISOString(),
    owner: metadata.owner,
    actor: metadata.actor,
    correlationId: metadata.$correlationId,
    causationId: metadata.$causationId ?? null,
    commandId: metadata.commandId,
    surface: metadata.surface,
    data: record.data,
  };
}

interface Metadata {
  readonly $correlationId: string;
  readonly $causationId?: string;
  readonly owner: string;
  readonly actor: Actor;
  readonly commandId: string;
  readonly surface: Surface;
  readonly schemaVersion: number;
  readonly time?: string;
}

function metadataOf(value: unknown): Metadata | null {
  if (typeof value !== 'object' || value === null) return null;
  const found = value as Record<string, unknown>;
  const ours =
    typeof found.$correlationId === 'string' &&
    (found.$causationId === undefined || typeof found.$causationId === 'string') &&
    typeof found.owner === 'string' &&
    actor.safeParse(found.actor).success &&
    typeof found.commandId === 'string' &&
    surface.safeParse(found.surface).success &&
    Number.isSafeInteger(found.schemaVersion) &&
    (found.schemaVersion as number) >= 1 &&
    (found.time === undefined || (typeof found.time === 'string' && isLogTime(found.time)));
  return ours ? (found as unknown as Metadata) : null;
}
