/** Agents at work for others: Agent Chat's orchestrations, and Luna's delegation and orchestration. */
import type { Caller } from '../../contracts/caller.ts';
import { type EventEnvelope, isAfter, type Position } from '../../contracts/envelope.ts';
import { Refusal, refuse } from '../../contracts/errors.ts';
import type { Run } from '../../contracts/events/conversation.ts';
import * as http from '../../contracts/http/orchestration.ts';
import type { TurnEnd, TurnFeeds } from '../../contracts/live/feeds.ts';
import type { Agents, RunRequest } from '../../contracts/read-models/agents.ts';
import type {
  AgentDocument,
  OrchestrationDocument,
  TurnDocument,
} from '../../contracts/read-models/documents.ts';
import {
  evolveOrchestration,
  hasEnded,
  ORCHESTRATION_STREAM,
  type OrchestrationEvent,
} from '../../contracts/read-models/orchestration.ts';
import type { EventStore } from '../../infra/event-store/port.ts';
import {
  callerOf,
  type Endpoint,
  endpoint,
  type JsonAnswer,
  type RequestContext,
} from '../../infra/http/port.ts';
import type { ReadModels } from '../../infra/read-models/port.ts';
import { beginRun } from '../chat.ts';
import type { CommandBus, CommandMeta } from '../command.ts';
import { conversation } from '../domain/conversation.ts';
import { cancelOrchestration, orchestrationIdFor, requestOrchestration } from '../domain/orchestration.ts';
import {
  type Assignment,
  chooseByRule,
  delegationSteps,
  type Member,
  planning,
  planOf,
  sharedTask,
  teamSteps,
} from '../processes/orchestrations/plans.ts';
import { withContext } from '../processes/orchestrations/task.ts';
import { requestMeta } from './conversations.ts';
import { endOf } from './turn-end.ts';

export interface OrchestrationCommandDependencies {
  readonly bus: CommandBus;
  readonly store: Pick<EventStore, 'readStream' | 'subscribe'>;
  readonly readModels: Pick<ReadModels, 'get'>;
  readonly agents: Agents;
  readonly feeds: Pick<TurnFeeds, 'turnEnded'>;
  /** Of all tools that there are. */
  readonly toolNames: readonly string[];
  /** Whether a model other than the built-in one answers. */
  readonly modelConnected: boolean;
  readonly answerTimeoutMs: number;
  /** Aborted when this process ends. */
  readonly ending: AbortSignal;
}

/** A delegation, and an orchestration that Luna answers with, may take so long; the answer may come later. */
const DELEGATION_TIMEOUT_MS = 1_800_000;
/** What has just begun is waited for so long, so that the answer can say that it runs. */
const BEGIN_MS = 1_000;

