/**
 * EventStoreDB (24) and KurrentDB (25, 26) as the event store: the one file that imports their client. What the
 * server does not promise by itself is in the folder beside it, which knows no client.
 *
 * The client (6.2.1) is used with care:
 * - It ships the appends of all callers over one stream, and a failure of that stream loses or crashes those of
 *   others: here each append is a call of its own.
 * - It closes no channel at the end, and keeps the growing back-off of one that failed: here a connection that
 *   failed is ended, and the next call makes a new one.
 * - A read that is cancelled looks like one that came to its end, and one that is destroyed goes on in the server:
 *   the first is told apart, the second cancelled.
 */
import { readFileSync } from 'node:fs';
import type { Duplex, Readable } from 'node:stream';
import { setImmediate as othersRan } from 'node:timers/promises';
import {
  type EndPoint,
  EventStoreDBClient,
  MaxAppendSizeExceededError,
  NotLeaderError,
  StreamDeletedError,
  StreamNotFoundError,
  WrongExpectedVersionError,
} from '@eventstore/db-client';
import { Channel, credentials as channelCredentials, status } from '@grpc/grpc-js';
import type { AvailabilityListener } from '../engines/port.ts';
import { parseServerAddress, type ServerAddress } from './event-store-db/address.ts';
import type { LogPosition } from './event-store-db/log-position.ts';
import type { LogRecord } from './event-store-db/record.ts';
import { PAGE_RECORDS, type Received, type Server, type ServerFilter } from './event-store-db/server.ts';
import { type CommitListener, type EventStoreDb, eventStore } from './event-store-db/store.ts';
import { StoreUnavailable } from './port.ts';

export type { EventStoreDb, StreamMetadata } from './event-store-db/store.ts';

const OPEN_WITHIN_MS = 4_500;
const ANSWER_WITHIN_MS = 10_000;
/** A call that has a deadline of its own may take this much longer to find a server. */
const GRACE_MS = 2_000;
const KEEP_ALIVE_MS = 10_000;
/** The server is asked so often when nothing else was asked of it; sooner while it does not answer. */
const LOOK_EVERY_MS = 3_000;
const LOOK_AGAIN_MS = { first: 250, longest: 2_000 } as const;
/** A record as large as the server writes them. */
const LARGEST_MESSAGE = 17 * 1024 * 1024;
const CHECKPOINT_RECORDS = 256;
const WAITING_RECORDS = 64;

export interface EventStoreDbOptions {
  /** A connection string: `esdb://`, `esdb+discover://`, `kurrentdb://` or `kurrentdb+discover://`. */
  readonly url: string;
  /** Told null once the store is open, then of every change. */
  readonly onAvailability: AvailabilityListener;
  readonly onCommit?: CommitListener;
  /** How long a call may take; otherwise what the connection string says (`defaultDeadline`), or 10 s. */
  readonly answerWithinMs?: number;
}

/**
 * Opens the store on a server that answers now.
 * @throws RangeError when `url` is no such connection string; StoreUnavailable within 5 s, naming the address and
 *   why, when nobody answers there: worth another try
 */
export async function openEventStoreDb(options: EventStoreDbOptions): Promise<EventStoreDb> {
  const address = readAddress(options.url);
  const closing = new AbortController();
  const { server, open, close } = createServer(address, options, closing.signal);
  try {
    const about = { address: address.shown, version: await open() };
    return eventStore(server, about, options.onCommit, closing.signal, async () => {
      closing.abort();
      await close();
    });
  } catch (error) {
    closing.abort();
    await close();
    throw error;
  }
}

/** The connection string and the files that it names. */
function readAddress(url: string): ServerAddress {
  try {
    return parseServerAddress(url);
  } catch (error) {
    throw new RangeError(`the address of EventStoreDB: ${(error as Error).message}`);
  }
}

/** A client with one channel, which ends with it. */
class Connection extends EventStoreDBClient {
  readonly #address: ServerAddress;
  #channel: Promise<Channel> | undefined;
  #ended = false;
  /** What was being read did not come to its end. */
  cut = false;

