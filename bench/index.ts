/** `npm run bench`: runs the benchmarks of this folder one after the other and prints what came out. */
import { readdirSync } from 'node:fs';
import { availableParallelism, cpus, totalmem } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import type { Bench, BenchResult } from './result.ts';

const USAGE = `npm run bench [-- [options] [part of a name …]]

Runs the benchmarks of bench/*.ts, or those whose name (file/function) contains one of the given parts, and prints a
table: the figure of the floor (the simplest thing that does the same work, measured in the same run), ours, their
ratio (1: as good as the floor), and the ratio that is asked for.

  --list   name the benchmarks and end
  --help   this text

Those of engines start a real Kafka (with Java and Maven) and, for MongoDB's protocol, FerretDB (with Go). Where one
of these is missing they say so and are left out; the first time on a machine, fetching and building takes minutes.

Ratios hold across machines, figures do not. Let nothing else run meanwhile. The exit code is 0 unless a benchmark
could not be run; a target that is missed is said in the table.`;

/** Every function that a file of this folder exports under a name that begins with `bench`. */
async function findBenches(): Promise<{ name: string; run: Bench }[]> {
  const files = readdirSync(import.meta.dirname).filter(
    (file) => file.endsWith('.ts') && !file.endsWith('.test.ts') && file !== 'index.ts',
  );
  const found = await Promise.all(
    files.sort().map(async (file) => {
      const exported: Record<string, unknown> = await import(join(import.meta.dirname, file));
      return Object.entries(exported)
        .filter(([name, value]) => /^bench[A-Z]/.test(name) && typeof value === 'function')
        .map(([name, run]) => ({ name: `${file.replace(/\.ts$/, '')}/${name}`, run: run as Bench }));
    }),
  );
  return found.flat();
}

async function main(): Promise<void> {
  const { values, positionals } = parseArgs({
    options: { help: { type: 'boolean' }, list: { type: 'boolean' } },
    allowPositionals: true,
  });
  if (values.help) return console.log(USAGE);
  const benches = (await findBenches()).filter(
    ({ name }) => positionals.length === 0 || positionals.some((part) => name.includes(part)),
  );
  if (values.list) return benches.forEach(({ name }) => void console.log(name));
  if (benches.length === 0) throw new Error(`No benchmark is named so. --list names them all.`);

  const results: BenchResult[] = [];
  for (const { name, run } of benches) {
    console.error(`${name} …`);
    try {
      results.push(...[await run()].flat());
    } catch (error) {
      console.error(error);
      process.exitCode = 1;
    }
  }
  console.log(`\n${machine()}\n\n${table(results)}`);
}

function machine(): string {
  const cpu = cpus()[0]?.model ?? 'unknown processor';
  const memory = `${Math.round(totalmem() / 2 ** 30)} GiB`;
  const system = `Node ${process.version} on ${process.platform} ${process.arch}`;
  return `${cpu} × ${availableParallelism()}, ${memory}, ${system}, ${new Date().toISOString().slice(0, 16)}Z`;
}

function table(results: readonly BenchResult[]): string {
  const rows = results.map(({ name, floor, ours, unit, ratio, target }) => [
    name,
    floor === null ? '' : figure(floor),
    figure(ours),
    unit,
    ratio === null ? '' : ratio.toFixed(2),
    target === null ? '' : String(target),
    ratio === null || target === null ? '' : ratio >= target ? 'yes' : 'NO',
  ]);
  const lines = [['benchmark', 'floor', 'ours', 'unit', 'ratio', 'target', 'met'], ...rows];
  const widths = lines[0]?.map((_, column) => Math.max(...lines.map((line) => line[column]?.length ?? 0)));
  const isNumber = (column: number) => column !== 0 && column !== 3;
  const pad = (cell: string, column: number) =>
    isNumber(column) ? cell.padStart(widths?.[column] ?? 0) : cell.padEnd(widths?.[column] ?? 0);
  return lines.map((line) => line.map(pad).join('  ').trimEnd()).join('\n');
}

const figure = (value: number): string =>
  value.toLocaleString('en', value < 100 ? { maximumSignificantDigits: 3 } : { maximumFractionDigits: 0 });

await main();
