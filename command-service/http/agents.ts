/** Trinity's commands on named agents. */
import { defaultPolicy } from '../../contracts/commands/agent.ts';
import { Refusal, refuse } from '../../contracts/errors.ts';
import type { OdeonEvent } from '../../contracts/events/catalogue.ts';
import * as trinity from '../../contracts/http/agents.ts';
import type { Agents } from '../../contracts/read-models/agents.ts';
import type { AgentDocument } from '../../contracts/read-models/documents.ts';
import { callerOf, type Endpoint, endpoint, type RequestContext } from '../../infra/http/port.ts';
import type { CommandBus } from '../command.ts';
import { agentIdFor, changeAgent, createAgent, deleteAgent } from '../domain/agent.ts';
import { requestMeta } from './conversations.ts';

export interface AgentCommandDependencies {
  readonly bus: CommandBus;
  readonly agents: Pick<Agents, 'find' | 'shared'>;
  /** Of every tool that an agent can be allowed. */
  readonly toolNames: readonly string[];
  /** What answers where no model was asked for. */
  readonly defaultModel: string;
  /** Whether a configured provider serves the model (or route). */
  readonly serves: (model: string) => boolean;
}

export function agentCommandEndpoints(deps: AgentCommandDependencies): Endpoint[] {
  const { bus, agents, toolNames, defaultModel, serves } = deps;

  function checkTools(tools: readonly string[] | null | undefined): void {
    const issues = (tools ?? []).flatMap((tool, at) =>
      toolNames.includes(tool)
        ? []
        : [
            {
              path: ['body', 'tools', at],
              message: `there is no tool ${tool}: there are ${toolNames.join(', ')}`,
            },
          ],
    );
    if (issues.length > 0) throw new Refusal('VALIDATION_ERROR', 'The request is not valid.', { issues });
  }

  /** Two shared agents of one name would leave it to their age which one answers. */
  async function checkSharing(agentId: string, name: string): Promise<void> {
    const other = await agents.shared(name);
    if (other !== null && other.id !== agentId) {
      refuse('CONFLICT', `There is a shared agent ${name} already: share yours under another name.`);
    }
  }

  /** Sharings of a name by this process wait for each other: each sees in the read model what the one before shared. */
  const sharings = new Map<string, Promise<unknown>>();
  async function alone<Result>(name: string, share: () => Promise<Result>): Promise<Result> {
    const mine = (sharings.get(name) ?? Promise.resolve()).then(share);
    const ended = mine.catch(() => undefined);
    sharings.set(name, ended);
    try {
      return await mine;
    } finally {
      if (sharings.get(name) === ended) sharings.delete(name);
    }
  }

  async function change(
    name: string,
    changes: Parameters<typeof changeAgent.decide>[0]['changes'],
    context: RequestContext,
  ): Promise<AgentDocument> {
    checkTools(changes.tools);
    const agent = await agents.find(callerOf(context), name);
    const dispatch = async () => {
      const changed = await bus.dispatch(changeAgent, { agentId: agent.id, changes }, requestMeta(context));
      if (changed.position !== null) context.reached(changed.position);
      return changed;
    };
    const share = async () => {
      await checkSharing(agent.id, agent.name);
      const shared = await dispatch();
      await context.settled();
      return shared;
    };
    const { events, state } = await (changes.shared && !agent.shared ? alone(agent.name, share) : dispatch());
    if (state.status !== 'active') return refuse('NOT_FOUND', 'Agent not found.');
    // As the command left it, even where the read model is behind.
    return { ...agent, ...state.definition, updatedAt: events.at(-1)?.time ?? agent.updatedAt };
  }

  return [
    endpoint(trinity.createAgent, async ({ body, context }) => {
      const { model = null, tools = null, budget = {}, policy = {}, shared = false, ...described } = body;
      const owner = callerOf(context).userId;
      checkTools(tools);
      const definition = {
        ...described,
        ...{ model, tools, shared, aliases: [] },
        budget: { tokens: budget.tokens ?? null, cost: budget.cost ?? null, turns: budget.turns ?? null },
        policy: { ...defaultPolicy, ...trinity.policyOf(policy) },
      };
      const create = async () => {
        const { events } = await bus.dispatch(createAgent, { owner, definition }, requestMeta(context));
        const made = events[0] as OdeonEvent<'AgentCreated'>;
        context.reached(made.position);
        return made;
      };
      const share = async () => {
        await checkSharing(agentIdFor(owner, body.name), body.name);
        const made = await create();
        await context.settled();
        return made;
      };
      const created = await (shared ? alone(body.name, share) : create());
      const times = { createdAt: created.time, updatedAt: created.time };
      const agent = { id: agentIdFor(owner, body.name), owner, ...created.data, ...times };
      return { status: 201, body: trinity.renderAgent(agent) };
    }),

    endpoint(trinity.changeAgent, async ({ params, body, context }) => {
      const { policy, ...changes } = body;
      const agent = await change(
        params.name,
        { ...changes, ...(policy !== undefined && { policy: trinity.policyOf(policy) }) },
        context,
      );
      return { status: 200, body: trinity.renderAgent(agent) };
    }),

    endpoint(trinity.deleteAgent, async ({ params, context }) => {
      const { id, name } = await agents.find(callerOf(context), params.name);
      const { position } = await bus.dispatch(deleteAgent, { agentId: id }, requestMeta(context));
      if (position !== null) context.reached(position);
      return { status: 200, body: { status: 'deleted', name } };
    }),

    endpoint(trinity.setAgentModel, async ({ params, body, context }) => {
      const { model } = await change(params.name, { model: body.model }, context);
      const answer = trinity.modelAnswer(model, defaultModel, serves);
      return { status: 200, body: { status: 'success', ...answer } };
    }),
  ];
}
