/**
 * `npm run conformance`: holds every adapter, embedded and engines, to the suite of its port, and writes what came of
 * it into the README. Needs the engines of the tests. The last line is `N passed, N failed`.
 */
import { ENGINE_NAMES, engineSkipReason } from '../test/engines/availability.ts';
import { conformanceSection, definedTests, runConformance } from './conformance-table.ts';
import { README, writeSection } from './readme.ts';
import { printFile } from './run-files.ts';

const missing = ENGINE_NAMES.map(engineSkipReason).filter((reason) => reason !== null);
if (missing.length > 0) {
  console.error(`The README shows all adapters or none: ${missing.join('; ')}.`);
  console.log('0 passed, 1 failed');
  process.exit(1);
}

const defined = await definedTests();
const results = await runConformance(printFile);
const passes = results.filter(({ outcome }) => outcome === 'passed').map(({ path }) => path);
const section = conformanceSection(defined, passes);
writeSection('conformance', section);

// A hook that failed kept others from running: they did not pass, and are no result.
const failed = results.length - passes.length + Math.max(0, defined.length - results.length);
console.log(`\n${section}\n\nWritten to ${README}.\n\n${passes.length} passed, ${failed} failed`);
process.exitCode = failed === 0 ? 0 : 1;
