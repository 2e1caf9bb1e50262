/**
 * `npm test`: lint, then every *.test.ts, each in a process of its own, as many at once as there are cores. So no
 * file depends on another, and one that crashes, blocks or leaves something open is named.
 * The last line is `N passed, N failed[, N skipped]`, where each check of lint counts as one.
 */
import { fork } from 'node:child_process';
import { globSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { relative } from 'node:path';
import { parseArgs } from 'node:util';
import { lint } from './lint.ts';
import type { TestReport } from './test-file.ts';

const USAGE = `npm test [-- <what> …]

Without arguments: lint and all tests. Otherwise only tests, without lint: of the files whose path contains <what>,
or, where no path does, those whose title contains it.`;

/** The event loop of a test file that has been silent for so long is blocked for good. */
const SILENT_MS = 60_000;
/** The summary names so many of the tests that took longer than this. */
const SLOWEST = 5;
const SLOW_MS = 500;

interface TestResult {
  readonly file: string;
  readonly outcome: 'passed' | 'failed' | 'skipped';
  readonly title: string;
  readonly durationMs: number;
  readonly error?: string;
}

const { values, positionals } = parseArgs({ options: { help: { type: 'boolean' } }, allowPositionals: true });
if (values.help) {
  console.log(USAGE);
} else {
  const checks = positionals.length === 0 ? await lint() : { passed: 0, failed: 0 };
  const results = await runFiles(select(positionals));
  printSummary(checks, results);
}

/** Which files to run, and the pattern that titles must match. */
function select(wanted: readonly string[]): { files: string[]; pattern: string | null } {
  const all = globSync('**/*.test.ts', { exclude: ['node_modules', 'data'] }).sort();
  const inPath = (part: string) => all.filter((file) => file.includes(relative('.', part) || part));
  const titles = wanted.filter((part) => inPath(part).length === 0);
  const files = wanted.flatMap(inPath);
  return {
    // Those that drive the whole program take longest: they begin first.
    files: [...new Set(files.length > 0 ? files : all)].sort((a, b) => rank(a) - rank(b)),
    pattern: titles.length > 0 ? titles.map(RegExp.escape).join('|') : null,
  };
}

function rank(file: string): number {
  return file.startsWith('test/') ? 0 : 1;
}

async function runFiles({ files, pattern }: ReturnType<typeof select>): Promise<TestResult[]> {
  const waiting = [...files];
  const results: TestResult[] = [];
  const work = async (): Promise<void> => {
    for (let file = waiting.shift(); file !== undefined; file = waiting.shift()) {
      const startedAt = performance.now();
      const ofFile = await runFile(file, pattern);
      printFile(file, ofFile, performance.now() - startedAt);
      results.push(...ofFile);
    }
  };
  await Promise.all(Array.from({ length: availableParallelism() }, work));
  return results;
}

async function runFile(file: string, pattern: string | null): Promise<TestResult[]> {
  const results: TestResult[] = [];
  const add = (outcome: TestResult['outcome'], title: string, durationMs: number, error?: string) =>
    results.push({ file, outcome, title, durationMs, ...(error === undefined ? {} : { error }) });
  const fail = (error: string) => add('failed', 'the test file', 0, error);

  const child = fork('scripts/test-file.ts', pattern === null ? [file] : [file, pattern], { silent: true });
  let output = '';
  child.stdout?.on('data', (text) => (output += text));
  child.stderr?.on('data', (text) => (output += text));

  let ended = false;
  let explained = false;
  const silence = setTimeout(() => {
    explained = true;
    fail(`blocked its event loop for ${SILENT_MS / 1000} s`);
    child.kill('SIGKILL');
  }, SILENT_MS);
  child.on('message', (report: TestReport) => {
    silence.refresh();
    if (report.kind === 'ended') ended = true;
    else if (report.kind === 'hung') {
      explained = true;
      fail(`the process did not end after the tests; still open: ${report.resources.join(', ')}`);
    } else if (report.kind === 'failed') add('failed', report.title, report.durationMs, report.error);
    else if (report.kind !== 'alive') add(report.kind, report.title, report.durationMs);
  });

  const { promise: closed, resolve } = Promise.withResolvers<number | NodeJS.Signals | null>();
  child.on('error', (error) => fail(error.message));
  child.on('close', (code, signal) => resolve(signal ?? code));
  const ending = await closed;
  clearTimeout(silence);
  if (!explained && (!ended || ending !== 0)) {
    fail(`the process ended ${ended ? 'after' : 'before'} the end of its tests, with ${ending}`);
  }
  if (output !== '' && results.some(({ outcome }) => outcome === 'failed')) {
    console.log(`── what ${file} printed ──\n${output.trimEnd()}\n──`);
  }
  return results;
}

function printFile(file: string, results: readonly TestResult[], durationMs: number): void {
  const failures = results.filter(({ outcome }) => outcome === 'failed');
  if (results.length === 0) return; // no title matched
  const seconds = (durationMs / 1000).toFixed(1);
  console.log(`${failures.length === 0 ? '✔' : '✘'} ${file} (${results.length} tests, ${seconds} s)`);
  for (const { outcome, title } of results) if (outcome === 'skipped') console.log(`  – skipped: ${title}`);
  for (const { title, error } of failures) console.log(`\n  ✘ ${title}\n${indent(error ?? '')}\n`);
}

function indent(text: string): string {
  return text.trimEnd().replaceAll(/^(?=.)/gm, '    ');
}

function printSummary(checks: { passed: number; failed: number }, results: readonly TestResult[]): void {
  const slowest = results
    .filter(({ durationMs }) => durationMs > SLOW_MS)
    .sort((a, b) => b.durationMs - a.durationMs)
    .slice(0, SLOWEST);
  if (slowest.length > 0) console.log('\nSlowest:');
  for (const { file, title, durationMs } of slowest) {
    console.log(`  ${(durationMs / 1000).toFixed(1).padStart(6)} s  ${file}: ${title}`);
  }
  const failures = results.filter(({ outcome }) => outcome === 'failed');
  if (failures.length > 0) console.log('\nFailed:');
  for (const { file, title } of failures) console.log(`  ${file}: ${title}`);
  if (results.length === 0) console.log('\nNo test matches.');

  const count = (outcome: TestResult['outcome']) => results.filter((one) => one.outcome === outcome).length;
  const passed = checks.passed + count('passed');
  const failed = checks.failed + count('failed') + (results.length === 0 ? 1 : 0);
  const skipped = count('skipped');
  process.exitCode = failed === 0 ? 0 : 1;
  console.log(`\n${passed} passed, ${failed} failed${skipped > 0 ? `, ${skipped} skipped` : ''}`);
}
