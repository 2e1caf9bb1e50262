import type { DecidedEvent } from '../../contracts/events/catalogue.ts';
import { given as givenOf, OWNER } from '../testing.ts';
import {
  changePublicLink,
  createPublicLink,
  deletePublicLink,
  type PublicLinkEventType,
  publicLink,
} from './public-link.ts';

type Decided = DecidedEvent<PublicLinkEventType>;
const given = (...events: Decided[]) => givenOf(publicLink, ...events);

const at = '2026-01-02T00:00:00.000Z';
const later = '2026-02-01T00:00:00.000Z';
const agent = { id: 'a1', name: 'scout' };
const data = { agent, name: 'Fair', tokenHash: 'hash', expiresAt: later };
const create = { linkId: 'l1', owner: OWNER, at, ...data };
const of = { linkId: 'l1', agentId: 'a1' };
const created: Decided = { type: 'PublicLinkCreated', data };
const deleted: Decided = { type: 'PublicLinkDeleted', data: {} };
const changed = (changes: object): Decided => ({
  type: 'PublicLinkChanged',
  data: { name: 'Fair', expiresAt: later, enabled: true, ...changes },
});

describe('a public link', () => {
  it('is made once, and for the future', () => {
    given().when(createPublicLink, create).then(created);
    given(created).when(createPublicLink, create).refused('CONFLICT');
    given(deleted).when(createPublicLink, create).refused('CONFLICT');
    given()
      .when(createPublicLink, { ...create, expiresAt: at })
      .refused('VALIDATION_ERROR');
    given()
      .when(createPublicLink, { ...create, expiresAt: null, name: null })
      .then({ type: 'PublicLinkCreated', data: { ...data, expiresAt: null, name: null } });
  });

  it('is changed in what is named, and is then recorded whole', () => {
    given(created)
      .when(changePublicLink, { ...of, enabled: false })
      .then(changed({ enabled: false }));
    given(created, changed({ enabled: false }))
      .when(changePublicLink, { ...of, name: null, expiresAt: null })
      .then(changed({ enabled: false, name: null, expiresAt: null }));
  });

  it('is not changed into what it is already', () =>
    given(created)
      .when(changePublicLink, { ...of, enabled: true, name: 'Fair', expiresAt: later })
      .then());

  it('is gone once it is deleted, and is not to be seen by way of another agent', () => {
    given(created).when(deletePublicLink, of).then(deleted);
    for (const events of [[], [created, deleted]]) {
      given(...events)
        .when(deletePublicLink, of)
        .refused('NOT_FOUND');
      given(...events)
        .when(changePublicLink, of)
        .refused('NOT_FOUND');
    }
    given(created)
      .when(deletePublicLink, { ...of, agentId: 'a2' })
      .refused('NOT_FOUND');
    given(created)
      .when(changePublicLink, { ...of, agentId: 'a2' })
      .refused('NOT_FOUND');
  });
});
