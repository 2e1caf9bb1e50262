/** What the owners of public links and their visitors hold. */
import { createHmac, timingSafeEqual } from 'node:crypto';
import type { LinkTokens } from './port.ts';

const TOKEN_BYTES = 24;
const SESSION_BYTES = 16;
const SESSION = /^([0-9a-f]{12})\.([\w-]{22})$/;

export function createLinkTokens({ secret }: { readonly secret: Buffer }): LinkTokens {
  const mac = (purpose: string, ...parts: readonly string[]): Buffer =>
    createHmac('sha256', secret)
      .update([purpose, ...parts].join('\n'))
      .digest();
  const seal = (linkId: string, conversationId: string): Buffer =>
    mac('session', linkId, conversationId).subarray(0, SESSION_BYTES);

  return {
    token: (linkId) => mac('token', linkId).subarray(0, TOKEN_BYTES).toString('base64url'),
    hash: (token) => mac('hash', token).toString('hex'),
    session: (linkId, conversationId) =>
      `${conversationId}.${seal(linkId, conversationId).toString('base64url')}`,
    conversationOf(linkId, session) {
      const [, conversationId, sealed] = SESSION.exec(session) ?? [];
      if (conversationId === undefined || sealed === undefined) return null;
      const given = Buffer.from(sealed, 'base64url');
      const wanted = seal(linkId, conversationId);
      return given.length === wanted.length && timingSafeEqual(given, wanted) ? conversationId : null;
    },
  };
}
