/** Logging in and out and staying logged in, for every surface alike. */
import { Refusal, refuse } from '../contracts/errors.ts';
import type { SessionDocument } from '../contracts/read-models/documents.ts';
import type { LoginLimiter, Passwords, Tokens } from '../infra/auth/port.ts';
import type { RequestContext } from '../infra/http/port.ts';
import type { ReadModels } from '../infra/read-models/port.ts';
import type { CommandBus, CommandMeta } from './command.ts';
import { derivedId } from './domain/derived-id.ts';
import { recordLoginFailure } from './domain/login.ts';
import { endSession, refreshSession, session, startSession } from './domain/session.ts';
import { type RegisteredUser, user } from './domain/user.ts';

export interface AuthenticationOptions {
  readonly bus: CommandBus;
  readonly readModels: ReadModels;
  readonly passwords: Passwords;
  readonly tokens: Tokens;
  readonly limiter: LoginLimiter;
  readonly now: () => number;
}

export interface LoggedIn {
  readonly user: RegisteredUser;
  readonly accessToken: string;
  readonly refreshToken: string;
  /** Seconds until the access token expires. */
  readonly expiresIn: number;
}

/** A request that is not (or need not be) made by somebody logged in. */
type Request = Omit<RequestContext, 'caller' | 'headers' | 'signal' | 'settled'>;

export interface Authentication {
  /** @throws Refusal UNAUTHORIZED, RATE_LIMIT_EXCEEDED */
  logIn(given: { account: string; password: string }, request: Request): Promise<LoggedIn>;
  /**
   * New tokens for the session of a refresh token, or for the one that a valid access token has just been
   * checked to belong to. A refresh token that was used before ends its session.
   * @throws Refusal UNAUTHORIZED
   */
  refresh(given: { refreshToken: string } | { sessionId: string }, request: Request): Promise<LoggedIn>;
  /** Ends a session, however often it is asked to. */
  logOut(sessionId: string, request: Request): Promise<void>;
  /** Ends every session of a user. */
  endSessionsOf(
    userId: string,
    reason: 'user disabled' | 'password changed',
    request: RequestContext,
  ): Promise<void>;
}

/** 32 hexadecimal digits. */
const sessionIdFor = (commandId: string, userId: string): string =>
  derivedId(32, 'session', commandId, userId);

const invalidToken = (): never => refuse('UNAUTHORIZED', 'Invalid or expired token');

