/**
 * What the conformance suites say about each adapter, as Markdown. Of a run, only tests that the suites define
 * count. They are known by their titles: `<adapter> as <port>`, the capability, and the test's own. A test titled
 * `cannot <do something> (declared): <what happens instead>` stands for what an adapter says it cannot do.
 */
import { readFileSync } from 'node:fs';
import Sqlite from 'better-sqlite3';
import packages from '../package.json' with { type: 'json' };
import { type RunOptions, runFiles, type TestResult } from './run-files.ts';

interface Port {
  readonly title: string;
  readonly suite: string;
  /** The test files that hold an adapter to the suite, in the order of the columns. */
  readonly files: readonly string[];
}

/** By how the title of a suite ends. */
const PORTS: Readonly<Record<string, Port>> = {
  'an event store': {
    title: 'Event store',
    suite: 'infra/event-store/conformance.ts',
    files: ['sqlite', 'sqlite-shared', 'event-store-db'].map((name) => `infra/event-store/${name}.test.ts`),
  },
  'read models': {
    title: 'Read models',
    suite: 'infra/read-models/conformance.ts',
    files: ['infra/read-models/sqlite.test.ts', 'infra/read-models/mongodb/store.test.ts'],
  },
  'a signal bus': {
    title: 'Signal bus',
    suite: 'infra/bus/conformance.ts',
    files: ['infra/bus/in-process.test.ts', 'infra/bus/kafka/signals.test.ts'],
  },
  'an event bus': {
    title: 'Event bus',
    suite: 'infra/bus/events-conformance.ts',
    files: ['infra/bus/in-process-events.test.ts', 'infra/bus/kafka/events.test.ts'],
  },
  'a search index': {
    title: 'Search index',
    suite: 'infra/search/conformance.ts',
    files: ['infra/search/sqlite.test.ts'],
  },
};

export const CONFORMANCE_FILES = Object.values(PORTS).flatMap(({ files }) => files);
/** The titles of the suites' tests match it, and maybe others. */
const CONFORMANCE_PATTERN = ` as (${Object.keys(PORTS).join('|')}) `;

const SUITE = new RegExp(`^(.+) as (${Object.keys(PORTS).join('|')})$`);
const DECLARED = /^(cannot .+) \(declared\): (.+)$/;

/** The titles of a test, from the outermost suite to its own. */
export type TestPath = readonly string[];

interface ConformanceTest {
  readonly port: string;
  readonly adapter: string;
  readonly capability: string;
  readonly title: string;
}

/** @returns null for a test that no conformance suite defines */
export function conformanceTest(path: TestPath): ConformanceTest | null {
  for (const [at, title] of path.entries()) {
    const [, adapter, port] = SUITE.exec(title) ?? [];
    const [capability] = path.slice(at + 1);
    if (adapter === undefined || port === undefined || capability === undefined) continue;
    return { port, adapter, capability, title: path.at(-1)! };
  }
  return null;
}

/** Runs what holds the adapters to the suites, and no other tests of these files. */
export function runConformance(onFile: RunOptions['onFile']): Promise<TestResult[]> {
  return runFiles(CONFORMANCE_FILES, { pattern: CONFORMANCE_PATTERN, ...(onFile && { onFile }) });
}

/**
 * The tests that `runConformance` would run, in the order of the table.
 * @throws Error when a test file cannot be loaded
 */
export async function definedTests(): Promise<TestPath[]> {
  const found = await runFiles(CONFORMANCE_FILES, { pattern: CONFORMANCE_PATTERN, dryRun: true });
  const failed = found.find(({ outcome }) => outcome === 'failed');
  if (failed !== undefined) throw new Error(`${failed.file}: ${failed.title}: ${failed.error}`);
  return CONFORMANCE_FILES.flatMap((file) =>
    found.filter((one) => one.file === file).map(({ path }) => path),
  );
}

/**
 * @param defined every test that there is
 * @param passed those that passed in a run; what is missing here failed or did not run
 * @returns a table for each port that has tests: a row for each capability, a column for each adapter
 * @throws Error when an adapter has no test for a capability that another has: it must say what it cannot do
 */
