/** Trinity's reads of executions: turns that agents answer. */
import type { z } from 'zod';
import type { Caller } from '../../contracts/caller.ts';
import * as trinity from '../../contracts/http/executions.ts';
import { type Agents, type Execution, isExecution } from '../../contracts/read-models/agents.ts';
import type {
  ApiKeyDocument,
  MessageDocument,
  TurnDocument,
  UserDocument,
} from '../../contracts/read-models/documents.ts';
import { eventsOfTurn } from '../../contracts/read-models/turn-events.ts';
import type { EventStore } from '../../infra/event-store/port.ts';
import { callerOf, type Endpoint, endpoint } from '../../infra/http/port.ts';
import type { Query, ReadModels } from '../../infra/read-models/port.ts';
import { visibleOwner } from './visible.ts';

export interface ExecutionQueryDependencies {
  readonly agents: Pick<Agents, 'find' | 'execution'>;
  readonly readModels: ReadModels;
  readonly store: Pick<EventStore, 'readStream'>;
  /** How many tokens a model takes; null: the default. */
  readonly contextWindow: (model: string | null) => number;
}

/** So many documents are read at once. */
const PAGE = 200;
/** So many executions the statistics count at most. */
const COUNTED = 10_000;
const HOUR_MS = 3_600_000;

interface FleetFilter {
  readonly status?: trinity.ExecutionStatus | undefined;
  readonly triggered_by?: string | undefined;
  readonly agent?: string | undefined;
  readonly search?: string | undefined;
  /** 0: all. */
  readonly hours: number;
}

