/** Agent Chat's reads of orchestrations, and which agents Luna's users may ask. */
import { sees } from '../../contracts/caller.ts';
import { isAfter, SYSTEM_OWNER } from '../../contracts/envelope.ts';
import { refuse } from '../../contracts/errors.ts';
import * as http from '../../contracts/http/orchestration.ts';
import type { Agents } from '../../contracts/read-models/agents.ts';
import type { OrchestrationDocument } from '../../contracts/read-models/documents.ts';
import { hasEnded } from '../../contracts/read-models/orchestration.ts';
import { callerOf, type Endpoint, endpoint } from '../../infra/http/port.ts';
import type { ReadModels } from '../../infra/read-models/port.ts';
import { BEGINNING } from '../live/cursor.ts';
import { orchestrationFeed } from '../live/orchestration.ts';
import { reader, type Streams } from '../live/streams.ts';
import { visibleOwner } from './visible.ts';

export interface OrchestrationQueryDependencies {
  readonly readModels: ReadModels;
  readonly agents: Pick<Agents, 'list'>;
  readonly streams: Streams;
}

/** More than a user has. */
const MAX_LISTED = 1_000;

export function orchestrationQueryEndpoints(deps: OrchestrationQueryDependencies): Endpoint[] {
  const { readModels, agents, streams } = deps;
  return [
    endpoint(http.listOrchestrations, async ({ query: { limit, offset }, context }) => {
      const where = visibleOwner(callerOf(context));
      const orderBy = { field: 'position', direction: 'descending' } as const;
      const [{ documents }, total] = await Promise.all([
        readModels.find<OrchestrationDocument>('orchestrations', { where, orderBy, limit, offset }),
        readModels.count('orchestrations', where),
      ]);
      const orchestrations = documents.map(({ body }) => http.renderProgress(body));
      return { status: 200, body: { orchestrations, total } };
    }),

    endpoint(http.orchestrationProgressRoute, async ({ params, query, context }) => {
      const stored = await readModels.get<OrchestrationDocument>('orchestrations', params.id);
      if (stored === null || !sees(callerOf(context), stored.body.owner)) {
        return refuse('NOT_FOUND', 'Orchestration not found.');
      }
      const { body, position } = stored;
      if (!wantsEvents(context.headers.accept)) return { status: 200, body: http.renderProgress(body) };
      const start = await streams.resumed(context, query, BEGINNING);
      if (hasEnded(body) && !isAfter(position, start.cursor.position)) return { status: 204 };
      const feed = orchestrationFeed(body.id);
      const login = { caller: callerOf(context), may: reader(body.owner) };
      return { stream: (response) => streams.open(response, { feed, start, kind: 'orchestration', login }) };
    }),

    endpoint(http.listAbilities, async ({ context }) => {
      const caller = callerOf(context);
      const page = { limit: MAX_LISTED, offset: 0 };
      const [readyMade, all] = await Promise.all([
        agents.list(caller, { ...page, owner: SYSTEM_OWNER }),
        agents.list(caller, page),
      ]);
      const shown = (list: typeof all) => list.map((agent) => http.renderAbility(agent, caller.userId));
      const custom = all.filter(({ owner }) => owner !== SYSTEM_OWNER);
      return { status: 200, body: { builtIn: shown(readyMade), custom: shown(custom) } };
    }),
  ];
}

/** An event stream is for who names it. */
const wantsEvents = (accept: string | string[] | undefined): boolean =>
  String(accept ?? '')
    .split(',')
    .some((type) => type.split(';')[0]?.trim().toLowerCase() === 'text/event-stream');