  /** @throws Error when a file of certificates cannot be read */
  constructor(address: ServerAddress, leader: EndPoint | undefined, answerWithinMs: number) {
    const settings = {
      defaultDeadline: answerWithinMs,
      ...(address.connectionName === undefined ? {} : { connectionName: address.connectionName }),
    };
    const discovery = {
      // Found at once or not at all: whoever asks tries again.
      maxDiscoverAttempts: address.maxDiscoverAttempts ?? 2,
      discoveryInterval: address.discoveryInterval ?? 100,
      gossipTimeout: address.gossipTimeout ?? 2,
    };
    const certificates = {
      insecure: !address.tls,
      ...(address.tlsCAFile === undefined ? {} : { rootCertificate: readFileSync(address.tlsCAFile) }),
      ...(address.userCertFile === undefined ? {} : { userCertFile: readFileSync(address.userCertFile) }),
      ...(address.userKeyFile === undefined ? {} : { userKeyFile: readFileSync(address.userKeyFile) }),
    };
    // Without TLS the client sends no password: the server would not ask for one.
    const login = address.tls ? address.credentials : undefined;
    const [host] = address.hosts as [EndPoint];
    if (leader !== undefined) super({ ...settings, endpoint: leader }, certificates, login);
    else if (address.discover) super({ ...settings, ...discovery, discover: host }, certificates, login);
    else if (address.hosts.length > 1) {
      super({ ...settings, ...discovery, endpoints: [...address.hosts] }, certificates, login);
    } else super({ ...settings, endpoint: host }, certificates, login);
    this.#address = address;
  }

  /** Each append is a call of its own: says that the server knows no other way. */
  protected override supports = async () => false;

  /** What to do after an error is decided by `createServer`. */
  protected override handleError = async () => {};

  protected override getChannel = (): Promise<Channel> => {
    this.#channel ??= this.#connect();
    return this.#channel;
  };

  async #connect(): Promise<Channel> {
    const target = await this.resolveUri();
    if (this.#ended) throw new Error('the connection was ended');
    const { tls, tlsCAFile, userKeyFile, userCertFile, keepAliveInterval, keepAliveTimeout } = this.#address;
    const file = (path: string | undefined) => (path === undefined ? null : readFileSync(path));
    const security = tls
      ? channelCredentials.createSsl(file(tlsCAFile), file(userKeyFile), file(userCertFile))
      : channelCredentials.createInsecure();
    return new Channel(target, security, {
      'grpc.keepalive_time_ms': milliseconds(keepAliveInterval),
      'grpc.keepalive_timeout_ms': milliseconds(keepAliveTimeout),
      'grpc.max_receive_message_length': LARGEST_MESSAGE,
      // Otherwise the back-off of a connection that failed would be shared with its successors.
      'grpc.use_local_subchannel_pool': 1,
      'grpc.enable_channelz': 0,
    });
  }

  /** `unknown` where the server does not say. */
  async version(): Promise<string> {
    return this.capabilities.then(
      ({ serverVersion }) => serverVersion,
      () => 'unknown',
    );
  }

  /** Takes no more calls; those under way go on, and then the connection ends. */
  async retire(): Promise<void> {
    this.#ended = true;
    const channel = await this.#channel?.catch(() => undefined);
    channel?.close();
  }

  /** Cancels what is being read, too. An append under way is still answered. */
  async end(): Promise<void> {
    this.cut = true;
    await this.dispose();
    await this.retire();
  }
}

const milliseconds = (given: number | undefined): number =>
  given === -1 ? Number.MAX_VALUE : (given ?? KEEP_ALIVE_MS);

