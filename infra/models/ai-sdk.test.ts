/** The adapters against servers on loopback that speak the providers' streaming protocols. */
import { once } from 'node:events';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { expect } from 'chai';
import {
  type ChatModel,
  estimateTokens,
  ModelError,
  type ModelPart,
  type Prompt,
  type ToolChoice,
} from './port.ts';
import { createModels, modelsConfigFrom, modelsEnvironment } from './registry.ts';

const KEY = 'sk-very-secret';
const prompt: Prompt = {
  purpose: 'answer',
  system: 'Be brief.',
  messages: [
    { role: 'user', content: 'What is 1+1?' },
    {
      role: 'assistant',
      content: 'Let me see.',
      toolRequests: [
        { toolCallId: 'a', tool: 'calculate', arguments: { expression: '1+1' } },
        { toolCallId: 'b', tool: 'calculate', arguments: '{broken' },
      ],
    },
    { role: 'tool', toolCallId: 'a', tool: 'calculate', result: { result: '2' }, isError: false },
    { role: 'tool', toolCallId: 'b', tool: 'calculate', result: { error: 'no' }, isError: true },
  ],
  tools: [
    {
      name: 'calculate',
      description: 'Arithmetic.',
      parameters: {
        type: 'object',
        properties: { expression: { type: 'string' } },
        required: ['expression'],
      },
    },
  ],
};

type Reply = (response: ServerResponse, request: IncomingMessage) => void;

interface Received {
  readonly path: string;
  readonly headers: IncomingMessage['headers'];
  readonly body: Readonly<Record<string, unknown>>;
}

/** A provider that answers every request with `reply`. */
class Provider {
  reply: Reply = () => {};
  readonly received: Received[] = [];
  private readonly server: Server;

  constructor() {
    this.server = createServer(async (request, response) => {
      let body = '';
      for await (const chunk of request) body += chunk;
      this.received.push({ path: request.url ?? '', headers: request.headers, body: JSON.parse(body) });
      this.reply(response, request);
    });
  }
  async listen(): Promise<string> {
    this.server.listen(0, '127.0.0.1');
    await once(this.server, 'listening');
    return `http://127.0.0.1:${(this.server.address() as AddressInfo).port}`;
  }
  async close(): Promise<void> {
    this.server.close();
    this.server.closeAllConnections();
    await once(this.server, 'close');
  }
}

const events = (...data: readonly unknown[]): string =>
  data.map((item) => (typeof item === 'string' ? item : `data: ${JSON.stringify(item)}\n\n`)).join('');
const streaming = (response: ServerResponse, ...data: readonly unknown[]): ServerResponse => {
  if (!response.headersSent) response.writeHead(200, { 'content-type': 'text/event-stream' });
  response.write(events(...data));
  return response;
};

// ── the two protocols ────────────────────────────────────────────────────

const delta = (content: object, finish: string | null = null) => ({
  id: 'c1',
  object: 'chat.completion.chunk',
  created: 1,
  model: 'm',
  choices: [{ index: 0, delta: content, finish_reason: finish }],
});
const toolDelta = (index: number, id: string | undefined, name: string | undefined, args: string) =>
  delta({
    tool_calls: [
      { index, ...(id && { id, type: 'function' }), function: { ...(name && { name }), arguments: args } },
    ],
  });
const DONE = 'data: [DONE]\n\n';

const openAi = {
  name: 'openai',
  settings: {
    temperature: 'temperature',
    topP: 'top_p',
    maxTokens: 'max_tokens',
    stop: 'stop',
    seed: 'seed',
    presencePenalty: 'presence_penalty',
    frequencyPenalty: 'frequency_penalty',
  },
  toolChoices: [
    ['auto', 'auto'],
    ['none', 'none'],
    ['required', 'required'],
    [{ tool: 'calculate' }, { type: 'function', function: { name: 'calculate' } }],
  ] as [ToolChoice, unknown][],
  path: '/v1/chat/completions',
  text: [
    delta({ role: 'assistant', reasoning_content: 'hmm' }),
    delta({ content: 'Hel' }),
    delta({ content: 'lo' }),
    delta({}, 'stop'),
    {
      ...delta({}),
      choices: [],
      usage: {
        prompt_tokens: 12,
        completion_tokens: 3,
        total_tokens: 15,
        prompt_tokens_details: { cached_tokens: 8 },
      },
    },
    DONE,
  ],
  tools: [
    toolDelta(0, 'c1', 'calculate', '{"expr'),
    toolDelta(0, undefined, undefined, 'ession":"2"}'),
    toolDelta(1, 'c2', 'calculate', '{broken'),
    toolDelta(2, 'c3', 'unheard_of', '{"a":1}'),
    delta({}, 'tool_calls'),
    DONE,
  ],
  begun: [delta({ content: 'Hel' })],
  silent: [': hello\n\n'],
  broken: { error: { message: `overloaded, ${KEY}`, type: 'server_error', code: 'overloaded' } },
  tooLong: [delta({ content: 'Hel' }), delta({}, 'length'), DONE],
};

