/**
 * Moves a log from one store to another by way of a file (`log-file.ts`), on the port alone.
 *
 * What the new log has in common with the old one: the events, with all that is in their envelopes but `position`;
 * the streams and revisions, and with them every command that comes again; the order of the whole log; and the
 * times of commit, so that `?asOf=<time>` answers the same (`Imported`). Positions are the new store's own. No
 * event's data holds one; what does is not in the log and is not to be taken along: read models, snapshots and
 * checkpoints are made again from the log, and cursors and `Last-Event-ID`s of clients end with the move.
 */
import { type EventEnvelope, type NewEvent, START } from '../../contracts/envelope.ts';
import {
  type CheckedLogFile,
  checkLogFile,
  contentDigest,
  contentOf,
  type FileEvent,
  readLogFile,
  writeLogFile,
} from './log-file.ts';
import { type AppendResult, type EventStore, WrongLogEnd } from './port.ts';

/** So many events, or so much text, are on their way to the store at most. */
const UNDER_WAY_EVENTS = 2_000;
const UNDER_WAY_CHARACTERS = 8 * 1024 * 1024;
/** What one append holds at most. */
const BATCH_EVENTS = 500;
const BATCH_CHARACTERS = 512 * 1024;

export type Phase = 'exporting' | 'checking the file' | 'comparing' | 'importing' | 'checking the log';

/** @param part of the phase's work that is done, from 0 to 1; null when that is not known */
export type OnProgress = (phase: Phase, events: number, part: number | null) => void;

export interface ExportOptions {
  /** Without a catalogue in front: events are moved as they were stored. */
  readonly store: Pick<EventStore, 'head' | 'readAll'>;
  readonly file: string;
  /** Said in the file. */
  readonly version: string;
  readonly source: string;
  /** How many events to expect, for the progress; null when that is not known. */
  readonly expected: number | null;
  readonly onProgress: OnProgress;
}

/**
 * Writes what the log holds now. What is committed meanwhile is left out.
 * @throws StoreUnavailable; Error when the file exists or cannot be written; nothing is left of it then
 */
export async function exportLog(
  options: ExportOptions,
): Promise<{ readonly count: number; readonly sha256: string }> {
  const { store, file, version, source, expected, onProgress } = options;
  const head = await store.head();
  const writer = await writeLogFile(file, { version, source, created: new Date().toISOString(), head });
  try {
    let events = 0;
    for await (const page of store.readAll({ after: START, upTo: head })) {
      await writer.write(page.events);
      events += page.events.length;
      onProgress('exporting', events, expected === null ? null : Math.min(1, events / expected));
    }
    return await writer.finish();
  } catch (error) {
    await writer.abandon();
    throw error;
  }
}

export interface ImportOptions {
  /** Without a catalogue in front. Nobody else may append to it meanwhile. */
  readonly store: EventStore;
  readonly file: string;
  readonly onProgress: OnProgress;
}

export interface ImportResult {
  readonly file: CheckedLogFile;
  /** Of these the log held so many before. */
  readonly held: number;
  /** What the log holds now, read again. */
  readonly count: number;
  readonly contentSha256: string;
}

/** The log holds, or came to hold, something else than the file. */
export class OtherLog extends Error {
  constructor(message: string) {
    super(message);
    this.name = 'OtherLog';
  }
}

/**
 * Appends what a file holds to a log that is empty, or was imported from the same file in part. May be killed at any
 * time, and goes on when it is called again.
 * @throws DamagedLogFile before anything is appended; OtherLog; StoreUnavailable
 */
export async function importLog({ store, file, onProgress }: ImportOptions): Promise<ImportResult> {
  const checked = await checkLogFile(file, (events, part) => onProgress('checking the file', events, part));
  const { count } = checked;
  const events = readLogFile(file);
  try {
    return await importChecked();
  } finally {
    await events.return(undefined);
  }

  async function importChecked(): Promise<ImportResult> {
    const held = await compare(store, events, file, (done) => onProgress('comparing', done, null));
    if (held.count < count) {
      try {
        await appendAll(store, events, held.lastId, (done) =>
          onProgress('importing', done, done / (count - held.count)),
        );
      } catch (error) {
        if (!(error instanceof WrongLogEnd)) throw error;
        throw new OtherLog(
          `somebody else appends to the log while it is imported to: stop that (${error.message})`,
        );
      }
    }

    const found = contentDigest();
    for await (const page of store.readAll()) {
      for (const event of page.events) found.add(contentOf(event));
      onProgress('checking the log', found.count, Math.min(1, found.count / count));
    }
    const contentSha256 = found.hex();
    if (found.count !== count || contentSha256 !== checked.contentSha256) {
      throw new OtherLog(
        `the log does not hold what the file does: ${found.count} events with digest ${contentSha256}, ` +
          `not ${count} with ${checked.contentSha256}`,
      );
    }
    return { file: checked, held: held.count, count: found.count, contentSha256 };
  }
}

