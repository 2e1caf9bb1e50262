import { execFile } from 'node:child_process';
import { chmod, mkdtemp, readdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { expect } from 'chai';
import { Refusal } from '../../contracts/errors.ts';
import { keysFromEnvironment, newKeys, openKeys, rotatedKeys } from './keys.ts';

describe('the key file', () => {
  let directory: string;
  let nowMs: number;
  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), 'odeon-keys-'));
    nowMs = Date.parse('2026-01-01T00:00:00Z');
  });
  afterEach(() => rm(directory, { recursive: true }));
  const path = () => join(directory, 'keys.json');
  const open = (create = false) =>
    openKeys({ file: path(), create, tokenLifetimeMs: 60_000, now: () => nowMs });
  const refusal = async (): Promise<string> =>
    open(true).then(
      () => 'opened',
      (error: Error) => error.message,
    );

  it('is made once, for its owner only, and gives the same keys at every start', async () => {
    const first = await open(true);
    expect((await stat(path())).mode & 0o777).to.equal(0o600);
    const second = await open(true);
    expect(second.current().kid).to.equal(first.current().kid);
    expect(second.jwks()).to.deep.equal(first.jwks());
    expect(second.secret('a')).to.deep.equal(first.secret('a'));
    expect(second.secret('a')).not.to.deep.equal(second.secret('b'));
  });

  it('publishes public keys only', async () => {
    const [key] = (await open(true)).jwks().keys;
    expect(Object.keys(key!)).to.have.members(['kty', 'n', 'e', 'kid', 'alg', 'use']);
    expect(Buffer.from(key!.n, 'base64url')).to.have.length(256);
  });

  it('is tightened when it can be read by others', async () => {
    await open(true);
    await chmod(path(), 0o644);
    await open();
    expect((await stat(path())).mode & 0o777).to.equal(0o600);
  });

  it('stops the start when it is missing and a log depends on it', async () => {
    expect(
      await open().then(
        () => 'opened',
        (error: Error) => error.message,
      ),
    ).to.match(/keys\.json is missing.*restore it from a backup/);
    expect(await readFile(path()).catch(() => 'no file')).to.equal('no file');
  });

  for (const [damage, change] of [
    ['is empty', () => ''],
    ['is cut off', (text: string) => text.slice(0, text.length / 2)],
    ['lacks the master secret', (text: string) => text.replace('masterSecret', 'other')],
    ['holds a broken private key', (text: string) => text.replace(/MII[\w+/]{40}/, '')],
    [
      'has no current key',
      (text: string) => text.replace('"verifiesUntil": null', '"verifiesUntil": "2026-01-01T00:00:00Z"'),
    ],
  ] as const) {
    it(`stops the start when it ${damage}, and is left as it is`, async () => {
      await open(true);
      const text = await readFile(path(), 'utf8');
      await writeFile(path(), change(text));
      const message = await refusal();
      expect(message).to.match(/keys\.json is damaged: restore it from a backup/);
      expect(message).not.to.include('PRIVATE KEY');
      expect(await readFile(path(), 'utf8')).to.equal(change(text));
    });
  }

  it('survives a crash before the new file took the place of the old one', async () => {
    const { kid } = (await open(true)).current();
    await writeFile(`${path()}.1.new`, '{"version":1,');
    const keys = await open();
    expect(keys.current().kid).to.equal(kid);
    await keys.rotate('command 1');
    expect((await open()).current().kid).to.equal(keys.current().kid);
  });

  describe('rotation', () => {
    it('signs with a new key and verifies with the old one until its tokens have expired', async () => {
      const keys = await open(true);
      const first = keys.current().kid;
      const rotated = await keys.rotate('command 1');
      expect(rotated.previousKid).to.equal(first);
      expect(keys.current().kid).to.equal(rotated.kid).and.not.to.equal(first);
      expect(keys.jwks().keys.map((key) => key.kid)).to.deep.equal([first, rotated.kid]);
      nowMs += 59_999;
      expect(keys.verifyWith(first)).not.to.equal(null);
      nowMs += 1;
      expect(keys.verifyWith(first)).to.equal(null);
      expect(keys.jwks().keys.map((key) => key.kid)).to.deep.equal([rotated.kid]);
      expect((await open()).current().kid).to.equal(rotated.kid);
    });

    it('happens once for one command, at the same time or after a restart', async () => {
      const keys = await open(true);
      const [one, two] = await Promise.all([keys.rotate('command 1'), keys.rotate('command 1')]);
      expect(one).to.deep.equal(two);
      expect(await (await open()).rotate('command 1')).to.deep.equal(one);
      expect((await open()).jwks().keys).to.have.length(2);
    });

    it('keeps no key for ever', async () => {
      const keys = await open(true);
      for (let round = 0; round < 3; round++) {
        await keys.rotate(`command ${round}`);
        nowMs += 60_000;
      }
      await keys.rotate('the last');
      expect(JSON.parse(await readFile(path(), 'utf8')).signingKeys).to.have.length(2);
    });

    it('goes on after one that failed', async () => {
      const keys = await open(true);
      const { kid } = keys.current();
      await rename(directory, `${directory} away`);
      const failed = await keys.rotate('command 1').then(
        () => false,
        () => true,
      );
      await rename(`${directory} away`, directory);
      expect(failed).to.equal(true);
      expect(keys.current().kid).to.equal(kid);
      expect((await keys.rotate('command 1')).previousKid).to.equal(kid);
    });
  });

  describe('shared by several processes', () => {
    it('is made by one of those that start at once, and used by all', async () => {
      const all = await Promise.all(Array.from({ length: 8 }, () => open(true)));
      expect(new Set(all.map((keys) => keys.fingerprint())).size).to.equal(1);
      expect(new Set(all.map((keys) => keys.current().kid)).size).to.equal(1);
      expect(await readdir(directory)).to.deep.equal(['keys.json']);
    });

    it('is made by one of several real processes that start at once', async function () {
      this.timeout(30_000);
      const script = `
        import { openKeys } from ${JSON.stringify(new URL('./keys.ts', import.meta.url).href)};
        const keys = await openKeys({ file: ${JSON.stringify(path())}, create: true, tokenLifetimeMs: 60000 });
        const { kid } = await keys.rotate(process.argv[1]);
        process.stdout.write(keys.fingerprint() + ' ' + kid);`;
      const run = (name: string) =>
        promisify(execFile)(process.execPath, ['--input-type=module', '-e', script, name]);
      const outputs = (await Promise.all(['a', 'b', 'c'].map(run))).map(({ stdout }) => stdout.split(' '));
      expect(new Set(outputs.map(([fingerprint]) => fingerprint)).size).to.equal(1);
      const kids = (await open()).jwks().keys.map(({ kid }) => kid);
      expect(kids)
        .to.have.length(4)
        .and.to.include.members(outputs.map(([, kid]) => kid));
      expect(await readdir(directory)).to.deep.equal(['keys.json']);
    });

    it('loses none of the rotations that happen at once', async () => {
      const processes = [await open(true), await open(), await open()];
      const made = await Promise.all(processes.map((keys, index) => keys.rotate(`command ${index}`)));
      const kids = (await open()).jwks().keys.map(({ kid }) => kid);
      expect(kids)
        .to.have.length(4)
        .and.to.include.members(made.map(({ kid }) => kid));
      expect(made.map(({ previousKid }) => previousKid)).to.have.members(kids.slice(0, -1));
    });

    it('knows a key that another process made as soon as it is asked for it', async () => {
      const here = await open(true);
      const there = await open();
      const { kid } = await there.rotate('command 1');
      expect(here.verifyWith(kid)).not.to.equal(null);
      expect(here.current().kid).to.equal(kid);
      expect(await here.rotate('command 1')).to.include({ kid });
      expect(here.verifyWith('unknown')).to.equal(null);
    });

    it('signs with a key that another process made within a second or two', async () => {
      const here = await open(true);
      const { kid } = await (await open()).rotate('command 1');
      await eventually(() => here.current().kid === kid);
      expect(here.jwks().keys).to.have.length(2);
    });

    it('stays with the keys it knows when the file is damaged, gone or another deployment’s, and says so once', async () => {
      const problems: string[] = [];
      const keys = await openKeys({
        file: path(),
        create: true,
        tokenLifetimeMs: 60_000,
        onProblem: ({ message }) => problems.push(message),
      });
      const { kid } = keys.current();
      const text = await readFile(path(), 'utf8');
      const look = () => [keys.verifyWith('unknown'), keys.verifyWith('unknown')];
      await writeFile(path(), text.slice(0, 100));
      look();
      await rm(path());
      look();
      await writeFile(path(), await newKeys());
      look();
      expect(keys.verifyWith(kid)).not.to.equal(null);
      expect(problems).to.have.length(3);
      expect(problems[0]).to.match(/keys\.json is damaged/);
      expect(problems[1]).to.match(/ENOENT/);
      expect(problems[2]).to.match(/replaced by the keys of another deployment/);
      await writeFile(path(), text);
      expect(look()).to.deep.equal([null, null]);
      expect(problems).to.have.length(3);
      expect((await keys.rotate('command 1')).previousKid).to.equal(kid);
    });

    it('goes on after a process that died while it was writing', async function () {
      this.timeout(20_000);
      const keys = await open(true);
      const { kid } = keys.current();
      await writeFile(`${path()}.lock`, 'somebody who died');
      const [one, two] = await Promise.all([keys.rotate('command 1'), (await open()).rotate('command 2')]);
      expect([one.previousKid, two.previousKid]).to.include(kid);
      expect((await open()).jwks().keys).to.have.length(3);
      expect(await readdir(directory)).to.deep.equal(['keys.json']);
    });

    it('is refused to be written by a process that may only read it, which is told who else can', async function () {
      this.timeout(30_000);
      await open(true);
      const script = `
        import { openKeys } from ${JSON.stringify(new URL('./keys.ts', import.meta.url).href)};
        const file = ${JSON.stringify(path())};
        const onProblem = ({ message }) => console.log(message);
        const keys = await openKeys({ file, create: false, tokenLifetimeMs: 60000, onProblem });
        await keys.rotate('command 1').catch(({ code, message }) => console.log(code, message));`;
      // Root may write everywhere.
      const user = process.getuid?.() === 0 ? { uid: 65_534, gid: 65_534 } : {};
      await chmod(path(), 0o444);
      await chmod(directory, 0o555);
      try {
        const { stdout } = await promisify(execFile)(
          process.execPath,
          ['--input-type=module', '-e', script],
          user,
        );
        if ('uid' in user) expect(stdout).to.match(/keys\.json can be read by others \(444\)/);
        expect(stdout).to.match(/CONFLICT The keys cannot be written from here: rotate them where/);
      } finally {
        await chmod(directory, 0o700);
      }
    });

    it('has a fingerprint that is another one for other keys, and that no rotation changes', async () => {
      const keys = await open(true);
      const print = keys.fingerprint();
      expect(print).to.match(/^[0-9a-f]{32}$/);
      await keys.rotate('command 1');
      expect(keys.fingerprint()).to.equal(print);
      expect((await open()).fingerprint()).to.equal(print);
      expect(keysFromEnvironment(await newKeys()).fingerprint()).not.to.equal(print);
    });
  });
});

