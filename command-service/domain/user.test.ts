import type { Caller } from '../../contracts/caller.ts';
import type { DecidedEvent } from '../../contracts/events/catalogue.ts';
import { rolePermissions } from '../../contracts/http/route.ts';
import { given as givenOf, OWNER } from '../testing.ts';
import { changeUser, registerUser, type UserEventType, user } from './user.ts';

type Decided = DecidedEvent<UserEventType>;
const given = (...events: Decided[]) => givenOf(user, ...events);

const input = {
  userId: OWNER,
  email: ' Ada@Example.org ',
  displayName: 'Ada',
  role: 'user',
  passwordHash: 'hash 1',
} as const;
const registered: Decided = {
  type: 'UserRegistered',
  data: { email: 'ada@example.org', displayName: 'Ada', role: 'user', passwordHash: 'hash 1' },
};
const disabled: Decided = { type: 'UserDisabled', data: {} };
const promoted: Decided = { type: 'UserRoleChanged', data: { role: 'admin' } };

const admin = (userId: string): Caller => ({
  userId,
  email: 'admin@example.org',
  displayName: 'Admin',
  role: 'admin',
  actor: { kind: 'user', id: userId },
  permissions: new Set(rolePermissions.admin),
  sessionId: 'session',
  expiresAtMs: null,
});

describe('registering a user', () => {
  it('records the e-mail address in its normal form', () =>
    given().when(registerUser, input).then(registered));
  it('is refused when the address has a user, disabled or not', () => {
    given(registered).when(registerUser, input).refused('CONFLICT');
    given(registered, disabled).when(registerUser, input).refused('CONFLICT');
  });
});

describe('changing a user', () => {
  const userId = OWNER;

  it('records all that changes, at once', () =>
    given(registered)
      .when(changeUser, { userId, role: 'admin', disabled: true, passwordHash: 'hash 2' }, admin('other'))
      .then(promoted, disabled, { type: 'UserPasswordChanged', data: { passwordHash: 'hash 2' } }));
  it('records nothing where it is already so', () => {
    given(registered, disabled).when(changeUser, { userId, role: 'user', disabled: true }).then();
    given(registered).when(changeUser, { userId, disabled: false }).then();
  });
  it('enables who was disabled', () =>
    given(registered, disabled)
      .when(changeUser, { userId, disabled: false })
      .then({ type: 'UserEnabled', data: {} }));
  it('is refused where there is no such user', () =>
    given().when(changeUser, { userId, disabled: true }, admin('other')).refused('NOT_FOUND'));
  it('does not let administrators shut themselves out', () => {
    const oneself = given(registered, promoted);
    oneself.when(changeUser, { userId, disabled: true }, admin(userId)).refused('FORBIDDEN');
    oneself.when(changeUser, { userId, role: 'user' }, admin(userId)).refused('FORBIDDEN');
    oneself.when(changeUser, { userId, role: 'admin' }, admin(userId)).then();
  });
});
