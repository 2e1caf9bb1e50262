/** The whole program against a fuzzer that knows nothing of it but its API document: schemathesis, from PyPI. */
import { execFile, spawn, spawnSync } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { expect } from 'chai';
import { permissions } from '../../contracts/http/route.ts';
import { cached } from '../engines/cache.ts';
import { login, type Program, startProgram } from '../program.ts';

const REQUIREMENTS = join(import.meta.dirname, 'requirements.txt');
/** Per operation and phase. `FUZZ=200 npm test -- test/schemathesis` looks longer. */
const EXAMPLES = process.env.FUZZ ?? '6';
/** What it is to find: errors of the server, and answers that the document does not know. */
const CHECKS = [
  'not_a_server_error',
  'status_code_conformance',
  'content_type_conformance',
  'response_headers_conformance',
  'response_schema_conformance',
];
/**
 * Streams end when their reader goes, which it does not; keys that are rotated and services that are stopped would
 * take part in what is tested after them.
 */
const LEFT_OUT = '(/stream$|/live$|rotate$|/api/cli/|/graphql)';

/** The fuzzer, installed once for these requirements. Throws where that cannot be done. */
const installed = async (): Promise<string> =>
  join(
    await cached('schemathesis', [REQUIREMENTS], async (folder) => {
      await promisify(execFile)('python3', ['-m', 'venv', folder]);
      await promisify(execFile)(join(folder, 'bin', 'pip'), [
        'install',
        '--quiet',
        '--requirement',
        REQUIREMENTS,
      ]);
    }),
    'bin',
    'schemathesis',
  );

const canInstall = spawnSync('python3', ['-c', 'import ensurepip, venv']).status === 0;
// CI fails on skipped tests, and is not promised a Python.
const here = canInstall || process.env.CI === undefined ? describe : () => {};

here('a fuzzer that reads the API document', function () {
  this.timeout(600_000);
  let program: Program;
  let folder: string;
  let fuzzer: string;

  before(async function () {
    if (!canInstall) {
      console.log('  schemathesis needs Python 3 with venv: not fuzzed');
      return this.skip();
    }
    fuzzer = await installed();
    folder = await mkdtemp(join(tmpdir(), 'odeon-fuzz-'));
    program = await startProgram({
      env: { BUILTIN_DELAY_MS: '0', RATE_LIMIT_PER_MINUTE: '0', ANSWER_TIMEOUT_SECONDS: '30' },
    });
  });

  after(async () => {
    await program?.stop();
    if (folder !== undefined) await rm(folder, { recursive: true, force: true });
  });

  it('finds no error of the server, and no answer that the document does not know', async () => {
    const admin = await login(program.url);
    const made = await admin.post('/api/api-keys', { name: 'fuzzer', permissions: [...permissions] });
    const { output, code } = await run(fuzzer, [
      'run',
      `${program.url}/openapi.json`,
      ...['--header', `X-API-Key: ${made.body.key}`],
      ...['--checks', CHECKS.join(',')],
      ...['--phases', 'examples,coverage,fuzzing'],
      ...['--max-examples', EXAMPLES],
      ...['--exclude-path-regex', LEFT_OUT],
      ...['--request-timeout', '60'],
      ...['--workers', '2'],
      '--no-color',
    ]);
    expect(code, output).to.equal(0);
    expect(output).to.match(/Tested: \d{2,}/);
  });

  function run(name: string, args: readonly string[]): Promise<{ output: string; code: number | null }> {
    return new Promise((resolve, reject) => {
      const child = spawn(name, args, { cwd: folder, stdio: ['ignore', 'pipe', 'pipe'] });
      let output = '';
      for (const stream of [child.stdout, child.stderr]) {
        stream.setEncoding('utf8').on('data', (text: string) => (output += text));
      }
      child.on('error', reject);
      child.on('close', (code) => resolve({ output, code }));
    });
  }
});