export function executionQueryEndpoints(deps: ExecutionQueryDependencies): Endpoint[] {
  const { agents, readModels, store, contextWindow } = deps;

  // ── which ─────────────────────────────────────────────────────────────────
  /** Runs, the one that was asked for last first; without those whose conversation was deleted. */
  async function* runs(
    where: NonNullable<Query['where']>,
    since: string | null,
    matches: (turn: Execution) => boolean,
  ): AsyncGenerator<Execution> {
    const isThere = remembering(async (id: string) => (await readModels.get('conversations', id)) !== null);
    let cursor: string | null = null;
    do {
      const page: Awaited<ReturnType<typeof readModels.find<TurnDocument>>> = await readModels.find('turns', {
        where,
        // Other turns have null there, which is no string.
        range: { field: 'runAt', from: since ?? '' },
        orderBy: { field: 'runAt', direction: 'descending' },
        limit: PAGE,
        ...(cursor !== null && { cursor }),
      });
      for (const { body } of page.documents) {
        if (isExecution(body) && matches(body) && (await isThere(body.conversationId))) yield body;
      }
      cursor = page.next;
    } while (cursor !== null);
  }

  function fleet(caller: Caller, filter: FleetFilter): AsyncIterable<Execution> {
    const { status, triggered_by: trigger, agent, hours } = filter;
    const search = filter.search?.toLowerCase();
    const since = hours === 0 ? null : new Date(Date.now() - hours * HOUR_MS).toISOString();
    return runs(visibleOwner(caller), since, (turn) => {
      const { run } = turn;
      if (status !== undefined && trinity.statusOf(turn) !== status) return false;
      if (trigger !== undefined && run.trigger !== trigger) return false;
      if (agent !== undefined && run.agentName !== agent) return false;
      return (
        search === undefined ||
        run.message.toLowerCase().includes(search) ||
        run.agentName.toLowerCase().includes(search)
      );
    });
  }

  // ── how they look ─────────────────────────────────────────────────────────
  /** Each user, key and parent is read once for a list. */
  async function rendered(turns: readonly Execution[]): Promise<trinity.ExecutionSummary[]> {
    const sources = sourcesOf();
    return Promise.all(turns.map(async (turn) => trinity.renderExecution(turn, await sources(turn))));
  }

  function sourcesOf() {
    const read = remembering(
      async (collection: 'users' | 'api-keys' | 'turns', id: string) =>
        (await readModels.get<UserDocument | ApiKeyDocument | TurnDocument>(collection, id))?.body ?? null,
    );
    return async ({ owner, run: { actor, parentTurnId } }: Execution): Promise<trinity.ExecutionSource> => {
      const [user, key, parent] = await Promise.all([
        read('users', owner) as Promise<UserDocument | null>,
        actor.kind === 'apiKey' ? (read('api-keys', actor.id) as Promise<ApiKeyDocument | null>) : null,
        parentTurnId === null ? null : (read('turns', parentTurnId) as Promise<TurnDocument | null>),
      ]);
      return {
        email: user?.email ?? null,
        keyName: key?.name ?? null,
        parentAgent: parent?.run?.agentName ?? null,
        contextWindow,
      };
    };
  }

  const answerOf = async ({ answerId }: Execution) =>
    answerId === null ? null : ((await readModels.get<MessageDocument>('messages', answerId))?.body ?? null);

  return [
    endpoint(trinity.listExecutions, async ({ params, query, context }) => {
      const caller = callerOf(context);
      const { id } = await agents.find(caller, params.name);
      const found = runs(
        { agentId: id, ...visibleOwner(caller) },
        null,
        (turn) => query.status === undefined || trinity.statusOf(turn) === query.status,
      );
      return { status: 200, body: await rendered((await page(found, query)).taken) };
    }),

    endpoint(trinity.runningExecutions, async ({ params, context }) => {
      const caller = callerOf(context);
      const { id } = await agents.find(caller, params.name);
      const { documents } = await readModels.find<TurnDocument>('turns', {
        where: { agentId: id, status: 'running', ...visibleOwner(caller) },
        limit: PAGE,
      });
      const turns = documents.map(({ body }) => body).filter(isExecution);
      return { status: 200, body: { executions: await rendered(turns) } };
    }),

    endpoint(trinity.getExecution, async ({ params, context }) => {
      const turn = await agents.execution(callerOf(context), params.name, params.id);
      const [source, answer, events] = await Promise.all([
        sourcesOf()(turn),
        answerOf(turn),
        eventsOfTurn(store, turn),
      ]);
      const log = trinity.executionLog(events);
      return { status: 200, body: trinity.renderExecutionDetail(turn, source, answer, log) };
    }),

    endpoint(trinity.getExecutionLog, async ({ params, context }) => {
      const turn = await agents.execution(callerOf(context), params.name, params.id);
      const log = trinity.executionLog(await eventsOfTurn(store, turn));
      if (log.length === 0) {
        const message = 'The execution has not begun yet.';
        return {
          status: 200,
          body: { execution_id: turn.id, has_log: false, log: null, message },
        };
      }
      return {
        status: 200,
        body: {
          execution_id: turn.id,
          agent_name: turn.run.agentName,
          has_log: true,
          log,
          started_at: turn.startedAt ?? turn.requestedAt,
          completed_at: turn.endedAt,
          status: trinity.statusOf(turn),
        },
      };
    }),

    endpoint(trinity.listAllExecutions, async ({ query, context }) => {
      const { limit, offset } = query;
      const { taken, more } = await page(fleet(callerOf(context), query), query);
      const executions = await rendered(taken);
      return {
        status: 200,
        body: { executions, count: executions.length, limit, offset, has_more: more },
      };
    }),

    endpoint(trinity.executionStatistics, async ({ query, context }) => {
      const { taken, more } = await page(fleet(callerOf(context), query), { limit: COUNTED, offset: 0 });
      return { status: 200, body: { hours: query.hours, complete: !more, ...statisticsOf(taken) } };
    }),

    endpoint(trinity.executionTimeline, async ({ query, context }) => {
      const { hours, group_by } = query;
      const now = Date.now();
      const { taken, more } = await page(fleet(callerOf(context), query), { limit: COUNTED, offset: 0 });
      const timeline = timelineOf(taken, group_by, hours === 0 ? null : now - hours * HOUR_MS, now);
      return { status: 200, body: { group_by, hours, complete: !more, timeline } };
    }),
  ];
}

