/** The runtime is killed (SIGKILL) while it works; the next start must find nothing lost and nothing doubled. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setImmediate as othersRan } from 'node:timers/promises';
import { expect } from 'chai';
import { openSqliteEventStore } from '../../infra/event-store/sqlite.ts';
import { openSqliteReadModels } from '../../infra/read-models/sqlite.ts';
import { fold } from '../fold.ts';
import { accounts, journal } from './ledger.fixture.ts';
import { startProjections } from './runtime.ts';

const KILLS = 8;
const from = (path: string) => JSON.stringify(join(import.meta.dirname, path));

/** Appends and projects without end, in batches of a few events, with a rebuild going on now and then. */
const program = `
  import { openSqliteEventStore } from ${from('../../infra/event-store/sqlite.ts')};
  import { openSqliteReadModels } from ${from('../../infra/read-models/sqlite.ts')};
  import { accounts, closed, journal, paid } from ${from('./ledger.fixture.ts')};
  import { startProjections } from ${from('./runtime.ts')};
  const directory = process.argv[2];
  const store = await openSqliteEventStore({ directory });
  const readModels = await openSqliteReadModels({ file: directory + '/read-models.db' });
  const projections = [accounts({ fails: (event) => event.data.amount % 97 === 96 }), journal];
  const runtime = await startProjections({ store, readModels, projections, batchSize: 3 });
  for (let round = 0; ; round++) {
    const events = Array.from({ length: 10 }, (_, at) =>
      at === 9 && round % 5 === 0 ? closed('a' + (round % 7)) : paid('a' + (at % 7), round * 10 + at));
    const { position } = await store.append('ledger-1', events, { expectedRevision: 'any' });
    if (round % 20 === 3) await runtime.rebuild('accounts');
    if (round % 3 === 0) await runtime.waitFor(position, 1_000);
    if (round === 0) process.stdout.write('working');
  }`;

describe('the projection runtime, killed', function () {
  this.timeout(120_000);

  it('goes on from its last batch: read models equal to the log, event for event', async () => {
    const directory = await mkdtemp(join(tmpdir(), 'odeon-crash-'));
    try {
      const file = join(directory, 'program.mjs');
      await writeFile(file, program);
      for (let kill = 0; kill < KILLS; kill++) {
        const child = spawn(process.execPath, [file, directory], { stdio: ['ignore', 'pipe', 'inherit'] });
        const ended = once(child, 'exit');
        expect(await Promise.race([once(child.stdout, 'data').then(String), ended])).to.equal('working');
        // Spread over what the program does in its first tenths of a second.
        const deadline = performance.now() + 20 * kill;
        while (performance.now() < deadline) await othersRan();
        child.kill('SIGKILL');
        await ended;
      }
      await check(directory);
    } finally {
      await rm(directory, { recursive: true });
    }
  });
});

async function check(directory: string): Promise<void> {
  const store = await openSqliteEventStore({ directory });
  const readModels = await openSqliteReadModels({ file: join(directory, 'read-models.db') });
  const fed = accounts({ fails: (event) => event.data.amount % 97 === 96 });
  const runtime = await startProjections({ store, readModels, projections: [fed, journal] });
  try {
    expect(await runtime.waitFor(await store.head(), 20_000)).to.equal(true);
    const events = [];
    for await (const page of store.readAll()) events.push(...page.events);
    expect(events.length).to.be.greaterThan(10 * KILLS);
    for (const projection of [fed, journal]) {
      const live = (await readModels.copies()).find(
        (copy) => copy.projection === projection.name && copy.live,
      );
      const stored: string[] = [];
      for await (const { id, body } of readModels.dump(live!.copy)) stored.push(JSON.stringify([id, body]));
      const folded = [...fold(projection, events)].map((entry) => JSON.stringify(entry));
      expect(stored.toSorted()).to.deep.equal(folded.toSorted());
    }
    for (const status of await runtime.status()) expect(status).to.include({ complete: true, lag: 0 });
  } finally {
    await runtime.stop();
    await readModels.close();
    await store.close();
  }
}
