/** What a deployer meets when the program cannot start: a reason that says what to do, and an end with code 1. */
import { once } from 'node:events';
import { mkdtemp, rm, stat, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import { ADMIN, launchProgram, startProgram } from './program.ts';

describe('starting the program', () => {
  let dataDir: string;
  beforeEach(async () => {
    dataDir = await mkdtemp(join(tmpdir(), 'odeon-start-'));
  });
  afterEach(() => rm(dataDir, { recursive: true, force: true }));

  async function refusal(env: Record<string, string>): Promise<string> {
    await using program = await launchProgram({ dataDir, env });
    expect(await program.exited).to.deep.equal({ code: 1, signal: null });
    expect(program.stderr, 'no stack trace').not.to.match(/^\s+at /m);
    return program.stderr;
  }

  it('names every variable that is wrong, and repeats no secret', async () => {
    const env = { PORT: 'many', ADMIN_PASSWORD: 'brief', MONGODB_URL: 'mongodb://user:s3cret@db' };
    const said = await refusal({ ...env, CORS_ORIGINS: 'https://a.example/path' });
    for (const name of [...Object.keys(env), 'CORS_ORIGINS']) expect(said).to.contain(`${name}=`);
    expect(said).to.not.match(/brief|s3cret/);
  });

  it('says that its port is in use', async () => {
    const other = createServer().listen(0, '127.0.0.1');
    await once(other, 'listening');
    const { port } = other.address() as { port: number };
    try {
      expect(await refusal({ PORT: String(port) })).to.contain(`port ${port} of 127.0.0.1 is in use`);
    } finally {
      other.close();
    }
  });

  it('names a DATA_DIR that cannot be one', async () => {
    const file = join(dataDir, 'file');
    await writeFile(file, '');
    expect(await refusal({ DATA_DIR: file })).to.contain(`DATA_DIR ${file} cannot be written to`);
  });

  it('does not go on with read models that have seen more than the log holds', async () => {
    await using first = await startProgram({ dataDir });
    await first.stop();
    await rm(join(dataDir, 'log.db'));
    expect(await refusal({})).to.match(/log\.db was replaced.*delete read-models\.db/);

    await rm(join(dataDir, 'read-models.db'));
    await using second = await startProgram({ dataDir });
    const { status } = await fetch(`${second.url}/api/auth/login`, {
      method: 'POST',
      headers: { 'Content-Type': 'application/json' },
      body: JSON.stringify(ADMIN),
    });
    expect(status).to.equal(200);
  });

  it('says that damaged read models can be made again', async () => {
    await writeFile(join(dataDir, 'read-models.db'), 'x'.repeat(10_000));
    expect(await refusal({})).to.match(/read-models\.db.*delete it/);
  });

  it('keeps what it makes to its owner', async () => {
    await using program = await startProgram({ dataDir });
    for (const name of ['log.db', 'read-models.db', 'keys.json']) {
      const { mode } = await stat(join(program.dataDir, name));
      expect((mode & 0o777).toString(8), name).to.equal('600');
    }
  });
});
