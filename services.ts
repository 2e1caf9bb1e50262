/** Knows the parts of this process that can be stopped and started, and does so one after the other. */
import { Refusal } from './contracts/errors.ts';
import type { ServiceProfile, ServiceStatus, Services } from './contracts/services.ts';
import type { Logger } from './infra/telemetry/port.ts';

export interface Unit {
  readonly name: string;
  /** The smallest profile that it belongs to. */
  readonly profile: ServiceProfile;
  /** Resolves when it runs. */
  start(): Promise<{ stop(): Promise<unknown> }>;
}

export interface ServiceRegistry extends Services {
  /** Starts it. Units are stopped in the reverse order. @throws what its start throws */
  add(unit: Unit): Promise<void>;
  /** False for what this process has not. */
  isStopped(name: string): boolean;
  /** Stops them (all, when none is named) for good and at once: from now on nothing can be started. */
  end(...names: readonly string[]): Promise<void>;
}

interface Entry {
  readonly unit: Unit;
  /** Null while it is stopped. */
  running: { stop(): Promise<unknown> } | null;
  /** While it is being stopped. */
  stopping: Promise<unknown> | null;
  since: number;
}

export function createServices(logger: Logger, now: () => number = Date.now): ServiceRegistry {
  const entries: Entry[] = [];
  let ended = false;
  let last: Promise<unknown> = Promise.resolve();

  /** What is asked for at the same time is done one after the other. */
  function inTurn<Result>(work: () => Promise<Result>): Promise<Result> {
    const turn = last.then(work);
    last = turn.catch(() => {}); // its caller learns of it
    return turn;
  }

  async function start(entry: Entry): Promise<void> {
    if (entry.running !== null) return;
    if (ended) throw new Refusal('SERVICE_UNAVAILABLE', 'The server shuts down.');
    const running = await entry.unit.start();
    entry.running = running;
    entry.since = now();
    if (!ended) return;
    // While it started the end began, and has not seen it.
    await stop(entry);
    throw new Refusal('SERVICE_UNAVAILABLE', 'The server shuts down.');
  }

  async function stop(entry: Entry): Promise<void> {
    const { running } = entry;
    if (running !== null) {
      // From the moment on in which it begins to stop.
      entry.running = null;
      entry.since = now();
      entry.stopping = running.stop().finally(() => {
        entry.stopping = null;
      });
    }
    await entry.stopping;
  }

  const named = (names: readonly string[]): Entry[] =>
    entries.filter(({ unit }) => names.includes(unit.name));

  /** Whatever keeps a part from starting or stopping: the request for it was in order. */
  async function attempt(entry: Entry, what: string, work: (entry: Entry) => Promise<void>): Promise<void> {
    try {
      await work(entry);
      logger.info({ service: entry.unit.name }, `A service was ${what}`);
    } catch (error) {
      if (error instanceof Refusal) throw error;
      const { name } = entry.unit;
      logger.error({ err: error, service: name }, `A service could not be ${what}`);
      throw new Refusal('SERVICE_UNAVAILABLE', `${name} could not be ${what}: the server's log says why.`, {
        retryAfterSeconds: 5,
      });
    }
  }

  return {
    async add(unit) {
      const entry: Entry = { unit, running: null, stopping: null, since: now() };
      entries.push(entry);
      await inTurn(() => start(entry));
    },
    isStopped: (name) => named([name]).some(({ running }) => running === null),
    status: () =>
      entries.map(
        ({ unit, running, since }): ServiceStatus => ({
          name: unit.name,
          running: running !== null,
          since,
        }),
      ),
    of: (profile) =>
      entries
        .filter(({ unit }) => profile === 'full' || unit.profile === profile)
        .map(({ unit }) => unit.name),
    start: (names) =>
      inTurn(async () => {
        for (const entry of named(names)) await attempt(entry, 'started', start);
      }),
    stop: (names) =>
      inTurn(async () => {
        for (const entry of named(names).reverse()) await attempt(entry, 'stopped', stop);
      }),
    async end(...names) {
      ended = true;
      const ending = names.length === 0 ? [...entries] : named(names);
      await Promise.all(ending.map(stop));
    },
  };
}
