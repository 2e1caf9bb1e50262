/** Trinity's reads of named agents. */
import * as trinity from '../../contracts/http/agents.ts';
import type { Agents } from '../../contracts/read-models/agents.ts';
import { callerOf, type Endpoint, endpoint } from '../../infra/http/port.ts';

export interface AgentQueryDependencies {
  readonly agents: Pick<Agents, 'find' | 'list'>;
  /** What answers where no model was asked for. */
  readonly defaultModel: string;
  /** Every model that is configured, as `provider/model`. */
  readonly modelNames: readonly string[];
  /** Whether a configured provider serves the model (or route). */
  readonly serves: (model: string) => boolean;
}

export function agentQueryEndpoints(deps: AgentQueryDependencies): Endpoint[] {
  const { agents, defaultModel, modelNames, serves } = deps;
  return [
    endpoint(trinity.listAgents, async ({ query, context }) => {
      const found = await agents.list(callerOf(context), query);
      return { status: 200, body: found.map(trinity.renderAgent) };
    }),

    endpoint(trinity.getAgent, async ({ params, context }) => ({
      status: 200,
      body: trinity.renderAgent(await agents.find(callerOf(context), params.name)),
    })),

    endpoint(trinity.getAgentModel, async ({ params, context }) => {
      const { model } = await agents.find(callerOf(context), params.name);
      const answer = trinity.modelAnswer(model, defaultModel, serves);
      return {
        status: 200,
        body: { ...answer, available_models: [...trinity.modelRoutes, ...modelNames] },
      };
    }),
  ];
}
