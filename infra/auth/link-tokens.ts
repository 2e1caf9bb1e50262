/**
 * What visitors of public links hold. All of it is made from ids and a key of the deployment, so that nothing of it
 * has to be kept: a link's token can be shown again, and a visitor's session be known again.
 */
import { createHmac, timingSafeEqual } from 'node:crypto';

export interface LinkTokens {
  /** 192 bits, base64url. */
  token(linkId: string): string;
  /** What the log keeps of a token: 64 hexadecimal digits. */
  hash(token: string): string;
  /** The conversation's id and 128 bits that only this deployment can make. */
  session(linkId: string, conversationId: string): string;
  /** The conversation of a session of this link; null for whatever is none. */
  conversationOf(linkId: string, session: string): string | null;
}

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
