/** Who is asking: one check of credentials for every transport, and what passwords, tokens and keys are made of. */
import type { Caller } from '../../contracts/caller.ts';
import type { Role } from '../../contracts/events/identity.ts';
import type { AgentDocument, PublicLinkDocument } from '../../contracts/read-models/documents.ts';

/** As they came in, unparsed. */
export interface Credentials {
  readonly authorization?: string | undefined;
  readonly cookie?: string | undefined;
  /** `X-API-Key`. */
  readonly apiKey?: string | undefined;
  /** `?token=`: an access token or a 30-second WebSocket token; accepted for WebSockets only. */
  readonly queryToken?: string | undefined;
}

export interface Authenticator {
  /**
   * Order: Authorization (JWT or API key), X-API-Key, query token, cookies `accessToken`, `session`,
   * `zerg_session`. Null when nothing was presented.
   * @throws Refusal UNAUTHORIZED when what was presented is bad, expired, revoked, or its user is disabled
   */
  authenticate(credentials: Credentials): Promise<Caller | null>;
  /**
   * The caller as they are now, for connections that stay open: by the login session or API key alone. That the
   * access token which opened the connection has expired since does not count, as nobody can send another one
   * there. Null when the session has ended (logout, password change, refresh token reused or expired), the key is
   * revoked or expired, or the user is disabled.
   */
  recheck(caller: Caller): Promise<Caller | null>;
}

export interface Passwords {
  /** argon2id with a fresh salt and the deployment's pepper. */
  hash(password: string): Promise<string>;
  /** `hash` null: there is no such account; takes as long as any other answer, which is then false. */
  verify(hash: string | null, password: string): Promise<boolean>;
}

/** On whose behalf a token speaks: a login session or (WebSocket tokens only) an API key. */
export interface TokenSubject {
  readonly userId: string;
  readonly email: string;
  readonly role: Role;
  readonly credential: { readonly kind: 'session' | 'apiKey'; readonly id: string };
}

export interface TokenClaims extends TokenSubject {
  readonly type: 'access' | 'ws';
  /** ms since the epoch. */
  readonly expiresAtMs: number;
}

/**
 * Every token is derived from what it is for and this deployment's secrets, so that a repeated command answers
 * the same; the log holds `hash` of those that must be recognised.
 */
export interface Tokens {
  readonly accessTokenSeconds: number;
  readonly refreshTokenSeconds: number;
  /** A JWT for `accessTokenSeconds` from then on. Equal arguments give equal tokens until the keys rotate. */
  accessToken(subject: TokenSubject, issuedAtMs: number): string;
  /** A JWT for the 30 seconds in which a WebSocket is opened. */
  webSocketToken(subject: TokenSubject, issuedAtMs: number): string;
  /** Null when it is not a JWT of ours that is valid now. */
  verify(jwt: string): TokenClaims | null;
  refreshToken(sessionId: string, commandId: string): string;
  /** The session of a refresh token that this deployment made, used up or not; null for anything else. */
  sessionOf(refreshToken: string): string | null;
  apiKey(keyId: string): string;
  /** The id of an API key that this deployment made, revoked or not; null for anything else. */
  apiKeyIdOf(apiKey: string): string | null;
  /** HMAC-SHA256 of a token, for the log. */
  hash(token: string): string;
  /** The user id that belongs to an e-mail address: a keyed hash, so that one address is one user. */
  userIdOf(email: string): string;
  /** The password that the first administrator gets when the operator names none: the same on every try. */
  administratorPassword(): string;
}

/** RFC 7517, RFC 7518 section 6.3.1. */
export interface JsonWebKey {
  readonly kty: 'RSA';
  readonly n: string;
  readonly e: string;
  readonly kid: string;
  readonly alg: 'RS256';
  readonly use: 'sig';
}

export interface SigningKeys {
  /** The public keys of all tokens that may still be valid. */
  jwks(): { readonly keys: readonly JsonWebKey[] };
  /**
   * Signs with a new key from now on; tokens signed before stay valid until they expire. Repeated with the same
   * command id it changes nothing and answers the same, as long as the key before is kept.
   */
  rotate(commandId: string): Promise<{ readonly kid: string; readonly previousKid: string | null }>;
}

/** One try to log in, counted against its limits when it began. */
export interface LoginAttempt {
  /** The password was right: only failures count. */
  succeeded(): Promise<void>;
  /** The password was never looked at: the try does not count. */
  abandoned(): Promise<void>;
}

export interface LoginLimiter {
  /** @throws Refusal RATE_LIMIT_EXCEEDED when the account, the address or both together have failed too often */
  begin(account: string, address: string): Promise<LoginAttempt>;
}

/** The cookies that browsers keep a login in: HttpOnly, SameSite=Lax. Values of `Set-Cookie` headers. */
export interface SessionCookies {
  begin(
    surface: 'luna' | 'zerg',
    given: { readonly accessToken: string; readonly refreshToken: string },
  ): string[];
  end(surface: 'luna' | 'zerg'): string[];
  /** The refresh token in a `Cookie` header. */
  refreshTokenIn(header: string | undefined): string | undefined;
}

/** What a token for a call between services is good for: one method, path and body. */
export interface ServiceCall {
  readonly method: string;
  readonly path: string;
  readonly body: Uint8Array;
}

/** Calls between the processes of a deployment, which share its secrets. */
export interface ServiceTokens {
  /** A value of the header Authorization, for this call, within the next half a minute. */
  sign(call: ServiceCall): string;
  /**
   * Checks the header before the body is read.
   * @returns a function that says of the body whether it is the one that was signed; or, as text, why the header is
   * none of a call with this method and path
   */
  verify(
    authorization: string | undefined,
    call: Pick<ServiceCall, 'method' | 'path'>,
  ): string | ((body: Uint8Array) => boolean);
}

/**
 * What the owners of public links and their visitors hold. All of it is made from ids and a key of the deployment, so
 * that nothing of it has to be kept: a link's token can be shown again, and a visitor's session be known again.
 */
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

/** A link that holds now. */
export interface OpenLink {
  readonly link: PublicLinkDocument;
  readonly agent: AgentDocument;
  /** In whose name the visitor acts: the link's owner, who may read and write chats and nothing else. */
  readonly caller: Caller;
}

/** Who comes by a public link. Both throw Refusal RATE_LIMIT_EXCEEDED when too many have come. */
export interface Visitors {
  /** The link of a token, for who looks; null, after as much work, whatever is wrong with it. */
  look(token: string, address: string): Promise<OpenLink | null>;
  /** The same for who does something. */
  act(token: string, address: string): Promise<OpenLink | null>;
}
