/** `odeon export` and `odeon import`, as an operator types them. */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { expect } from 'chai';
import { newEvents } from './infra/event-store/conformance.ts';
import { openSqliteEventStore, readSqliteLog } from './infra/event-store/sqlite.ts';

const PROGRAM = join(import.meta.dirname, 'odeon.ts');

describe('odeon', () => {
  let folder: string;
  const children: ChildProcess[] = [];

  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'odeon-command-'));
  });
  afterEach(async () => {
    for (const child of children.splice(0)) {
      if (child.exitCode !== null || child.signalCode !== null) continue;
      child.kill('SIGKILL');
      await once(child, 'exit');
    }
    await rm(folder, { recursive: true });
  });

  /** Runs it in the folder, with no variables but those given; `under` is a shell's text that runs "$@". */
  async function odeon(args: readonly string[], variables: Record<string, string> = {}, under = 'exec "$@"') {
    const child = spawn('sh', ['-c', under, 'sh', process.execPath, PROGRAM, ...args], {
      cwd: folder,
      env: { PATH: process.env.PATH, ...variables },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    children.push(child);
    const [out, err, [code]] = await Promise.all([
      text(child.stdout),
      text(child.stderr),
      once(child, 'exit'),
    ]);
    return { out, err, code };
  }

  /** A log of so many events in a folder. */
  async function log(name: string, events: number): Promise<void> {
    const store = await openSqliteEventStore({ directory: join(folder, name) });
    const appending = [];
    for (let n = 0; n < events; n += 1) {
      appending.push(store.append(`s-${n % 5}`, newEvents(1), { expectedRevision: 'any' }));
    }
    await Promise.all(appending);
    await store.close();
  }

  const eventsIn = async (name: string): Promise<number> => {
    const { events, close } = await readSqliteLog(join(folder, name));
    await close();
    return events;
  };

  it('moves a log to another folder, and says what was moved', async () => {
    await log('data', 300);
    const exported = await odeon(['export', 'log.jsonl'], { DATA_DIR: './data', EVENT_STORE_URL: '' });
    expect(exported).to.include({ err: '', code: 0 });
    expect(exported.out).to.match(
      /^log\.jsonl holds the 300 events of sqlite:\.\/data\.\nsha256 [\da-f]{64}\n$/,
    );
    expect(statSync(join(folder, 'log.jsonl')).mode & 0o077).to.equal(0, 'nobody else may read it');
    const [header] = readFileSync(join(folder, 'log.jsonl'), 'utf8').split('\n');
    expect(JSON.parse(header!)).to.include({ format: 'odeon-log/1', source: 'sqlite:./data', head: '300' });

    const imported = await odeon(['import', '--to', 'sqlite:new', 'log.jsonl']);
    expect(imported).to.include({ err: '', code: 0 });
    const [, digest] = /without positions, sha256 ([\da-f]{64})\n/.exec(imported.out)!;
    expect(imported.out).to.contain('log.jsonl: 300 events, sha256');
    expect(imported.out).to.contain(
      `sqlite:new: 300 events, read again\n  without positions, sha256 ${digest}: the same`,
    );
    expect(await eventsIn('new')).to.equal(300);

    const again = await odeon(['import', '--to', 'sqlite:new', 'log.jsonl']);
    expect(again.code).to.equal(0);
    expect(again.out).to.contain('300 events, 300 of them from before, read again');
  });

  it('takes the store from .env, as the program does', async () => {
    await log('elsewhere', 3);
    writeFileSync(join(folder, '.env'), 'DATA_DIR=./elsewhere\n');
    expect(await odeon(['export', 'log.jsonl'])).to.include({ err: '', code: 0 });
    writeFileSync(join(folder, '.env'), 'DATA_DIR=./nowhere\nEVENT_STORE_URL=sqlite:elsewhere\n');
    expect((await odeon(['export', 'other.jsonl'])).out).to.contain('3 events of sqlite:elsewhere');
  });

  it('exports a log that is in use, and does not import to one', async () => {
    const store = await openSqliteEventStore({ directory: join(folder, 'data') });
    try {
      await store.append('s', newEvents(4), { expectedRevision: 'any' });
      expect((await odeon(['export', 'log.jsonl'])).out).to.contain('log.jsonl holds the 4 events');
      const refused = await odeon(['import', 'log.jsonl']);
      expect(refused).to.include({ out: '', code: 1 });
      expect(refused.err).to.equal(
        `odeon: another Odeon process (pid ${process.pid}) already uses DATA_DIR ./data: ` +
          'stop it, or choose another DATA_DIR\n',
      );
      await store.append('s', newEvents(1), { expectedRevision: 3 });
    } finally {
      await store.close();
    }
  });

  it('says what is wrong with a file, by its line, and leaves the log as it was', async () => {
    await log('data', 20);
    await odeon(['export', 'log.jsonl']);
    const file = join(folder, 'log.jsonl');
    writeFileSync(file, readFileSync(file, 'utf8').replace('"s-2"', '"s-3"'));
    const refused = await odeon(['import', '--to', 'sqlite:new', 'log.jsonl']);
    expect(refused).to.include({ out: '', code: 1 });
    expect(refused.err).to.match(/^odeon: log\.jsonl, line 4: the line does not fit its checksum/);
    expect(await eventsIn('new')).to.equal(0);
  });

  // A file size limit makes the operating system refuse writes, as a full disk does.
  it('says so when the disk is full, leaves no half file, and goes on with the import when there is room', async () => {
    await log('data', 3_000);
    const full = `trap '' XFSZ; ulimit -S -f 400; exec "$@"`;
    const refused = await odeon(['export', 'log.jsonl'], {}, full);
    expect(refused).to.include({ out: '', code: 1 });
    expect(refused.err).to.match(/^odeon: (EFBIG|ENOSPC)/);
    expect(await readdir(folder)).to.deep.equal(['data']);

    await odeon(['export', 'log.jsonl']);
    const half = await odeon(['import', '--to', 'sqlite:new', 'log.jsonl'], {}, full);
    expect(half).to.include({ out: '', code: 1 });
    expect(half.err).to.match(/^odeon: the event store could not write: .*\n.*goes on where it was/);
    const resumed = await odeon(['import', '--to', 'sqlite:new', 'log.jsonl']);
    expect(resumed).to.include({ err: '', code: 0 });
    expect(resumed.out).to.contain('sqlite:new: 3000 events');
  });

  describe('says how it is used', () => {
    it('when it is asked', async () => {
      for (const args of [['--help'], ['import', '-h']]) {
        const { out, err, code } = await odeon(args);
        expect(out).to.match(/^odeon export \[--from <log>\] <file>\nodeon import \[--to <log>\] <file>\n/);
        expect({ err, code }).to.deep.equal({ err: '', code: 0 });
      }
    });

    const wrong: [string[], RegExp][] = [
      [['move'], /there is no command move/],
      [['export'], /which file\?/],
      [['export', 'a', 'b'], /one file, not 2/],
      [['export', '--to', 'sqlite:x', 'a'], /odeon export takes --from, not --to/],
      [['import', '--from', 'sqlite:x', 'a'], /odeon import takes --to, not --from/],
      [['export', '--form', 'sqlite:x', 'a'], /Unknown option '--form'/],
      [['export', '--from', 'data', 'a'], /data is no log that is known/],
      [['export', '--from', 'sqlite:', 'a'], /sqlite: is no log that is known/],
      [['export', '--from', 'mysql://me:secret@host/x', 'a'], /mysql:\/\/…@host\/x is no log that is known/],
    ];
    for (const [args, reason] of wrong) {
      it(`when it is called with ${args.join(' ')}`, async () => {
        const { out, err, code } = await odeon(args);
        expect(err)
          .to.match(reason)
          .and.match(/odeon --help says how\.\n$/);
        expect({ out, code }).to.deep.equal({ out: '', code: 2 });
      });
    }
  });

  it('says when there is no log to export or no file to import', async () => {
    expect(await odeon(['export', 'log.jsonl'])).to.include({
      err: 'odeon: there is no log.db in ./data\n',
      code: 1,
    });
    expect(existsSync(join(folder, 'data'))).to.equal(false);
    const refused = await odeon(['import', 'log.jsonl']);
    expect(refused.code).to.equal(1);
    expect(refused.err).to.match(/ENOENT.*log\.jsonl/);
    expect(existsSync(join(folder, 'data'))).to.equal(false);
  });

  it('can be run by its name', () => {
    const { stdout, status } = spawnSync('npm', ['run', '--silent', 'odeon', '--', '--help'], {
      encoding: 'utf8',
    });
    expect(status).to.equal(0);
    expect(stdout).to.match(/^odeon export/);
  });
});
