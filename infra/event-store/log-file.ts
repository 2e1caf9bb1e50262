/**
 * The file that a log is moved in: JSON lines. A header (`format`, `version` of Odeon, `source`, `created`, `head`),
 * each event as its envelope was read from the store, in the log's order, and a footer (`count`, and `sha256` of
 * all lines of events, line ends included).
 *
 * A line of an event has the envelope's fields in the order of `contentOf`, with `position` before them and `crc32`
 * after them: of the line up to there, going on from that of the line before, so that of a damaged file the line
 * can be named. The content, which is what two logs can have in common, is all that is between.
 */
import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { type FileHandle, open, rename, rm, stat } from 'node:fs/promises';
import { crc32 } from 'node:zlib';
import { z } from 'zod';
import {
  type EventEnvelope,
  eventEnvelope,
  isAfter,
  type Position,
  START,
} from '../../contracts/envelope.ts';

const FORMAT = 'odeon-log/1';
/** No event is longer: a file without line ends is none of ours, and must not fill the memory. */
const MAX_LINE_BYTES = 256 * 1024 * 1024;
const READ_BYTES = 1024 * 1024;

export interface LogFileHeader {
  /** Of the program that wrote the file. */
  readonly version: string;
  /** Where the events come from, as people say it; nothing secret. */
  readonly source: string;
  /** When the file was begun (RFC 3339). */
  readonly created: string;
  /** The head of the log then: the last event in the file stands there or before. */
  readonly head: Position;
}

const header = z.object({
  format: z.literal(FORMAT),
  version: z.string(),
  source: z.string(),
  created: z.string(),
  head: z.string(),
});
const footer = z.object({ end: z.literal(FORMAT), count: z.int().nonnegative(), sha256: z.string() });
/** Ids are the store's affair: it takes more than the program makes. */
const envelope = eventEnvelope.extend({ id: z.string().min(1), time: z.iso.datetime({ precision: 3 }) });

/** A file that is not what `export` wrote; the message names it and the line. */
export class DamagedLogFile extends Error {
  constructor(file: string, line: number, reason: string) {
    super(`${file}, line ${line}: ${reason}`);
    this.name = 'DamagedLogFile';
  }
}

/** All of an event but its position, as text: the same for the same event in whichever log it stands. */
export function contentOf(event: EventEnvelope): string {
  const { id, type, schemaVersion, stream, revision, time, owner, correlationId } = event;
  const { actor, causationId, commandId, surface, data } = event;
  return JSON.stringify({
    id,
    type,
    schemaVersion,
    stream,
    revision,
    time,
    owner,
    actor: { kind: actor.kind, id: actor.id },
    correlationId,
    causationId,
    commandId,
    surface,
    data,
  });
}

/** Digests the contents of a log in order. */
export function contentDigest(): { add(content: string): void; readonly count: number; hex(): string } {
  const hash = createHash('sha256');
  let count = 0;
  return {
    add(content) {
      count += 1;
      hash.update(content).update('\n');
    },
    get count() {
      return count;
    },
    hex: () => hash.digest('hex'),
  };
}

export interface LogFileWriter {
  write(events: readonly EventEnvelope[]): Promise<void>;
  /** Writes the footer, and gives the file its name when all of it is on disk. */
  finish(): Promise<{ readonly count: number; readonly sha256: string }>;
  /** Removes what was written. */
  abandon(): Promise<void>;
}

/**
 * Until it is finished the file is called `<file>.partial`, so that one which has the name is whole.
 * @throws Error when there is such a file already, or it cannot be made
 */
export async function writeLogFile(file: string, about: LogFileHeader): Promise<LogFileWriter> {
  const exists = await stat(file).then(
    () => true,
    (error: NodeJS.ErrnoException) => {
      if (error.code !== 'ENOENT') throw error;
      return false;
    },
  );
  if (exists) throw new Error(`${file} exists already: remove it, or choose another name`);
  const partial = `${file}.partial`;
  const handle: FileHandle = await open(partial, 'w', 0o600);
  const hash = createHash('sha256');
  let count = 0;
  let crc = 0;

  async function line(value: object): Promise<void> {
    await handle.appendFile(`${JSON.stringify(value)}\n`);
  }

  async function abandon(): Promise<void> {
    await handle.close();
    await rm(partial, { force: true });
  }

  try {
    await line({ format: FORMAT, ...about });
  } catch (error) {
    await abandon();
    throw error;
  }
  return {
    abandon,
    async write(events) {
      let text = '';
      for (const event of events) {
        const start = `{"position":${JSON.stringify(event.position)},${contentOf(event).slice(1, -1)}`;
        crc = crc32(start, crc);
        text += `${start}${checked(crc)}\n`;
      }
      count += events.length;
      hash.update(text);
      await handle.appendFile(text);
    },
    async finish() {
      const sha256 = hash.digest('hex');
      await line({ end: FORMAT, count, sha256 });
      await handle.sync();
      await handle.close();
      await rename(partial, file);
      return { count, sha256 };
    },
  };
}

