/**
 * `npm run test:eventstore`: holds a real EventStoreDB or KurrentDB to what Odeon needs of it. Needs EVENT_STORE_URL
 * and nothing else. The server may hold other data: every stream is of a new name, and soft-deleted at the end.
 *
 * Prints the server, a line for each check (✔, ✘, or ○ where the server is not one for it), the table that the README
 * has for every adapter, and `N passed, N failed` at the end.
 */
import { setTimeout as pause } from 'node:timers/promises';
import Mocha from 'mocha';
import { type EventStoreDb, openEventStoreDb } from '../infra/event-store/event-store-db.ts';
import { conformanceTables, type TestPath } from './conformance-table.ts';

const SUITE = new URL('../test/engines/event-store-suite.ts', import.meta.url).pathname;
/** A server that was just started may not take calls yet. */
const REACHED_WITHIN_MS = 30_000;

const { EVENT_STORE_URL: url } = process.env;
if (url === undefined || url === '') {
  console.error(
    'EVENT_STORE_URL is not set. Give the connection string of the server to test, for example\n' +
      '  EVENT_STORE_URL=esdb://127.0.0.1:2113?tls=false npm run test:eventstore\n' +
      '  EVENT_STORE_URL=kurrentdb://admin:changeit@host:2113?tlsCAFile=/path/ca.crt npm run test:eventstore',
  );
  console.log('0 passed, 1 failed');
  process.exit(1);
}

try {
  const { server, close } = await reach(url);
  await close();
  console.log(`Speaking to ${server.address}, which says that it is version ${server.version}.\n`);
} catch (error) {
  console.error(`Cannot test the server at EVENT_STORE_URL: ${(error as Error).message}`);
  console.log('0 passed, 1 failed');
  process.exit(1);
}

let interrupted = false;
const mocha = new Mocha({ reporter: class extends Mocha.reporters.Base {}, timeout: 120_000 });
mocha.addFile(SUITE);
await mocha.loadFilesAsync();
const { EVENT_TEST_PASS, EVENT_TEST_FAIL, EVENT_TEST_PENDING } = Mocha.Runner.constants;
const defined: TestPath[] = [];
mocha.suite.eachTest((test) => void defined.push(test.titlePath()));
const passes: TestPath[] = [];
let failed = 0;
const finished = Promise.withResolvers<void>();
const runner = mocha.run(() => finished.resolve());
runner
  .on(EVENT_TEST_PASS, (test) => {
    passes.push(test.titlePath());
    console.log(`✔ ${test.fullTitle()}`);
  })
  .on(EVENT_TEST_PENDING, (test) => console.log(`○ not checked here: ${test.fullTitle()}`))
  .on(EVENT_TEST_FAIL, (test, error: Error) => {
    failed += 1;
    console.log(`✘ ${test.fullTitle()}\n    ${(error.stack ?? error.message).replaceAll('\n', '\n    ')}`);
  });
for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  process.once(signal, () => {
    interrupted = true;
    console.log(`\n${signal}: stopping after this check, to clean up.`);
    runner.abort();
  });
}
await finished.promise;

if (interrupted) failed += 1;
console.log(`\nAs in the README, for this server:\n\n${conformanceTables(defined, passes)}`);
console.log(`\n${passes.length} passed, ${failed} failed`);
// What a failed check left open must not keep the process.
process.exit(failed === 0 ? 0 : 1);

async function reach(address: string): Promise<EventStoreDb> {
  const deadline = performance.now() + REACHED_WITHIN_MS;
  for (;;) {
    try {
      return await openEventStoreDb({ url: address, onAvailability() {} });
    } catch (error) {
      if (error instanceof RangeError || performance.now() > deadline) throw error;
      console.log(`${(error as Error).message}: trying again`);
      await pause(1_000);
    }
  }
}
