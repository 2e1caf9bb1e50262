/** `npm run lint`: the checks that need no program to run. `npm test` runs them as well. */
import { spawn } from 'node:child_process';

const checks: readonly { readonly name: string; readonly command: readonly [string, ...string[]] }[] = [
  { name: 'biome', command: ['biome', 'check', '--colors=off'] },
  { name: 'types', command: ['tsc', '--project', '.'] },
  { name: 'imports', command: ['node', 'scripts/check-imports.ts'] },
];

/**
 * Runs all checks at once and prints a line for each, followed by its output when it failed.
 * @returns how many passed and failed
 */
export async function lint(): Promise<{ passed: number; failed: number }> {
  const results = await Promise.all(
    checks.map(async ({ name, command }) => {
      const startedAt = performance.now();
      const { ok, output } = await run(command);
      const seconds = ((performance.now() - startedAt) / 1000).toFixed(1);
      console.log(`${ok ? '✔' : '✘'} lint: ${name} (${seconds} s)${ok ? '' : `\n${output.trimEnd()}`}`);
      return ok;
    }),
  );
  const passed = results.filter(Boolean).length;
  return { passed, failed: results.length - passed };
}

function run([program, ...args]: readonly [string, ...string[]]): Promise<{ ok: boolean; output: string }> {
  const { promise, resolve } = Promise.withResolvers<{ ok: boolean; output: string }>();
  const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'pipe'] });
  let output = '';
  child.stdout.on('data', (text) => (output += text));
  child.stderr.on('data', (text) => (output += text));
  child.on('error', (error) => resolve({ ok: false, output: error.message }));
  child.on('close', (code) => resolve({ ok: code === 0, output }));
  return promise;
}

if (import.meta.main) process.exitCode = (await lint()).failed === 0 ? 0 : 1;
