/** The models that are configured, and which of them to try for a request, in which order. */
import { type ModelRoute, modelRoute } from '../../contracts/events/conversation.ts';
import { createBuiltInAssistant } from './built-in/assistant.ts';
import {
  defaultModels,
  isCatalogued,
  knownModel,
  OWN_SERVER_CONTEXT_WINDOW,
  OWN_SERVER_MODEL,
  type ProviderName,
  providerNames,
  providerOfName,
  unlistedContextWindow,
} from './catalogue.ts';
import type { ModelsConfig, ProviderConfig } from './environment.ts';
import type { ChatModel, Models, Price } from './port.ts';

export {
  type ModelsConfig,
  type ModelsEnvironment,
  modelsConfigFrom,
  modelsEnvironment,
} from './environment.ts';

const routes = modelRoute.options;
const FREE: Price = { input: 0, cachedInput: 0, output: 0 };

/** A model of a provider that is configured. */
interface Reference {
  readonly provider: ProviderName;
  readonly model: string;
}

/**
 * @throws Error naming the variable when MODELS_NANO, MODELS_PRO or MODELS_TOOLS lists what is not configured
 */
export function createModels(config: ModelsConfig): Models {
  const builtIn = createBuiltInAssistant({ delayMs: config.builtInDelayMs });
  const providers = new Map<ProviderName, Provider>([
    ['builtin', { models: ['assistant'], open: () => builtIn }],
  ]);
  for (const name of ['anthropic', 'openai', 'zai', 'ollama'] as const) {
    const settings = config[name];
    if (settings !== undefined) providers.set(name, sdkProvider(name, settings, config));
  }

  const order = (route: ModelRoute): readonly Reference[] => {
    const names = config.order[route];
    if (names !== undefined) return names.map((name) => listedReference(name, route, providers));
    return providerNames.flatMap((provider) => {
      const model = providers.get(provider)?.models[0] ?? defaultFor(provider, route, config);
      return providers.has(provider) ? [{ provider, model }] : [];
    });
  };
  const orders: Readonly<Record<ModelRoute, readonly Reference[]>> = {
    nano: order('nano'),
    pro: order('pro'),
    tools: order('tools'),
  };

  const references: readonly Reference[] = [
    ...routes.flatMap((route) => orders[route]),
    ...[...providers].flatMap(([provider, { models }]) => models.map((model) => ({ provider, model }))),
  ];
  const listed = new Map(
    references.map((reference) => [`${reference.provider}/${reference.model}`, reference]),
  );

  // Requests may name any model of a provider: only those that are listed are kept.
  const opened = new Map<string, ChatModel>();
  const modelFor = ({ provider, model }: Reference): ChatModel => {
    const name = `${provider}/${model}`;
    const chatModel = opened.get(name) ?? providers.get(provider)!.open(model);
    if (listed.has(name)) opened.set(name, chatModel);
    return chatModel;
  };

  /** The model that a request names; null when no configured provider serves it. */
  const named = (requested: string): Reference | null => {
    // First, because servers' own names may hold a slash: `openai/gpt-oss-20b` of a server of one's own.
    const own = references.find((reference) => reference.model === requested);
    if (own !== undefined) return own;
    const slash = requested.indexOf('/');
    const provider = providerNames.find((name) => name === requested.slice(0, Math.max(slash, 0)));
    const model = requested.slice(slash + 1);
    if (provider !== undefined && model !== '') {
      const served = provider === 'builtin' ? listed.has(requested) : providers.has(provider);
      return served ? { provider, model } : null;
    }
    const guess = providerOfName(requested);
    if (guess === undefined || !providers.has(guess) || ownServer(guess, config)) return null;
    return { provider: guess, model: requested };
  };

  const serves = (requested: string): boolean =>
    isRoute(requested.trim()) || named(requested.trim()) !== null;
  const isRoute = (requested: string): requested is ModelRoute => modelRoute.safeParse(requested).success;

  return {
    candidates(requested, route) {
      const asked = requested?.trim() ?? '';
      if (asked === '') return { models: orders[route].map(modelFor), served: true };
      if (isRoute(asked)) return { models: orders[asked].map(modelFor), served: true };
      const first = named(asked);
      if (first === null) return { models: orders[route].map(modelFor), served: false };
      const others = orders[route].filter(
        ({ provider, model }) => provider !== first.provider || model !== first.model,
      );
      return { models: [first, ...others].map(modelFor), served: true };
    },
    serves,
    knows: (requested) => serves(requested) || isCatalogued(requested.trim()),
    list: () => [...listed.values()].map(modelFor),
  };
}

