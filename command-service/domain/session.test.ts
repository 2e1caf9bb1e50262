import type { DecidedEvent } from '../../contracts/events/catalogue.ts';
import { given as givenOf, OWNER } from '../testing.ts';
import { endSession, refreshSession, type SessionEventType, session, startSession } from './session.ts';

type Decided = DecidedEvent<SessionEventType>;
const given = (...events: Decided[]) => givenOf(session, ...events);

const sessionId = 'session-1';
const at = '2026-01-02T00:00:00.000Z';
const expiresAt = '2026-02-01T00:00:00.000Z';
const later = '2026-03-01T00:00:00.000Z';

const start = { userId: OWNER, refreshHash: 'first', expiresAt, address: '127.0.0.1', userAgent: 'test' };
const started: Decided = { type: 'SessionStarted', data: start };
const refreshed = (refreshHash: string): Decided => ({
  type: 'SessionRefreshed',
  data: { refreshHash, expiresAt: later },
});
const ended = (reason: 'logout' | 'refresh token reused' | 'password changed') =>
  ({ type: 'SessionEnded', data: { reason } }) as const;
const refresh = (presentedHash: string | null, refreshHash: string) => ({
  sessionId,
  presentedHash,
  refreshHash,
  expiresAt: later,
  at,
});

describe('starting a session', () => {
  it('is recorded once, however often the command is repeated', () => {
    given()
      .when(startSession, { sessionId, ...start })
      .then(started);
    given(started)
      .when(startSession, { sessionId, ...start })
      .then();
  });
  it('is refused where another command began it', () =>
    given(started)
      .when(startSession, { sessionId, ...start, refreshHash: 'other' })
      .refused('CONFLICT'));
});

describe('refreshing a session', () => {
  it('makes the new refresh token the valid one', () => {
    given(started).when(refreshSession, refresh('first', 'second')).then(refreshed('second'));
    given(started, refreshed('second'))
      .when(refreshSession, refresh('second', 'third'))
      .then(refreshed('third'));
  });
  it('records nothing when the same command is repeated', () =>
    given(started, refreshed('second')).when(refreshSession, refresh('first', 'second')).then());
  it('ends the family when a used token is shown', () =>
    given(started, refreshed('second'))
      .when(refreshSession, refresh('first', 'third'))
      .then(ended('refresh token reused')));
  it('takes an access token in place of the refresh token', () =>
    given(started).when(refreshSession, refresh(null, 'second')).then(refreshed('second')));
  it('is refused when the session has ended, expired, or never was', () => {
    given(started, ended('logout')).when(refreshSession, refresh('first', 'second')).refused('UNAUTHORIZED');
    given(started)
      .when(refreshSession, { ...refresh('first', 'second'), at: expiresAt })
      .refused('UNAUTHORIZED');
    given().when(refreshSession, refresh('first', 'second')).refused('UNAUTHORIZED');
  });
});

describe('ending a session', () => {
  it('is recorded once, with its first reason', () => {
    given(started).when(endSession, { sessionId, reason: 'logout' }).then(ended('logout'));
    given(started, ended('logout')).when(endSession, { sessionId, reason: 'password changed' }).then();
  });
  it('of one that never began records nothing', () =>
    given().when(endSession, { sessionId, reason: 'logout' }).then());
});
