import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import { openKeys } from '../infra/auth/keys.ts';
import type { LoginAttempt, Passwords, Tokens } from '../infra/auth/port.ts';
import { createTokens } from '../infra/auth/tokens.ts';
import type { EventStore } from '../infra/event-store/port.ts';
import { openSqliteEventStore } from '../infra/event-store/sqlite.ts';
import { withCatalogue } from '../infra/event-store/with-catalogue.ts';
import { openSqliteReadModels } from '../infra/read-models/sqlite.ts';
import { ensureAdministrator } from './administrator.ts';
import { createAuthentication } from './authentication.ts';
import { createCommandBus } from './bus.ts';
import type { CommandBus } from './command.ts';
import { changeUser, registerUser } from './domain/user.ts';

const system = {
  commandId: 'setup',
  correlationId: 'setup',
  causationId: null,
  surface: 'odeon',
  actor: { kind: 'system', id: 'test' },
  caller: null,
  retried: false,
} as const;
const requestOf = (commandId: string) => ({
  surface: 'luna' as const,
  commandId,
  correlationId: commandId,
  retried: false,
  address: '192.0.2.1',
  userAgent: 'test',
  reached: () => undefined,
});
/** Hashes that can be read, so that a test can step in while one is checked. */
const readable: Passwords = {
  hash: async (password) => `hash of ${password}`,
  verify: async (hash, password) => hash === `hash of ${password}`,
};

describe('authentication', () => {
  let directory: string;
  let store: EventStore;
  let bus: CommandBus;
  let tokens: Tokens;
  let readModels: Awaited<ReturnType<typeof openSqliteReadModels>>;

  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), 'odeon-authentication-'));
    store = withCatalogue(await openSqliteEventStore({ directory: join(directory, 'log') }));
    readModels = await openSqliteReadModels({ file: join(directory, 'read-models.db') });
    const onSnapshotError = (error: unknown) => {
      throw error;
    };
    bus = createCommandBus({ store, snapshots: readModels.snapshots, onSnapshotError });
    tokens = createTokens({
      keys: await openKeys({ file: join(directory, 'keys.json'), create: true, tokenLifetimeMs: 900_000 }),
    });
  });
  afterEach(async () => {
    await readModels.close();
    await store.close();
    await rm(directory, { recursive: true });
  });

  const authentication = (passwords: Passwords, attempt: Partial<LoginAttempt> = {}) =>
    createAuthentication({
      bus,
      readModels,
      passwords,
      tokens,
      limiter: {
        begin: async () => ({
          succeeded: async () => undefined,
          abandoned: async () => undefined,
          ...attempt,
        }),
      },
      now: Date.now,
    });
  const types = async () => {
    const found: string[] = [];
    for await (const page of store.readAll()) found.push(...page.events.map((event) => event.type));
    return found;
  };
  async function registerAda(): Promise<string> {
    const userId = tokens.userIdOf('ada@example.org');
    const passwordHash = await readable.hash('old');
    await bus.dispatch(
      registerUser,
      { userId, email: 'ada@example.org', displayName: 'Ada', role: 'user', passwordHash },
      system,
    );
    return userId;
  }
  const ada = { account: 'ada@example.org', password: 'old' };
  const failure = (promise: Promise<unknown>) =>
    promise.then(
      () => 'no failure',
      (error: Error) => error.message,
    );

  it('gives no tokens for a password that changed while it was checked', async () => {
    const userId = await registerAda();
    const passwords: Passwords = {
      ...readable,
      verify: async (hash, password) => {
        await bus.dispatch(
          changeUser,
          { userId, passwordHash: await readable.hash('new') },
          { ...system, commandId: 'change' },
        );
        return readable.verify(hash, password);
      },
    };
    expect(await failure(authentication(passwords).logIn(ada, requestOf('login')))).to.equal(
      'Invalid credentials',
    );
    expect(await types()).to.deep.equal([
      'UserRegistered',
      'UserPasswordChanged',
      'SessionStarted',
      'SessionEnded',
    ]);
  });

  it('does not refresh a session from before the password changed, though nobody ended it', async () => {
    const userId = await registerAda();
    const { logIn, refresh } = authentication(readable);
    const { refreshToken } = await logIn(ada, requestOf('login'));
    const change = { userId, passwordHash: await readable.hash('new') };
    await bus.dispatch(changeUser, change, { ...system, commandId: 'change' });
    expect(await failure(refresh({ refreshToken }, requestOf('refresh')))).to.equal(
      'Invalid or expired token',
    );
    expect((await types()).at(-1)).to.equal('SessionEnded');
  });

  it('lets one of two refreshes at once through, and then ends the family', async () => {
    await registerAda();
    const { logIn, refresh } = authentication(readable);
    const { refreshToken } = await logIn(ada, requestOf('login'));
    const outcomes = await Promise.all([
      failure(refresh({ refreshToken }, requestOf('one'))),
      failure(refresh({ refreshToken }, requestOf('two'))),
    ]);
    expect(outcomes.toSorted()).to.deep.equal(['Invalid or expired token', 'no failure']);
    expect((await types()).slice(-2)).to.deep.equal(['SessionRefreshed', 'SessionEnded']);
  });

  it('does not count a try whose password could not be checked', async () => {
    await registerAda();
    let abandoned = 0;
    const broken: Passwords = {
      ...readable,
      verify: async () => {
        throw new Error('out of memory');
      },
    };
    const { logIn } = authentication(broken, {
      abandoned: async () => {
        abandoned += 1;
      },
    });
    expect(await failure(logIn(ada, requestOf('login')))).to.equal('out of memory');
    expect(abandoned).to.equal(1);
    expect(await types()).to.deep.equal(['UserRegistered']);
  });

  describe('the first administrator', () => {
    const told: { email: string; password: string }[] = [];
    beforeEach(() => told.splice(0));
    const ensure = (overrides: { bus?: CommandBus; password?: string } = {}) =>
      ensureAdministrator({
        bus,
        store,
        passwords: readable,
        tokens,
        email: 'admin@example.org',
        announce: (made) => told.push(made),
        ...overrides,
      });

    it('gets the same password after a crash before it was recorded', async () => {
      const crashing = { ...bus, dispatch: () => Promise.reject(new Error('killed')) };
      expect(await failure(ensure({ bus: crashing }))).to.equal('killed');
      expect((await ensure()).created).to.equal(true);
      expect(told).to.have.length(2);
      expect(told[0]).to.deep.equal(told[1]);
      expect((await ensure()).created).to.equal(false);
      expect(told).to.have.length(2);
    });

    it('gets the password that the operator chose, which is not told', async () => {
      await ensure({ password: 'chosen by the operator' });
      expect(told).to.deep.equal([]);
      const chosen = { account: 'admin@example.org', password: 'chosen by the operator' };
      const { user } = await authentication(readable).logIn(chosen, requestOf('login'));
      expect(user.role).to.equal('admin');
    });

    it('is not made where somebody is registered', async () => {
      await registerAda();
      expect((await ensure()).created).to.equal(false);
    });

    it('is refused with the name of the variable that is wrong', async () => {
      expect(await failure(ensure({ password: 'short' }))).to.match(/^ADMIN_PASSWORD: /);
    });
  });
});
