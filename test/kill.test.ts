/**
 * The program is killed (-9) at random instants, again and again, while clients send messages and follow the
 * answers; each time the log must hold what was acknowledged, and in the end all must be as if nothing had
 * happened. KILLS says how often (12; 200 take about a quarter of an hour).
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import { createConversing } from './conversing.ts';
import { type Killable, startKillable } from './killable.ts';
import { faultsOf, openTurns } from './log-invariants.ts';
import { condition } from './program.ts';

const KILLS = Number(process.env.KILLS ?? 12);
const CLIENTS = 6;
const LIVES_MS = 1_500;
const SETTLES_WITHIN_MS = 90_000;
/** A day, so that one login serves the whole test. */
const env = { ACCESS_TOKEN_MINUTES: '1440', LOG_LEVEL: 'error' };

describe(`killed ${KILLS} times under load`, function () {
  this.timeout(60_000 + KILLS * 20_000);

  let dataDir: string;
  let killable: Killable;
  let sending = true;

  before(async () => {
    dataDir = await mkdtemp(join(tmpdir(), 'odeon-kill-'));
    killable = await startKillable({ dataDir, env, livesMs: LIVES_MS });
  });
  after(async () => {
    sending = false;
    await killable[Symbol.asyncDispose]();
    await rm(dataDir, { recursive: true });
  });

  const conversing = createConversing({
    persist: (_service, work) => killable.persist(work),
    token: () => killable.token,
  });
  const { acknowledged } = conversing;

  async function checkLog(): Promise<void> {
    // Of those acknowledged from now on, the log that is read may hold nothing yet.
    const expected = [...acknowledged];
    await killable.readLog();
    expect(faultsOf(killable.log, expected), 'faults of the log').to.deep.equal([]);
  }

  it('loses, doubles and repeats nothing, and finishes every answer', async () => {
    const clients = Array.from({ length: CLIENTS }, () => conversing.converse(() => sending));
    const failed = Promise.all(clients);
    failed.catch(() => {}); // reported below
    for (let kill = 0; kill < KILLS; kill += 1) {
      const { killWhileStarting, killAndRestart } = killable;
      await Promise.race([kill % 4 === 3 ? killWhileStarting() : killAndRestart(), failed]);
      await checkLog();
    }
    sending = false;
    await failed;

    await condition(
      async () => {
        await checkLog();
        return openTurns(killable.log).length === 0;
      },
      { withinMs: SETTLES_WITHIN_MS, what: 'the end of every turn' },
    );
    expect(acknowledged.length, 'messages sent').to.be.greaterThan(KILLS);

    conversing.compareWith(killable.log);
  });

  it('leaves read models that are, byte for byte, those of a rebuild from scratch', async () => {
    await killable.current();
    const kept = await killable.whileStopped(async () => {
      const dump = await killable.dump();
      await killable.forgetReadModels();
      return dump;
    });
    await killable.current();
    const rebuilt = await killable.whileStopped(() => killable.dump());

    expect(kept.length).to.be.greaterThan(acknowledged.length);
    expect(rebuilt).to.deep.equal(kept);
  });
});