/**
 * Holds what the log has against the beginning of the file, and leaves `events` after it.
 * @returns how many events the log holds, and the id of the last
 */
async function compare(
  store: EventStore,
  events: AsyncGenerator<FileEvent>,
  file: string,
  onProgress: (done: number) => void,
): Promise<{ count: number; lastId: string | null }> {
  let count = 0;
  let lastId: string | null = null;
  for await (const page of store.readAll()) {
    for (const event of page.events) {
      const { value, done } = await events.next();
      const name = ({ position, type, id, stream, revision }: EventEnvelope) =>
        `at position ${position} it has ${type} ${id} (revision ${revision} of ${stream})`;
      if (done) throw new OtherLog(`the log holds more than ${file}: ${name(event)}`);
      if (value.content !== contentOf(event)) {
        const { type, id, stream, revision } = JSON.parse(value.content) as EventEnvelope;
        throw new OtherLog(
          `the log holds other events than ${file}: ${name(event)}, ` +
            `where line ${value.line} has ${type} ${id} (revision ${revision} of ${stream})` +
            `${id === event.id ? ', not the same in all' : ''}. ` +
            'Import to an empty log, or to one that an import of this file began',
        );
      }
      count += 1;
      lastId = event.id;
    }
    onProgress(count);
  }
  return { count, lastId };
}

/** Events that are appended together: of one stream and one command, one after the other. */
interface Batch {
  readonly stream: string;
  readonly commandId: string;
  readonly revision: number;
  readonly previous: string | null;
  readonly events: NewEvent[];
  readonly times: string[];
  characters: number;
}

async function appendAll(
  store: EventStore,
  events: AsyncGenerator<FileEvent>,
  lastId: string | null,
  onProgress: (done: number) => void,
): Promise<void> {
  const underWay: { readonly batch: Batch; readonly appending: Promise<AppendResult> }[] = [];
  let [waiting, characters, done] = [0, 0, 0];

  function send(batch: Batch): void {
    const { stream, revision, events, times, previous } = batch;
    const appending = store.append(stream, events, {
      expectedRevision: revision === 0 ? 'no stream' : revision - 1,
      imported: { times, previous },
    });
    // Of those that fail, the first one is waited for first, and is what is told; the others fail because of it.
    appending.catch(() => {});
    underWay.push({ batch, appending });
    waiting += events.length;
    characters += batch.characters;
  }

  async function settleOldest(): Promise<void> {
    const { batch, appending } = underWay.shift()!;
    await appending;
    waiting -= batch.events.length;
    characters -= batch.characters;
    done += batch.events.length;
    onProgress(done);
  }

  let batch: Batch | undefined;
  let previous = lastId;
  for await (const { content } of events) {
    const { stream, revision, time, ...event } = JSON.parse(content) as Omit<EventEnvelope, 'position'>;
    const goesOn =
      batch !== undefined &&
      batch.stream === stream &&
      batch.commandId === event.commandId &&
      batch.events.length < BATCH_EVENTS &&
      batch.characters + content.length <= BATCH_CHARACTERS;
    if (batch === undefined || !goesOn) {
      if (batch !== undefined) send(batch);
      while (waiting > UNDER_WAY_EVENTS || characters > UNDER_WAY_CHARACTERS) await settleOldest();
      batch = {
        stream,
        commandId: event.commandId,
        revision,
        previous,
        events: [],
        times: [],
        characters: 0,
      };
    }
    batch.events.push(event);
    batch.times.push(time);
    batch.characters += content.length;
    previous = event.id;
  }
  if (batch !== undefined) send(batch);
  while (underWay.length > 0) await settleOldest();
}
