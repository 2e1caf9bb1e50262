/** Passwords as argon2id hashes, off the main thread and only so many at once. */
import { randomBytes } from 'node:crypto';
import { availableParallelism } from 'node:os';
import { type Algorithm, hash, verify } from '@node-rs/argon2';
import { Refusal } from '../../contracts/errors.ts';
import type { Passwords } from './port.ts';

/** OWASP's Password Storage Cheat Sheet, argon2id: 19 MiB, two passes, one lane. */
const OWASP = { memoryCost: 19_456, timeCost: 2, parallelism: 1 } as const;
/** Longer ones are never hashed: no caller accepts them. */
const MAX_LENGTH = 256;
/** Beyond so many waiting, the next one is told to come back. */
const MAX_WAITING = 200;

export interface PasswordsOptions {
  /** Kept apart from the log, so that the log alone does not allow guessing. */
  readonly pepper: Buffer;
  /** Each takes 19 MiB and a core for tens of milliseconds. */
  readonly concurrency?: number;
}

export function createPasswords({
  pepper,
  concurrency = Math.min(4, availableParallelism()),
}: PasswordsOptions): Passwords {
  // `Algorithm` is a const enum without a value at run time: 2 is Algorithm.Argon2id.
  const options = { ...OWASP, algorithm: 2 as Algorithm.Argon2id, secret: pepper };
  let dummy: Promise<string> | null = null;
  let running = 0;
  const waiting: (() => void)[] = [];

  async function inTurn<T>(work: () => Promise<T>): Promise<T> {
    if (running >= concurrency) {
      if (waiting.length >= MAX_WAITING) {
        throw new Refusal('SERVICE_UNAVAILABLE', 'Too many logins at once: try again in a moment.', {
          retryAfterSeconds: 2,
        });
      }
      await new Promise<void>((resolve) => waiting.push(resolve));
    } else running += 1;
    try {
      return await work();
    } finally {
      const next = waiting.shift();
      if (next === undefined) running -= 1;
      else next();
    }
  }

  const hashed = (password: string): Promise<string> => {
    if (password.length > MAX_LENGTH) throw new Error(`A password of ${password.length} characters.`);
    // NFKC: the same password typed on another keyboard gives the same bytes (NIST SP 800-63B 5.1.1.2).
    return hash(password.normalize('NFKC'), options);
  };

  return {
    hash: (password) => inTurn(async () => hashed(password)),
    verify: (stored, password) =>
      inTurn(async () => {
        if (password.length > MAX_LENGTH) return false;
        dummy ??= hashed(randomBytes(16).toString('base64url'));
        const matches = await verify(stored ?? (await dummy), password.normalize('NFKC'), options);
        return matches && stored !== null;
      }),
  };
}
