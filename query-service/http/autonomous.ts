/** The Council's reads in Luna Chat's words: sessions, deliberations, members. */

import { sees } from '../../contracts/caller.ts';
import { readyMadeMembers } from '../../contracts/council.ts';
import type { Position } from '../../contracts/envelope.ts';
import { refuse } from '../../contracts/errors.ts';
import * as routes from '../../contracts/http/autonomous.ts';
import type {
  CouncilDocument,
  DeliberationDocument,
  UserDocument,
} from '../../contracts/read-models/documents.ts';
import type { EventStore } from '../../infra/event-store/port.ts';
import { callerOf, type Endpoint, endpoint } from '../../infra/http/port.ts';
import type { ReadModels } from '../../infra/read-models/port.ts';
import { asOfPosition } from './as-of.ts';
import { visibleOwner } from './visible.ts';

export interface AutonomousQueryDependencies {
  readonly readModels: ReadModels;
  readonly store: Pick<EventStore, 'end' | 'positionAt'>;
  /** A deliberation as it was at a position; null when there was none. */
  readonly past: (deliberationId: string, at: Position) => Promise<DeliberationDocument | null>;
  /** Whether members speak through a model. */
  readonly speaking: 'model' | 'rule';
  readonly now: () => Date;
}

export function autonomousQueryEndpoints(deps: AutonomousQueryDependencies): Endpoint[] {
  const { readModels, store, past, speaking, now } = deps;

  const sessionsOf = async (owner: string, page: { limit: number; offset: number }) => {
    const { documents } = await readModels.find<DeliberationDocument>('deliberations', {
      where: { owner, purpose: 'autonomous' },
      orderBy: { field: 'openedAt', direction: 'descending' },
      ...page,
    });
    return documents.map(({ body }) => body).filter(routes.isSession);
  };

  async function membersOf(owner: string): Promise<CouncilDocument['members']> {
    const stored = await readModels.get<CouncilDocument>('councils', owner);
    const members =
      stored?.body.members ?? readyMadeMembers.map((member) => ({ ...member, createdAt: null }));
    return [...members].sort((a, b) => a.order - b.order || (a.name < b.name ? -1 : 1));
  }

  return [
    endpoint(routes.getAutonomousStatus, async ({ context }) => {
      const owner = callerOf(context).userId;
      const [latest] = await sessionsOf(owner, { limit: 1, offset: 0 });
      const current =
        latest !== undefined && routes.isOpen(latest) ? routes.renderAutonomousSession(latest) : null;
      const today = `${now().toISOString().slice(0, 'YYYY-MM-DD'.length)}T00:00:00.000Z`;
      const members = await membersOf(owner);
      return {
        status: 200,
        body: {
          status: current === null ? 'idle' : current.status,
          currentSession: current,
          config: {
            ...routes.autonomousLimits,
            speaking,
            activeMembers: members.filter(({ active }) => active).map(({ name }) => name),
          },
          todaySessionCount: await sessionsSince(owner, today),
        },
      };
    }),

    endpoint(routes.listAutonomousSessions, async ({ query, context }) => {
      const sessions = await sessionsOf(callerOf(context).userId, query);
      return { status: 200, body: { sessions: sessions.map(routes.renderAutonomousSession), ...query } };
    }),

    endpoint(routes.listDeliberations, async ({ query: { limit, offset, purpose }, context }) => {
      const { documents } = await readModels.find<DeliberationDocument>('deliberations', {
        where: { ...visibleOwner(callerOf(context)), ...(purpose !== undefined && { purpose }) },
        orderBy: { field: 'openedAt', direction: 'descending' },
        limit,
        offset,
      });
      const deliberations = documents.map(({ body }) => routes.renderDeliberation(body));
      return { status: 200, body: { deliberations, limit, offset } };
    }),

    endpoint(routes.getDeliberation, async ({ params: { id }, query, context }) => {
      const at = query.asOf === undefined ? null : await asOfPosition(query.asOf, store);
      const found =
        at === null
          ? ((await readModels.get<DeliberationDocument>('deliberations', id))?.body ?? null)
          : await past(id, at);
      if (found === null || !sees(callerOf(context), found.owner)) {
        refuse('NOT_FOUND', 'Deliberation not found.');
      }
      const headers = at === null ? {} : { 'X-Event-Position': at };
      return { status: 200, headers, body: routes.renderDeliberationRecord(found) };
    }),

    endpoint(routes.getCouncil, async ({ context }) => {
      const owner = callerOf(context).userId;
      const user = await readModels.get<UserDocument>('users', owner);
      const since = user?.body.createdAt ?? new Date(0).toISOString();
      const members = await membersOf(owner);
      return { status: 200, body: { council: members.map((member) => routes.renderMember(member, since)) } };
    }),
  ];

  async function sessionsSince(owner: string, time: string): Promise<number> {
    let count = 0;
    let cursor: string | null = null;
    do {
      const page: Awaited<ReturnType<typeof readModels.find<DeliberationDocument>>> =
        await readModels.find<DeliberationDocument>('deliberations', {
          where: { owner, purpose: 'autonomous' },
          range: { field: 'openedAt', from: time },
          orderBy: { field: 'openedAt', direction: 'descending' },
          limit: 200,
          ...(cursor !== null && { cursor }),
        });
      count += page.documents.filter(({ body }) => routes.isSession(body)).length;
      cursor = page.next;
    } while (cursor !== null);
    return count;
  }
}
