import { fork } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import type { TestReport } from './test-file.ts';

describe('a test file run by itself', () => {
  let folder: string;
  before(async () => {
    folder = await mkdtemp(join(tmpdir(), 'odeon-test-file-'));
  });
  after(() => rm(folder, { recursive: true }));

  /** Runs a test file with this text, and gives what it reported and how its process ended. */
  async function run(source: string, env: Record<string, string> = {}, options: string[] = []) {
    const file = join(folder, `${crypto.randomUUID()}.test.mjs`);
    await writeFile(file, source);
    const { CI: _, ...environment } = process.env;
    const child = fork('scripts/test-file.ts', [...options, file], {
      silent: true,
      env: { ...environment, ...env },
    });
    const reports: TestReport[] = [];
    child.on('message', (report: TestReport) => {
      if (report.kind !== 'alive') reports.push(report);
    });
    const { promise, resolve } = Promise.withResolvers<number | null>();
    child.on('close', resolve);
    const exitCode = await promise;
    return { reports, exitCode, kinds: reports.map(({ kind }) => kind) };
  }

  it('reports what passed, failed and was skipped, and ends', async () => {
    const { reports, exitCode, kinds } = await run(`
      describe('a', () => {
        it('works', () => {});
        it('does not work', () => { throw Object.assign(new Error('four'), { actual: 4, expected: 5 }); });
        it.skip('is for later', () => {});
      });`);
    expect(kinds).to.deep.equal(['passed', 'failed', 'skipped', 'ended']);
    expect(exitCode).to.equal(0);
    expect(reports[1]).to.include({ title: 'a does not work' });
    expect(JSON.stringify(reports[1])).to.contain('four').and.contain('+ expected');
  });

  it('only names its tests, with the suites they are in, when it is a dry run', async () => {
    const source = `
      describe('a', () => {
        before(() => { throw new Error('not run'); });
        describe('b', () => it('c', () => { throw new Error('not run'); }));
      });`;
    const { reports } = await run(source, {}, ['--dry-run']);
    expect(reports).to.deep.equal([
      { kind: 'passed', title: 'a b c', path: ['a', 'b', 'c'], durationMs: 0 },
      { kind: 'ended' },
    ]);
  });

  it('reports a failure in a hook', async () => {
    const { kinds } = await run(`before(() => { throw new Error('no'); }); it('runs', () => {});`);
    expect(kinds).to.deep.equal(['failed', 'ended']);
  });

  it('names what it left open, and ends nevertheless', async () => {
    const { reports, exitCode } = await run(`it('a', () => { setInterval(() => {}, 60_000); });`);
    expect(reports.at(-1)).to.deep.equal({ kind: 'hung', resources: ['Timeout'] });
    expect(exitCode).to.equal(1);
  });

  it('ends with an error when it cannot be loaded, or when an error surfaces after the tests', async () => {
    const unloadable = await run(`throw new Error('not today');`);
    expect(unloadable).to.deep.include({ reports: [], exitCode: 1 });
    const late = await run(`it('a', () => { setTimeout(() => { throw new Error('late'); }, 100); });`);
    expect(late.exitCode).not.to.equal(0);
  });

  it('in CI refuses .only and fails what is skipped', async () => {
    const only = await run(`it.only('a', () => {});`, { CI: 'true' });
    expect(only.kinds).not.to.include('passed');
    expect(only.exitCode).not.to.equal(0);
    const skipped = await run(`it.skip('a', () => {});`, { CI: 'true' });
    expect(skipped.kinds).to.include('failed');
  });
});
