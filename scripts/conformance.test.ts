import { globSync, readFileSync } from 'node:fs';
import { expect } from 'chai';
import { describeWithEngines, ENGINE_NAMES } from '../test/engines/availability.ts';
import {
  CONFORMANCE_FILES,
  conformanceSection,
  conformanceTables,
  conformanceTest,
  definedTests,
} from './conformance-table.ts';
import { sectionOf, withSection } from './readme.ts';

describe('the table of what adapters can do', () => {
  const path = (adapter: string, ...titles: string[]) => [
    'on an engine',
    `${adapter} as read models`,
    ...titles,
  ];
  const defined = [
    path('A', 'writing', 'the same again'),
    path('A', 'writing', 'twice'),
    path('A', 'writing', 'twice'),
    path('A', 'sharing', 'cannot be shared (declared): the last one wins'),
    path('B', 'writing', 'the same again'),
    path('B', 'writing', 'cannot write twice (declared): refuses it'),
    path('B', 'sharing', 'works'),
    ['A, which is no suite', 'works'],
  ];
  const rows = (passed: string[][]) => conformanceTables(defined, passed).split('\n');

  it('has a row for each capability, and a column for each adapter', () => {
    expect(rows(defined)).to.deep.equal([
      '| Read models | A | B |',
      '| --- | --- | --- |',
      '| writing | ✔ 3 | ✔ 1; cannot write twice: refuses it |',
      '| sharing | cannot be shared: the last one wins | ✔ 1 |',
    ]);
  });

  it('shows what failed or did not run, also of what is declared', () => {
    expect(rows([defined[0]!, defined[1]!, defined[4]!]).slice(2)).to.deep.equal([
      '| writing | ✘ 1 of 3 | ✘ 1 of 2 |',
      '| sharing | ✘ 1 of 1 | ✘ 1 of 1 |',
    ]);
  });

  it('has a place for each port', () => {
    const ports = ['an event store', 'read models', 'a signal bus', 'an event bus', 'a search index'];
    const tests = ports.map((port) => [`X as ${port}`, 'a capability', 'a test']);
    expect(conformanceTables(tests, tests).match(/^\| \w+ \w+ \| X \|$/gm)).to.have.length(ports.length);
  });

  it('is not made where an adapter says nothing of what another can do', () => {
    const silent = defined.filter((one) => one !== defined[6]);
    expect(() => conformanceTables(silent, silent)).to.throw('B has no test of read models for "sharing"');
  });

  it('takes the place between the marks', () => {
    const readme = 'before\n<!-- conformance -->\nold\n<!-- /conformance -->\nafter\n';
    const written = withSection(readme, 'conformance', 'new');
    expect(written).to.equal('before\n<!-- conformance -->\n\nnew\n\n<!-- /conformance -->\nafter\n');
    expect(withSection(written, 'conformance', 'new')).to.equal(written);
    expect(sectionOf(written, 'conformance')).to.equal('new');
    expect(() => withSection('no marks', 'conformance', 'new')).to.throw('no place');
  });

  it('takes in every test file that holds an adapter to a suite', () => {
    const holding = globSync('**/*.test.ts', { exclude: ['node_modules', 'data'] }).filter((file) =>
      /^ *\w+Conformance\(/m.test(readFileSync(file, 'utf8')),
    );
    expect(holding).to.have.members([...CONFORMANCE_FILES]);
  });
});

describeWithEngines(ENGINE_NAMES, 'what the README says that adapters can do', function () {
  this.timeout(180_000);

  it('is what came of the tests that there are', async () => {
    const defined = await definedTests();
    const files = new Set(
      defined.map((path) => conformanceTest(path)).map((test) => `${test?.port}: ${test?.adapter}`),
    );
    expect(files.size).to.be.at.least(CONFORMANCE_FILES.length);
    const expected = conformanceSection(defined, defined);
    const section = sectionOf(readFileSync('README.md', 'utf8'), 'conformance');
    expect(section, 'the tests have changed, or failed: run `npm run conformance`').to.equal(expected);
  });
});
