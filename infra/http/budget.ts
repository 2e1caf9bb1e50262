/** Bounds what all clients together may make this process hold for them. */
import { Refusal } from '../../contracts/errors.ts';

export interface Budget {
  /** @throws Refusal SERVICE_UNAVAILABLE when there is no room for so many bytes now; nothing is taken then */
  take(bytes: number): void;
  /** Gives back what was taken. */
  give(bytes: number): void;
}

const RETRY_SECONDS = 5;

export function createBudget(maxBytes: number, refusal: string): Budget {
  let taken = 0;
  return {
    take(bytes) {
      if (taken + bytes > maxBytes) {
        throw new Refusal('SERVICE_UNAVAILABLE', refusal, { retryAfterSeconds: RETRY_SECONDS });
      }
      taken += bytes;
    },
    give(bytes) {
      taken -= bytes;
    },
  };
}
