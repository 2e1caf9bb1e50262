/** Which engines can be had on this machine, and what a test does where one cannot. */
import { spawnSync } from 'node:child_process';

const PROGRAMS = {
  kafka: [
    ['java', '-version'],
    ['mvn', '-version'],
  ],
  ferretdb: [['go', 'version']],
} as const;
export type EngineName = keyof typeof PROGRAMS;
export const ENGINE_NAMES = Object.keys(PROGRAMS) as EngineName[];

/** What the first start on a machine may take: it fetches and builds. A mocha hook that starts engines needs it. */
export const FIRST_START_MS = 600_000;

/** @returns why the engine cannot be had on this machine, or null when it can */
export function engineSkipReason(engine: EngineName): string | null {
  const missing = PROGRAMS[engine].filter(([program, ask]) => spawnSync(program, [ask]).status !== 0);
  if (missing.length === 0) return null;
  return `${engine} needs ${missing.map(([program]) => program).join(' and ')} on the PATH`;
}

/**
 * mocha's `describe` for tests that need engines. Where one cannot be had, there is one skipped test whose title
 * says why; with CI set in the environment it fails instead.
 */
export function describeWithEngines(
  engines: readonly EngineName[],
  title: string,
  tests: (this: Mocha.Suite) => void,
): void {
  const reasons = engines.map(engineSkipReason).filter((reason) => reason !== null);
  if (reasons.length === 0) {
    describe(title, tests);
    return;
  }
  describe(title, () => {
    it(`is not tested: ${reasons.join('; ')}`, function () {
      if (process.env.CI !== undefined) throw new Error(reasons.join('; '));
      this.skip();
    });
  });
}