const anthropicEvent = (data: { readonly type: string } & Record<string, unknown>): string =>
  `event: ${data.type}\ndata: ${JSON.stringify(data)}\n\n`;
const block = (index: number, start: object, ...deltas: readonly object[]): string[] => [
  anthropicEvent({ type: 'content_block_start', index, content_block: start }),
  ...deltas.map((item) => anthropicEvent({ type: 'content_block_delta', index, delta: item })),
  anthropicEvent({ type: 'content_block_stop', index }),
];
const messageStart = anthropicEvent({
  type: 'message_start',
  message: {
    id: 'm1',
    type: 'message',
    role: 'assistant',
    model: 'm',
    content: [],
    stop_reason: null,
    stop_sequence: null,
    usage: { input_tokens: 4, output_tokens: 1, cache_read_input_tokens: 8, cache_creation_input_tokens: 0 },
  },
});
const messageEnd = (reason: string): string[] => [
  anthropicEvent({
    type: 'message_delta',
    delta: { stop_reason: reason, stop_sequence: null },
    usage: { output_tokens: 3 },
  }),
  anthropicEvent({ type: 'message_stop' }),
];
const textDelta = (text: string) => ({ type: 'text_delta', text });
const jsonDelta = (partial: string) => ({ type: 'input_json_delta', partial_json: partial });
const toolUse = (id: string, name: string) => ({ type: 'tool_use', id, name, input: {} });

const anthropic = {
  name: 'anthropic',
  settings: { temperature: 'temperature', topP: 'top_p', maxTokens: 'max_tokens', stop: 'stop_sequences' },
  toolChoices: [
    ['auto', { type: 'auto' }],
    ['required', { type: 'any' }],
    [{ tool: 'calculate' }, { type: 'tool', name: 'calculate' }],
  ] as [ToolChoice, unknown][],
  path: '/v1/messages',
  text: [
    messageStart,
    ...block(
      0,
      { type: 'thinking', thinking: '', signature: '' },
      { type: 'thinking_delta', thinking: 'hmm' },
      { type: 'signature_delta', signature: 'x' },
    ),
    ...block(1, { type: 'text', text: '' }, textDelta('Hel'), textDelta('lo')),
    ...messageEnd('end_turn'),
  ],
  tools: [
    messageStart,
    ...block(0, toolUse('c1', 'calculate'), jsonDelta('{"expr'), jsonDelta('ession":"2"}')),
    ...block(1, toolUse('c2', 'calculate'), jsonDelta('{broken')),
    ...block(2, toolUse('c3', 'unheard_of'), jsonDelta('{"a":1}')),
    ...messageEnd('tool_use'),
  ],
  begun: [
    messageStart,
    anthropicEvent({ type: 'content_block_start', index: 0, content_block: { type: 'text', text: '' } }),
    anthropicEvent({ type: 'content_block_delta', index: 0, delta: textDelta('Hel') }),
  ],
  silent: [messageStart, anthropicEvent({ type: 'ping' })],
  broken: anthropicEvent({
    type: 'error',
    error: { type: 'overloaded_error', message: `overloaded, ${KEY}` },
  }),
  tooLong: [
    messageStart,
    ...block(0, { type: 'text', text: '' }, textDelta('Hel')),
    ...messageEnd('max_tokens'),
  ],
};

// ── the tests ────────────────────────────────────────────────────────────

interface Outcome {
  readonly parts: ModelPart[];
  readonly error: unknown;
  readonly ms: number;
}

async function outcomeOf(
  model: ChatModel,
  signal = new AbortController().signal,
  changes: Partial<Prompt> = {},
): Promise<Outcome> {
  const began = performance.now();
  const parts: ModelPart[] = [];
  try {
    for await (const part of model.stream({ ...prompt, ...changes }, { signal })) parts.push(part);
    return { parts, error: null, ms: performance.now() - began };
  } catch (error) {
    return { parts, error, ms: performance.now() - began };
  }
}

