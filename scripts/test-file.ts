/**
 * Runs one test file with mocha, in the process that `run-files.ts` made for it, and reports over its channel.
 * Usage: test-file.ts [--dry-run] <file> [regular expression that the titles must match]
 *
 * Options come from .mocharc.json, as they do for `mocha <file>`. A process that does not end by itself after its
 * tests, because they left something open, is reported with what keeps it alive, and ended.
 */
import { readFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import Mocha from 'mocha';

/** What the process says about its tests, in this order: `begun`, any number of the others, `ended`, maybe `hung`. */
export type TestReport =
  | ({ kind: 'passed' | 'skipped' } & AboutTest)
  | ({ kind: 'failed'; error: string } & AboutTest)
  | { kind: 'ended' }
  /** `resources`: what keeps the process alive, in Node's words. */
  | { kind: 'hung'; resources: string[] }
  /** Sent every second, so that a blocked event loop is noticed. */
  | { kind: 'alive' };

interface AboutTest {
  title: string;
  /** The titles of the suites it is in, from the outermost, then its own. */
  path: string[];
  durationMs: number;
}

const EXIT_WITHIN_MS = 3_000;

const {
  values: { 'dry-run': dryRun },
  positionals: [file, pattern],
} = parseArgs({ options: { 'dry-run': { type: 'boolean', default: false } }, allowPositionals: true });
if (file === undefined || process.send === undefined)
  throw new Error('scripts/run-files.ts starts this file.');

const report = (message: TestReport, sent?: () => void): void => {
  process.send?.(message, undefined, undefined, sent);
};

// Without the parent nobody reads the reports. The listener must not keep the process alive.
process.once('disconnect', () => process.exit(1));
process.channel?.unref();
setInterval(() => report({ kind: 'alive' }), 1_000).unref();

// Touching them opens the process's own pipes, which are not what a test left open.
for (const stream of [process.stdout, process.stderr]) stream.on('error', () => process.exit(1));
const openAtStart = process.getActiveResourcesInfo();

const ci = process.env.CI !== undefined;
const mocha = new Mocha({
  ...JSON.parse(readFileSync('.mocharc.json', 'utf8')),
  reporter: class {}, // reports go to the parent
  forbidOnly: ci,
  forbidPending: ci,
  dryRun,
  ...(pattern === undefined ? {} : { grep: new RegExp(pattern, 'i') }),
});
mocha.addFile(file);
await mocha.loadFilesAsync();

const { EVENT_TEST_PASS, EVENT_TEST_FAIL, EVENT_TEST_PENDING } = Mocha.Runner.constants;
const runner = mocha.run(() => {
  report({ kind: 'ended' });
  setTimeout(
    () => report({ kind: 'hung', resources: leftOpen() }, () => process.exit(1)),
    EXIT_WITHIN_MS,
  ).unref();
});
const about = (test: Mocha.Runnable): AboutTest => ({
  title: test.fullTitle(),
  path: test.titlePath(),
  durationMs: test.duration ?? 0,
});
runner
  .on(EVENT_TEST_PASS, (test) => report({ kind: 'passed', ...about(test) }))
  .on(EVENT_TEST_PENDING, (test) => report({ kind: 'skipped', ...about(test) }))
  .on(EVENT_TEST_FAIL, (test, error) => report({ kind: 'failed', ...about(test), error: describe(error) }));

function leftOpen(): string[] {
  const resources = process.getActiveResourcesInfo();
  for (const own of openAtStart) resources.splice(resources.indexOf(own), 1);
  return resources;
}

/** The message, what differs, and where. */
function describe(error: unknown): string {
  if (!(error instanceof Error)) return `thrown: ${String(error)}`;
  const { Base } = Mocha.reporters;
  const { actual, expected, showDiff } = error as Error & Record<'actual' | 'expected' | 'showDiff', unknown>;
  const differ = showDiff !== false && expected !== undefined && actual !== undefined;
  const diff = differ ? Base.generateDiff(text(actual), text(expected)) : '';
  const cause = error.cause === undefined ? '' : `\ncaused by: ${describe(error.cause)}`;
  return `${error.stack ?? error.message}${diff}${cause}`;
}

const text = (value: unknown): string =>
  typeof value === 'string' ? value : (JSON.stringify(value, null, 2) ?? String(value));
