/** A server in a process of its own, for tests: on the loopback interface, with its data in a temporary directory. */
import { type ChildProcess, spawn } from 'node:child_process';
import { randomInt } from 'node:crypto';
import { mkdtemp, open, readFile, rm } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';

const POLL_MS = 50;
/** Below the ports that systems give to outgoing connections: one of those would keep a restarted engine out. */
const PORTS = { from: 20_000, to: 32_000 } as const;
const ATTEMPTS = 3;
/** So much of what an engine printed goes into an error. */
const OUTPUT_CHARACTERS = 4_000;

export interface Engine {
  /** Of the process that runs now; another after `restart`. */
  readonly pid: number;
  /** The end of what it has printed so far. */
  output(): Promise<string>;
  /** Ends it for good and removes its data. */
  stop(): Promise<void>;
  /** Ends the process and keeps port and data for `restart`. SIGKILL unless another signal is given. */
  kill(signal?: 'SIGKILL' | 'SIGTERM'): Promise<void>;
  /** Starts it again on the same port and data, after ending it if it still runs. Resolves when it answers. */
  restart(): Promise<void>;
  /** The process stands still: connections stay open, and nothing answers. */
  suspend(): void;
  resume(): void;
}

export interface EngineRecipe {
  readonly name: string;
  /** How many ports it listens on. */
  readonly ports: number;
  /** Fills the empty data directory. */
  prepare?(directory: string, ports: readonly number[]): Promise<void>;
  /** The program and its arguments. */
  command(directory: string, ports: readonly number[]): readonly string[];
  /** Resolves when the engine that listens on these ports answers and is this one; otherwise throws. */
  ask(directory: string, ports: readonly number[], pid: number): Promise<void>;
  readonly readyWithinMs: number;
}

/**
 * Starts an engine and waits until it answers. The engine ends when this process does, however that ends, and its
 * data is removed then.
 * @throws Error with what the engine printed when it ends or does not answer in time
 */
export async function startEngine(
  recipe: EngineRecipe,
): Promise<{ engine: Engine; ports: readonly number[] }> {
  for (let attempt = 1; ; attempt++) {
    const directory = await mkdtemp(join(tmpdir(), `odeon-${recipe.name}-`));
    try {
      const ports = await freePorts(recipe.ports);
      await recipe.prepare?.(directory, ports);
      return { engine: await run(recipe, directory, ports), ports };
    } catch (error) {
      await rm(directory, { recursive: true, force: true });
      const taken = error instanceof Error && /address already in use/i.test(error.message);
      if (!taken || attempt === ATTEMPTS) throw error;
    }
  }
}

async function run(recipe: EngineRecipe, directory: string, ports: readonly number[]): Promise<Engine> {
  const log = join(directory, 'output.log');
  const output = async () => (await readFile(log, 'utf8')).slice(-OUTPUT_CHARACTERS);
  let running: Running | null = null;

  async function launch(): Promise<void> {
    const [program = '', ...args] = recipe.command(directory, ports);
    const file = await open(log, 'a');
    try {
      running = watched(
        spawn(program, args, { stdio: ['ignore', file.fd, file.fd], detached: true }),
        directory,
      );
    } finally {
      await file.close();
    }
    const { pid, exited } = running;
    let ended: string | null = null;
    void exited.then((why) => (ended = why));
    const deadline = performance.now() + recipe.readyWithinMs;
    let problem: unknown;
    while (ended === null && performance.now() < deadline) {
      try {
        await recipe.ask(directory, ports, pid);
        if (ended === null) return;
      } catch (error) {
        problem = error;
      }
      await Promise.race([delay(POLL_MS), exited]);
    }
    await end('SIGKILL');
    const why = ended ?? `it did not answer within ${recipe.readyWithinMs} ms: ${problem}`;
    throw new Error(`${recipe.name} did not start: ${why}\n${await output()}`);
  }

  async function end(signal: 'SIGKILL' | 'SIGTERM'): Promise<void> {
    if (running === null) return;
    const { exited, child } = running;
    child.kill('SIGCONT');
    child.kill(signal);
    await exited;
    running = null;
  }

  await launch();
  const alive = (): Running => {
    if (running === null) throw new Error(`${recipe.name} does not run.`);
    return running;
  };
  return {
    get pid() {
      return alive().pid;
    },
    output,
    kill: (signal = 'SIGKILL') => end(signal),
    async stop() {
      await end('SIGKILL');
      await rm(directory, { recursive: true, force: true });
    },
    async restart() {
      await end('SIGKILL');
      await launch();
    },
    suspend: () => void alive().child.kill('SIGSTOP'),
    resume: () => void alive().child.kill('SIGCONT'),
  };
}

interface Running {
  readonly child: ChildProcess;
  readonly pid: number;
  /** Why it ended. */
  readonly exited: Promise<string>;
}

/**
 * Nothing in this process can end the engine after a SIGKILL of this process. So a shell beside it waits for the end
 * of a pipe that only this process holds. The engine and the shell are no part of the terminal's process group:
 * Ctrl-C reaches only this process.
 */
function watched(child: ChildProcess, directory: string): Running {
  const { promise: exited, resolve } = Promise.withResolvers<string>();
  child.once('error', (error) => resolve(error.message));
  const { pid } = child;
  if (pid === undefined) return { child, pid: 0, exited };
  const watchdog = spawn(
    'sh',
    ['-c', 'read -r over || { kill -9 "$0"; rm -rf "$1"; }', `${pid}`, directory],
    {
      stdio: ['pipe', 'ignore', 'ignore'],
      detached: true,
    },
  );
  watchdog.on('error', (error) => {
    child.kill('SIGKILL');
    resolve(`its watchdog did not start: ${error.message}`);
  });
  watchdog.stdin.on('error', () => {}); // somebody killed the watchdog: then nothing is left to tell it
  child.once('exit', (code, signal) => {
    watchdog.stdin.end('over\n');
    resolve(`it ended with ${signal ?? code}`);
  });
  return { child, pid, exited };
}

/** Ports that nobody listens on now. */
async function freePorts(count: number): Promise<number[]> {
  const ports: number[] = [];
  while (ports.length < count) {
    const port = randomInt(PORTS.from, PORTS.to);
    if (!ports.includes(port) && (await isFree(port))) ports.push(port);
  }
  return ports;
}

function isFree(port: number): Promise<boolean> {
  const { promise, resolve } = Promise.withResolvers<boolean>();
  const server = createServer();
  server.once('error', () => resolve(false));
  server.listen(port, '127.0.0.1', () => server.close(() => resolve(true)));
  return promise;
}