export function createAuthentication({
  bus,
  readModels,
  passwords,
  tokens,
  limiter,
  now,
}: AuthenticationOptions): Authentication {
  const refreshExpiry = (): string => new Date(now() + tokens.refreshTokenSeconds * 1_000).toISOString();

  const metaFor = (request: Request, actor: CommandMeta['actor']): CommandMeta => ({
    commandId: request.commandId,
    correlationId: request.correlationId,
    causationId: null,
    surface: request.surface,
    actor,
    caller: null,
    retried: request.retried,
  });
  const self = (userId: string) => ({ kind: 'user', id: userId }) as const;

  /** The same tokens for the same command: they count from the time of the event that it left. */
  function given(user: RegisteredUser, sessionId: string, refreshToken: string, issuedAt: string): LoggedIn {
    const { userId, email, role } = user;
    const subject = { userId, email, role, credential: { kind: 'session', id: sessionId } } as const;
    return {
      user,
      accessToken: tokens.accessToken(subject, Date.parse(issuedAt)),
      refreshToken,
      expiresIn: tokens.accessTokenSeconds,
    };
  }

  async function end(
    sessionId: string,
    reason: 'logout' | 'user disabled' | 'password changed',
    request: Request,
    actor: CommandMeta['actor'],
  ): Promise<void> {
    const { position } = await bus.dispatch(endSession, { sessionId, reason }, metaFor(request, actor));
    if (position !== null) request.reached(position);
  }

  /** The account and whether the password is its; counted against the limits unless both are right. */
  async function check(account: string, password: string, request: Request): Promise<RegisteredUser> {
    const userId = tokens.userIdOf(account);
    const attempt = await limiter.begin(userId, request.address);
    const { state, matches } = await (async () => {
      const { state } = await bus.load(user, userId);
      const hash = state.status === 'none' ? null : state.passwordHash;
      return { state, matches: await passwords.verify(hash, password) };
    })().catch(async (error: unknown) => {
      await attempt.abandoned();
      throw error;
    });
    if (state.status === 'active' && matches) {
      await attempt.succeeded();
      return state;
    }
    const known = state.status !== 'none';
    const { position } = await bus.dispatch(
      recordLoginFailure,
      {
        accountId: userId,
        userId: known ? userId : null,
        address: request.address,
        reason: !known ? 'unknown account' : matches ? 'account disabled' : 'wrong password',
      },
      metaFor(request, { kind: 'system', id: 'login' }),
    );
    if (position !== null) request.reached(position);
    throw new Refusal('UNAUTHORIZED', 'Invalid credentials');
  }

  return {
    async logIn({ account, password }, request) {
      const checked = await check(account, password, request);
      const { userId } = checked;
      const sessionId = sessionIdFor(request.commandId, userId);
      const refreshToken = tokens.refreshToken(sessionId, request.commandId);
      const started = await bus.dispatch(
        startSession,
        {
          sessionId,
          userId,
          refreshHash: tokens.hash(refreshToken),
          expiresAt: refreshExpiry(),
          address: request.address,
          userAgent: request.userAgent.slice(0, 300),
        },
        metaFor(request, self(userId)),
      );
      if (started.position !== null) request.reached(started.position);
      // The password may have changed while it was checked: then the session began with the old one.
      const { state: current } = await bus.load(user, userId);
      if (current.status !== 'active' || current.passwordHash !== checked.passwordHash) {
        const reason = current.status === 'active' ? 'password changed' : 'user disabled';
        await end(sessionId, reason, request, { kind: 'system', id: 'login' });
        throw new Refusal('UNAUTHORIZED', 'Invalid credentials');
      }
      if (started.state.status === 'none') throw new Error(`Session ${sessionId} did not begin.`);
      return given(current, sessionId, refreshToken, started.state.startedAt);
    },

    async refresh(presented, request) {
      const sessionId =
        'sessionId' in presented ? presented.sessionId : tokens.sessionOf(presented.refreshToken);
      if (sessionId === null) return invalidToken();
      const { state } = await bus.load(session, sessionId);
      if (state.status === 'none') return invalidToken();
      const { state: account } = await bus.load(user, state.userId);
      if (account.status === 'none') return invalidToken();
      const ending =
        account.status === 'disabled'
          ? 'user disabled'
          : account.passwordChangedAt !== null && state.startedAt <= account.passwordChangedAt
            ? 'password changed'
            : null;
      if (ending !== null) {
        await end(sessionId, ending, request, { kind: 'system', id: 'login' });
        return invalidToken();
      }
      const refreshToken = tokens.refreshToken(sessionId, request.commandId);
      const refreshed = await bus.dispatch(
        refreshSession,
        {
          sessionId,
          presentedHash: 'sessionId' in presented ? null : tokens.hash(presented.refreshToken),
          refreshHash: tokens.hash(refreshToken),
          expiresAt: refreshExpiry(),
          at: new Date(now()).toISOString(),
        },
        metaFor(request, self(account.userId)),
      );
      if (refreshed.position !== null) request.reached(refreshed.position);
      if (refreshed.state.status !== 'active') return invalidToken();
      return given(account, sessionId, refreshToken, refreshed.state.refreshedAt);
    },

    async logOut(sessionId, request) {
      const { state } = await bus.load(session, sessionId);
      if (state.status === 'active') await end(sessionId, 'logout', request, self(state.userId));
    },

    async endSessionsOf(userId, reason, request) {
      const actor = request.caller?.actor ?? { kind: 'system', id: 'login' };
      let cursor: string | null = null;
      do {
        const page: Awaited<ReturnType<typeof readModels.find<SessionDocument>>> =
          await readModels.find<SessionDocument>('sessions', {
            where: { owner: userId, active: true },
            limit: 100,
            ...(cursor === null ? {} : { cursor }),
          });
        await Promise.all(page.documents.map(({ id }) => end(id, reason, request, actor)));
        cursor = page.next;
      } while (cursor !== null);
    },
  };
}
