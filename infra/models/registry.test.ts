import { expect } from 'chai';
import { createModels, type ModelsEnvironment, modelsConfigFrom, modelsEnvironment } from './registry.ts';

type Environment = Partial<Record<keyof ModelsEnvironment, string>>;
const modelsFor = (env: Environment) => createModels(modelsConfigFrom(modelsEnvironment.parse(env)));

const everything: Environment = {
  ANTHROPIC_API_KEY: 'a',
  OPENAI_API_KEY: 'o',
  ZAI_API_KEY: 'z',
  OLLAMA_BASE_URL: 'http://127.0.0.1:11434',
};
const own: Environment = { OPENAI_BASE_URL: 'http://127.0.0.1:8080/v1', OPENAI_MODEL: 'qwen3' };

describe('the choice of models', () => {
  const NANO = [
    'anthropic/claude-haiku-4-5',
    'openai/gpt-5-mini',
    'zai/glm-4.5-air',
    'ollama/llama3.2',
    'builtin/assistant',
  ];
  const TOOLS = [
    'anthropic/claude-sonnet-4-6',
    'openai/gpt-5.1',
    'zai/glm-4.6',
    'ollama/llama3.2',
    'builtin/assistant',
  ];
  const first = (name: string, order: readonly string[]) => [
    name,
    ...order.filter((other) => other !== name),
  ];

  const cases: readonly [string, Environment, string | null, readonly string[], boolean?][] = [
    ['nothing configured', {}, null, ['builtin/assistant']],
    ['everything configured', everything, null, NANO],
    ['blank', everything, '  ', NANO],
    ['a route', everything, 'tools', TOOLS],
    ['provider/model', everything, 'openai/gpt-4o', first('openai/gpt-4o', NANO)],
    ['provider/model that is in the order', everything, 'zai/glm-4.5-air', first('zai/glm-4.5-air', NANO)],
    ['provider/model with slashes', everything, 'ollama/hf.co/x/y:q4', first('ollama/hf.co/x/y:q4', NANO)],
    ['a bare default', everything, 'glm-4.6', first('zai/glm-4.6', NANO)],
    ['a bare Claude', everything, 'claude-opus-4-5', first('anthropic/claude-opus-4-5', NANO)],
    ['a bare GPT', everything, 'gpt-4o-mini', first('openai/gpt-4o-mini', NANO)],
    ['a bare o-model', everything, 'o3', first('openai/o3', NANO)],
    ['a bare tag', everything, 'phi4:14b', first('ollama/phi4:14b', NANO)],
    ['the built-in', everything, 'builtin/assistant', first('builtin/assistant', NANO)],
    ['another built-in', everything, 'builtin/other', NANO, false],
    ['an unknown name', everything, 'hal-9000', NANO, false],
    ['an unknown provider', everything, 'skynet/t-800', NANO, false],
    ['a provider without a model', everything, 'openai/', NANO, false],
    ['a provider that is not configured', {}, 'openai/gpt-4o', ['builtin/assistant'], false],
    ['a name whose provider is not configured', {}, 'claude-sonnet-4-5', ['builtin/assistant'], false],
    ['an own server', own, null, ['openai/qwen3', 'builtin/assistant']],
    ['an own server, by its model', own, 'qwen3', ['openai/qwen3', 'builtin/assistant']],
    ['an own server, by another name', own, 'gpt-4o', ['openai/qwen3', 'builtin/assistant'], false],
    [
      'an own server, by provider and any name',
      own,
      'openai/other',
      ['openai/other', 'openai/qwen3', 'builtin/assistant'],
    ],
    [
      'an own server whose model looks like provider/model',
      { ...own, OPENAI_MODEL: 'zai/glm-air' },
      'zai/glm-air',
      ['openai/zai/glm-air', 'builtin/assistant'],
    ],
    [
      'an own server whose model is not named',
      { OPENAI_BASE_URL: 'http://127.0.0.1:8080' },
      null,
      ['openai/default', 'builtin/assistant'],
    ],
    [
      'a list',
      { ...everything, MODELS_NANO: 'zai/glm-4.5, openai/gpt-4o' },
      null,
      ['zai/glm-4.5', 'openai/gpt-4o'],
    ],
    [
      'a list, and a model beside it',
      { ...everything, MODELS_NANO: 'zai/glm-4.5' },
      'claude-haiku-4-5',
      ['anthropic/claude-haiku-4-5', 'zai/glm-4.5'],
    ],
    [
      'a provider’s own default',
      { OPENAI_API_KEY: 'o', OPENAI_MODEL: 'gpt-4o,o3' },
      'pro',
      ['openai/gpt-4o', 'builtin/assistant'],
    ],
  ];
  for (const [title, env, requested, expected, served = true] of cases) {
    it(`for ${title} (${requested ?? 'nothing asked for'})`, () => {
      const models = modelsFor(env);
      const candidates = models.candidates(requested, 'nano');
      expect(candidates.models.map(({ provider, model }) => `${provider}/${model}`)).to.deep.equal(expected);
      expect(candidates.served).to.equal(served);
      if (requested?.trim()) expect(models.serves(requested)).to.equal(served);
    });
  }

  it('lists every configured model once', () => {
    const names = modelsFor(everything)
      .list()
      .map(({ provider, model }) => `${provider}/${model}`);
    expect(new Set(names).size).to.equal(names.length);
    expect(names).to.have.members([...new Set([...NANO, ...TOOLS])]);
  });

  it('keeps nothing of models that requests name', () => {
    const models = modelsFor(everything);
    for (let index = 0; index < 1_000; index++) models.candidates(`openai/made-up-${index}`, 'pro');
    expect(models.list()).to.have.length(8);
  });
});