export function conformanceTables(defined: readonly TestPath[], passed: readonly TestPath[]): string {
  const passing = Map.groupBy(passed, (path) => JSON.stringify(path));
  const tests = [...Map.groupBy(defined, (path) => JSON.stringify(path))].flatMap(([key, same]) => {
    const test = conformanceTest(same[0]!);
    const passes = passing.get(key)?.length ?? 0;
    return test === null ? [] : same.map((_, at) => ({ ...test, passed: at < passes }));
  });
  return Object.entries(PORTS)
    .map(([port, { title }]) => {
      const ofPort = tests.filter((test) => test.port === port);
      const adapters = [...new Set(ofPort.map(({ adapter }) => adapter))];
      const rows = [...Map.groupBy(ofPort, ({ capability }) => capability)].map(([capability, some]) => [
        capability,
        ...adapters.map((adapter) => {
          const here = some.filter((test) => test.adapter === adapter);
          if (here.length === 0) throw new Error(`${adapter} has no test of ${port} for "${capability}"`);
          return cell(here);
        }),
      ]);
      return rows.length === 0 ? '' : table([title, ...adapters], rows);
    })
    .filter((text) => text !== '')
    .join('\n\n');
}

function cell(tests: readonly { readonly title: string; readonly passed: boolean }[]): string {
  const failed = tests.filter(({ passed }) => !passed).length;
  if (failed > 0) return `✘ ${failed} of ${tests.length}`;
  const declared = tests.flatMap(({ title }) => {
    const [, cannot, instead] = DECLARED.exec(title) ?? [];
    return cannot === undefined ? [] : [`${cannot}: ${instead}`];
  });
  const able = tests.length - declared.length;
  return [...(able > 0 ? [`✔ ${able}`] : []), ...declared].join('; ');
}

function table(heading: readonly string[], rows: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]) =>
    `| ${cells.map((text) => text.replaceAll('|', '\\|')).join(' | ')} |`;
  return [line(heading), `|${' --- |'.repeat(heading.length)}`, ...rows.map(line)].join('\n');
}

/** What stands in the README between the marks, for these tests. Throws as `conformanceTables` does. */
export function conformanceSection(defined: readonly TestPath[], passed: readonly TestPath[]): string {
  const suites = Object.values(PORTS).map(({ title, suite }) => `[${title.toLowerCase()}](${suite})`);
  const { sqlite, kafka, ferretDb } = engineVersions();
  const driver = (name: keyof typeof packages.dependencies) => `${name} ${packages.dependencies[name]}`;
  return [
    `**What each adapter was seen to do.** \`npm run conformance\` holds all adapters of a port to the same suite ` +
      `(${suites.join(', ')}) and writes these tables from what became of its tests. ✔ n: all n passed; ✘ m of n: ` +
      `m of n did not; in words: what an adapter declares it cannot do, and was seen to do instead. ` +
      `Run with SQLite ${sqlite} (${driver('better-sqlite3')}), Kafka ${kafka} (${driver('kafkajs')}), ` +
      `FerretDB ${ferretDb}, which speaks MongoDB's protocol (${driver('mongodb')}), and for EventStoreDB ` +
      `(${driver('@eventstore/db-client')}) **a double of the server in the test tree that speaks its protocol, ` +
      'not the server**: `EVENT_STORE_URL=… npm run test:eventstore` holds a real one to the same suite (but for ' +
      'taking in another log, which needs one without data) and prints the same table.',
    conformanceTables(defined, passed),
  ].join('\n\n');
}

/** Of the engines that the tests run, from where they are pinned. */
function engineVersions(): { sqlite: string; kafka: string; ferretDb: string } {
  const pinned = (file: string, pattern: RegExp): string => {
    const version = pattern.exec(readFileSync(file, 'utf8'))?.[1];
    if (version === undefined) throw new Error(`${file} names no version`);
    return version;
  };
  const database = new Sqlite(':memory:');
  const sqlite = database.prepare('SELECT sqlite_version()').pluck().get() as string;
  database.close();
  return {
    sqlite,
    kafka: pinned('test/engines/kafka/pom.xml', /<artifactId>kafka_[^<]*<\/artifactId>\s*<version>([^<]+)</),
    ferretDb: pinned('test/engines/ferretdb/go.mod', /FerretDB\/FerretDB v(\S+)/),
  };
}
