/** The routes that log in and out, and that change users, API keys and signing keys. */
import { resolvePermissions } from '../../contracts/commands/identity.ts';
import { Refusal, refuse } from '../../contracts/errors.ts';
import {
  administration,
  luna,
  toLunaUser,
  toManagedUser,
  toShownApiKey,
  toZergUser,
  zerg,
} from '../../contracts/http/identity.ts';
import { getToken } from '../../contracts/http/trinity.ts';
import type {
  Authenticator,
  LoginLimiter,
  Passwords,
  SessionCookies,
  SigningKeys,
  Tokens,
} from '../../infra/auth/port.ts';
import { callerOf, type Endpoint, endpoint, type RequestContext } from '../../infra/http/port.ts';
import type { ReadModels } from '../../infra/read-models/port.ts';
import { createAuthentication, type LoggedIn } from '../authentication.ts';
import type { CommandBus } from '../command.ts';
import { createApiKey, revokeApiKey } from '../domain/api-key.ts';
import { derivedId } from '../domain/derived-id.ts';
import { rotateSigningKey } from '../domain/signing-keys.ts';
import { changeUser, type RegisteredUser, registerUser } from '../domain/user.ts';
import { requestMeta } from './conversations.ts';

export interface IdentityCommandDependencies {
  readonly bus: CommandBus;
  readonly readModels: ReadModels;
  readonly authenticator: Authenticator;
  readonly passwords: Passwords;
  readonly tokens: Tokens;
  readonly signingKeys: SigningKeys;
  readonly limiter: LoginLimiter;
  readonly cookies: SessionCookies;
  readonly now?: () => number;
}

const zergTokens = ({ user, accessToken, refreshToken, expiresIn }: LoggedIn) => ({
  ok: true,
  data: {
    token: accessToken,
    access_token: accessToken,
    refresh_token: refreshToken,
    expires_in: expiresIn,
    user: toZergUser({ ...user, id: user.userId }),
  },
});

/** 16 hexadecimal digits. */
const apiKeyIdFor = (commandId: string, userId: string): string =>
  derivedId(16, 'api key', commandId, userId);