describe('prices and context windows', () => {
  const known = (env: Environment, name: string) => modelsFor(env).candidates(name, 'pro').models[0]!;

  it('come from the catalogue, for dated names too', () => {
    const model = known(everything, 'claude-haiku-4-5-20251001');
    expect(model.price).to.deep.equal({ input: 1, cachedInput: 0.1, output: 5 });
    expect(model.contextWindow).to.equal(200_000);
    expect(known(everything, 'gpt-5-mini-2025-08-07').price).to.deep.equal(
      known(everything, 'gpt-5-mini').price,
    );
  });
  it('are unknown for what the catalogue does not list', () => {
    expect(known(everything, 'openai/gpt-5-future').price).to.equal(null);
    expect(known(everything, 'openai/gpt-5-future').contextWindow).to.equal(128_000);
  });
  it('are nothing for models that run at home', () => {
    for (const [env, name] of [
      [everything, 'ollama/x'],
      [own, 'qwen3'],
      [{}, 'builtin/assistant'],
    ] as const) {
      expect(known(env, name).price).to.deep.equal({ input: 0, cachedInput: 0, output: 0 });
    }
    expect(known({ OPENAI_BASE_URL: 'https://gateway.example.com/v1' }, 'openai/x').price).to.equal(null);
  });
  it('are what the configuration says', () => {
    const env = {
      ...everything,
      MODEL_PRICES: '{"gpt-4o": {"input": 9, "cachedInput": 8, "output": 7}}',
      MODEL_CONTEXT_WINDOWS: '{"ollama/llama3.2": 32768}',
    };
    expect(known(env, 'gpt-4o').price).to.deep.equal({ input: 9, cachedInput: 8, output: 7 });
    expect(known(env, 'ollama/llama3.2').contextWindow).to.equal(32_768);
  });
});

describe('a wrong configuration', () => {
  const wrong: readonly [Environment, RegExp][] = [
    [{ MODELS_NANO: 'skynet/t-800' }, /^MODELS_NANO: “skynet\/t-800” must be provider\/model/],
    [{ MODELS_PRO: 'gpt-4o' }, /^MODELS_PRO: “gpt-4o” must be provider\/model/],
    [{ MODELS_TOOLS: 'openai/gpt-4o' }, /^MODELS_TOOLS: .* needs OPENAI_API_KEY or OPENAI_BASE_URL/],
    [{ MODELS_TOOLS: 'anthropic/claude-haiku-4-5' }, /^MODELS_TOOLS: .* needs ANTHROPIC_API_KEY/],
    [{ MODELS_PRO: 'builtin/genius' }, /^MODELS_PRO: .* builtin\/assistant/],
  ];
  for (const [env, message] of wrong) {
    it(`names the variable: ${JSON.stringify(env)}`, () => expect(() => modelsFor(env)).to.throw(message));
  }

  const unreadable: readonly Environment[] = [
    { OPENAI_BASE_URL: 'not a url' },
    { OLLAMA_BASE_URL: 'ftp://x' },
    { MODEL_PRICES: '{' },
    { MODEL_PRICES: '{"x": {"input": -1}}' },
    { MODEL_CONTEXT_WINDOWS: '[]' },
    { MODEL_FIRST_TOKEN_TIMEOUT_MS: 'soon' },
    { BUILTIN_DELAY_MS: '-1' },
    { MODELS_NANO: ',' },
  ];
  for (const env of unreadable) {
    it(`is refused when it is read: ${JSON.stringify(env)}`, () => {
      const { error } = modelsEnvironment.safeParse(env);
      expect(error?.issues[0]?.path[0]).to.equal(Object.keys(env)[0]);
    });
  }

  it('is not an empty variable', () => {
    expect(modelsFor({ OPENAI_API_KEY: '', MODELS_NANO: ' ', OPENAI_BASE_URL: '' }).list()).to.have.length(1);
  });
});
