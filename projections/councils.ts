/** `councils`: the members of each user's Council as they were changed, and the session that is active. */
import { readyMadeMembers } from '../contracts/council.ts';
import { type CouncilDocument, councilDocument } from '../contracts/read-models/documents.ts';
import { type EventHandler, projection } from './projection.ts';

interface OfCouncil {
  readonly owner: string;
}

/** As it is before the owner changes anything. */
const unchanged = (owner: string): CouncilDocument => ({
  owner,
  members: readyMadeMembers.map((member) => ({ ...member, createdAt: null })),
  session: null,
});

const change = <Event extends OfCouncil>(
  changes: (doc: CouncilDocument, event: Event) => Partial<CouncilDocument>,
): EventHandler<CouncilDocument, Event> => ({
  id: ({ owner }) => owner,
  apply(before, event) {
    const doc = before ?? unchanged(event.owner);
    return { ...doc, ...changes(doc, event) };
  },
});

const without = ({ members }: CouncilDocument, name: string) =>
  members.filter((member) => member.name !== name);

export const councils = projection<CouncilDocument>('councils', {
  version: 1,
  document: councilDocument,
  indexes: [],
  on: {
    CouncilMemberChanged: change((doc, { data, time }) => {
      const before = doc.members.find(({ name }) => name === data.name);
      const createdAt = before === undefined ? time : before.createdAt;
      return { members: [...without(doc, data.name), { ...data, createdAt }] };
    }),
    CouncilMemberRemoved: change((doc, { data }) => ({ members: without(doc, data.name) })),
    AutonomousSessionStarted: change((_doc, { data, time }) => ({
      session: { ...data, stopRequested: false, startedAt: time },
    })),
    AutonomousSessionStopRequested: change((doc) => ({
      session: doc.session && { ...doc.session, stopRequested: true },
    })),
    AutonomousSessionEnded: change(() => ({ session: null })),
  },
});
