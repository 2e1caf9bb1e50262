/** What a deployer meets when the program cannot start: a reason that says what to do, and an end with code 1. */
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { mkdtemp, rm, stat, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import Database from 'better-sqlite3';
import { expect } from 'chai';
import { ADMIN, condition, launchProgram, login, startProgram } from './program.ts';

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
    const env = { PORT: 'many', ADMIN_PASSWORD: 'brief', MONGODB_URL: 'mongo://user:s3cret@db' };
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

  it('names a damaged log, and says to restore it', async () => {
    await using first = await startProgram({ dataDir });
    await first.stop();
    await writeFile(join(dataDir, 'log.db'), 'x'.repeat(10_000));
    expect(await refusal({}))
      .to.contain(join(dataDir, 'log.db'))
      .and.match(/restore log\.db from a backup/);
  });

  for (const file of ['lock.db', 'log.db', 'read-models.db', 'keys.json']) {
    it(`ends cleanly and in time when it is told to just as it has made ${file}`, async () => {
      await using program = await launchProgram({ dataDir });
      await condition(() => existsSync(join(dataDir, file)) || undefined, { withinMs: 10_000, what: file });
      const toldAt = performance.now();
      expect(await program.kill('SIGTERM'), program.stderr).to.deep.equal({ code: 0, signal: null });
      expect(performance.now() - toldAt).to.be.below(4_000);
    });
  }

  it('shows only logins that can work, and says that ADMIN_PASSWORD is for the first start', async () => {
    const notice = 'ADMIN_PASSWORD is used on the first start only';
    await using first = await startProgram({ dataDir });
    expect(first.stdout).to.contain(ADMIN.email).and.contain('$ADMIN_PASSWORD').and.not.contain(notice);
    await first.stop();
    await using second = await startProgram({ dataDir, env: { ADMIN_EMAIL: 'other@example.com' } });
    expect(second.stdout).to.contain(notice).and.contain('YOUR-EMAIL').and.contain('YOUR-PASSWORD');
    expect(second.stdout).to.not.contain('other@example.com');
    await second.stop();
    await using third = await startProgram({ dataDir, env: { ADMIN_PASSWORD: '' } });
    expect(third.stdout).to.contain(ADMIN.email).and.contain('YOUR-PASSWORD').and.not.contain(notice);
  });

  it('warns of a projection that skipped events, in its log and in its numbers', async () => {
    await using first = await startProgram({ dataDir });
    await first.stop();
    const database = new Database(join(dataDir, 'read-models.db'));
    database.exec("UPDATE copies SET seen = seen - 1 WHERE projection = 'users'");
    database.close();
    await using second = await startProgram({ dataDir });
    const warning = () => second.stderr.split('\n').find((line) => line.includes('rebuild'));
    expect(JSON.parse(await condition(warning, { withinMs: 5_000 })))
      .to.have.property('incomplete')
      .that.deep.equals([{ name: 'users', seen: 0, expected: 1 }]);
    const { body } = await (await login(second.url)).get('/metrics');
    expect(body).to.contain('odeon_projection_missing_events{projection="users"} 1');
    expect(body).to.contain('odeon_projection_missing_events{projection="sessions"} 0');
  });

  it('keeps what it makes to its owner', async () => {
    await using program = await startProgram({ dataDir });
    for (const name of ['log.db', 'read-models.db', 'keys.json']) {
      const { mode } = await stat(join(program.dataDir, name));
      expect((mode & 0o777).toString(8), name).to.equal('600');
    }
  });
});
