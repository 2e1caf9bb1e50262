/**
 * Tokens for calls between the processes of a deployment: JWTs with HS256 under a secret that only they know, each
 * good for one method, path and body, and for half a minute. What was overheard can be sent again so long, but not
 * with another body; commands carry their id, so that the same one again changes nothing.
 */
import { createHash } from 'node:crypto';
import jwt from 'jsonwebtoken';
import { z } from 'zod';
import type { ServiceTokens } from './port.ts';

const ISSUER = 'odeon';
const AUDIENCE = 'odeon services';
const ALGORITHM = 'HS256';
const SECONDS = 30;
/** Clocks of machines may be so far apart. */
const TOLERANCE_SECONDS = 15;
const LONGEST_SECONDS = 60;

const claims = z.object({
  iat: z.int(),
  exp: z.int(),
  method: z.string(),
  path: z.string(),
  /** SHA-256 of the body, base64url. */
  body: z.string(),
});

const digest = (body: Uint8Array): string => createHash('sha256').update(body).digest('base64url');

export interface ServiceTokensOptions {
  /** `keys.secret('calls between services')`. */
  readonly secret: Buffer;
  readonly now?: () => number;
}

export function createServiceTokens({ secret, now = Date.now }: ServiceTokensOptions): ServiceTokens {
  const nowSeconds = (): number => Math.floor(now() / 1_000);

  return {
    sign({ method, path, body }) {
      const iat = nowSeconds();
      const token = jwt.sign({ iat, exp: iat + SECONDS, method, path, body: digest(body) }, secret, {
        algorithm: ALGORITHM,
        issuer: ISSUER,
        audience: AUDIENCE,
      });
      return `Bearer ${token}`;
    },

    verify(authorization, { method, path }) {
      const token = /^Bearer (\S+)$/.exec(authorization ?? '')?.[1];
      if (token === undefined) return 'it has no token';
      let payload: unknown;
      try {
        payload = jwt.verify(token, secret, {
          algorithms: [ALGORITHM],
          issuer: ISSUER,
          audience: AUDIENCE,
          clockTimestamp: nowSeconds(),
          clockTolerance: TOLERANCE_SECONDS,
        });
      } catch (error) {
        return `its token is not valid: ${(error as Error).message}`;
      }
      const parsed = claims.safeParse(payload);
      if (!parsed.success) return 'its token lacks a claim';
      const { iat, exp, body: signed } = parsed.data;
      if (exp - iat > LONGEST_SECONDS) return 'its token is good for too long';
      if (iat > nowSeconds() + TOLERANCE_SECONDS) return 'its token comes from the future: set the clocks';
      if (parsed.data.method !== method || parsed.data.path !== path) return 'its token is for another route';
      return (body) => digest(body) === signed;
    },
  };
}