export function orchestrationCommandEndpoints(deps: OrchestrationCommandDependencies): Endpoint[] {
  const { bus, store, readModels, agents, feeds, toolNames, modelConnected, answerTimeoutMs, ending } = deps;

  // ── whom, and for whom ──────────────────────────────────────────────────
  /** @throws Refusal NOT_FOUND, which names the agent */
  async function find(caller: Caller, name: string): Promise<AgentDocument> {
    try {
      return await agents.find(caller, name);
    } catch (error) {
      if (!(error instanceof Refusal) || error.code !== 'NOT_FOUND') throw error;
      return refuse('NOT_FOUND', `Agent not found: ${name}`);
    }
  }

  const memberOf = (agent: AgentDocument, asked: RunRequest, calledAs = agent.name): Member => ({
    calledAs,
    agent,
    run: agents.runOf(agent, asked),
  });

  interface Cause {
    readonly parent: Run['parent'];
    readonly meta: CommandMeta;
  }

  /** The run that asks, when the request names one: what follows is its child, in cause and correlation. */
  async function causeOf(executionId: string | undefined, context: RequestContext): Promise<Cause> {
    const meta = requestMeta(context);
    if (executionId === undefined) return { parent: null, meta };
    const turn = (await readModels.get<TurnDocument>('turns', executionId))?.body;
    if (turn === undefined || turn.owner !== callerOf(context).userId) {
      return refuse('NOT_FOUND', `Execution not found: ${executionId}`);
    }
    const { conversationId, firstRevision } = turn;
    const stream = `${conversation.category}-${conversationId}`;
    for await (const [asked] of store.readStream(stream, { from: firstRevision, limit: 1 })) {
      if (asked === undefined) break;
      const { id: causationId, correlationId } = asked;
      return { parent: { conversationId, turnId: turn.id }, meta: { ...meta, causationId, correlationId } };
    }
    return refuse('NOT_FOUND', `Execution not found: ${executionId}`);
  }

  type Wanted = Pick<
    Parameters<typeof requestOrchestration.decide>[0],
    'kind' | 'task' | 'context' | 'steps' | 'parallel' | 'timeoutMs'
  >;

  async function request(wanted: Wanted, { parent, meta }: Cause, context: RequestContext) {
    const orchestrationId = orchestrationIdFor(meta.commandId);
    const owner = callerOf(context).userId;
    const { position } = await bus.dispatch(
      requestOrchestration,
      { ...wanted, orchestrationId, owner, parent },
      meta,
    );
    context.reached(position!);
    return { orchestrationId, after: position! };
  }

  // ── how far it is ───────────────────────────────────────────────────────
  /** As its own events tell it, with where they end. */
  async function current(
    id: string,
  ): Promise<{ doc: OrchestrationDocument | null; position: Position | null }> {
    let doc: OrchestrationDocument | null = null;
    let position: Position | null = null;
    for await (const page of store.readStream(ORCHESTRATION_STREAM + id)) {
      for (const event of page) {
        doc = evolveOrchestration(doc, event as OrchestrationEvent);
        position = event.position;
      }
    }
    return { doc, position };
  }

  /** Resolves once an event after `after` is one of these; false when the signal was aborted before. */
  async function until(
    { orchestrationId, after }: { orchestrationId: string; after: Position },
    types: readonly EventEnvelope['type'][],
    signal: AbortSignal,
  ): Promise<boolean> {
    const filter = { stream: ORCHESTRATION_STREAM + orchestrationId, types };
    for await (const page of store.subscribe({ after, filter, signal })) {
      if (page.events.some(({ position }) => isAfter(position, after))) return true;
    }
    return false;
  }

  /** The orchestration once it has ended; or what to answer when the request cannot wait for it. */
  async function ended(
    begun: { orchestrationId: string; after: Position },
    context: RequestContext,
  ): Promise<{ doc: OrchestrationDocument } | JsonAnswer> {
    const patience = AbortSignal.timeout(answerTimeoutMs);
    await until(begun, ['OrchestrationEnded'], AbortSignal.any([context.signal, patience, ending]));
    context.signal.throwIfAborted();
    const { orchestrationId } = begun;
    const { doc, position } = await current(orchestrationId);
    if (doc !== null && hasEnded(doc)) {
      context.reached(position!);
      return { doc };
    }
    const progress = `/api/agents/orchestrate/${orchestrationId}/progress`;
    return goesOn(ending.aborted ? 'shutting down' : 'still running', progress, { orchestrationId });
  }

  return [
    // ── Agent Chat ────────────────────────────────────────────────────────
    endpoint(http.orchestrateAgents, async ({ body, context }) => {
      const caller = callerOf(context);
      const { parallel, timeout: timeoutMs } = body.options;
      const asked = { trigger: 'fan_out', timeoutMs } as const;
      const members: Member[] = [];
      for (const name of body.agents) members.push(memberOf(await find(caller, name), asked, name));
      const steps = teamSteps(sharedTask(body.task, members), parallel);
      const begun = await request(
        { kind: 'orchestration', task: body.task, context: body.context, steps, parallel, timeoutMs },
        { parent: null, meta: requestMeta(context) },
        context,
      );
      const patience = AbortSignal.any([context.signal, ending, AbortSignal.timeout(BEGIN_MS)]);
      await until(begun, ['StepStarted', 'OrchestrationEnded'], patience);
      const { doc, position } = await current(begun.orchestrationId);
      context.reached(position!);
      return { status: 202, body: http.renderOrchestration(doc!) };
    }),

    endpoint(http.cancelOrchestrationRoute, async ({ params, context }) => {
      const orchestrationId = params.id;
      if (!/^orch_[0-9a-f]{24}$/.test(orchestrationId)) refuse('NOT_FOUND', 'Orchestration not found.');
      const { position } = await bus.dispatch(cancelOrchestration, { orchestrationId }, requestMeta(context));
      if (position !== null) context.reached(position);
      const { doc } = await current(orchestrationId);
      return { status: 200, body: http.renderProgress(doc!) };
    }),

    // ── Luna ──────────────────────────────────────────────────────────────
    endpoint(http.executeAgent, async ({ body, context }) => {
      const caller = callerOf(context);
      const agent = await find(caller, body.agent ?? body.agentName ?? '');
      const cause = await causeOf(body.parentExecutionId, context);
      const { task, context: given } = body;
      const asked = { trigger: cause.parent === null ? 'manual' : 'agent', parent: cause.parent } as const;
      if (body.useSanhedrin) {
        const steps = delegationSteps(
          task,
          memberOf(agent, { ...asked, tools: [] }),
          memberOf(agent, asked),
          toolNames,
        );
        const timeoutMs = DELEGATION_TIMEOUT_MS;
        const wanted = {
          kind: 'delegation',
          task,
          context: given,
          steps,
          parallel: false,
          timeoutMs,
        } as const;
        const outcome = await ended(await request(wanted, cause, context), context);
        return 'status' in outcome ? outcome : { status: 200, body: http.renderDelegation(outcome.doc) };
      }
      const content = withContext(task, given).toWellFormed();
      const run = { owner: caller.userId, agent, run: agents.runOf(agent, asked), task: content };
      const end = await runEnded(run, cause.meta, context);
      return 'status' in end ? end : { status: 200, body: resultOf(agent, end) };
    }),

    endpoint(http.orchestrateAbilities, async ({ body, context }) => {
      const cause = await causeOf(body.parentExecutionId, context);
      const planned = await plan(body, cause, context);
      if ('status' in planned) return planned;
      const steps = teamSteps(planned.team, false);
      const wanted = { task: body.task, context: body.context, steps, parallel: false };
      const begun = await request(
        { ...wanted, kind: 'orchestration', timeoutMs: DELEGATION_TIMEOUT_MS },
        cause,
        context,
      );
      const outcome = await ended(begun, context);
      if ('status' in outcome) return outcome;
      const { doc } = outcome;
      return {
        status: 200,
        body: {
          plan: planned.plan,
          plannedBy: planned.by,
          results: doc.steps.map(http.resultOfStep),
          synthesis: doc.result ?? '',
          success: doc.status === 'completed',
          ...(doc.reason !== null && { error: doc.reason }),
          orchestrationId: doc.id,
          costUsd: doc.costUsd,
        },
      };
    }),
  ];

  // ── one run ─────────────────────────────────────────────────────────────
  type RunEnd = TurnEnd & { readonly conversationId: string };

  async function runEnded(
    run: Parameters<typeof beginRun>[1],
    meta: CommandMeta,
    context: RequestContext,
  ): Promise<RunEnd | JsonAnswer> {
    const { conversationId, turnId, position: after } = await beginRun(bus, run, meta);
    context.reached(after);
    const wait = { feeds, timeoutMs: answerTimeoutMs, clientGone: context.signal };
    const end = await endOf({ conversationId, turnId, after }, wait);
    if (typeof end === 'string') {
      return goesOn(end, `/api/turns/${turnId}/stream`, { executionId: turnId, conversationId });
    }
    context.reached(end.position);
    return { ...end, conversationId };
  }

  // ── who does what ───────────────────────────────────────────────────────
  interface Planned {
    readonly team: readonly Assignment[];
    readonly by: 'request' | 'model' | 'rule';
    readonly plan: string;
  }

  async function plan(
    {
      task,
      agents: names,
      context: given,
    }: { task: string; agents?: readonly string[] | undefined; context: unknown },
    cause: Cause,
    context: RequestContext,
  ): Promise<Planned | JsonAnswer> {
    const caller = callerOf(context);
    const asked = { trigger: 'fan_out', parent: cause.parent } as const;
    if (names !== undefined) {
      const members: Member[] = [];
      for (const name of names) members.push(memberOf(await find(caller, name), asked, name));
      return planned(sharedTask(task, members), 'request', 'As the request names the agents:');
    }
    const listed = await agents.list(caller, { limit: 200, offset: 0 });
    const known = listed.filter(({ shared, owner }) => shared || owner === caller.userId);
    const byRule = (why: string): Planned => {
      const chosen = chooseByRule(task, known).map((agent) => memberOf(agent, asked));
      if (chosen.length === 0) refuse('NOT_FOUND', 'There is no agent that could do it.');
      return planned(sharedTask(task, chosen), 'rule', why);
    };
    const rule = "by rule, from the words of the task and of the agents' descriptions:";
    const planner = known.find(({ name }) => name === 'planner');
    if (!modelConnected || planner === undefined) {
      return byRule(
        `Made ${rule.replace(':', '')} (${modelConnected ? 'there is no planner' : 'no model is connected'}):`,
      );
    }
    const run = agents.runOf(planner, { ...asked, trigger: 'agent', tools: [] });
    const meta = { ...cause.meta, commandId: `${cause.meta.commandId}/plan` };
    const end = await runEnded(
      {
        ...{ owner: caller.userId, agent: planner, run },
        task: withContext(task, given).toWellFormed(),
        instructions: planning(known),
      },
      meta,
      context,
    );
    if ('status' in end) return end;
    if (end.type !== 'TurnCompleted') return byRule(`The planner brought no plan, so it was made ${rule}`);
    const found = planOf(end.data.content, known);
    if ('unusable' in found)
      return byRule(`The planner's plan could not be used (${found.unusable}), so it was made ${rule}`);
    const team = found.steps.map((step) => ({
      member: memberOf(step.agent, asked),
      task: step.task,
      instructions: null,
    }));
    return planned(team, 'model', `Made by ${planner.name} (${end.data.provider}/${end.data.model}):`);
  }
}