describe('models over the AI SDK', () => {
  const unhandled: unknown[] = [];
  const onUnhandled = (reason: unknown) => unhandled.push(reason);
  let mochaListeners: NodeJS.UnhandledRejectionListener[] = [];
  before(() => {
    mochaListeners = process.listeners('unhandledRejection');
    process.removeAllListeners('unhandledRejection').on('unhandledRejection', onUnhandled);
  });
  after(async () => {
    await new Promise(setImmediate);
    process.removeAllListeners('unhandledRejection');
    for (const listener of mochaListeners) process.on('unhandledRejection', listener);
    expect(unhandled).to.deep.equal([]);
  });

  for (const protocol of [openAi, anthropic]) {
    describe(`that speak ${protocol.name}`, () => {
      let provider: Provider;
      let url: string;
      beforeEach(async () => {
        provider = new Provider();
        url = await provider.listen();
      });
      afterEach(() => provider.close());

      const model = (base = url): ChatModel => {
        const name = protocol.name.toUpperCase();
        const env = {
          [`${name}_BASE_URL`]: base,
          [`${name}_API_KEY`]: KEY,
          MODEL_FIRST_TOKEN_TIMEOUT_MS: '150',
          MODEL_PAUSE_TIMEOUT_MS: '100',
        };
        return createModels(modelsConfigFrom(modelsEnvironment.parse(env))).candidates(
          `${protocol.name}/m`,
          'pro',
        ).models[0]!;
      };
      const failsWith = (outcome: Outcome, message: RegExp, retryable: boolean) => {
        expect(outcome.error).to.be.instanceOf(ModelError);
        const error = outcome.error as ModelError;
        expect(error.message)
          .to.match(new RegExp(`^${protocol.name}/m: `))
          .and.to.match(message);
        expect(error.message).not.to.include(KEY);
        expect(error.retryable).to.equal(retryable);
      };

      it('stream reasoning and text, and count tokens', async () => {
        provider.reply = (response) => streaming(response, ...protocol.text).end();
        const { parts, error } = await outcomeOf(model());
        expect(error).to.equal(null);
        expect(parts).to.deep.equal([
          { type: 'reasoning', text: 'hmm' },
          { type: 'text', text: 'Hel' },
          { type: 'text', text: 'lo' },
          {
            type: 'finish',
            finishReason: 'stop',
            usage: { promptTokens: 12, completionTokens: 3, cachedTokens: 8 },
          },
        ]);
      });

      it('get the system prompt, the messages, the tools, and the key', async () => {
        provider.reply = (response) => streaming(response, ...protocol.text).end();
        await outcomeOf(model());
        const { path, headers, body } = provider.received[0]!;
        expect(path).to.equal(protocol.path);
        expect(headers['x-api-key'] ?? headers.authorization).to.be.oneOf([KEY, `Bearer ${KEY}`]);
        const sent = JSON.stringify(body);
        for (const part of ['Be brief.', 'What is 1+1?', 'Let me see.', 'invalidArguments', 'Arithmetic.']) {
          expect(sent).to.include(part);
        }
        expect(body).to.include({ model: 'm', stream: true });
      });

      it('get what the prompt sets, and nothing that it does not', async () => {
        provider.reply = (response) => streaming(response, ...protocol.text).end();
        const asked = async (changes: Partial<Prompt>) => {
          await outcomeOf(model(), undefined, changes);
          return provider.received.at(-1)!.body;
        };
        const plain = await asked({});
        const names = Object.values(protocol.settings);
        for (const name of names) expect(Object.hasOwn(plain, name) && name !== 'max_tokens').to.equal(false);
        const settings = {
          temperature: 0.3,
          topP: null,
          maxTokens: 77,
          stop: ['END'],
          seed: 5,
          presencePenalty: 0.5,
          frequencyPenalty: 0.25,
        };
        const set = await asked({ settings });
        for (const [setting, name] of Object.entries(protocol.settings)) {
          if (setting === 'topP') continue;
          expect(set[name], name).to.deep.equal(settings[setting as keyof typeof settings]);
        }
        expect((await asked({ settings: { ...settings, temperature: null, topP: 0.9 } })).top_p).to.equal(
          0.9,
        );
        for (const [choice, sent] of protocol.toolChoices) {
          expect((await asked({ toolChoice: choice })).tool_choice).to.deep.equal(sent);
        }
        expect(await asked({ toolChoice: 'required', tools: [] })).not.to.have.property('tool_choice');
      });

      it('ask for tools, also with arguments that are no JSON and by names that do not exist', async () => {
        provider.reply = (response) => streaming(response, ...protocol.tools).end();
        const { parts, error } = await outcomeOf(model());
        expect(error).to.equal(null);
        expect(parts.slice(0, -1)).to.deep.equal([
          {
            type: 'tool request',
            request: { toolCallId: 'c1', tool: 'calculate', arguments: { expression: '2' } },
          },
          { type: 'tool request', request: { toolCallId: 'c2', tool: 'calculate', arguments: '{broken' } },
          { type: 'tool request', request: { toolCallId: 'c3', tool: 'unheard_of', arguments: { a: 1 } } },
        ]);
        expect(parts.at(-1)).to.include({ type: 'finish', finishReason: 'tool-calls' });
      });

      it('say when an answer was too long', async () => {
        provider.reply = (response) => streaming(response, ...protocol.tooLong).end();
        expect((await outcomeOf(model())).parts.at(-1)).to.include({ finishReason: 'length' });
      });

      for (const [status, retryable] of [
        [400, false],
        [401, false],
        [403, false],
        [404, false],
        [408, true],
        [409, true],
        [429, true],
        [500, true],
        [503, true],
        [529, true],
      ] as const) {
        it(`fail on ${status}, ${retryable ? 'for now' : 'for good'}, in the provider’s words, after one request`, async () => {
          provider.reply = (response) => {
            response.writeHead(status, { 'content-type': 'application/json' });
            response.end(JSON.stringify({ type: 'error', error: { type: 'x', message: `not with ${KEY}` } }));
          };
          failsWith(await outcomeOf(model()), new RegExp(`HTTP ${status}: not with \\[key\\]`), retryable);
          expect(provider.received).to.have.length(1);
        });
      }

      it('fail on an error that is no JSON', async () => {
        provider.reply = (response) =>
          response.writeHead(502, { 'content-type': 'text/html' }).end('<h1>Bad</h1>');
        failsWith(await outcomeOf(model()), /HTTP 502/, true);
      });
      it('fail on an error in the stream', async () => {
        provider.reply = (response) => streaming(response, protocol.broken).end();
        failsWith(await outcomeOf(model()), /overloaded, \[key\]/, true);
      });
      it('fail when nobody listens', async () => {
        const closed = new Provider();
        const nobody = await closed.listen();
        await closed.close();
        failsWith(await outcomeOf(model(nobody)), /ECONNREFUSED/, true);
      });
      it('fail when the stream is no stream of theirs', async () => {
        provider.reply = (response) => streaming(response, 'data: {nope\n\n', '\u0000\u0000').end();
        const outcome = await outcomeOf(model());
        failsWith(outcome, /JSON|stream error/, true);
      });
      it('fail when the answer is a page', async () => {
        provider.reply = (response) =>
          response.writeHead(200, { 'content-type': 'text/html' }).end('<h1>Hi</h1>');
        failsWith(await outcomeOf(model()), /./, true);
      });

      for (const [moment, sent, text] of [
        ['before the first token', protocol.silent, ''],
        ['after the first token', protocol.begun, 'Hel'],
      ] as const) {
        it(`fail when the connection is cut ${moment}, keeping what came`, async () => {
          provider.reply = (response) => {
            streaming(response, ...sent);
            setTimeout(() => response.destroy(), 20);
          };
          const outcome = await outcomeOf(model());
          failsWith(outcome, /./, true);
          expect(
            outcome.parts.map((part) => (part.type === 'text' ? part.text : part.type)).join(''),
          ).to.equal(text);
        });
        it(`fail when the stream ends without a finish ${moment}`, async () => {
          provider.reply = (response) => streaming(response, ...sent).end();
          const outcome = await outcomeOf(model());
          failsWith(outcome, /ended|finish/i, true);
          expect(outcome.parts.some(({ type }) => type === 'finish')).to.equal(false);
        });
        it(`fail when the provider falls silent ${moment}, and hang up`, async () => {
          let hungUp: Promise<unknown> = Promise.resolve();
          provider.reply = (response) => {
            hungUp = once(response, 'close');
            streaming(response, ...sent);
          };
          const outcome = await outcomeOf(model());
          failsWith(
            outcome,
            text === '' ? /no first token within 150 ms/ : /no further token within 100 ms/,
            true,
          );
          expect(outcome.ms).to.be.within(90, 2_000);
          await hungUp;
        });
        it(`end at once when aborted ${moment}, and hang up`, async () => {
          const controller = new AbortController();
          const reason = new Error('interrupted');
          let hungUp: Promise<unknown> = Promise.resolve();
          let aborted = 0;
          provider.reply = (response) => {
            hungUp = once(response, 'close');
            streaming(response, ...sent);
            setTimeout(() => {
              aborted = performance.now();
              controller.abort(reason);
            }, 30);
          };
          const outcome = await outcomeOf(model(), controller.signal);
          expect(outcome.error).to.equal(reason);
          expect(performance.now() - aborted).to.be.lessThan(50);
          await hungUp;
        });
      }

      it('fail when no answer comes at all', async () => {
        provider.reply = () => {};
        failsWith(await outcomeOf(model()), /no first token within 150 ms/, true);
      });
      it('are not asked when already aborted', async () => {
        const { error } = await outcomeOf(model(), AbortSignal.abort(new Error('too late')));
        expect(error).to.have.property('message', 'too late');
        expect(provider.received).to.have.length(0);
      });
      it('hang up when the reader leaves', async () => {
        let hungUp: Promise<unknown> = Promise.resolve();
        provider.reply = (response) => {
          hungUp = once(response, 'close');
          streaming(response, ...protocol.begun);
        };
        for await (const part of model().stream(prompt, { signal: new AbortController().signal })) {
          expect(part).to.deep.equal({ type: 'text', text: 'Hel' });
          break;
        }
        await hungUp;
      });
      it('are not timed while the reader takes its time', async () => {
        provider.reply = (response) => streaming(response, ...protocol.text).end();
        let parts = 0;
        for await (const _ of model().stream(prompt, { signal: new AbortController().signal })) {
          if (parts++ === 0) await new Promise((resolve) => setTimeout(resolve, 160));
        }
        expect(parts).to.equal(4);
      });
    });
  }

  it('estimate the tokens that a server does not count', async () => {
    const provider = new Provider();
    const url = await provider.listen();
    provider.reply = (response) =>
      streaming(response, delta({ content: 'Hello' }), delta({}, 'stop'), DONE).end();
    const models = createModels(modelsConfigFrom(modelsEnvironment.parse({ OPENAI_BASE_URL: url })));
    const { parts } = await outcomeOf(models.candidates(null, 'pro').models[0]!);
    expect(parts.at(-1)).to.deep.equal({
      type: 'finish',
      finishReason: 'stop',
      usage: {
        promptTokens: estimateTokens(JSON.stringify(prompt)),
        completionTokens: estimateTokens('Hello'),
        cachedTokens: 0,
      },
    });
    expect(provider.received[0]!.headers).not.to.have.property('authorization');
    await provider.close();
  });

  for (const [env, path] of [
    [{ OLLAMA_BASE_URL: '' }, '/v1/chat/completions'],
    [{ OLLAMA_BASE_URL: '/v1/' }, '/v1/chat/completions'],
    [{ OPENAI_BASE_URL: '/' }, '/v1/chat/completions'],
    [{ OPENAI_BASE_URL: '/api/paas/v4' }, '/api/paas/v4/chat/completions'],
    [{ ZAI_API_KEY: KEY, ZAI_BASE_URL: '/api/paas/v4' }, '/api/paas/v4/chat/completions'],
    [{ ANTHROPIC_API_KEY: KEY, ANTHROPIC_BASE_URL: '/api/anthropic' }, '/api/anthropic/v1/messages'],
  ] as const) {
    it(`are reached at ${path} with ${JSON.stringify(env)}`, async () => {
      const provider = new Provider();
      const url = await provider.listen();
      provider.reply = (response) => response.writeHead(500).end();
      const placed = Object.fromEntries(
        Object.entries(env).map(([name, value]) => [name, name.endsWith('_URL') ? url + value : value]),
      );
      const models = createModels(modelsConfigFrom(modelsEnvironment.parse(placed)));
      await outcomeOf(models.candidates(null, 'pro').models[0]!);
      expect(provider.received.map((request) => request.path)).to.deep.equal([path]);
      await provider.close();
    });
  }
});
