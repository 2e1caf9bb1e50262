/** The first administrator: without one, nobody could create users. */
import type { z } from 'zod';
import * as commands from '../contracts/commands/identity.ts';
import type { Passwords, Tokens } from '../infra/auth/port.ts';
import type { EventStore } from '../infra/event-store/port.ts';
import type { CommandBus } from './command.ts';
import { registerUser } from './domain/user.ts';

export interface EnsureAdministratorOptions {
  readonly bus: CommandBus;
  readonly store: EventStore;
  readonly passwords: Passwords;
  readonly tokens: Tokens;
  readonly email: string;
  /** Undefined: one is made. */
  readonly password?: string | undefined;
  /**
   * Told the password that was made, before the account is recorded: after a crash in between it is told the
   * same one again, so it is never lost.
   */
  readonly announce: (made: { readonly email: string; readonly password: string }) => void;
}

/** Registers an administrator unless somebody was registered before. Needs no projection. */
export async function ensureAdministrator({
  bus,
  store,
  passwords,
  tokens,
  announce,
  ...given
}: EnsureAdministratorOptions): Promise<{ readonly email: string; readonly created: boolean }> {
  const email = valid('ADMIN_EMAIL', commands.email, given.email);
  if (await hasUsers(store)) return { email, created: false };
  const password = valid(
    'ADMIN_PASSWORD',
    commands.password,
    given.password ?? tokens.administratorPassword(),
  );
  if (given.password === undefined) announce({ email, password });
  await bus.dispatch(
    registerUser,
    {
      userId: tokens.userIdOf(email),
      email,
      displayName: 'Administrator',
      role: 'admin',
      passwordHash: await passwords.hash(password),
    },
    {
      commandId: 'first-administrator',
      correlationId: 'first-administrator',
      causationId: null,
      surface: 'odeon',
      actor: { kind: 'system', id: 'first start' },
      caller: null,
      retried: false,
    },
  );
  return { email, created: true };
}

async function hasUsers(store: EventStore): Promise<boolean> {
  for await (const page of store.readAll({ filter: { types: ['UserRegistered'] }, limit: 1 })) {
    if (page.events.length > 0) return true;
  }
  return false;
}

function valid<Value>(variable: string, schema: z.ZodType<Value>, value: string): Value {
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  throw new Error(`${variable}: ${parsed.error.issues.map((issue) => issue.message).join('; ')}`);
}
