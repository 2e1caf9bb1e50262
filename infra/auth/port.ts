/** Who is asking: one check of credentials for every transport. */
import type { Caller } from '../../contracts/caller.ts';

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
}
