/** The event store's port on a server. */
import { randomUUID } from 'node:crypto';
import type { Position } from '../../../contracts/envelope.ts';
import { checkCount, checkName, checkPosition, parseTime } from '../input.ts';
import type { EventStore, ReadStreamOptions } from '../port.ts';
import { createAppender } from './appending.ts';
import { createKnownIds } from './known-ids.ts';
import { createLog } from './log.ts';
import { envelopeOf, isSystemName, type ProposedEvent } from './record.ts';
import { PAGE_RECORDS, type Server } from './server.ts';

/** About 20 MB. */
const KNOWN_IDS = 150_000;

/** Told of each append that added events. */
export type CommitListener = (commit: {
  readonly appends: number;
  readonly events: number;
  readonly durationMs: number;
}) => void;

/** The server's own settings of a stream; others may stand beside them. */
export interface StreamMetadata {
  /** Seconds. */
  readonly maxAge?: number;
  readonly maxCount?: number;
  /** The first revision that is shown. */
  readonly truncateBefore?: number;
  readonly cacheControl?: number;
  /** As the server spells it: `$r`, `$w`, `$d`, `$mr`, `$mw`. */
  readonly acl?: unknown;
  readonly [custom: string]: unknown;
}

export interface EventStoreDb extends EventStore {
  readonly server: { readonly address: string; readonly version: string };
  /**
   * Soft delete: the stream reads as if it had never been, and may be begun again; its revisions go on. Its events
   * stay in the whole log until the server's next scavenge.
   */
  deleteStream(stream: string): Promise<void>;
  /** Null when none was ever set. */
  streamMetadata(stream: string): Promise<StreamMetadata | null>;
  /** Replaces all of it. */
  setStreamMetadata(stream: string, metadata: StreamMetadata): Promise<void>;
}

/**
 * @param closing aborted when the store is closed
 * @param end ends the connection; what is called afterwards is refused
 */
export function eventStore(
  server: Server,
  about: EventStoreDb['server'],
  onCommit: CommitListener | undefined,
  closing: AbortSignal,
  end: () => Promise<void>,
): EventStoreDb {
  const ids = createKnownIds(KNOWN_IDS);
  const log = createLog(server, closing);
  const appender = createAppender(server, log, ids);
  let closed: Promise<void> | undefined;

  async function* readStream(stream: string, options: ReadStreamOptions) {
    const { direction = 'forwards', limit = Number.POSITIVE_INFINITY } = options;
    let from: number | 'start' | 'end' = options.from ?? (direction === 'forwards' ? 0 : 'end');
    if (direction === 'backwards' && from !== 'end') {
      const [last] = (await server.readStream(stream, 'end', 'backwards', 1)) ?? [];
      if (last === undefined) return;
      if (from > Number(last.revision)) from = 'end';
    }
    let left = limit;
    while (left > 0) {
      const count = Math.min(left, PAGE_RECORDS);
      const records = await server.readStream(stream, from, direction, count);
      if (records === null) return;
      if (direction === 'forwards') {
        ids.extend(
          stream,
          from as number,
          records.map(({ id, revision }) => ({ id, revision: Number(revision) })),
        );
      }
      const events = records.map(envelopeOf).filter((event) => event !== null);
      left -= events.length;
      if (events.length > 0) yield events;
      if (records.length < count) return;
      const last = Number(records.at(-1)!.revision);
      if (direction === 'backwards' && last === 0) return;
      from = direction === 'forwards' ? last + 1 : last - 1;
    }
  }

  return {
    server: about,
    async append(stream, events, { expectedRevision, imported }) {
      const began = performance.now();
      const { result, added } = await appender.append(stream, events, expectedRevision, imported);
      if (added) onCommit?.({ appends: 1, events: events.length, durationMs: performance.now() - began });
      return result;
    },
    readStream(stream, options = {}) {
      checkName('stream', stream);
      if (options.from !== undefined) checkCount('from', options.from);
      if (options.limit !== undefined) checkCount('limit', options.limit);
      return isSystemName(stream) ? nothing() : readStream(stream, options);
    },
    readAll(options = {}) {
      checkRange(options);
      if (options.limit !== undefined) checkCount('limit', options.limit);
      return log.readAll(options);
    },
    subscribe(options) {
      checkRange(options);
      return log.subscribe(options);
    },
    head: log.head,
    end: log.end,
    async count(options = {}) {
      checkRange(options);
      let count = 0;
      for await (const page of log.readAll(options)) count += page.events.length;
      return count;
    },
    async positionAt(time) {
      return log.positionAt(parseTime(time));
    },
    async deleteStream(stream) {
      checkOwnStream(stream);
      await server.softDelete(stream);
      ids.forget(stream);
    },
    async streamMetadata(stream) {
      checkOwnStream(stream);
      const [last] = (await server.readStream(metastreamOf(stream), 'end', 'backwards', 1)) ?? [];
      return last === undefined ? null : shownMetadata(last.data);
    },
    async setStreamMetadata(stream, metadata) {
      checkOwnStream(stream);
      const event: ProposedEvent = {
        id: randomUUID(),
        contentType: 'application/json',
        type: '$metadata',
        data: storedMetadata(metadata),
        metadata: {},
      };
      await server.append(metastreamOf(stream), [event], 'any');
      ids.forget(stream);
    },
    close() {
      closed ??= end();
      return closed;
    },
  };
}

async function* nothing(): AsyncGenerator<never> {}

function checkRange(range: { readonly after?: Position; readonly upTo?: Position }): void {
  if (range.after !== undefined) checkPosition(range.after);
  if (range.upTo !== undefined) checkPosition(range.upTo);
}

function checkOwnStream(stream: string): void {
  checkName('stream', stream);
  if (isSystemName(stream)) throw new RangeError(`the stream is the server's own: ${stream}`);
}

const metastreamOf = (stream: string): string => `$$${stream}`;

const METADATA_NAMES = new Map([
  ['maxAge', '$maxAge'],
  ['maxCount', '$maxCount'],
  ['truncateBefore', '$tb'],
  ['cacheControl', '$cacheControl'],
  ['acl', '$acl'],
]);

/** @throws RangeError when a number is none */
function storedMetadata(metadata: StreamMetadata): Record<string, unknown> {
  const entries = Object.entries(metadata).map(([name, value]) => {
    const stored = METADATA_NAMES.get(name);
    if (stored === undefined && isSystemName(name)) throw new RangeError(`unknown stream metadata ${name}`);
    if (stored !== undefined && name !== 'acl') checkCount(name, value as number);
    return [stored ?? name, value];
  });
  return Object.fromEntries(entries);
}

function shownMetadata(data: unknown): StreamMetadata {
  const names = new Map([...METADATA_NAMES].map(([name, stored]) => [stored, name]));
  return Object.fromEntries(
    Object.entries((data ?? {}) as object).map(([name, value]) => [names.get(name) ?? name, value]),
  );
}
