/** What can be asked for as a model: those of the providers, the routes, and agents. */
import type { Caller } from '../../contracts/caller.ts';
import { modelRoute } from '../../contracts/events/conversation.ts';
import * as openai from '../../contracts/http/openai.ts';
import type { Agents } from '../../contracts/read-models/agents.ts';
import type { AgentDocument } from '../../contracts/read-models/documents.ts';
import { callerOf, type Endpoint, endpoint } from '../../infra/http/port.ts';
import type { ChatModel, Models } from '../../infra/models/port.ts';

export interface ModelQueryDependencies {
  readonly models: Pick<Models, 'candidates' | 'list'>;
  readonly agents: Pick<Agents, 'find' | 'list'>;
}

interface Entry {
  readonly shown: openai.AgentChatModel;
  /** Unix seconds; 0 where it is not known. */
  readonly created: number;
}

const AGENTS_PAGE = 200;
const ROUTES_OWNER = 'odeon';
const PROVIDER_NAMES: Readonly<Record<string, string>> = { builtin: 'Built-in' };

export function modelQueryEndpoints({ models, agents }: ModelQueryDependencies): Endpoint[] {
  const first = (requested: string | null): ChatModel => models.candidates(requested, 'pro').models[0]!;

  function ofProviders(): Entry[] {
    const all = models.list();
    return all.map((model) => {
      const isOnly = all.every((other) => other === model || other.model !== model.model);
      const id = isOnly ? model.model : nameOf(model);
      const provider = PROVIDER_NAMES[model.provider];
      const name = provider === undefined ? model.model : `${provider} ${model.model}`;
      return { created: 0, shown: shownAs({ id, name, provider: model.provider, kind: 'model' }, model) };
    });
  }

  const ofRoutes = (): Entry[] =>
    modelRoute.options.map((id) => ({
      created: 0,
      shown: shownAs({ id, name: `Route ${id}`, provider: ROUTES_OWNER, kind: 'route' }, first(id)),
    }));

  const ofAgent = (agent: AgentDocument): Entry => ({
    created: Math.floor(Date.parse(agent.createdAt) / 1_000),
    shown: shownAs(
      { id: `agent:${agent.name}`, name: agent.name, provider: ROUTES_OWNER, kind: 'agent' },
      first(agent.model),
    ),
  });

  /** A name stands for the one agent that answers to it. */
  async function ofAgents(caller: Caller): Promise<Entry[]> {
    const found = new Map<string, AgentDocument>();
    for (let offset = 0; ; offset += AGENTS_PAGE) {
      const page = await agents.list(caller, { limit: AGENTS_PAGE, offset });
      for (const agent of page) {
        const known = found.get(agent.name);
        if (known === undefined || (known.owner !== caller.userId && agent.owner === caller.userId)) {
          found.set(agent.name, agent);
        }
      }
      if (page.length < AGENTS_PAGE) return [...found.values()].map(ofAgent);
    }
  }

  const everything = async (caller: Caller): Promise<Entry[]> => [
    ...ofProviders(),
    ...ofRoutes(),
    ...(await ofAgents(caller)),
  ];

  return [
    endpoint(openai.listModels, async ({ context }) => {
      const all = await everything(callerOf(context));
      const body = { object: 'list', data: all.map(inOpenAi), models: all.map(({ shown }) => shown) };
      return { status: 200, body };
    }),

    endpoint(openai.getModel, async ({ params: { model: id }, context }) => {
      const all = await everything(callerOf(context));
      const found = all.find(
        ({ shown }) => shown.id === id || (shown.kind === 'model' && shown.answered_by === id),
      );
      if (found === undefined) return { status: 404, body: openai.noSuchModel(id, new Date().toISOString()) };
      return { status: 200, body: { ...inOpenAi(found), ...found.shown } };
    }),
  ];
}

const nameOf = ({ provider, model }: ChatModel): string => `${provider}/${model}`;

const inOpenAi = ({ shown: { id, provider }, created }: Entry) => ({
  id,
  object: 'model' as const,
  created,
  owned_by: provider,
});

const shownAs = (
  who: Pick<openai.AgentChatModel, 'id' | 'name' | 'provider' | 'kind'>,
  model: ChatModel,
): openai.AgentChatModel => ({
  ...who,
  context_window: model.contextWindow,
  max_output: null,
  capabilities: ['chat', 'function_calling'],
  cost_per_1k_tokens: model.price && {
    input: perThousand(model.price.input),
    output: perThousand(model.price.output),
  },
  answered_by: nameOf(model),
});

/** Of dollars for a million; without what dividing binary fractions leaves behind. */
const perThousand = (usd: number): number => Math.round(usd * 1e9) / 1e12;