/** How a line ends: with what is checked, and the check itself. */
const checked = (crc: number): string => `,"crc32":"${crc.toString(16).padStart(8, '0')}"}`;
const CHECK_CHARACTERS = checked(0).length;
const POSITION = /^\{"position":"[\d-]+",/;

export interface FileEvent {
  /** Counted from 1. */
  readonly line: number;
  /** As `contentOf` gives it. */
  readonly content: string;
}

/** The events of a file that `checkLogFile` found in order. */
export async function* readLogFile(file: string): AsyncGenerator<FileEvent> {
  for await (const { text, line } of linesOf(file)) {
    const start = line === 1 ? null : POSITION.exec(text);
    if (start !== null) yield { line, content: contentIn(text, start[0].length) };
  }
}

const contentIn = (text: string, start: number): string => `{${text.slice(start, -CHECK_CHARACTERS)}}`;

export interface CheckedLogFile extends LogFileHeader {
  readonly count: number;
  readonly sha256: string;
  /** Of the contents of all events, as `contentDigest` makes it. */
  readonly contentSha256: string;
}

/**
 * Reads a whole file and holds it to all that it must be, the promises of a log included.
 * @param onProgress told how many events and what part of the file have been read
 * @throws DamagedLogFile
 */
export async function checkLogFile(
  file: string,
  onProgress: (events: number, part: number) => void,
): Promise<CheckedLogFile> {
  const { size } = await stat(file);
  const hash = createHash('sha256');
  const contents = contentDigest();
  const revisions = new Map<string, number>();
  let about: LogFileHeader | undefined;
  let end: z.infer<typeof footer> | undefined;
  let crc = 0;
  let last = { position: START, time: '' };
  let lastLine = 0;

  for await (const { text, line, complete, bytes } of linesOf(file)) {
    const damaged = (reason: string) => new DamagedLogFile(file, line, reason);
    lastLine = line;
    if (line === 1) {
      const parsed = header.safeParse(json(text));
      if (!parsed.success) throw damaged(`this is no file that odeon export wrote (format ${FORMAT})`);
      about = parsed.data;
      continue;
    }
    if (end !== undefined) throw damaged('something follows after the end');
    if (!complete) throw damaged('the file ends in the midst of a line: it is not whole');
    const start = POSITION.exec(text);
    if (start === null) {
      const parsed = footer.safeParse(json(text));
      if (!parsed.success) throw damaged('this is no event: the line was changed');
      end = parsed.data;
      if (end.count !== contents.count) {
        throw damaged(`the file should have ${end.count} events, but has ${contents.count}`);
      }
      continue;
    }

    const before = text.slice(0, -CHECK_CHARACTERS);
    crc = crc32(before, crc);
    if (!text.endsWith(checked(crc))) {
      throw damaged(
        'the line does not fit its checksum: it, or one before it, was changed, removed or added',
      );
    }
    const event = envelope.safeParse(json(text));
    if (!event.success) throw damaged(`this is no event: ${z.prettifyError(event.error)}`);
    const { position, time, stream, revision } = event.data;
    const expected = (revisions.get(stream) ?? -1) + 1;
    if (!isAfter(position, last.position)) throw damaged(`position ${position} after ${last.position}`);
    if (time < last.time) throw damaged(`the time goes back: ${time} after ${last.time}`);
    if (revision !== expected) {
      throw damaged(`stream ${stream} goes on with revision ${expected}, not ${revision}`);
    }
    const content = contentIn(text, start[0].length);
    if (content !== contentOf(event.data as EventEnvelope)) {
      throw damaged('the event is not written as odeon export writes it');
    }
    revisions.set(stream, revision);
    last = { position, time };
    hash.update(text).update('\n');
    contents.add(content);
    if (contents.count % 500 === 0) onProgress(contents.count, bytes / size);
  }

  if (about === undefined) throw new DamagedLogFile(file, 1, 'the file is empty');
  if (end === undefined) {
    throw new DamagedLogFile(file, lastLine, 'the file ends here, without its last line: it is not whole');
  }
  const sha256 = hash.digest('hex');
  if (sha256 !== end.sha256) {
    throw new DamagedLogFile(file, lastLine, `the events have digest ${sha256}, not ${end.sha256}`);
  }
  onProgress(contents.count, 1);
  return { ...about, count: contents.count, sha256, contentSha256: contents.hex() };
}

function json(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined; // which no schema takes
  }
}

interface Line {
  readonly text: string;
  readonly line: number;
  /** False when the file ends without a line end. */
  readonly complete: boolean;
  /** So much of the file has been read. */
  readonly bytes: number;
}

async function* linesOf(file: string): AsyncGenerator<Line> {
  let line = 0;
  let bytes = 0;
  let parts: Buffer[] = [];
  let length = 0;
  for await (const chunk of createReadStream(file, { highWaterMark: READ_BYTES }) as AsyncIterable<Buffer>) {
    bytes += chunk.length;
    let from = 0;
    for (let at = chunk.indexOf(10); at >= 0; at = chunk.indexOf(10, from)) {
      parts.push(chunk.subarray(from, at));
      from = at + 1;
      line += 1;
      yield {
        text: (parts.length === 1 ? parts[0]! : Buffer.concat(parts)).toString(),
        line,
        complete: true,
        bytes,
      };
      parts = [];
      length = 0;
    }
    parts.push(chunk.subarray(from));
    length += chunk.length - from;
    if (length > MAX_LINE_BYTES)
      throw new DamagedLogFile(file, line + 1, 'this line is too long to be an event');
  }
  if (length > 0) yield { text: Buffer.concat(parts).toString(), line: line + 1, complete: false, bytes };
}
