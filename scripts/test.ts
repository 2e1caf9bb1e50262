/**
 * `npm test`: lint, then every *.test.ts, each in a process of its own, as many at once as there are cores. So no
 * file depends on another, and one that crashes, blocks or leaves something open is named.
 * The last line is `N passed, N failed[, N skipped]`, where each check of lint counts as one.
 */
import { globSync } from 'node:fs';
import { relative } from 'node:path';
import { parseArgs } from 'node:util';
import { lint } from './lint.ts';
import { printFile, runFiles, type TestResult } from './run-files.ts';

const USAGE = `npm test [-- <what> …]

Without arguments: lint and all tests. Otherwise only tests, without lint: of the files whose path contains <what>,
or, where no path does, those whose title contains it.`;

/** The summary names so many of the tests that took longer than this. */
const SLOWEST = 5;
const SLOW_MS = 500;

const { values, positionals } = parseArgs({ options: { help: { type: 'boolean' } }, allowPositionals: true });
if (values.help) {
  console.log(USAGE);
} else {
  const checks = positionals.length === 0 ? await lint() : { passed: 0, failed: 0 };
  const { files, pattern } = select(positionals);
  const results = await runFiles(files, { pattern, onFile: printFile });
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