interface Provider {
  /** As configured; empty: the catalogue's. */
  readonly models: readonly string[];
  readonly open: (model: string) => ChatModel;
}

function listedReference(
  name: string,
  route: ModelRoute,
  providers: ReadonlyMap<ProviderName, Provider>,
): Reference {
  const variable = `MODELS_${route.toUpperCase()}`;
  const slash = name.indexOf('/');
  const provider = providerNames.find((known) => known === name.slice(0, Math.max(slash, 0)));
  const model = name.slice(slash + 1).trim();
  if (provider === undefined || model === '') {
    throw new Error(
      `${variable}: “${name}” must be provider/model, the provider one of ${providerNames.join(', ')}.`,
    );
  }
  if (!providers.has(provider)) {
    throw new Error(`${variable}: “${name}” needs ${requirement[provider]} to be set.`);
  }
  if (provider === 'builtin' && model !== 'assistant') {
    throw new Error(`${variable}: “${name}” does not exist; the built-in one is builtin/assistant.`);
  }
  return { provider, model };
}

const requirement: Readonly<Record<ProviderName, string>> = {
  anthropic: 'ANTHROPIC_API_KEY (or ANTHROPIC_BASE_URL)',
  openai: 'OPENAI_API_KEY or OPENAI_BASE_URL',
  zai: 'ZAI_API_KEY (or ZAI_BASE_URL)',
  ollama: 'OLLAMA_BASE_URL',
  builtin: 'nothing',
};

/** True for an OpenAI-compatible server that is not OpenAI's. */
function ownServer(provider: ProviderName, config: ModelsConfig): boolean {
  const baseUrl = provider === 'openai' ? config.openai?.baseUrl : undefined;
  return baseUrl !== undefined && !/(?:^|\.)openai\.com$/.test(new URL(baseUrl).hostname);
}

const defaultFor = (provider: ProviderName, route: ModelRoute, config: ModelsConfig): string =>
  ownServer(provider, config) ? OWN_SERVER_MODEL : defaultModels[provider][route];

function sdkProvider(
  name: Exclude<ProviderName, 'builtin'>,
  settings: ProviderConfig,
  config: ModelsConfig,
): Provider {
  // The SDK takes 0.3 s and 12 MB to load, which a start without providers is spared. It begins here, so that
  // the first answer does not wait for it.
  const loading = import('./sdk-providers.ts').then(({ sdkCalls }) =>
    sdkCalls(name, settings, { ...config, ownServer: ownServer(name, config) }),
  );
  loading.catch(() => {}); // whoever calls a model gets the error
  const own = name === 'ollama' || (ownServer(name, config) && isPrivate(settings.baseUrl));
  const unlisted = ownServer(name, config) ? OWN_SERVER_CONTEXT_WINDOW : unlistedContextWindow[name];
  return {
    models: settings.models,
    open: (model) => {
      const known = knownModel(name, model);
      return {
        provider: name,
        model,
        contextWindow:
          config.contextWindows[`${name}/${model}`] ??
          config.contextWindows[model] ??
          known?.contextWindow ??
          unlisted,
        price:
          config.prices[`${name}/${model}`] ?? config.prices[model] ?? (own ? FREE : (known?.price ?? null)),
        async *stream(prompt, { signal }) {
          const call = await loading;
          yield* call(model, prompt, signal);
        },
      };
    },
  };
}

/** On this machine or a private network: nobody charges for it. */
function isPrivate(baseUrl: string | undefined): boolean {
  const host = baseUrl === undefined ? '' : new URL(baseUrl).hostname;
  return /^(?:localhost|127\.|10\.|192\.168\.|172\.(?:1[6-9]|2\d|3[01])\.|\[::1\]|[^.]{1,63}$|.{1,200}\.(?:local|internal|localhost)$)/.test(
    host,
  );
}
