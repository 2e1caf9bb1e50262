/**
 * A program that is killed (-9) and started again while clients talk to it: what they do goes on with the next start,
 * and the log is read, and checked, as it grows.
 */
import { randomInt } from 'node:crypto';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { AssertionError, expect } from 'chai';
import type { EventEnvelope } from '../contracts/envelope.ts';
import { openSqliteReadModels } from '../infra/read-models/sqlite.ts';
import { Unavailable } from './conversing.ts';
import { client, condition, launchProgram, login, type Program, startProgram } from './program.ts';

const AGAIN_MS = 100;

export interface KillableOptions {
  readonly dataDir: string;
  readonly env: Readonly<Record<string, string>>;
  /** The longest time between two kills, and from a start to a kill before the program is ready. */
  readonly livesMs: number;
  /** So long the projections may take to see everything, when nothing else is done. */
  readonly settlesWithinMs?: number;
}

export interface Killable extends AsyncDisposable {
  /** The one that runs, or starts. */
  readonly program: Program;
  /** The administrator's. */
  readonly token: string;
  /** As far as it was read. */
  readonly log: readonly EventEnvelope[];
  /** Does it on the running program; when that is killed meanwhile, again on the next, as a client would. */
  persist<Result>(work: (url: string) => Promise<Result>): Promise<Result>;
  /** Kills the program at a random instant, and starts it again. */
  killAndRestart(): Promise<void>;
  /** Twice in a row, the second time maybe before it is ready. */
  killWhileStarting(): Promise<void>;
  /** Reads what the log got since the last time. What was read before must still be there. */
  readLog(): Promise<void>;
  /** Resolves when every projection has seen everything, without a failure. */
  current(): Promise<void>;
  /** Ends it in good order, and starts it again after `meanwhile`. */
  whileStopped<Result>(meanwhile: () => Promise<Result>): Promise<Result>;
  /** Every document of every live copy, as text, in order. The program must have ended. */
  dump(): Promise<string[]>;
  /** Removes the read models. The program must have ended. */
  forgetReadModels(): Promise<void>;
}

/** Starts the program, and logs in as its administrator. */
export async function startKillable(options: KillableOptions): Promise<Killable> {
  const { dataDir, env, livesMs, settlesWithinMs = 90_000 } = options;
  let program = await startProgram({ dataDir, env });
  const { token } = await login(program.url);
  const log: EventEnvelope[] = [];
  const start = () => launchProgram({ dataDir, env });

  async function persist<Result>(work: (url: string) => Promise<Result>): Promise<Result> {
    for (;;) {
      const used = program;
      try {
        await used.ready;
        return await work(used.url);
      } catch (error) {
        if (error instanceof AssertionError) throw error;
        if (error instanceof Unavailable) {
          await delay(AGAIN_MS);
          continue;
        }
        const { signal } = await Promise.race([used.exited, delay(5_000, { signal: null }, { ref: false })]);
        if (signal !== 'SIGKILL') throw error;
        await condition(() => program !== used, { withinMs: 60_000, what: 'the next start' });
      }
    }
  }

  async function killAndRestart(): Promise<void> {
    await delay(randomInt(livesMs));
    expect(program.stderr, 'errors that the program logged').to.equal('');
    await program.kill('SIGKILL');
    program = await start();
    await program.ready;
  }

  /** Those that have not seen everything. */
  async function behind(): Promise<string[]> {
    const { body } = await client(program.url, token).get('/api/projections');
    expect(body.projections).not.to.be.empty;
    const late: string[] = [];
    for (const projection of body.projections) {
      expect(projection, projection.name).to.include({ failed: 0, waiting: 0 });
      if (projection.lag > 0 || projection.state !== 'live') late.push(JSON.stringify(projection));
      else expect(projection.complete, `${projection.name} has seen every event of its types`).to.equal(true);
    }
    return late;
  }

  return {
    get program() {
      return program;
    },
    token,
    log,
    persist,
    killAndRestart,
    async killWhileStarting() {
      await program.kill('SIGKILL');
      program = await start();
      await killAndRestart();
    },
    async readLog() {
      const { get } = client(program.url, token);
      let next: string | null = log.at(-2)?.position ?? '0';
      const known = log.pop();
      const readBefore = log.length;
      while (next !== null) {
        const { status, body } = await get(`/api/log/events?from=${next}&limit=1000`);
        expect(status, JSON.stringify(body)).to.equal(200);
        log.push(...body.events);
        next = body.next;
      }
      if (known !== undefined) {
        expect(log[readBefore], 'an event that was there before').to.deep.equal(known);
      }
    },
    async current() {
      const deadline = performance.now() + settlesWithinMs;
      for (let late = await behind(); late.length > 0; late = await behind()) {
        if (performance.now() > deadline) throw new Error(`Not current in time: ${late.join('\n')}`);
        await delay(AGAIN_MS);
      }
    },
    async whileStopped(meanwhile) {
      await program.stop();
      const result = await meanwhile();
      program = await start();
      await program.ready;
      return result;
    },
    async dump() {
      const readModels = await openSqliteReadModels({ file: join(dataDir, 'read-models.db') });
      try {
        const lines: string[] = [];
        for (const { copy, projection, live } of await readModels.copies()) {
          if (!live) continue;
          for await (const document of readModels.dump(copy)) {
            lines.push(`${projection} ${JSON.stringify(document)}`);
          }
        }
        return lines.sort();
      } finally {
        await readModels.close();
      }
    },
    async forgetReadModels() {
      for (const suffix of ['', '-wal', '-shm']) {
        await rm(join(dataDir, `read-models.db${suffix}`), { force: true });
      }
    },
    async [Symbol.asyncDispose]() {
      await program[Symbol.asyncDispose]();
    },
  };
}