/** The server at an address: calls with their deadlines, what their errors mean, and a new connection after those. */
function createServer(
  address: ServerAddress,
  { onAvailability, answerWithinMs = address.defaultDeadline ?? ANSWER_WITHIN_MS }: EventStoreDbOptions,
  closing: AbortSignal,
) {
  let connection: Connection | undefined;
  let leader: EndPoint | undefined;
  /** Undefined until something is known. */
  let problem: string | null | undefined;
  let opened = false;
  /** Calls that were answered. */
  let answers = 0;
  let looking: NodeJS.Timeout | undefined;
  let lookAgainMs: number = LOOK_AGAIN_MS.first;

  function current(): Connection {
    if (closing.aborted) throw new StoreUnavailable('the event store is closed');
    connection ??= new Connection(address, leader, answerWithinMs);
    return connection;
  }

  function replace(used: Connection | undefined, by?: EndPoint): void {
    if (used !== connection) return;
    connection = undefined;
    leader = by;
    void used?.retire();
  }

  function known(now: string | null): void {
    if (!opened || now === problem || closing.aborted) return;
    problem = now;
    lookAgainMs = LOOK_AGAIN_MS.first;
    onAvailability(now);
    look();
  }

  function answered(): void {
    answers += 1;
    known(null);
  }

  /** Asks from time to time, so that it is known when the server goes and comes though nobody needs it. */
  function look(): void {
    clearTimeout(looking);
    if (closing.aborted) return;
    const answeredBefore = answers;
    looking = setTimeout(
      async () => {
        if (problem !== null || answeredBefore === answers) {
          // What it finds is known by then.
          await readAll('end', 'backwards', 1).catch(() => {});
          lookAgainMs = Math.min(lookAgainMs * 2, LOOK_AGAIN_MS.longest);
        }
        look();
      },
      problem === null ? LOOK_EVERY_MS : lookAgainMs,
    ).unref();
  }

  /** What a failed call is told. */
  function failure(used: Connection | undefined, error: unknown): Error {
    if (error instanceof RangeError || error instanceof TypeError || error instanceof StoreUnavailable)
      return error;
    if (closing.aborted) return new StoreUnavailable('the event store is closed');
    const code = (error as { code?: unknown }).code;
    const reason = reasonOf(error);
    if (error instanceof MaxAppendSizeExceededError || code === status.RESOURCE_EXHAUSTED) {
      return new RangeError(`the events are larger than the server takes at once: ${reason}`);
    }
    if (error instanceof StreamDeletedError)
      return new RangeError(`the stream was deleted for ever: ${reason}`);
    if (code === status.INVALID_ARGUMENT || /invalid ?position/i.test(reason)) {
      return new RangeError(`the server refuses this: ${reason}`);
    }
    const message = `EventStoreDB at ${address.shown}: ${reason}`;
    const outOfReach = typeof code !== 'number' || code === status.INTERNAL || code === status.CANCELLED;
    const isNotLeader = error instanceof NotLeaderError;
    const down = code === status.UNAVAILABLE && !reason.startsWith('Server Is ');
    if (outOfReach || isNotLeader || down) replace(used, isNotLeader ? error.leader : undefined);
    // What is left is the trouble of one operation, which may go well next time.
    const ofOne = code === status.UNKNOWN || code === status.ABORTED;
    if (!ofOne || /leader/i.test(reason)) known(message);
    return new StoreUnavailable(message, { cause: error });
  }

  /** Runs a call that was not begun if this server does not lead: then again, at the one that does. */
  async function call<Result>(action: (used: Connection) => Promise<Result>): Promise<Result> {
    for (let attempt = 1; ; attempt += 1) {
      let used: Connection | undefined;
      try {
        used = current();
        const result = await within(answerWithinMs + GRACE_MS, action(used));
        answered();
        return result;
      } catch (error) {
        if (error instanceof NotLeaderError && attempt === 1) replace(used, error.leader);
        else throw failure(used, error);
      }
    }
  }

  function readAll(from: LogPosition | 'start' | 'end', direction: 'forwards' | 'backwards', count: number) {
    return call((used) => {
      const options = { fromPosition: from, direction, maxCount: count, requiresLeader: true };
      return records(
        used,
        used.readAll(options, { highWaterMark: WAITING_RECORDS }) as Reading,
        answerWithinMs,
      );
    });
  }

  const server: Server = {
    readAll,
    readStream(stream, from, direction, count) {
      const fromRevision = typeof from === 'number' ? BigInt(from) : from;
      return call(async (used) => {
        const options = { fromRevision, direction, maxCount: count, requiresLeader: true };
        const reading = used.readStream(stream, options, { highWaterMark: WAITING_RECORDS });
        try {
          return await records(used, reading as Reading, answerWithinMs);
        } catch (error) {
          if (error instanceof StreamNotFoundError || error instanceof StreamDeletedError) return null;
          throw error;
        }
      });
    },
    append(stream, events, expected) {
      const expectedRevision =
        expected === 'no stream' ? 'no_stream' : expected === 'any' ? expected : BigInt(expected);
      return call(async (used) => {
        try {
          const appended = await used.appendToStream(stream, events as never, {
            expectedRevision,
            requiresLeader: true,
          });
          const { nextExpectedRevision, position = null } = appended;
          return { kind: 'appended', revision: Number(nextExpectedRevision), position };
        } catch (error) {
          if (!(error instanceof WrongExpectedVersionError)) throw error;
          const { actualVersion } = error;
          return {
            kind: 'wrong revision',
            actual: typeof actualVersion === 'bigint' && actualVersion >= 0n ? Number(actualVersion) : null,
          };
        }
      });
    },
    async softDelete(stream) {
      await call((used) => used.deleteStream(stream, { requiresLeader: true }));
    },
    async *subscribe(from, filter, signal) {
      let used: Connection | undefined;
      try {
        used = current();
        yield* subscription(used, from, filter, signal, answerWithinMs, answered);
      } catch (error) {
        throw failure(used, error);
      }
    },
  };

  return {
    server,
    /** @returns the server's version */
    async open(): Promise<string> {
      try {
        const version = await within(
          OPEN_WITHIN_MS,
          readAll('end', 'backwards', 1).then(() => connection?.version()),
        );
        opened = true;
        answered();
        return version ?? 'unknown';
      } catch (error) {
        throw failure(connection, error);
      }
    },
    async close() {
      clearTimeout(looking);
      const used = connection;
      connection = undefined;
      await used?.end();
    },
  };
}

