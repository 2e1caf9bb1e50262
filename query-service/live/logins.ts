/**
 * The logins of connections that stay open. Each is checked again every minute, and whenever the connection wants
 * to, against its session or API key, not its access token: that expires after minutes, and on an open connection
 * nobody can send another. So a stream goes on as long as its login, and ends soon after it.
 */
import type { Caller } from '../../contracts/caller.ts';
import type { Authenticator } from '../../infra/auth/port.ts';
import type { Logger } from '../../infra/telemetry/port.ts';

export interface OpenLogin {
  /** Who may do what the connection is for. */
  readonly may: (caller: Caller) => boolean;
  /** Called once, when that is no longer true. */
  readonly end: () => void;
}

export interface WatchedLogin {
  /** The caller as they are now; null when the login has ended, and the connection with it. */
  check(): Promise<Caller | null>;
  /** Goes on with another login of the same user. */
  replace(caller: Caller): void;
  /** The connection has gone. */
  forget(): void;
}

export interface Logins {
  watch(caller: Caller, login: OpenLogin): WatchedLogin;
  close(): Promise<void>;
}

export interface LoginsOptions {
  readonly authenticator: Pick<Authenticator, 'recheck'>;
  readonly logger: Logger;
  readonly recheckMs: number;
}

export function createLogins({ authenticator, logger, recheckMs }: LoginsOptions): Logins {
  const watched = new Set<WatchedLogin>();

  async function checkAll(): Promise<void> {
    for (const login of [...watched]) {
      try {
        if (watched.has(login)) await login.check();
      } catch (error) {
        logger.error({ err: error }, 'A login could not be checked; it is checked again later.');
      }
    }
  }

  let checking: Promise<void> | null = null;
  const timer = setInterval(() => {
    checking ??= checkAll().finally(() => {
      checking = null;
    });
  }, recheckMs);
  timer.unref();

  return {
    watch(caller, { may, end }) {
      const login: WatchedLogin = {
        async check() {
          const checked = caller;
          const now = await authenticator.recheck(checked);
          // Another login has taken its place meanwhile.
          if (checked !== caller) return login.check();
          if (now !== null && may(now)) {
            caller = now;
            return now;
          }
          if (watched.delete(login)) end();
          return null;
        },
        replace(other) {
          caller = other;
        },
        forget: () => void watched.delete(login),
      };
      watched.add(login);
      return login;
    },
    async close() {
      clearInterval(timer);
      await checking;
    },
  };
}
