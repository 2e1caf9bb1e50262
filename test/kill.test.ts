/**
 * The program is killed (-9) at random instants, again and again, while clients send messages and follow the
 * answers; each time the log must hold what was acknowledged, and in the end all must be as if nothing had
 * happened. KILLS says how often (12; 200 take about a quarter of an hour).
 */
import { randomInt } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { AssertionError, expect } from 'chai';
import type { EventEnvelope } from '../contracts/envelope.ts';
import { openSqliteReadModels } from '../infra/read-models/sqlite.ts';
import { createConversing } from './conversing.ts';
import { faultsOf, openTurns } from './log-invariants.ts';
import { client, condition, launchProgram, login, type Program, startProgram } from './program.ts';

const KILLS = Number(process.env.KILLS ?? 12);
const CLIENTS = 6;
/** The longest time between two kills, and from a start to a kill before the program is ready. */
const LIVES_MS = 1_500;
const SETTLES_WITHIN_MS = 90_000;
/** A day, so that one login serves the whole test. */
const env = { ACCESS_TOKEN_MINUTES: '1440', LOG_LEVEL: 'error' };

describe(`killed ${KILLS} times under load`, function () {
  this.timeout(60_000 + KILLS * 20_000);

  let dataDir: string;
  let program: Program;
  let token: string;
  let sending = true;
  const log: EventEnvelope[] = [];

  before(async () => {
    dataDir = await mkdtemp(join(tmpdir(), 'odeon-kill-'));
    program = await startProgram({ dataDir, env });
    token = (await login(program.url)).token;
  });
  after(async () => {
    sending = false;
    await program[Symbol.asyncDispose]();
    await rm(dataDir, { recursive: true });
  });

  /** Does it on the running program; when that is killed meanwhile, again on the next, as a client would. */
  async function persist<Result>(work: (url: string) => Promise<Result>): Promise<Result> {
    for (;;) {
      const used = program;
      try {
        await used.ready;
        return await work(used.url);
      } catch (error) {
        if (error instanceof AssertionError) throw error;
        const { signal } = await Promise.race([used.exited, delay(5_000, { signal: null }, { ref: false })]);
        if (signal !== 'SIGKILL') throw error;
        await condition(() => program !== used, { withinMs: 60_000, what: 'the next start' });
      }
    }
  }

  const conversing = createConversing({ persist: (_service, work) => persist(work), token: () => token });
  const { acknowledged } = conversing;

  /** Kills the program at a random instant, and starts it again. */
  async function killAndRestart(): Promise<void> {
    await delay(randomInt(LIVES_MS));
    expect(program.stderr, 'errors that the program logged').to.equal('');
    await program.kill('SIGKILL');
    program = await launchProgram({ dataDir, env });
    await program.ready;
  }
  /** Twice in a row, the second time maybe before it is ready. */
  async function killWhileStarting(): Promise<void> {
    await program.kill('SIGKILL');
    program = await launchProgram({ dataDir, env });
    await killAndRestart();
  }

  /** Reads what the log got since the last time, and checks all of it. */
  async function checkLog(): Promise<void> {
    // Of those acknowledged from now on, the log that is read may hold nothing yet.
    const expected = [...acknowledged];
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
    if (known !== undefined) expect(log[readBefore], 'an event that was there before').to.deep.equal(known);
    expect(faultsOf(log, expected), 'faults of the log').to.deep.equal([]);
  }

  async function readModelsAreCurrent(): Promise<boolean> {
    const { body } = await client(program.url, token).get('/api/projections');
    expect(body.projections).not.to.be.empty;
    for (const projection of body.projections) {
      expect(projection, projection.name).to.include({ failed: 0, waiting: 0 });
      if (projection.lag > 0 || projection.state !== 'live') return false;
      expect(projection.complete, `${projection.name} has seen every event of its types`).to.equal(true);
    }
    return true;
  }

  /** Every document of every live copy, as text. The program must have ended. */
  async function dump(): Promise<string[]> {
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
  }

  it('loses, doubles and repeats nothing, and finishes every answer', async () => {
    const clients = Array.from({ length: CLIENTS }, () => conversing.converse(() => sending));
    const failed = Promise.all(clients);
    failed.catch(() => {}); // reported below
    for (let kill = 0; kill < KILLS; kill += 1) {
      await Promise.race([kill % 4 === 3 ? killWhileStarting() : killAndRestart(), failed]);
      await checkLog();
    }
    sending = false;
    await failed;

    await condition(
      async () => {
        await checkLog();
        return openTurns(log).length === 0;
      },
      { withinMs: SETTLES_WITHIN_MS, what: 'the end of every turn' },
    );
    expect(acknowledged.length, 'messages sent').to.be.greaterThan(KILLS);

    conversing.compareWith(log);
  });

  it('leaves read models that are, byte for byte, those of a rebuild from scratch', async () => {
    const current = { withinMs: SETTLES_WITHIN_MS, what: 'the projections to catch up' };
    await condition(readModelsAreCurrent, current);
    await program.stop();
    const kept = await dump();

    for (const suffix of ['', '-wal', '-shm']) {
      await rm(join(dataDir, `read-models.db${suffix}`), { force: true });
    }
    program = await startProgram({ dataDir, env });
    await condition(readModelsAreCurrent, current);
    await program.stop();
    const rebuilt = await dump();

    expect(kept.length).to.be.greaterThan(acknowledged.length);
    expect(rebuilt).to.deep.equal(kept);
  });
});
