import { expect } from 'chai';
import { Refusal } from '../../contracts/errors.ts';
import { network } from '../http/port.ts';
import { createLoginLimiter } from './login-limiter.ts';
import type { LoginLimiter } from './port.ts';

/** True when the try was let through; it then counts as failed. */
const fails = async (limiter: LoginLimiter, account: string, address: string): Promise<boolean> =>
  limiter.begin(account, address).then(
    () => true,
    (error: unknown) => {
      expect(error).to.be.instanceOf(Refusal).with.property('code', 'RATE_LIMIT_EXCEEDED');
      return false;
    },
  );
const times = async (count: number, attempt: (round: number) => Promise<boolean>): Promise<number> => {
  const admitted = await Promise.all(Array.from({ length: count }, (_, round) => attempt(round)));
  return admitted.filter(Boolean).length;
};

describe('the limits on logging in', () => {
  it('let five failures of an account from an address through, in parallel or not', async () => {
    const limiter = createLoginLimiter();
    expect(await times(30, () => fails(limiter, 'ada', '192.0.2.1'))).to.equal(5);
    expect(await fails(limiter, 'ada', '192.0.2.2')).to.equal(true);
    expect(await fails(limiter, 'bob', '192.0.2.1')).to.equal(true);
  });

  it('let twenty failures of an account through, from however many addresses', async () => {
    const limiter = createLoginLimiter();
    expect(await times(60, (round) => fails(limiter, 'ada', `192.0.2.${round}`))).to.equal(20);
  });

  it('let fifty failures from an address through, of however many accounts', async () => {
    const limiter = createLoginLimiter();
    expect(await times(120, (round) => fails(limiter, `account ${round}`, '192.0.2.1'))).to.equal(50);
  });

  it('say when to come back, and which limit it was', async () => {
    const limiter = createLoginLimiter({ attempts: 1, windowMinutes: 2 });
    await limiter.begin('ada', '192.0.2.1');
    const refusal = await limiter.begin('ada', '192.0.2.1').catch((error: Refusal) => error);
    expect(refusal).to.deep.include({
      message: 'Too many login attempts, please try again later',
      retryAfterSeconds: 120,
      rateLimit: { limit: 1, windowSeconds: 120 },
    });
  });

  it('do not count what succeeds, and forget the failures before it', async () => {
    const limiter = createLoginLimiter({ attempts: 2 });
    for (let round = 0; round < 30; round++) await (await limiter.begin('ada', '192.0.2.1')).succeeded();
    await limiter.begin('ada', '192.0.2.1');
    await (await limiter.begin('ada', '192.0.2.1')).succeeded();
    expect(await times(3, () => fails(limiter, 'ada', '192.0.2.1'))).to.equal(2);
  });

  it('do not count what was refused or abandoned', async () => {
    const limiter = createLoginLimiter({ attempts: 1 });
    await (await limiter.begin('ada', '192.0.2.1')).abandoned();
    expect(await times(10, () => fails(limiter, 'ada', '192.0.2.1'))).to.equal(1);
    // Nine refusals later, the account has three of its four failures left, elsewhere.
    expect(await times(5, (round) => fails(limiter, 'ada', `192.0.2.${round + 2}`))).to.equal(3);
  });

  it('end with their window', async () => {
    const limiter = createLoginLimiter({ attempts: 1, windowMinutes: 0.05 / 60 });
    expect(await fails(limiter, 'ada', '192.0.2.1')).to.equal(true);
    expect(await fails(limiter, 'ada', '192.0.2.1')).to.equal(false);
    const deadline = performance.now() + 5_000;
    while (!(await fails(limiter, 'ada', '192.0.2.1'))) {
      expect(performance.now()).to.be.below(deadline);
      await new Promise((resolve) => setImmediate(resolve));
    }
  });

  it('take an IPv6 network for one address', () => {
    expect(network('2001:db8:1:2:3:4:5:6')).to.equal(network('2001:db8:1:2::9'));
    expect(network('2001:db8:1:2::9')).not.to.equal(network('2001:db8:1:3::9'));
    expect(network('::1')).to.equal('0:0:0:0::/64');
    expect(network('fe80::1%eth0')).to.equal('fe80:0:0:0::/64');
    expect(network('::ffff:192.0.2.1')).to.equal('192.0.2.1');
    expect(network('192.0.2.1')).to.equal('192.0.2.1');
  });
});
