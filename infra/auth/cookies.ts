/** The cookies that browsers keep a login in: their names, where they go, and how long they last. */
import { parseCookie, stringifySetCookie } from 'cookie';
import type { SessionCookies, Tokens } from './port.ts';

const REFRESH_TOKEN = 'refreshToken';
const ACCESS_TOKENS = { luna: ['accessToken', 'session'], zerg: ['zerg_session'] } as const;

/** In the order in which they are looked at. */
export const accessTokensIn = (header: string): string[] => {
  const cookies = parseCookie(header);
  return [...ACCESS_TOKENS.luna, ...ACCESS_TOKENS.zerg]
    .map((name) => cookies[name])
    .filter((value): value is string => value !== undefined && value !== '');
};

export interface CookiesOptions {
  readonly tokens: Pick<Tokens, 'accessTokenSeconds' | 'refreshTokenSeconds'>;
  /** Whether clients reach this server by https; browsers then never send the cookies in the clear. */
  readonly secure: boolean;
}

export function createSessionCookies({ tokens, secure }: CookiesOptions): SessionCookies {
  const cookie = (name: string, value: string, maxAge: number): string =>
    stringifySetCookie({
      name,
      value,
      maxAge,
      httpOnly: true,
      sameSite: 'lax',
      secure,
      // The refresh token is good for nothing else, so it goes nowhere else.
      path: name === REFRESH_TOKEN ? '/api/auth' : '/',
    });

  return {
    begin: (surface, { accessToken, refreshToken }) => [
      ...ACCESS_TOKENS[surface].map((name) => cookie(name, accessToken, tokens.accessTokenSeconds)),
      ...(surface === 'luna' ? [cookie(REFRESH_TOKEN, refreshToken, tokens.refreshTokenSeconds)] : []),
    ],
    end: (surface) => [
      ...ACCESS_TOKENS[surface].map((name) => cookie(name, '', 0)),
      ...(surface === 'luna' ? [cookie(REFRESH_TOKEN, '', 0)] : []),
    ],
    refreshTokenIn: (header) =>
      header === undefined ? undefined : parseCookie(header)[REFRESH_TOKEN] || undefined,
  };
}
