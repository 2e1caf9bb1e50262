/** Agents by name, as a caller may use them, and what a run of one is allowed. */
import { type Caller, sees } from '../contracts/caller.ts';
import { SYSTEM_OWNER } from '../contracts/envelope.ts';
import { Refusal, refuse } from '../contracts/errors.ts';
import type { Budget } from '../contracts/events/agent.ts';
import type { Run } from '../contracts/events/conversation.ts';
import {
  type Agents,
  type AgentsFilter,
  isExecution,
  type RunRequest,
} from '../contracts/read-models/agents.ts';
import type { AgentDocument, TurnDocument } from '../contracts/read-models/documents.ts';
import type { Query, ReadModels } from '../infra/read-models/port.ts';
import { agentIdFor } from './domain/agent.ts';

export type { Agents, RunRequest } from '../contracts/read-models/agents.ts';

const OLDEST_FIRST = { field: 'createdAt', direction: 'ascending' } as const;
/** There are few ready-made agents. */
const READY_MADE = { where: { owner: SYSTEM_OWNER }, orderBy: OLDEST_FIRST, limit: 100 } as const;

export function createAgents({ readModels }: { readonly readModels: ReadModels }): Agents {
  const byId = async (id: string) => (await readModels.get<AgentDocument>('agents', id))?.body;
  async function all(query: Omit<Query, 'orderBy'>): Promise<AgentDocument[]> {
    const { documents } = await readModels.find<AgentDocument>('agents', { ...query, orderBy: OLDEST_FIRST });
    return documents.map(({ body }) => body);
  }
  const oldest = async (where: NonNullable<Query['where']>) => (await all({ where, limit: 1 }))[0];
  const byAlias = async (name: string) =>
    (await all(READY_MADE)).find(({ shared, aliases }) => shared && aliases.includes(name));
  const sharedNamed = async (name: string) => (await oldest({ shared: true, name })) ?? (await byAlias(name));

  async function find(caller: Caller, name: string): Promise<AgentDocument> {
    return (
      (await byId(agentIdFor(caller.userId, name))) ??
      (await sharedNamed(name)) ??
      (caller.permissions.has('all:read') ? await oldest({ name }) : undefined) ??
      absent()
    );
  }

  return {
    find,

    async get(caller, agentId) {
      const agent = await byId(agentId);
      return agent !== undefined && (agent.shared || sees(caller, agent.owner)) ? agent : absent();
    },

    shared: async (name) => (await sharedNamed(name)) ?? null,

    async list(caller, { owner, limit, offset }) {
      const page = { limit, offset };
      const seesAll = caller.permissions.has('all:read');
      if (seesAll || owner === caller.userId)
        return all(owner === undefined ? page : { ...page, where: { owner } });
      return listVisible(caller, { owner, limit, offset });
    },

    async execution(caller, name, id) {
      const turn = (await readModels.get<TurnDocument>('turns', id))?.body;
      const isVisible = turn !== undefined && isExecution(turn) && sees(caller, turn.owner);
      if (!isVisible) return refuse('NOT_FOUND', 'Execution not found.');
      // The turns outlive a deleted conversation.
      if ((await readModels.get('conversations', turn.conversationId)) === null) {
        return refuse('NOT_FOUND', 'Execution not found.');
      }
      if (turn.run.agentName === name) return turn;
      const agent = await find(caller, name).catch((error) => {
        if (error instanceof Refusal && error.code === 'NOT_FOUND') return null;
        throw error;
      });
      return agent?.id === turn.agentId ? turn : refuse('NOT_FOUND', 'Execution not found.');
    },

    runOf,
  };

  /** Own and shared ones are two lists: each is read as far as the page could reach into it. */
  async function listVisible(caller: Caller, { owner, limit, offset }: AgentsFilter) {
    const [own, shared] = await Promise.all([
      owner === undefined ? all({ where: { owner: caller.userId }, limit: offset + limit }) : [],
      all({ where: { shared: true, ...(owner !== undefined && { owner }) }, limit: offset + limit }),
    ]);
    return [...own, ...shared.filter((agent) => agent.owner !== caller.userId)]
      .sort((a, b) => compare(a.createdAt, b.createdAt) || compare(a.id, b.id))
      .slice(offset, offset + limit);
  }
}

/** What the agent may do, and of that what is asked for. Pure. */
function runOf(agent: AgentDocument, request: RunRequest): Run {
  const { tools = null, budget = {}, maxTurns = null } = request;
  const { policy } = agent;
  return {
    agent: { id: agent.id, name: agent.name },
    trigger: request.trigger,
    parent: request.parent ?? null,
    orchestrationId: request.orchestrationId ?? null,
    tools: common(agent.tools, tools),
    budget: {
      ...narrowed(agent.budget, budget),
      turns: least(agent.budget.turns, budget.turns ?? null, maxTurns),
    },
    timeoutMs: Math.min(policy.timeoutMs, request.timeoutMs ?? policy.timeoutMs),
    maxAttempts: policy.maxAttempts,
    concurrency: policy.concurrency,
  };
}

const narrowed = (given: Budget, asked: Partial<Budget>): Budget => ({
  tokens: least(given.tokens, asked.tokens ?? null),
  cost: least(given.cost, asked.cost ?? null),
  turns: least(given.turns, asked.turns ?? null),
});

/** Null: without limit. */
function least(...limits: readonly (number | null)[]): number | null {
  const set = limits.filter((limit) => limit !== null);
  return set.length === 0 ? null : Math.min(...set);
}

/** Null: all. */
function common(allowed: readonly string[] | null, asked: readonly string[] | null): string[] | null {
  if (allowed === null || asked === null) return (allowed ?? asked)?.slice() ?? null;
  return allowed.filter((tool) => asked.includes(tool));
}

const compare = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0);

function absent(): never {
  return refuse('NOT_FOUND', 'Agent not found.');
}