const planned = (team: readonly Assignment[], by: 'request' | 'model' | 'rule', head: string) => ({
  team,
  by,
  plan: [head, ...team.map(({ member, task }, at) => `${at + 1}. ${member.agent.name}: ${task}`)].join('\n'),
});

function resultOf(
  { name }: AgentDocument,
  end: TurnEnd & { readonly conversationId: string },
): http.LunaAgentResult {
  const { turnId, content, durationMs, costUsd, usage } = end.data;
  const error =
    end.type === 'TurnFailed'
      ? end.data.reason
      : end.type === 'TurnInterrupted'
        ? 'The run was interrupted.'
        : null;
  return {
    agentName: name,
    success: error === null,
    result: content,
    executionTimeMs: durationMs,
    savedFiles: [],
    executionId: turnId,
    conversationId: end.conversationId,
    costUsd,
    tokensUsed: usage.promptTokens + usage.completionTokens,
    ...(error !== null && { error }),
  };
}

/** The request cannot wait for the end: where it can be seen. */
const goesOn = (why: 'still running' | 'shutting down', path: string, ids: object): JsonAnswer =>
  why === 'still running'
    ? { status: 504, body: { error: `It takes long: follow it at ${path}.`, ...ids } }
    : {
        status: 503,
        headers: { 'Retry-After': '5' },
        body: { error: `The server restarts. It will be finished: follow it then at ${path}.`, ...ids },
      };
