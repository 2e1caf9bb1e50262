/** The npm client of OpenAI's API against the running program, whose models are a server that says what it is told to. */
import { expect } from 'chai';
import fc from 'fast-check';
import OpenAI, { type APIError } from 'openai';
import { type Asked, type ModelServer, startModelServer } from './model-server.ts';
import { type Client, condition, login, type Program, startProgram } from './program.ts';

type Completion = OpenAI.ChatCompletion & { conversation_id: string; turn_id: string };
type Messages = OpenAI.ChatCompletionMessageParam[];

const weather = {
  type: 'function' as const,
  function: {
    name: 'get_weather',
    description: 'The weather of a city.',
    parameters: {
      type: 'object',
      properties: { city: { type: 'string' } },
      required: ['city'],
    },
  },
};

describe('the client of OpenAI’s API', () => {
  let models: ModelServer;
  let program: Program;
  let admin: Client;
  let openai: OpenAI;
  before(async () => {
    models = await startModelServer();
    program = await startProgram({
      env: {
        OPENAI_BASE_URL: models.url,
        OPENAI_API_KEY: 'sk-test',
        OPENAI_MODEL: 'gpt-4-turbo,gpt-mini',
        MODELS_NANO: 'openai/gpt-4-turbo',
        MODELS_PRO: 'openai/gpt-4-turbo',
        MODELS_TOOLS: 'openai/gpt-4-turbo',
        MODEL_PRICES: JSON.stringify({ 'gpt-4-turbo': { input: 10, cachedInput: 1, output: 30 } }),
        RATE_LIMIT_PER_MINUTE: '0',
        BUILTIN_DELAY_MS: '0',
      },
    });
    admin = await login(program.url);
    openai = clientFor(admin.token);
  });
  after(async () => {
    await program.stop();
    await models.close();
  });
  beforeEach(() => {
    models.asked.length = 0;
    models.answer = () => ({ text: ['Hello.'] });
  });

  const clientFor = (apiKey: string) => new OpenAI({ baseURL: `${program.url}/api`, apiKey });
  const complete = async (body: object): Promise<Completion> =>
    (await openai.chat.completions.create({
      model: 'gpt-4-turbo',
      ...body,
    } as OpenAI.ChatCompletionCreateParamsNonStreaming)) as Completion;
  const user = (content: string): Messages => [{ role: 'user', content }];
  const stored = async (id: string) => (await admin.get(`/api/conversations/${id}`)).body;
  const failure = async (work: Promise<unknown>): Promise<APIError> => {
    try {
      await work;
    } catch (error) {
      return error as APIError;
    }
    throw new Error('It did not fail.');
  };
  /** What the model was shown, without our system prompt. */
  const shown = ({ messages }: Asked) => messages.filter(({ role }: { role: string }) => role !== 'system');

  it('goes on with a stream that was cut, at the address that its X-Stream-Id gives', async () => {
    models.answer = () => ({ text: ['One, ', 'two, ', 'three.'] });
    const headers = { Authorization: `Bearer ${admin.token}`, 'Content-Type': 'application/json' };
    const body = JSON.stringify({ model: 'gpt-4-turbo', messages: user('Count.') });
    const begun = await fetch(`${program.url}/api/chat/stream`, { method: 'POST', headers, body });
    const frames = (await begun.text()).split('\n\n').filter((frame) => frame.startsWith('id:'));
    const path = `${program.url}/api/streams/${begun.headers.get('x-stream-id')}`;
    const idOf = (frame: string) => /^id: (\S+)/.exec(frame)![1]!;
    const textIn = (some: string) =>
      [...some.matchAll(/"content":"([^"]*)"/g)].map(([, piece]) => piece).join('');
    const again = async (from: Record<string, string>) => fetch(path, { headers: { ...headers, ...from } });
    const whole = await (await again({})).text();
    expect(textIn(whole)).to.equal('One, two, three.');
    expect(JSON.parse(/data: (.*)/.exec(whole)![1]!)).to.deep.include({
      ...{ id: JSON.parse(/data: (.*)/.exec(frames[0]!)![1]!).id, object: 'chat.completion.chunk' },
    });
    // The first frame with text has been read: the rest comes, and only that.
    const read = frames.findIndex((frame) => textIn(frame) !== '');
    const rest = await (await again({ 'Last-Event-ID': idOf(frames[read]!) })).text();
    expect(textIn(frames[read]!) + textIn(rest)).to.equal('One, two, three.');
    expect(rest.trimEnd().endsWith('data: [DONE]')).to.equal(true);
    expect((await again({ 'Last-Event-ID': idOf(frames.at(-1)!) })).status).to.equal(204);
    expect((await again({ 'Last-Event-ID': 'x' })).status).to.equal(400);
    const absent = await fetch(`${program.url}/api/streams/turn_none`, { headers });
    expect(absent.status).to.equal(404);
    expect((await absent.json()).error.type).to.equal('not_found_error');
  });

  it('gets completions, which are messages of a conversation', async () => {
    models.answer = () => ({
      text: ['The capital ', 'is Paris.'],
      usage: {
        ...{ prompt_tokens: 20, completion_tokens: 8, total_tokens: 28 },
        prompt_tokens_details: { cached_tokens: 5 },
      },
    });
    const answer = await complete({ messages: user('What is the capital of France?') });
    expect(answer).to.deep.include({ object: 'chat.completion', model: 'gpt-4-turbo' });
    expect(answer.id).to.match(/^msg_/);
    expect(answer.created).to.be.closeTo(Date.now() / 1_000, 5);
    expect(answer.choices).to.deep.equal([
      {
        index: 0,
        message: { role: 'assistant', content: 'The capital is Paris.', refusal: null },
        logprobs: null,
        finish_reason: 'stop',
      },
    ]);
    expect(answer.usage).to.deep.equal({
      prompt_tokens: 20,
      completion_tokens: 8,
      total_tokens: 28,
      prompt_tokens_details: { cached_tokens: 5 },
    });
    const { messages } = await stored(answer.conversation_id);
    expect(messages[1]).to.include({ id: answer.id, content: 'The capital is Paris.', model: 'gpt-4-turbo' });
    expect(messages[1].usage).to.include({ total_tokens: 28 });
    const { data, response } = await openai.chat.completions
      .create({ model: 'default', messages: user('hi') })
      .withResponse();
    expect(response.headers.get('x-turn-id')).to.equal((data as Completion).turn_id);
    expect(response.headers.get('x-request-id')).to.be.a('string');
  });

  it('gets streams, whose chunks are whole', async () => {
    models.answer = () => ({ text: ['The', ' capital', ' is Paris.'] });
    const stream = await openai.chat.completions.create({
      model: 'gpt-4-turbo',
      messages: user('What is the capital of France?'),
      stream: true,
      stream_options: { include_usage: true },
    });
    const chunks: (OpenAI.ChatCompletionChunk & { conversation_id: string })[] = [];
    for await (const chunk of stream) chunks.push(chunk as never);
    for (const chunk of chunks) {
      expect(chunk).to.include({ object: 'chat.completion.chunk', model: 'gpt-4-turbo', id: chunks[0]?.id });
      expect(chunk.created).to.be.closeTo(Date.now() / 1_000, 5);
    }
    expect(chunks[0]?.choices).to.deep.equal([
      { index: 0, delta: { role: 'assistant', content: '' }, finish_reason: null, logprobs: null },
    ]);
    const [finish, usage] = chunks.slice(-2);
    expect(finish?.choices[0]).to.deep.include({ delta: {}, finish_reason: 'stop' });
    expect(usage).to.deep.include({ choices: [] });
    expect(usage?.usage).to.include({ prompt_tokens: 20, completion_tokens: 8, total_tokens: 28 });
    expect(chunks.slice(0, -1).every((chunk) => chunk.usage === null)).to.equal(true);
    const text = chunks.map(({ choices }) => choices[0]?.delta.content ?? '').join('');
    expect(text).to.equal('The capital is Paris.');
    const { messages } = await stored(chunks[0]!.conversation_id);
    expect(messages[1]).to.include({ content: text, id: chunks[0]?.id });
  });

  it('is told on the wire where each frame lies, and nothing but chunks', async () => {
    const response = await fetch(`${program.url}/api/chat/stream`, {
      method: 'POST',
      headers: { Authorization: `Bearer ${admin.token}`, 'Content-Type': 'application/json' },
      body: JSON.stringify({ messages: user('hi') }),
    });
    expect(response.headers.get('content-type')).to.match(/^text\/event-stream/);
    expect(response.headers.get('x-stream-id')).to.equal(response.headers.get('x-turn-id'));
    const text = await response.text();
    expect(text).not.to.match(/^event:/m);
    const frames = text.split('\n\n').filter((frame) => frame.includes('data:'));
    expect(frames.pop()).to.equal('data: [DONE]');
    for (const frame of frames) {
      expect(frame).to.match(/^id: \S+\ndata: \{"id":"msg_[^"]+","object":"chat\.completion\.chunk"/);
    }
  });

  it('gets streams through its helper', async () => {
    models.answer = () => ({ text: ['The', ' capital'], finish: 'length' });
    const runner = openai.chat.completions.stream({ model: 'gpt-4-turbo', messages: user('France?') });
    const deltas: string[] = [];
    runner.on('content', (delta) => deltas.push(delta));
    const final = await runner.finalChatCompletion();
    expect(final.choices[0]?.message.content).to.equal('The capital');
    expect(final.choices[0]?.finish_reason).to.equal('length');
    expect(deltas.join('')).to.equal('The capital');
    expect(await runner.finalContent()).to.equal('The capital');
  });

  it('gets in chunks what is stored, whatever it is and however it comes', async () => {
    const pieces = fc.array(fc.string({ unit: 'grapheme', minLength: 1, maxLength: 12 }), {
      minLength: 1,
      maxLength: 12,
    });
    const spoken = pieces.filter((all) => all.join('').trim() !== '');
    await fc.assert(
      fc.asyncProperty(spoken, async (text) => {
        models.answer = () => ({ text });
        const stream = await openai.chat.completions.create({
          model: 'gpt-4-turbo',
          messages: user('say it'),
          stream: true,
        });
        let joined = '';
        let id = '';
        for await (const chunk of stream) {
          joined += chunk.choices[0]?.delta.content ?? '';
          id = (chunk as unknown as Completion).conversation_id;
        }
        expect((await stored(id)).messages[1].content).to.equal(joined);
        expect(joined).to.equal(text.join(''));
      }),
      { numRuns: 25 },
    );
  }).timeout(30_000);

  it('runs its own tools', async () => {
    models.answer = ({ messages }) =>
      messages.at(-1).role === 'tool'
        ? { text: [`It is ${messages.at(-1).content} in Rome.`] }
        : { calls: [{ id: 'call_upstream', name: 'get_weather', arguments: '{"city":"Rome"}' }] };
    const asked = { model: 'gpt-4-turbo', messages: user('Weather in Rome?'), tools: [weather] };
    const first = await complete(asked);
    const [choice] = first.choices;
    expect(choice).to.deep.include({ finish_reason: 'tool_calls' });
    expect(choice?.message.content).to.equal(null);
    const [call] = choice!.message.tool_calls as OpenAI.ChatCompletionMessageFunctionToolCall[];
    expect(call).to.deep.include({
      type: 'function',
      function: { name: 'get_weather', arguments: '{"city":"Rome"}' },
    });
    expect(models.asked[0].tools.map((tool: Asked) => tool.function.name)).to.deep.equal(['get_weather']);

    // With the conversation, the result alone is enough; with everything before it, it is just as well.
    const resultOf = ({ choices }: Completion) => ({
      role: 'tool' as const,
      tool_call_id: choices[0]!.message.tool_calls![0]!.id,
      content: 'sunny',
    });
    for (const before of [[], asked.messages]) {
      const own = await complete(asked);
      const messages = [...before, ...(before.length > 0 ? [own.choices[0]!.message] : []), resultOf(own)];
      const { conversation_id } = own;
      const second = await complete({ ...asked, messages, conversation_id });
      expect(second.choices[0]?.message.content).to.equal('It is sunny in Rome.');
      expect(second.conversation_id).to.equal(conversation_id);
      const roles = shown(models.asked.at(-1)).map(({ role }: Asked) => role);
      expect(roles).to.deep.equal(['user', 'assistant', 'tool']);
      expect((await stored(conversation_id)).message_count).to.equal(4);
    }
    const whole = [...asked.messages, choice!.message, resultOf(first)];
    const anew = await complete({ ...asked, messages: whole });
    expect(anew.choices[0]?.message.content).to.equal('It is sunny in Rome.');
    expect(anew.conversation_id).not.to.equal(first.conversation_id);
    expect(shown(models.asked.at(-1)).map(({ role }: Asked) => role)).to.deep.equal([
      'user',
      'assistant',
      'tool',
    ]);
  }).timeout(20_000);

  it('gets calls of tools in streams, and runs them with its helper', async () => {
    models.answer = ({ messages }) =>
      messages.at(-1).role === 'tool'
        ? { text: ['It is ', 'sunny.'] }
        : {
            text: ['Let me see.'],
            calls: [
              { id: 'a', name: 'get_weather', arguments: '{"city":"Rome"}' },
              { id: 'b', name: 'get_weather', arguments: '{"city":"Oslo"}' },
            ],
          };
    const stream = await openai.chat.completions.create({
      model: 'gpt-4-turbo',
      messages: user('Weather?'),
      tools: [weather],
      stream: true,
    });
    const deltas: OpenAI.ChatCompletionChunk.Choice.Delta.ToolCall[] = [];
    let finish: string | null = null;
    for await (const { choices } of stream) {
      deltas.push(...(choices[0]?.delta.tool_calls ?? []));
      finish = choices[0]?.finish_reason ?? finish;
    }
    expect(finish).to.equal('tool_calls');
    for (const index of [0, 1]) {
      const [begin, ...rest] = deltas.filter((delta) => delta.index === index);
      expect(begin).to.deep.include({ type: 'function' });
      expect(begin?.function?.name).to.equal('get_weather');
      expect(rest.every((delta) => delta.id === undefined && delta.function?.name === undefined)).to.equal(
        true,
      );
      const given = rest.map((delta) => delta.function?.arguments ?? '').join('');
      expect(given).to.equal(`{"city":"${index === 0 ? 'Rome' : 'Oslo'}"}`);
    }

    const cities: string[] = [];
    const runner = openai.chat.completions.runTools({
      model: 'gpt-4-turbo',
      stream: true,
      messages: user('Weather?'),
      tools: [
        {
          type: 'function',
          function: {
            ...weather.function,
            parse: JSON.parse,
            function: ({ city }: { city: string }) => {
              cities.push(city);
              return `sunny in ${city}`;
            },
          },
        },
      ],
    } as never);
    expect(await runner.finalContent()).to.equal('It is sunny.');
    expect(cities.toSorted()).to.deep.equal(['Oslo', 'Rome']);
  }).timeout(20_000);

  it('continues conversations with what is new, and begins others with what it sends along', async () => {
    const first = await complete({ messages: user('I am Ada.') });
    const { conversation_id } = first;
    await complete({
      conversation_id,
      messages: [
        { role: 'system', content: 'Speak French.' },
        ...user('I am Ada.'),
        { role: 'assistant', content: 'Whatever it remembers.' },
        ...user('Who am I?'),
      ],
    });
    const asked = models.asked.at(-1);
    expect(shown(asked).map(({ content }: Asked) => content)).to.deep.equal([
      'I am Ada.',
      'Hello.',
      'Who am I?',
    ]);
    expect(asked.messages[0].content).to.contain('Speak French.');
    const { messages } = await stored(conversation_id);
    expect(messages.map(({ content }: Asked) => content)).to.deep.equal([
      ...['I am Ada.', 'Hello.', 'Who am I?', 'Hello.'],
    ]);

    const nothing = await failure(
      complete({ conversation_id, messages: [{ role: 'assistant', content: 'So.' }] }),
    );
    expect(nothing.status).to.equal(400);
    expect(nothing.message).to.contain('nothing new');
    expect((await stored(conversation_id)).message_count).to.equal(4);

    const begun = await complete({
      messages: [
        ...user('One.'),
        { role: 'assistant', content: 'Two.' },
        {
          role: 'user',
          content: [
            { type: 'text', text: 'Thr' },
            { type: 'text', text: 'ee.' },
          ],
        },
      ],
    });
    expect(shown(models.asked.at(-1)).map(({ content }: Asked) => content)).to.deep.equal([
      'One.',
      'Two.',
      'Three.',
    ]);
    await complete({ conversation_id: begun.conversation_id, messages: user('Four.') });
    expect(shown(models.asked.at(-1)).map(({ content }: Asked) => content)).to.deep.equal([
      ...['One.', 'Two.', 'Three.', 'Hello.', 'Four.'],
    ]);
  });

  it('says how the model is to write', async () => {
    models.answer = () => ({ calls: [{ id: 'a', name: 'get_weather', arguments: '{}' }] });
    await complete({
      messages: user('hi'),
      temperature: 0.5,
      top_p: 0.9,
      max_tokens: 77,
      stop: ['END'],
      seed: 7,
      presence_penalty: 0.25,
      frequency_penalty: -0.5,
      tools: [weather],
      tool_choice: { type: 'function', function: { name: 'get_weather' } },
      user: 'ada',
      metadata: { a: 'b' },
      store: false,
    });
    expect(models.asked[0]).to.deep.include({
      temperature: 0.5,
      top_p: 0.9,
      max_tokens: 77,
      stop: ['END'],
      seed: 7,
      presence_penalty: 0.25,
      frequency_penalty: -0.5,
      tool_choice: { type: 'function', function: { name: 'get_weather' } },
    });
  });

  it('asks for models, routes and agents by name', async () => {
    for (const model of ['gpt-mini', 'openai/gpt-mini']) {
      expect((await complete({ model, messages: user('hi') })).model).to.equal('gpt-mini');
    }
    for (const model of ['nano', 'pro', 'tools', 'default']) {
      expect((await complete({ model, messages: user('hi') })).model, model).to.equal('gpt-4-turbo');
    }
    const { conversation_id } = await complete({ model: 'agent:researcher', messages: user('hi') });
    expect((await stored(conversation_id)).model).to.equal('agent:researcher');
    // Of a provider that is not connected: the default answers, and says so.
    expect((await complete({ model: 'claude-3-5-sonnet-20241022', messages: user('hi') })).model).to.equal(
      'gpt-4-turbo',
    );
    for (const model of ['gpt-nonsense', 'claude-99', 'agent:nobody', 'no such model!']) {
      const error = await failure(complete({ model, messages: user('hi') }));
      expect(error.status, model).to.equal(404);
      expect(error).to.include({ code: 'model_not_found', param: 'model', type: 'invalid_request_error' });
      expect(error.requestID).to.be.a('string');
    }
  });

  it('lists models', async () => {
    const ids: string[] = [];
    for await (const { id } of openai.models.list()) ids.push(id);
    expect(ids).to.include.members(['gpt-4-turbo', 'gpt-mini', 'nano', 'pro', 'tools', 'agent:researcher']);
    const { models: all } = (await admin.get('/api/models')).body;
    expect(all.map(({ id }: Asked) => id)).to.deep.equal(ids);
    const turbo = all.find(({ id }: Asked) => id === 'gpt-4-turbo');
    expect(turbo).to.deep.include({
      provider: 'openai',
      cost_per_1k_tokens: { input: 0.01, output: 0.03 },
      max_output: null,
    });
    expect(turbo.context_window).to.be.a('number');
    expect(all.find(({ id }: Asked) => id === 'gpt-mini').cost_per_1k_tokens).to.satisfy(
      (cost: unknown) => cost === null || typeof cost === 'object',
    );
    for (const id of ['gpt-mini', 'openai/gpt-mini']) {
      expect(await openai.models.retrieve(id)).to.include({
        id: 'gpt-mini',
        owned_by: 'openai',
        object: 'model',
      });
    }
    const error = await failure(openai.models.retrieve('gpt-nonsense') as Promise<unknown>);
    expect([error.status, error.code]).to.deep.equal([404, 'model_not_found']);
    // Each that is listed can be asked.
    for (const model of ids) await complete({ model, messages: user('hi') });
  }).timeout(30_000);

  it('is refused by name what cannot be done', async () => {
    const cases: [object, string][] = [
      [{ n: 2 }, 'n'],
      [{ logprobs: true }, 'logprobs'],
      [{ response_format: { type: 'json_object' } }, 'response_format.type'],
      [{ functions: [] }, 'functions'],
      [{ temperature: 3 }, 'temperature'],
      [{ max_tokens: 0 }, 'max_tokens'],
      [{ max_tokens: 1, max_completion_tokens: 2 }, 'max_tokens'],
      [{ stop: ['1', '2', '3', '4', '5'] }, 'stop'],
      [{ tool_choice: { type: 'function', function: { name: 'none-such' } } }, 'tool_choice'],
      [{ tools: [weather, weather] }, 'tools.1.function.name'],
      [{ stream_options: { include_usage: true } }, 'stream_options'],
      [{ reasoning_effort: 'high' }, 'reasoning_effort'],
      [{ messages: [] }, 'messages'],
      [{ messages: [{ role: 'system', content: 'Be brief.' }] }, 'messages'],
      [{ messages: user(' ') }, 'messages.0.content'],
      [{ messages: user('x'.repeat(32_001)) }, 'messages.0.content'],
      [{ messages: [{ role: 'tool', tool_call_id: 'x', content: '1' }] }, 'messages.0.tool_call_id'],
      [{ messages: [{ role: 'wizard', content: 'x' }] }, 'messages.0.role'],
      [
        {
          messages: [
            {
              role: 'user',
              content: [{ type: 'image_url', image_url: { url: 'https://example.org/a.png' } }],
            },
          ],
        },
        'messages.0.content',
      ],
    ];
    const before = (await admin.get('/api/conversations')).body.total;
    for (const [body, param] of cases) {
      const error = await failure(complete({ messages: user('hi'), ...body }));
      expect(error.status, JSON.stringify(body)).to.equal(400);
      expect(error).to.include({ type: 'invalid_request_error', code: 'VALIDATION_ERROR' });
      expect(error.param, JSON.stringify(body)).to.match(new RegExp(`^${param}`));
      expect((error.error as { message: string }).message).to.contain(param.split('.')[0]);
    }
    expect(models.asked).to.deep.equal([]);
    expect((await admin.get('/api/conversations')).body.total).to.equal(before);

    const strange = await failure(complete({ conversation_id: '0123456789ab', messages: user('hi') }));
    expect([strange.status, strange.type]).to.deep.equal([404, 'not_found_error']);
    const unknown = await failure(
      clientFor('odeon_none').chat.completions.create({ model: 'pro', messages: user('hi') }),
    );
    expect([unknown.status, unknown.type]).to.deep.equal([401, 'authentication_error']);
  });

  it('learns of a model that fails, and does not send its message again', async () => {
    models.answer = () => ({ status: 400 });
    const error = await failure(complete({ messages: user('fail') }));
    expect([error.status, error.type, error.code]).to.deep.equal([502, 'server_error', 'PROVIDER_ERROR']);
    const { conversation_id, turn_id } = error.error as never as Completion;
    expect(conversation_id ?? turn_id).to.equal(undefined); // of `error` alone
    const [last] = (await admin.get('/api/conversations?limit=1')).body.conversations;
    expect(last.message_count).to.equal(2);

    models.answer = () => ({ text: ['half ', 'an ans'], breaks: true });
    const stream = await openai.chat.completions.create({
      model: 'gpt-4-turbo',
      messages: user('break'),
      stream: true,
    });
    let text = '';
    const broken = await failure(
      (async () => {
        for await (const chunk of stream) text += chunk.choices[0]?.delta.content ?? '';
      })(),
    );
    expect(text).to.equal('half an ans');
    expect(broken).to.be.instanceOf(OpenAI.APIError);
    expect([broken.type, broken.code]).to.deep.equal(['server_error', 'PROVIDER_ERROR']);
  }).timeout(20_000);

  it('may leave: the turn goes on, and can be read where the answer said', async () => {
    const { promise: hold, resolve: goOn } = Promise.withResolvers<void>();
    models.answer = () => ({ text: ['first ', 'second'], hold });
    const { data: stream, response } = await openai.chat.completions
      .create({ model: 'gpt-4-turbo', messages: user('leave'), stream: true })
      .withResponse();
    for await (const chunk of stream) {
      if (chunk.choices[0]?.delta.content === 'first ') break; // which aborts the request
    }
    goOn();
    const turn = response.headers.get('x-turn-id');
    const text = await (
      await fetch(`${program.url}/api/turns/${turn}/stream`, {
        headers: { Authorization: `Bearer ${admin.token}` },
      })
    ).text();
    const content = [...text.matchAll(/"type":"content","content":"([^"]*)"/g)].map(([, piece]) => piece);
    expect(content.join('')).to.equal('first second');
    const id = response.headers.get('x-conversation-id');
    const answered = await condition(async () => (await stored(id ?? '')).messages[1], {
      withinMs: 5_000,
      what: 'the answer',
    });
    expect(answered).to.include({ content: 'first second', status: 'complete' });
  });

  it('repeats a request with its Idempotency-Key without repeating the message', async () => {
    const body = { model: 'gpt-4-turbo', messages: user('once') };
    const headers = { 'Idempotency-Key': 'once-only' };
    const first = await openai.chat.completions.create(body, { headers });
    const second = await openai.chat.completions.create(body, { headers });
    expect(second).to.deep.include({ id: first.id });
    expect(models.asked).to.have.length(1);
  });
});

describe('the client of OpenAI’s API, when an answer has to wait,', () => {
  let models: ModelServer;
  let program: Program;
  let openai: OpenAI;
  let hold: PromiseWithResolvers<void>;
  beforeEach(async () => {
    models = await startModelServer();
    hold = Promise.withResolvers();
    models.answer = () => ({ text: ['first ', 'second'], hold: hold.promise });
    program = await startProgram({
      env: { OPENAI_BASE_URL: models.url, OPENAI_API_KEY: 'sk-test', ANSWER_TIMEOUT_SECONDS: '1' },
    });
    const { token } = await login(program.url);
    openai = new OpenAI({ baseURL: `${program.url}/api`, apiKey: token });
  });
  afterEach(async () => {
    hold.resolve();
    await program.stop();
    await models.close();
  });
  const messages: Messages = [{ role: 'user', content: 'wait' }];
  const failureOf = async (work: Promise<unknown>): Promise<APIError> =>
    work.then(
      () => expect.fail('It did not fail.'),
      (error) => error,
    );

  it('is told where to look, and does not send its message again', async () => {
    const error = await failureOf(openai.chat.completions.create({ model: 'default', messages }));
    expect([error.status, error.code]).to.deep.equal([504, 'TIMEOUT']);
    const turnId = error.headers?.get('x-turn-id');
    expect((error.error as { message: string }).message).to.contain(`/api/turns/${turnId}/stream`);
    expect(models.asked).to.have.length(1);
  });

  it('is told of a server that shuts down in mid-stream', async () => {
    const stream = await openai.chat.completions.create({ model: 'default', messages, stream: true });
    const read = async () => {
      for await (const chunk of stream) {
        if (chunk.choices[0]?.delta.content === 'first ') void program.kill('SIGTERM');
      }
    };
    const error = await failureOf(read());
    expect(error).to.be.instanceOf(OpenAI.APIError);
    expect([error.code, error.type]).to.deep.equal(['SERVICE_UNAVAILABLE', 'server_error']);
    expect(error.message).to.match(/\/api\/turns\/turn_\w+\/stream/);
    expect((await program.exited).code).to.equal(0);
  });
});
