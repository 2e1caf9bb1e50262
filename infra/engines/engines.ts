/** Connects to the engines and knows which of them can be used. */
import { setTimeout as delay } from 'node:timers/promises';
import type { EngineName, EngineStatus } from '../../contracts/engines.ts';
import type { Logger } from '../telemetry/port.ts';
import type { AvailabilityListener } from './port.ts';

const FIRST_PAUSE_MS = 500;
const LONGEST_PAUSE_MS = 10_000;

export interface Server {
  readonly name: EngineName;
  /** Without credentials. */
  readonly address: string;
}

export interface Engines {
  /** Notes an engine that is part of this process. */
  embedded(name: EngineName): void;
  /**
   * Opens what is at an address, and tries again, with growing pauses, for as long as nobody answers there.
   * @param open tells the listener it is given of every later change
   * @throws what aborted `signal`
   */
  connect<Opened>(
    server: Server,
    open: (onAvailability: AvailabilityListener) => Promise<Opened>,
    signal: AbortSignal,
  ): Promise<Opened>;
  status(): readonly EngineStatus[];
  /** The engine that cannot be used; null when all can. */
  unavailable(): EngineName | null;
}

export function createEngines(logger: Logger): Engines {
  const engines = new Map<EngineName, EngineStatus>();

  function note(server: Server, problem: string | null): void {
    const before = engines.get(server.name);
    if (before !== undefined && before.problem === problem) return;
    engines.set(server.name, { ...server, kind: 'server', available: problem === null, problem });
    if (problem !== null) logger.warn({ ...server, problem }, 'An engine cannot be used');
    else if (before !== undefined) logger.info({ ...server }, 'An engine can be used again');
  }

  return {
    embedded(name) {
      engines.set(name, { name, kind: 'embedded', address: null, available: true, problem: null });
    },
    async connect(server, open, signal) {
      for (let pauseMs = FIRST_PAUSE_MS; ; pauseMs = Math.min(2 * pauseMs, LONGEST_PAUSE_MS)) {
        signal.throwIfAborted();
        try {
          const opened = await open((problem) => note(server, problem));
          note(server, null);
          return opened;
        } catch (error) {
          signal.throwIfAborted();
          const { message } = error as Error;
          note(server, message);
          logger.info({ ...server, seconds: pauseMs / 1_000 }, 'Trying again');
          await delay(pauseMs, undefined, { signal });
        }
      }
    },
    status: () => [...engines.values()],
    unavailable: () => [...engines.values()].find(({ available }) => !available)?.name ?? null,
  };
}

/**
 * An address as it may be shown: the hosts of a connection string, without who logs in. Up to the last `@`: a password
 * may hold what should have been percent-encoded, and is shown even less then.
 */
export const withoutCredentials = (url: string): string =>
  url.replace(/\/\/.*@/s, '//').replace(/[?#].*$/s, '');
