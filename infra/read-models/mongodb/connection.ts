/**
 * The connection to MongoDB: what is waited for and how long, what the driver's errors are to the rest of Odeon, and
 * whether the server can be used, known without traffic from the driver's heartbeats.
 */
import {
  BSON,
  type Db,
  MongoClient,
  type MongoClientOptions,
  MongoError,
  ReadConcern,
  type TopologyDescription,
} from 'mongodb';
import type { AvailabilityListener } from '../../engines/port.ts';
import { StoreUnavailable } from '../../event-store/port.ts';

const OPEN_WITHIN_MS = 5_000;
/** In milliseconds. What the URL says of these counts instead. */
const DEFAULTS = {
  appName: 'odeon',
  /** How long to look for a primary, and so how long a call waits while there is none. */
  serverSelectionTimeoutMS: 3_000,
  connectTimeoutMS: 3_000,
  waitQueueTimeoutMS: 3_000,
  /** Longer than the write concern's, so that a slow majority is told apart from a dead connection. */
  socketTimeoutMS: 6_000,
  heartbeatFrequencyMS: 2_000,
} as const satisfies MongoClientOptions;
const WRITE_TIMEOUT_MS = 4_000;
const DEFAULT_DATABASE = 'odeon';

export interface Connection {
  readonly db: Db;
  /** Runs the work. @throws StoreUnavailable when the database fails, or the connection was closed */
  attempt<Result>(work: () => Promise<Result>): Promise<Result>;
  close(): Promise<void>;
}

/**
 * @param url as the driver takes it; its database is used when none is given, and `odeon` when it names none. What it
 * says of write concern, read concern and read preference does not count: the read models' promises rest on a
 * majority that has journaled, and on the primary.
 * @throws StoreUnavailable naming the hosts when none can be used within five seconds
 */
export async function connect({
  url,
  database,
  onAvailability,
}: {
  readonly url: string;
  readonly database: string | undefined;
  readonly onAvailability: AvailabilityListener;
}): Promise<Connection> {
  const { address, path, parameters, secrets } = partsOf(url);
  const redacted = (text: string) => secrets.reduce((shown, secret) => shown.replaceAll(secret, '***'), text);
  const unusable = (reason: string, cause?: unknown) =>
    new StoreUnavailable(`MongoDB at ${address} cannot be used: ${redacted(reason)}`, {
      cause,
      engine: 'read models',
    });
  const messageOf = (error: unknown) => (error instanceof Error ? error.message : String(error));

  const client = ((): MongoClient => {
    try {
      const defaults = Object.entries(DEFAULTS).filter(([name]) => !parameters.has(name.toLowerCase()));
      return new MongoClient(url, Object.fromEntries(defaults));
    } catch (error) {
      throw unusable(messageOf(error), error);
    }
  })();

  /** What was told last; undefined before it is open. */
  let told: string | null | undefined;
  const tell = (problem: string | null): void => {
    if (told === undefined || told === problem) return;
    told = problem;
    onAvailability(problem);
  };
  client.on('topologyDescriptionChanged', ({ newDescription }) => {
    const problem = problemOf(newDescription);
    tell(problem === null ? null : unusable(problem).message);
  });

  try {
    await within(OPEN_WITHIN_MS, client.connect());
  } catch (error) {
    await client.close().catch(() => {}); // why it could not be opened is what counts
    throw unusable(messageOf(error), error);
  }
  told = null;
  onAvailability(null);

  let closed = false;
  return {
    db: client.db(database ?? path ?? DEFAULT_DATABASE, {
      readPreference: 'primary',
      readConcern: new ReadConcern('local'),
      writeConcern: { w: 'majority', journal: true, wtimeoutMS: WRITE_TIMEOUT_MS },
    }),
    async attempt(work) {
      if (closed) throw unusable('it was closed');
      try {
        return await work();
      } catch (error) {
        if (error instanceof MongoError || error instanceof BSON.BSONError || isOfSocket(error)) {
          throw unusable(messageOf(error), error);
        }
        throw error;
      }
    },
    async close() {
      closed = true;
      told = undefined; // its end is no news of the server
      await client.close();
    },
  };
}

/** The driver passes on what a socket says that its server has just ended, as Node has it. */
const isOfSocket = (error: unknown): boolean =>
  error instanceof Error && 'code' in error && (error.code === 'EPIPE' || error.code === 'ECONNRESET');

/** Why nothing can be written there; null when it can. */
function problemOf(topology: TopologyDescription): string | null {
  const servers = [...topology.servers.values()];
  if (servers.some((server) => server.isWritable)) return null;
  const failed = servers.find((server) => server.error !== null);
  return failed?.error?.message ?? 'none of its servers takes writes now';
}

/** Of a URL that may be malformed. Several hosts stay together, as they are written. */
function partsOf(url: string) {
  const {
    userInfo = '',
    hosts = '',
    path = '',
    query = '',
  } = /^[^:]*:\/\/(?:(?<userInfo>.*)@)?(?<hosts>[^/?#]*)(?:\/(?<path>[^?#]*))?(?:\?(?<query>.*))?$/.exec(url)
    ?.groups ?? {};
  const password = userInfo.includes(':') ? userInfo.slice(userInfo.indexOf(':') + 1) : '';
  const parameters = [...new URLSearchParams(query)];
  const hidden = parameters.filter(([name]) => /password|authMechanismProperties/i.test(name));
  return {
    address: hosts || 'an address that is none',
    path: path === '' ? undefined : decoded(path),
    parameters: new Set(parameters.map(([name]) => name.toLowerCase())),
    secrets: [password, decoded(password), ...hidden.map(([, value]) => value)].filter((text) => text !== ''),
  };
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text; // malformed: the driver says so
  }
}

async function within<Result>(limitMs: number, promise: Promise<Result>): Promise<Result> {
  const { promise: late, reject } = Promise.withResolvers<never>();
  const timer = setTimeout(() => reject(new Error(`it did not answer within ${limitMs} ms`)), limitMs);
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}
