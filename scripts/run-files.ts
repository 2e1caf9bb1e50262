/**
 * Runs test files, each in a process of its own, as many at once as there are cores. Of those that drive whole
 * programs (test/) only one runs at a time: clusters of processes would starve each other.
 */
import { fork } from 'node:child_process';
import { availableParallelism } from 'node:os';
import type { TestReport } from './test-file.ts';

/** The event loop of a test file that has been silent for so long is blocked for good. */
const SILENT_MS = 60_000;

export interface TestResult {
  readonly file: string;
  readonly outcome: 'passed' | 'failed' | 'skipped';
  readonly title: string;
  /** The titles that `title` is put together from: those of the suites it is in, then its own. */
  readonly path: readonly string[];
  readonly durationMs: number;
  readonly error?: string;
}

export interface RunOptions {
  /** The regular expression that titles must match; every title does when it is left out or null. */
  readonly pattern?: string | null;
  /** Only finds out which tests there are: each is reported as passed, and neither tests nor hooks run. */
  readonly dryRun?: boolean;
  /** Told when a file is done. */
  onFile?(file: string, results: readonly TestResult[], durationMs: number): void;
}

/**
 * @returns what became of every test, and a failure named `the test file` where a process did not end well.
 * What a file with failures printed is printed.
 */
export async function runFiles(files: readonly string[], options: RunOptions = {}): Promise<TestResult[]> {
  const programs = files.filter(drivesPrograms);
  const others = files.filter((file) => !drivesPrograms(file));
  let programRuns = false;
  const next = (): string | undefined => (programRuns ? undefined : programs.shift()) ?? others.shift();
  const results: TestResult[] = [];
  const work = async (): Promise<void> => {
    for (let file = next(); file !== undefined; file = next()) {
      const isProgram = drivesPrograms(file);
      programRuns ||= isProgram;
      const startedAt = performance.now();
      const ofFile = await runFile(file, options);
      options.onFile?.(file, ofFile, performance.now() - startedAt);
      results.push(...ofFile);
      if (isProgram) programRuns = false;
    }
  };
  await Promise.all(Array.from({ length: availableParallelism() }, work));
  return results;
}

const drivesPrograms = (file: string): boolean => file.startsWith('test/');

async function runFile(file: string, { pattern = null, dryRun = false }: RunOptions): Promise<TestResult[]> {
  const results: TestResult[] = [];
  const fail = (error: string) =>
    results.push({ file, outcome: 'failed', title: 'the test file', path: [], durationMs: 0, error });

  const given = [...(dryRun ? ['--dry-run'] : []), '--', file, ...(pattern === null ? [] : [pattern])];
  const child = fork('scripts/test-file.ts', given, { silent: true });
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
    } else if (report.kind !== 'alive') {
      const { kind: outcome, ...about } = report;
      results.push({ file, outcome, ...about });
    }
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

export function printFile(file: string, results: readonly TestResult[], durationMs: number): void {
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
