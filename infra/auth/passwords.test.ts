import { randomBytes } from 'node:crypto';
import { parseOptions } from '@node-rs/argon2';
import { expect } from 'chai';
import { createPasswords } from './passwords.ts';

describe('passwords', () => {
  const passwords = createPasswords({ pepper: randomBytes(32) });

  it('are hashed with argon2id as OWASP recommends', async () => {
    const hash = await passwords.hash('correct horse');
    expect(hash).to.match(/^\$argon2id\$v=19\$m=19456,t=2,p=1\$/);
    expect(parseOptions(hash)).to.include({ saltLen: 16, outputLen: 32 });
    expect(await passwords.hash('correct horse')).not.to.equal(hash);
  });

  it('match only themselves, and only with the pepper', async () => {
    const hash = await passwords.hash('correct horse');
    expect(await passwords.verify(hash, 'correct horse')).to.equal(true);
    expect(await passwords.verify(hash, 'Correct horse')).to.equal(false);
    const stranger = createPasswords({ pepper: randomBytes(32) });
    expect(await stranger.verify(hash, 'correct horse')).to.equal(false);
  });

  it('match however the keyboard composes them', async () => {
    expect(
      await passwords.verify(await passwords.hash('Zu\u0308rich am See'), 'Z\u00fcrich am See'),
    ).to.equal(true);
  });

  it('of unknown accounts match nothing, after as much work', async () => {
    const hash = await passwords.hash('correct horse');
    const median = async (stored: string | null) => {
      const times: number[] = [];
      for (let round = 0; round < 7; round++) {
        const begun = performance.now();
        expect(await passwords.verify(stored, 'wrong')).to.equal(false);
        times.push(performance.now() - begun);
      }
      return times.toSorted((a, b) => a - b)[3]!;
    };
    await median(null); // makes the hash to compare with
    const ratio = (await median(null)) / (await median(hash));
    expect(ratio).to.be.within(0.25, 4);
  });

  it('are worked on a few at a time, and refused when too many wait', async () => {
    const one = createPasswords({ pepper: randomBytes(32), concurrency: 1 });
    const hash = await one.hash('correct horse');
    // Longer ones are answered without hashing, so the crowd is worked off at once.
    const crowd = Array.from({ length: 230 }, () =>
      one.verify(hash, 'x'.repeat(257)).then(String, (error: Error) => error.message),
    );
    const answers = await Promise.all(crowd);
    expect(answers.filter((answer) => answer === 'false')).to.have.length(201);
    expect(answers.filter((answer) => answer.startsWith('Too many logins'))).to.have.length(29);
    expect(await one.verify(hash, 'correct horse')).to.equal(true);
  });
});