/** In the words of gRPC, without what says nothing. */
function reasonOf(error: unknown): string {
  const message = error instanceof Error ? error.message : String(error);
  return message
    .replace(/^\d+ [A-Z_]+: /, '')
    .replace(/\.? ?Resolution note: *$/, '')
    .trim();
}

async function within<Result>(ms: number, work: Promise<Result>): Promise<Result> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`no answer within ${ms / 1000} s`)), ms);
  });
  try {
    return await Promise.race([work, late]);
  } finally {
    clearTimeout(timer);
  }
}

interface Reading extends Readable {
  cancel(): Promise<void>;
}

/** All that a read gives, which asked for a page at most. */
function records(used: Connection, reading: Reading, idleMs: number): Promise<LogRecord[]> {
  const { promise, resolve, reject } = Promise.withResolvers<LogRecord[]>();
  const found: LogRecord[] = [];
  const fail = (error: unknown) => {
    clearTimeout(timer);
    reject(error);
    // Later errors of a read that nobody waits for.
    reading.on('error', () => {});
    reading.cancel().catch(() => {});
    reading.destroy();
  };
  const timer = setTimeout(() => fail(new Error(`no answer within ${idleMs / 1000} s`)), idleMs);
  const cut = () => fail(new Error('the connection was ended while reading'));
  reading.on('data', ({ event }: { event?: LogRecord }) => {
    timer.refresh();
    if (event !== undefined) found.push(event);
  });
  reading.once('error', fail);
  reading.once('close', () => (reading.readableEnded ? undefined : cut()));
  reading.once('end', () => {
    if (used.cut) return cut();
    clearTimeout(timer);
    resolve(found);
  });
  return promise;
}

/** Reads a subscription as fast as it is iterated; ends it in the server, too, however the iteration ends. */
async function* subscription(
  used: Connection,
  from: LogPosition | 'start' | 'end',
  filter: ServerFilter | null,
  signal: AbortSignal,
  confirmWithinMs: number,
  answered: () => void,
): AsyncGenerator<Received, void, void> {
  let checkpoint: LogPosition | null = null;
  let live = false;
  let toldLive = false;
  let failed: { error: unknown } | undefined;
  let changed = false;
  let wake = () => {};
  const change = () => {
    changed = true;
    wake();
  };
  const fail = (error: unknown) => {
    failed ??= { error };
    change();
  };

  const stream = used.subscribeToAll(
    {
      fromPosition: from,
      requiresLeader: true,
      filter: {
        ...(filter === null
          ? { filterOn: 'eventType', regex: '^[^$]' }
          : { filterOn: filter.on, prefixes: [...filter.prefixes] }),
        maxSearchWindow: CHECKPOINT_RECORDS,
        checkpointInterval: 1,
        checkpointReached: (_, position) => {
          checkpoint = position;
          change();
        },
      },
    },
    { highWaterMark: WAITING_RECORDS },
  );
  const confirming = setTimeout(
    () => fail(new Error(`no answer within ${confirmWithinMs / 1000} s`)),
    confirmWithinMs,
  );
  stream.on('confirmation', () => {
    clearTimeout(confirming);
    answered();
  });
  stream.on('caughtUp', () => {
    live = true;
    change();
  });
  stream.on('fellBehind', () => {
    live = false;
    toldLive = false;
  });
  stream.on('readable', change);
  stream.on('error', fail);
  stream.on('end', () => fail(new Error('the server ended the subscription')));
  stream.on('close', () => fail(new Error('the server ended the subscription')));
  signal.addEventListener('abort', change);

  try {
    while (!signal.aborted) {
      changed = false;
      const found: LogRecord[] = [];
      while (found.length < PAGE_RECORDS) {
        const next: { event?: LogRecord } | null = stream.read();
        if (next === null) break;
        if (next.event !== undefined) found.push(next.event);
      }
      // Checkpoints and being live are told when what was sent before them may still wait to be read.
      const drained = stream.readableLength === 0;
      const reached = drained ? checkpoint : null;
      if (drained) checkpoint = null;
      const isLive = live && drained;
      if (found.length > 0 || reached !== null || (isLive && !toldLive)) {
        toldLive ||= isLive;
        const quiet = drained && (stream as unknown as Duplex).writableLength === 0;
        yield { records: found, checkpoint: reached, live: isLive, drained, quiet };
      } else if (failed !== undefined) {
        throw failed.error;
      } else if (!changed) {
        await new Promise<void>((resolve) => {
          wake = resolve;
        });
        // What was committed together is mostly here by then, and makes one page.
        await othersRan();
      }
    }
  } finally {
    clearTimeout(confirming);
    signal.removeEventListener('abort', change);
    stream.on('error', () => {});
    // To destroy it is not enough: the call would stay open.
    stream.unsubscribe().catch(() => {});
    stream.destroy();
  }
}
