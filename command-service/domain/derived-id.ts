/** Ids that follow from what they are made of, so that the same command makes the same ids again. */
import { hash } from 'node:crypto';

/** So many hexadecimal digits of the SHA-256 of the parts. */
export const derivedId = (digits: number, ...parts: readonly (string | number)[]): string =>
  hash('sha256', parts.join('\n')).slice(0, digits);