describe('keys in the environment', () => {
  it('are the same as in a file, plain and in base64, and nothing is written', async () => {
    const text = await newKeys();
    expect(text).not.to.include('\n');
    const plain = keysFromEnvironment(` ${text}\n`);
    const encoded = keysFromEnvironment(Buffer.from(text).toString('base64'));
    expect(plain.jwks()).to.deep.equal(encoded.jwks());
    expect(plain.secret('a')).to.deep.equal(encoded.secret('a'));
    expect(plain.verifyWith(encoded.current().kid)).not.to.equal(null);
    expect(plain.verifyWith('unknown')).to.equal(null);

    const directory = await mkdtemp(join(tmpdir(), 'odeon-keys-'));
    const file = join(directory, 'keys.json');
    await writeFile(file, text, { mode: 0o600 });
    const fromFile = await openKeys({ file, create: false, tokenLifetimeMs: 60_000 });
    expect(fromFile.fingerprint()).to.equal(plain.fingerprint());
    await rm(directory, { recursive: true });
  });

  it('are rotated where they are kept', async () => {
    const text = await newKeys();
    const keys = keysFromEnvironment(text);
    const error = await keys.rotate('command 1').catch((reason: unknown) => reason);
    expect(error).to.be.instanceOf(Refusal).with.property('code', 'CONFLICT');
    expect((error as Refusal).message).to.match(/KEYS.*rotate them where/);

    const next = keysFromEnvironment(await rotatedKeys(text, 60_000));
    expect(next.current().kid).not.to.equal(keys.current().kid);
    expect(next.verifyWith(keys.current().kid)).not.to.equal(null);
    expect(next.fingerprint()).to.equal(keys.fingerprint());
  });

  for (const [fault, change, complaint] of [
    ['are empty', () => '', /neither JSON nor/],
    ['are no JSON', (text: string) => text.slice(0, -5), /neither JSON nor/],
    ['lack the master secret', (text: string) => text.replace('masterSecret', 'hunter2'), /masterSecret/],
    [
      'have a short master secret',
      (text: string) => text.replace(/"masterSecret":"./, '"masterSecret":"'),
      /masterSecret/,
    ],
    ['have a broken private key', (text: string) => text.replace(/MII[\w+/]{40}/, ''), /not an RSA key/],
  ] as const) {
    it(`are refused without being quoted when they ${fault}`, async () => {
      const text = change(await newKeys());
      for (const given of [text, Buffer.from(text).toString('base64')]) {
        let message = '';
        try {
          keysFromEnvironment(given);
        } catch (error) {
          message = (error as Error).message;
          expect((error as Error).cause).to.equal(undefined);
        }
        expect(message)
          .to.match(/^KEYS is not what was made for it/)
          .and.to.match(complaint);
        expect(message).not.to.match(/hunter2|PRIVATE|[\w-]{30}/);
      }
    });
  }
});

/** Resolves once `condition` holds. */
async function eventually(condition: () => boolean): Promise<void> {
  const deadline = performance.now() + 5_000;
  while (!condition()) {
    if (performance.now() > deadline) throw new Error('The condition did not come true in time.');
    await new Promise((resolve) => setImmediate(resolve));
  }
}
