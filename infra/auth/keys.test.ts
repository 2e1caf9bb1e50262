import { chmod, mkdtemp, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import { openKeys } from './keys.ts';

describe('the key file', () => {
  let directory: string;
  let nowMs: number;
  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), 'odeon-keys-'));
    nowMs = Date.parse('2026-01-01T00:00:00Z');
  });
  afterEach(() => rm(directory, { recursive: true }));
  const path = () => join(directory, 'keys.json');
  const open = (create = false) => openKeys({ directory, create, tokenLifetimeMs: 60_000, now: () => nowMs });
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
    await writeFile(`${path()}.new`, '{"version":1,');
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
});
