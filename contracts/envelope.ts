/**
 * The envelope that every event travels in, on disk, on the bus and over HTTP, and the order of the log.
 */
import { z } from 'zod';

/**
 * Where an event stands in the log: an opaque token, never to be computed with. Tokens are ordered by
 * `comparePositions` and strictly grow along the log, with gaps or without. It is one whole number or two: the
 * embedded store counts 1, 2, 3, …; EventStoreDB gives byte offsets, and sometimes pairs of them.
 */
export type Position = string;
export const position = z
  .string()
  .regex(
    /^(0|[1-9]\d{0,19})(-(0|[1-9]\d{0,19}))?$/,
    'a position is a token as X-Event-Position gave it: a whole number of at most 20 digits, or two with - between',
  );

/** Before the first event. */
export const START: Position = '0';

/** Negative when `a` comes before `b`. The first numbers decide, then the second; none comes before any. */
export function comparePositions(a: Position, b: Position): number {
  const dashA = a.indexOf('-');
  const dashB = b.indexOf('-');
  if (dashA < 0 && dashB < 0) return compareNumbers(a, b);
  return (
    compareNumbers(dashA < 0 ? a : a.slice(0, dashA), dashB < 0 ? b : b.slice(0, dashB)) ||
    compareNumbers(dashA < 0 ? '' : a.slice(dashA + 1), dashB < 0 ? '' : b.slice(dashB + 1))
  );
}
/** Of whole numbers without leading zeros: the longer one is the greater one. */
const compareNumbers = (a: string, b: string): number => a.length - b.length || (a < b ? -1 : a > b ? 1 : 0);
export const isAfter = (a: Position, b: Position): boolean => comparePositions(a, b) > 0;
export const laterOf = (a: Position, b: Position): Position => (isAfter(a, b) ? a : b);

/** Maps a position to a string whose alphabetical order is the log's order, for indexes of databases. */
export const positionSortKey = (value: Position): string =>
  value
    .split('-')
    .map((number) => number.padStart(20, '0'))
    .join('-');
/** The inverse of `positionSortKey`. */
export const positionOfSortKey = (key: string): Position => key.replace(/(^|-)0+(?=\d)/g, '$1');

/** Who did it. `id` is a user id, an API key id, an agent's name, or the name of the part of the system. */
export const actor = z.object({ kind: z.enum(['user', 'apiKey', 'agent', 'system']), id: z.string() });
export type Actor = z.infer<typeof actor>;

export const surface = z.enum(['luna', 'trinity', 'agent-chat', 'zerg', 'odeon']);
export type Surface = z.infer<typeof surface>;

/** The owner of events that belong to no user. */
export const SYSTEM_OWNER = 'system';

export const eventEnvelope = z.object({
  id: z.uuid(),
  type: z.string(),
  /** The version of the type's schema that `data` was written with (after a read: upcast to the newest). */
  schemaVersion: z.int().positive(),
  stream: z.string(),
  /** The event's place in its stream: 0, 1, 2, … without a gap. */
  revision: z.int().nonnegative(),
  position,
  /** When it was committed (RFC 3339, UTC, milliseconds); never earlier than the event before it. */
  time: z.string(),
  /** The user (or `system`) that the event belongs to; every document belongs to one owner. */
  owner: z.string(),
  actor,
  correlationId: z.string(),
  /** The id of the event that this one is a reaction to; null where a request from outside began it. */
  causationId: z.string().nullable(),
  commandId: z.string(),
  surface,
  data: z.unknown(),
});

/** An event as it is read. `data` has the shape that the catalogue gives its type. */
export interface EventEnvelope<Type extends string = string, Data = unknown> {
  readonly id: string;
  readonly type: Type;
  readonly schemaVersion: number;
  readonly stream: string;
  readonly revision: number;
  readonly position: Position;
  readonly time: string;
  readonly owner: string;
  readonly actor: Actor;
  readonly correlationId: string;
  readonly causationId: string | null;
  readonly commandId: string;
  readonly surface: Surface;
  readonly data: Data;
}

/** An event to be appended: the store adds stream, revision, position and time. */
export type NewEvent<Type extends string = string, Data = unknown> = Omit<
  EventEnvelope<Type, Data>,
  'stream' | 'revision' | 'position' | 'time'
>;
