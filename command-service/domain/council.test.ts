import { expect } from 'chai';
import { readyMadeMembers } from '../../contracts/council.ts';
import type { DecidedEvent } from '../../contracts/events/catalogue.ts';
import { given, OWNER } from '../testing.ts';
import {
  type CouncilEventType,
  type CouncilState,
  changeMember,
  council,
  endSession,
  removeMember,
  requestSessionStop,
  resetCouncil,
  startSession,
} from './council.ts';

const having = (...events: DecidedEvent<CouncilEventType>[]) =>
  given<CouncilState, CouncilEventType>(council, ...events);
const named = (name: string) => readyMadeMembers.find((member) => member.name === name)!;
const removed = (name: string) => ({ type: 'CouncilMemberRemoved' as const, data: { name } });
const changed = (name: string, changes: object) => ({
  type: 'CouncilMemberChanged' as const,
  data: { ...named(name), ...changes },
});
const sessionId = `session_${'0'.repeat(24)}`;
const deliberationId = `delib_${'0'.repeat(24)}`;
const session = { sessionId, deliberationId, task: 'Move it?', mode: 'standard' as const };
const started = { type: 'AutonomousSessionStarted' as const, data: session };

describe('the members of a council', () => {
  it('are ready-made, each with a character of its own', () => {
    const { members } = having().state;
    expect(members.map(({ name }) => name)).to.deep.equal(
      'planner sceptic advocate ethicist judge'.split(' '),
    );
    for (const field of ['displayName', 'role', 'personality', 'instructions', 'color'] as const) {
      expect(new Set(members.map((member) => member[field]))).to.have.length(5);
    }
  });

  it('can be changed; what is so already is not recorded again', () => {
    const change = { owner: OWNER, name: 'sceptic', changes: { personality: 'Blunt.' }, create: false };
    having()
      .when(changeMember, change)
      .then(changed('sceptic', { personality: 'Blunt.' }));
    having(changed('sceptic', { personality: 'Blunt.' }))
      .when(changeMember, change)
      .then();
    having()
      .when(changeMember, { ...change, name: 'jester' })
      .refused('NOT_FOUND');
  });

  it('can be added, with a role and instructions', () => {
    const changes = { role: 'Lawyer', instructions: 'Look for what is unlawful.' };
    const add = { owner: OWNER, name: 'lawyer', changes, create: true };
    having()
      .when(changeMember, add)
      .then({
        type: 'CouncilMemberChanged',
        data: {
          ...{ name: 'lawyer', displayName: 'lawyer', ...changes, order: 3, active: true },
          ...{ personality: 'Speaks plainly and to the point.', avatarEmoji: '💬', color: '#94a3b8' },
        },
      });
    having()
      .when(changeMember, { ...add, changes: { role: 'Lawyer' } })
      .refused('VALIDATION_ERROR');
  });

  it('keep the judge, and one active member beside it', () => {
    having().when(removeMember, { owner: OWNER, name: 'judge' }).refused('CONFLICT');
    having()
      .when(changeMember, { owner: OWNER, name: 'judge', changes: { active: false }, create: false })
      .refused('CONFLICT');
    const few = [removed('planner'), removed('sceptic'), removed('advocate')];
    having(...few)
      .when(removeMember, { owner: OWNER, name: 'ethicist' })
      .refused('CONFLICT');
    having(...few)
      .when(changeMember, { owner: OWNER, name: 'ethicist', changes: { active: false }, create: false })
      .refused('CONFLICT');
    having().when(removeMember, { owner: OWNER, name: 'nobody' }).refused('NOT_FOUND');
  });

  it('can be made again as they were', () => {
    const blunt = changed('sceptic', { personality: 'Blunt.' });
    const jester = changed('planner', { name: 'jester' });
    having(removed('planner'), blunt, jester)
      .when(resetCouncil, { owner: OWNER, name: null })
      .then(removed('jester'), changed('planner', {}), changed('sceptic', {}));
    having(removed('planner'), blunt)
      .when(resetCouncil, { owner: OWNER, name: 'planner' })
      .then(changed('planner', {}));
    having().when(resetCouncil, { owner: OWNER, name: 'jester' }).refused('NOT_FOUND');
  });
});

describe('the session of a council', () => {
  it('is one at a time, and ends once', () => {
    having()
      .when(startSession, { owner: OWNER, ...session })
      .then(started);
    having(started)
      .when(startSession, { owner: OWNER, ...session })
      .refused('VALIDATION_ERROR');
    const end = { owner: OWNER, sessionId, outcome: 'stopped' as const };
    const ended = {
      type: 'AutonomousSessionEnded' as const,
      data: { sessionId, outcome: 'stopped' as const },
    };
    having(started).when(endSession, end).then(ended);
    having(started, ended).when(endSession, end).then();
    const asked = { type: 'AutonomousSessionStopRequested' as const, data: { sessionId } };
    having(started).when(requestSessionStop, { owner: OWNER, sessionId }).then(asked);
    having(started, asked).when(requestSessionStop, { owner: OWNER, sessionId }).then();
  });
});
