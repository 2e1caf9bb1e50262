/**
 * Limits on guessing passwords: per account and address, per account (many addresses guess one password), and
 * per address (one address guesses many accounts). A try counts from when it begins, so that parallel ones
 * cannot get around it, and is taken back when it succeeds.
 */
import { RateLimiterMemory, RateLimiterRes } from 'rate-limiter-flexible';
import { Refusal } from '../../contracts/errors.ts';
import { network } from '../http/port.ts';
import type { LoginLimiter } from './port.ts';

export interface LoginLimiterOptions {
  /** Failures of one account from one address; an account takes 4 times as many, an address 10 times. */
  readonly attempts?: number;
  readonly windowMinutes?: number;
}

export function createLoginLimiter({
  attempts = 5,
  windowMinutes = 15,
}: LoginLimiterOptions = {}): LoginLimiter {
  const windowSeconds = windowMinutes * 60;
  const limiter = (points: number) => new RateLimiterMemory({ points, duration: windowSeconds });
  const byAddress = limiter(attempts * 10);
  const byAccount = limiter(attempts * 4);
  const byBoth = limiter(attempts);

  async function giveBack(limiter: RateLimiterMemory, key: string): Promise<void> {
    // Not where the window has ended since: that would allow one try more in the next.
    const count = await limiter.get(key);
    if (count !== null && count.consumedPoints > 0) await limiter.reward(key);
  }

  return {
    async begin(account, rawAddress) {
      const address = network(rawAddress);
      // The address first: once it is used up, it cannot fill the memory with further accounts.
      const keys = [
        [byAddress, address],
        [byAccount, account],
        [byBoth, `${account} ${address}`],
      ] as const;
      const counted: (typeof keys)[number][] = [];
      const abandoned = async () => {
        for (const [limiter, key] of counted) await giveBack(limiter, key);
      };
      for (const [limiter, key] of keys) {
        counted.push([limiter, key] as (typeof keys)[number]);
        try {
          await limiter.consume(key);
        } catch (rejected) {
          if (!(rejected instanceof RateLimiterRes)) throw rejected;
          await abandoned();
          throw new Refusal('RATE_LIMIT_EXCEEDED', 'Too many login attempts, please try again later', {
            retryAfterSeconds: Math.max(1, Math.ceil(rejected.msBeforeNext / 1_000)),
            rateLimit: { limit: limiter.points, windowSeconds },
          });
        }
      }
      return {
        abandoned,
        async succeeded() {
          await abandoned();
          await byBoth.delete(`${account} ${address}`);
        },
      };
    },
  };
}