export function identityCommandEndpoints(dependencies: IdentityCommandDependencies): Endpoint[] {
  const { bus, authenticator, passwords, tokens, signingKeys, cookies, now = Date.now } = dependencies;
  const authentication = createAuthentication({ ...dependencies, now });

  /** The session that the request's own credential belongs to. Public routes have no caller, so it is asked here. */
  async function sessionOfRequest({ headers }: RequestContext): Promise<string> {
    const { authorization, cookie } = headers;
    const caller = await authenticator.authenticate({
      authorization: typeof authorization === 'string' ? authorization : undefined,
      cookie: cookieOf(cookie),
    });
    if (caller === null) return refuse('UNAUTHORIZED', 'No authorization provided');
    return caller.sessionId ?? refuse('UNAUTHORIZED', 'Invalid token type');
  }

  /** Ends whatever sessions the request can show; one that can show none is logged out already. */
  async function logOut(refreshTokens: readonly (string | undefined)[], context: RequestContext) {
    const sessions = new Set<string>();
    for (const token of refreshTokens) {
      const sessionId = token === undefined ? null : tokens.sessionOf(token);
      if (sessionId !== null) sessions.add(sessionId);
    }
    try {
      sessions.add(await sessionOfRequest(context));
    } catch (error) {
      if (!(error instanceof Refusal)) throw error;
    }
    for (const sessionId of sessions) await authentication.logOut(sessionId, context);
  }

  return [
    // ── Luna ──────────────────────────────────────────────────────────────
    endpoint(luna.login, async ({ body, context }) => {
      const given = await authentication.logIn({ account: body.email, password: body.password }, context);
      const { user, accessToken, refreshToken, expiresIn } = given;
      return {
        status: 200,
        body: { user: toLunaUser({ ...user, id: user.userId }), accessToken, refreshToken, expiresIn },
        headers: { 'Set-Cookie': cookies.begin('luna', given) },
      };
    }),
    endpoint(luna.refresh, async ({ body, context }) => {
      const presented = cookies.refreshTokenIn(cookieOf(context.headers.cookie)) ?? body.refreshToken;
      if (presented === undefined) return refuse('UNAUTHORIZED', 'No authorization provided');
      const given = await authentication.refresh({ refreshToken: presented }, context);
      const { accessToken, refreshToken, expiresIn } = given;
      return {
        status: 200,
        body: { accessToken, refreshToken, expiresIn },
        headers: { 'Set-Cookie': cookies.begin('luna', given) },
      };
    }),
    endpoint(luna.logout, async ({ body, context }) => {
      const fromCookie = cookies.refreshTokenIn(cookieOf(context.headers.cookie));
      await logOut([fromCookie, body.refreshToken], context);
      return { status: 200, body: { success: true }, headers: { 'Set-Cookie': cookies.end('luna') } };
    }),
    endpoint(luna.wsToken, ({ context }) => {
      const { userId, email, role, sessionId, actor } = callerOf(context);
      const credential =
        sessionId === null
          ? ({ kind: 'apiKey', id: actor.id } as const)
          : ({ kind: 'session', id: sessionId } as const);
      const token = tokens.webSocketToken({ userId, email, role, credential }, now());
      return { status: 200, body: { token } };
    }),

    // ── ZERG ──────────────────────────────────────────────────────────────
    endpoint(zerg.login, async ({ body, context }) => {
      const account = body.username ?? body.email ?? '';
      const given = await authentication.logIn({ account, password: body.password }, context);
      return {
        status: 200,
        body: zergTokens(given),
        headers: { 'Set-Cookie': cookies.begin('zerg', given) },
      };
    }),
    endpoint(zerg.refresh, async ({ body, context }) => {
      const given = await authentication.refresh(
        body.refresh_token === undefined
          ? { sessionId: await sessionOfRequest(context) }
          : { refreshToken: body.refresh_token },
        context,
      );
      return {
        status: 200,
        body: zergTokens(given),
        headers: { 'Set-Cookie': cookies.begin('zerg', given) },
      };
    }),
    endpoint(zerg.logout, async ({ body, context }) => {
      await logOut([body.refresh_token], context);
      return {
        status: 200,
        body: { ok: true, data: { logged_out: true } },
        headers: { 'Set-Cookie': cookies.end('zerg') },
      };
    }),

    // ── Trinity ───────────────────────────────────────────────────────────
    endpoint(getToken, async ({ body, context }) => {
      const given = await authentication.logIn({ account: body.username, password: body.password }, context);
      return { status: 200, body: { access_token: given.accessToken, token_type: 'bearer' } };
    }),

    // ── users ─────────────────────────────────────────────────────────────
    endpoint(administration.createUser, async ({ body, context }) => {
      const { email, displayName, role } = body;
      const passwordHash = await passwords.hash(body.password);
      const userId = tokens.userIdOf(email);
      const { state, position } = await bus.dispatch(
        registerUser,
        { userId, email, displayName, role, passwordHash },
        requestMeta(context),
      );
      if (position !== null) context.reached(position);
      if (state.status === 'none') throw new Error(`User ${userId} was not registered.`);
      return { status: 201, body: managed(state) };
    }),
    endpoint(administration.changeUser, async ({ params, body, context }) => {
      const { role, disabled, password } = body;
      const { state, position } = await bus.dispatch(
        changeUser,
        {
          userId: params.id,
          ...(role === undefined ? {} : { role }),
          ...(disabled === undefined ? {} : { disabled }),
          ...(password === undefined ? {} : { passwordHash: await passwords.hash(password) }),
        },
        requestMeta(context),
      );
      if (position !== null) context.reached(position);
      if (disabled === true) await authentication.endSessionsOf(params.id, 'user disabled', context);
      else if (password !== undefined) {
        await authentication.endSessionsOf(params.id, 'password changed', context);
      }
      if (state.status === 'none') throw new Error(`User ${params.id} does not exist.`);
      return { status: 200, body: managed(state) };
    }),

    // ── API keys ──────────────────────────────────────────────────────────
    endpoint(administration.createApiKey, async ({ body, context }) => {
      const caller = callerOf(context);
      const keyId = apiKeyIdFor(context.commandId, caller.userId);
      const key = tokens.apiKey(keyId);
      const made = {
        name: body.name,
        permissions: resolvePermissions(body.permissions, caller.permissions),
        keyHash: tokens.hash(key),
        prefix: key.slice(0, 'odeon_'.length + 8),
        expiresAt: body.expiresAt,
      };
      const { state, position } = await bus.dispatch(
        createApiKey,
        { keyId, owner: caller.userId, ...made, at: new Date(now()).toISOString() },
        requestMeta(context),
      );
      if (position !== null) context.reached(position);
      if (state.status === 'none') throw new Error(`API key ${keyId} was not made.`);
      const { createdAt } = state;
      const permissions = [...state.permissions];
      const document = { id: keyId, owner: caller.userId, ...made, permissions, revokedAt: null, createdAt };
      return { status: 201, body: { ...toShownApiKey(document), key } };
    }),
    endpoint(administration.revokeApiKey, async ({ params, context }) => {
      const { position } = await bus.dispatch(revokeApiKey, { keyId: params.id }, requestMeta(context));
      if (position !== null) context.reached(position);
      return { status: 200, body: { success: true } };
    }),

    // ── signing keys ──────────────────────────────────────────────────────
    endpoint(administration.rotateSigningKey, async ({ context }) => {
      const rotated = await signingKeys.rotate(context.commandId);
      const { position } = await bus.dispatch(rotateSigningKey, rotated, requestMeta(context));
      if (position !== null) context.reached(position);
      return { status: 200, body: rotated };
    }),
  ];
}

const cookieOf = (header: string | string[] | undefined): string | undefined =>
  typeof header === 'string' ? header : undefined;

const managed = (user: RegisteredUser) =>
  toManagedUser({ ...user, id: user.userId, disabled: user.status === 'disabled' });