function statisticsOf(turns: readonly Execution[]) {
  const byStatus = Object.fromEntries(trinity.executionStatus.options.map((status) => [status, 0])) as Record<
    trinity.ExecutionStatus,
    number
  >;
  const byTrigger: Record<string, number> = {};
  const byAgent: Record<string, number> = Object.create(null);
  const durations: number[] = [];
  let cost = 0;
  for (const turn of turns) {
    const { agentName, trigger } = turn.run;
    byStatus[trinity.statusOf(turn)]++;
    byTrigger[trigger] = (byTrigger[trigger] ?? 0) + 1;
    byAgent[agentName] = (byAgent[agentName] ?? 0) + 1;
    cost += turn.costUsd ?? 0;
    if (turn.startedAt !== null && turn.endedAt !== null) {
      durations.push(Date.parse(turn.endedAt) - Date.parse(turn.startedAt));
    }
  }
  const ended = byStatus.success + byStatus.failed;
  return {
    total: turns.length,
    by_status: byStatus,
    by_trigger: byTrigger,
    by_agent: { ...byAgent },
    success_rate: ended === 0 ? null : byStatus.success / ended,
    total_cost: Number(cost.toFixed(6)),
    average_duration_ms:
      durations.length === 0 ? null : durations.reduce((sum, one) => sum + one, 0) / durations.length,
  };
}

const SPAN_MS = { hour: HOUR_MS, day: 24 * HOUR_MS } as const;

/**
 * @param turns the latest first
 * @param since in ms; null: the first execution's time
 */
function timelineOf(
  turns: readonly Execution[],
  by: z.infer<typeof trinity.timelineGroup>,
  since: number | null,
  now: number,
) {
  const buckets = new Map<string, Execution[]>();
  if (by === 'trigger' || by === 'agent') {
    for (const turn of turns) put(buckets, by === 'agent' ? turn.run.agentName : turn.run.trigger, turn);
    return [...buckets].map(countedOf).sort((a, b) => b.total - a.total || (a.bucket < b.bucket ? -1 : 1));
  }
  const span = SPAN_MS[by];
  const beginning = (time: number) => Math.floor(time / span) * span;
  const bucketOf = (time: number) => new Date(beginning(time)).toISOString();
  const oldest = turns.at(-1);
  const from = since ?? (oldest === undefined ? now : Date.parse(oldest.requestedAt));
  for (let time = beginning(from); time <= now; time += span) buckets.set(bucketOf(time), []);
  for (const turn of turns) put(buckets, bucketOf(Date.parse(turn.requestedAt)), turn);
  return [...buckets].map(countedOf);
}

function put(buckets: Map<string, Execution[]>, bucket: string, turn: Execution): void {
  const there = buckets.get(bucket);
  if (there === undefined) buckets.set(bucket, [turn]);
  else there.push(turn);
}

function countedOf([bucket, turns]: readonly [string, readonly Execution[]]) {
  const { total, by_status, total_cost, average_duration_ms } = statisticsOf(turns);
  return { bucket, total, by_status, total_cost, average_duration_ms };
}

/** `more`: there are others after the page. */
async function page<Item>(
  items: AsyncIterable<Item>,
  { limit, offset }: { readonly limit: number; readonly offset: number },
): Promise<{ taken: Item[]; more: boolean }> {
  const taken: Item[] = [];
  let skipped = 0;
  for await (const item of items) {
    if (skipped < offset) skipped++;
    else if (taken.length === limit) return { taken, more: true };
    else taken.push(item);
  }
  return { taken, more: false };
}

/** Calls once for the same arguments. */
function remembering<Arguments extends readonly string[], Value>(
  call: (...given: Arguments) => Promise<Value>,
): (...given: Arguments) => Promise<Value> {
  const known = new Map<string, Promise<Value>>();
  return (...given) => {
    const key = given.join('\n');
    let value = known.get(key);
    if (value === undefined) {
      value = call(...given);
      known.set(key, value);
    }
    return value;
  };
}
