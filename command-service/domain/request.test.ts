import type { DecidedEvent } from '../../contracts/events/catalogue.ts';
import { given as givenOf, OWNER } from '../testing.ts';
import { acceptRequest, answerRequest, type RequestEventType, request } from './request.ts';

const given = (...events: DecidedEvent<RequestEventType>[]) => givenOf(request, ...events);

const id = 'a'.repeat(64);
const accepted = { type: 'RequestAccepted', data: { fingerprint: 'f1' } } as const;
const answered = { type: 'RequestAnswered', data: { status: 201, body: '{}' } } as const;
const accept = (fingerprint: string) => ({ id, owner: OWNER, fingerprint });
const answer = (status: number, body: string | null) => ({ id, owner: OWNER, status, body });

describe('accepting a request', () => {
  it('binds its key to it', () => given().when(acceptRequest, accept('f1')).then(accepted));
  it('is recorded once, for the first request', () => {
    given(accepted).when(acceptRequest, accept('f1')).then();
    given(accepted).when(acceptRequest, accept('f2')).then();
    given(accepted, answered).when(acceptRequest, accept('f2')).then();
  });
});

describe('answering a request', () => {
  it('is recorded once, with the first answer', () => {
    given(accepted).when(answerRequest, answer(201, '{}')).then(answered);
    given(accepted, answered).when(answerRequest, answer(409, null)).then();
  });
  it('is refused before it was accepted', () =>
    given().when(answerRequest, answer(201, '{}')).refused('CONFLICT'));
});
