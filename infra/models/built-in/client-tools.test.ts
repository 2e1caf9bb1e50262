/** How the built-in assistant works for OpenAI-style clients and for agents. */
import { expect } from 'chai';
import fc from 'fast-check';
import type { ModelSettings, ToolRequest } from '../../../contracts/events/conversation.ts';
import { estimateTokens, type ModelMessage, type ModelPart, type Prompt, type ToolChoice } from '../port.ts';
import { createBuiltInAssistant } from './assistant.ts';

const assistant = createBuiltInAssistant({ delayMs: 0 });
const never = new AbortController().signal;

type Tool = Prompt['tools'][number];
const text = { type: 'string' };
const number = { type: 'number' };
const toolWith = (
  name: string,
  description: string,
  properties: object,
  required = Object.keys(properties),
): Tool => ({
  name,
  description,
  parameters: { type: 'object', properties, required },
});
const weather = toolWith(
  'get_weather',
  'Get the current weather for a location.',
  {
    location: { type: 'string', description: 'The city' },
    unit: { type: 'string', enum: ['celsius', 'fahrenheit'] },
  },
  ['location'],
);
const tools: readonly Tool[] = [
  weather,
  toolWith('get_stock_price', 'Get a stock price', { symbol: text }),
  toolWith('send_email', 'Send an email', { to: text, subject: text, body: text }),
  toolWith('convert_currency', 'Convert money', { amount: number, from: text, to: text }),
  toolWith('book_flight', 'Book a flight', {
    origin: text,
    destination: text,
    date: { type: 'string', format: 'date' },
    passengers: { type: 'integer' },
  }),
  toolWith('web_search', 'Search the web', { query: text }),
  toolWith('calculator', 'Evaluates math', { expression: text }),
  toolWith('set_reminder', 'Set a reminder', { text, time: text, urgent: { type: 'boolean' } }, [
    'text',
    'time',
  ]),
  toolWith('getOrderStatus', 'Look up an order', { order_id: text }),
  toolWith('add', 'Add two numbers', { a: number, b: number }),
];

const saying = (content: string, changes: Partial<Prompt> = {}): Prompt => ({
  purpose: 'answer',
  system: '',
  messages: [{ role: 'user', content }],
  tools,
  ...changes,
});
async function partsOf(asked: Prompt): Promise<ModelPart[]> {
  const parts: ModelPart[] = [];
  for await (const part of assistant.stream(asked, { signal: never })) parts.push(part);
  return parts;
}
const textOf = (parts: readonly ModelPart[]): string =>
  parts.map((part) => (part.type === 'text' ? part.text : '')).join('');
const requestsOf = (parts: readonly ModelPart[]): ToolRequest[] =>
  parts.flatMap((part) => (part.type === 'tool request' ? [part.request] : []));
const callsTo = async (asked: Prompt) =>
  requestsOf(await partsOf(asked)).map(({ tool, arguments: given }) => [tool, given]);

const settings = (changes: Partial<ModelSettings>): ModelSettings => ({
  temperature: null,
  topP: null,
  maxTokens: null,
  stop: [],
  seed: null,
  presencePenalty: null,
  frequencyPenalty: null,
  ...changes,
});

describe('the built-in assistant, for clients with tools of their own,', () => {
  const cases: readonly [string, string, object][] = [
    ['What is the weather in Paris?', 'get_weather', { location: 'Paris' }],
    ["what's the weather like in new york today?", 'get_weather', { location: 'new york' }],
    ['I live in Rome. What is the weather in London?', 'get_weather', { location: 'London' }],
    [
      'The weather in San Francisco, CA in celsius please',
      'get_weather',
      { location: 'San Francisco, CA', unit: 'celsius' },
    ],
    ['What is the stock price of AAPL?', 'get_stock_price', { symbol: 'AAPL' }],
    [
      'Send an email to bob@example.com with subject "Hi" and body "See you at 5"',
      'send_email',
      { to: 'bob@example.com', subject: 'Hi', body: 'See you at 5' },
    ],
    ['Convert 1,250.5 USD to EUR', 'convert_currency', { amount: 1250.5, from: 'USD', to: 'EUR' }],
    [
      'Book a flight from Berlin to New York on 2026-12-24 for 2 passengers',
      'book_flight',
      { origin: 'Berlin', destination: 'New York', date: '2026-12-24', passengers: 2 },
    ],
    ['Search the web for cute cats', 'web_search', { query: 'cute cats' }],
    ['Use the calculator: 12 * (3+4)', 'calculator', { expression: '12 * (3+4)' }],
    [
      'Set a reminder "call mum" at 5 pm, urgent',
      'set_reminder',
      { text: 'call mum', time: '5 pm', urgent: true },
    ],
    ['What is the status of order A-1234?', 'getOrderStatus', { order_id: 'A-1234' }],
    ['Add 3 and 4', 'add', { a: 3, b: 4 }],
  ];
  for (const [content, tool, given] of cases) {
    it(`calls ${tool} for “${content}”`, async () => {
      const parts = await partsOf(saying(content));
      expect(requestsOf(parts).map((request) => [request.tool, request.arguments])).to.deep.equal([
        [tool, given],
      ]);
      expect(parts.at(-1)).to.include({ finishReason: 'tool-calls' });
    });
  }

  it('calls a tool for each of several places, and several tools for several sentences', async () => {
    expect(await callsTo(saying('What is the weather in Paris, Oslo and in New York?'))).to.deep.equal([
      ['get_weather', { location: 'Paris' }],
      ['get_weather', { location: 'Oslo' }],
      ['get_weather', { location: 'New York' }],
    ]);
    expect(await callsTo(saying('Hello! What is the weather in Rome? Add 3 and 4.'))).to.deep.equal([
      ['get_weather', { location: 'Rome' }],
      ['add', { a: 3, b: 4 }],
    ]);
  });

  it('calls none for a message that is about none, or when it may not', async () => {
    for (const content of ['Hello', 'Tell me a joke', 'What is the capital of France?']) {
      expect(await callsTo(saying(content)), content).to.deep.equal([]);
    }
    const parts = await partsOf(saying('What is the weather in Paris?', { toolChoice: 'none' }));
    expect(requestsOf(parts)).to.deep.equal([]);
    expect(textOf(parts)).not.to.equal('');
  });

  it('calls what it must: any tool, or the one that is named', async () => {
    const required = { toolChoice: 'required' } as const;
    expect(await callsTo(saying('Add 3 and 4', required))).to.deep.equal([['add', { a: 3, b: 4 }]]);
    expect(await callsTo(saying('Hello.', { ...required, tools: [weather] }))).to.deep.equal([
      ['get_weather', { location: 'Hello' }],
    ]);
    const named = { toolChoice: { tool: 'web_search' } };
    expect(await callsTo(saying('What is the weather in Paris?', named))).to.deep.equal([
      ['web_search', { query: 'What is the weather in Paris' }],
    ]);
  });

  it('asks for what a call lacks, and takes the answer to that', async () => {
    const question = 'What is the weather like?';
    const parts = await partsOf(saying(question));
    expect(requestsOf(parts)).to.deep.equal([]);
    expect(textOf(parts)).to.equal(
      'Before I can use get_weather for that, I need to know: location (The city).',
    );
    const messages: ModelMessage[] = [
      { role: 'user', content: question },
      { role: 'assistant', content: textOf(parts), toolRequests: [] },
    ];
    for (const [answer, location] of [
      ['Paris', 'Paris'],
      ['in São Paulo, please', 'São Paulo'],
      ['berlin.', 'berlin'],
    ] as const) {
      expect(
        await callsTo(saying('', { messages: [...messages, { role: 'user', content: answer }] })),
      ).to.deep.equal([['get_weather', { location }]]);
    }
    expect(
      await callsTo(saying('', { messages: [...messages, { role: 'user', content: 'Add 1 and 2' }] })),
    ).to.deep.equal([['add', { a: 1, b: 2 }]]);
  });

  it('answers from the real results, also those that come as text', async () => {
    const content = 'What is the weather in Paris?';
    const [request] = requestsOf(await partsOf(saying(content)));
    for (const result of [{ temperature: 21.5, sky: 'clear' }, '{"temperature":21.5,"sky":"clear"}']) {
      const parts = await partsOf(
        saying('', {
          messages: [
            { role: 'user', content },
            { role: 'assistant', content: '', toolRequests: [request!] },
            { role: 'tool', toolCallId: request!.toolCallId, tool: 'get_weather', result, isError: false },
          ],
        }),
      );
      expect(textOf(parts)).to.equal('get_weather (location: Paris) answered: temperature: 21.5, sky: clear');
      expect(parts.at(-1)).to.include({ finishReason: 'stop' });
    }
  });

  it('is not led astray by a client’s tool with the name of one of ours', async () => {
    const own = toolWith('calculate', 'Arithmetic on two numbers', { a: number, b: number });
    expect(await callsTo(saying('Calculate 3 and 4', { tools: [own] }))).to.deep.equal([
      ['calculate', { a: 3, b: 4 }],
    ]);
  });

  it('takes any schema for what it is, and never throws', async () => {
    const schema = fc.oneof(
      fc.jsonValue(),
      fc.record(
        {
          type: fc.constantFrom('string', 'number', 'integer', 'boolean', 'array', 'object', 'null', [
            'string',
            'null',
          ]),
          enum: fc.array(fc.jsonValue(), { maxLength: 3 }),
          items: fc.jsonValue(),
          properties: fc.dictionary(fc.string(), fc.jsonValue(), { maxKeys: 3 }),
          format: fc.constantFrom('date', 'email', 'uri'),
          anyOf: fc.array(fc.jsonValue(), { maxLength: 2 }),
        },
        { requiredKeys: [] },
      ),
    );
    const name = fc.constantFrom('city', 'query', 'to', '__proto__', 'constructor', 'date', 'ids', 'amount');
    const parameters = fc.oneof(
      fc.dictionary(fc.string(), fc.jsonValue()),
      fc.record({
        properties: fc.dictionary(name, schema),
        required: fc.oneof(fc.array(name), fc.jsonValue()),
      }),
    );
    const choice = fc.constantFrom<ToolChoice>('auto', 'none', 'required', { tool: 'weather' });
    await fc.assert(
      fc.asyncProperty(parameters, choice, fc.string({ unit: 'binary' }), async (given, toolChoice, more) => {
        const tool = { name: 'weather', description: more, parameters: given };
        const parts = await partsOf(saying(`weather in Paris ${more}`, { tools: [tool], toolChoice }));
        expect(parts.at(-1)?.type).to.equal('finish');
        if (typeof toolChoice === 'object' || toolChoice === 'required')
          expect(requestsOf(parts)).to.have.length(1);
        JSON.stringify(requestsOf(parts));
      }),
      { numRuns: 150 },
    );
  });

  it('takes its time with nothing, however long and odd it is', async () => {
    const huge = [
      'weather in '.repeat(3_000),
      'Weather In Paris And '.repeat(1_500),
      `weather ${'"'.repeat(31_000)}`,
      `add ${'1,'.repeat(15_000)}`,
      `email ${'a@'.repeat(15_000)}`,
      `order ${'A-1-'.repeat(7_000)}`,
      `weather ${'A'.repeat(31_000)}`,
      'in a b '.repeat(4_500),
    ];
    for (const content of huge) {
      const began = performance.now();
      await partsOf(saying(content));
      expect(performance.now() - began, content.slice(0, 30)).to.be.lessThan(500);
    }
  });
});

describe('the built-in assistant, asked with settings,', () => {
  it('writes no more tokens than it may', async () => {
    const parts = await partsOf(saying('count to 500', { settings: settings({ maxTokens: 7 }) }));
    expect(textOf(parts)).to.equal('1, 2, 3, 4, 5, 6, 7, 8, 9, 1');
    expect(parts.at(-1)).to.deep.include({ finishReason: 'length' });
    const finish = parts.at(-1)!;
    expect(finish.type === 'finish' && finish.usage.completionTokens).to.equal(7);
    const short = await partsOf(saying('count to 3', { settings: settings({ maxTokens: 7 }) }));
    expect(short.at(-1)).to.include({ finishReason: 'stop' });
    const call = await partsOf(saying('Add 3 and 4', { settings: settings({ maxTokens: 2 }) }));
    expect(requestsOf(call)).to.deep.equal([]);
    expect(call.at(-1)).to.include({ finishReason: 'length' });
  });
  it('cuts within no character', async () => {
    const parts = await partsOf(
      saying(`repeat after me: ${'😀'.repeat(20)}`, { settings: settings({ maxTokens: 3 }) }),
    );
    expect(textOf(parts)).to.equal('😀😀😀');
    expect(estimateTokens(textOf(parts))).to.equal(3);
  });
  it('stops before the first of the stop sequences', async () => {
    const parts = await partsOf(saying('count to 9', { settings: settings({ stop: ['7', ', 4', ''] }) }));
    expect(textOf(parts)).to.equal('1, 2, 3');
    expect(parts.at(-1)).to.include({ finishReason: 'stop' });
  });
});

describe('the built-in assistant, as an agent,', () => {
  const own = ['recall_facts', 'search_conversations', 'calculate', 'delegate'].map((name) => ({
    name,
    description: `The tool ${name}.`,
    parameters: { type: 'object' },
  }));
  const task = 'Plan the launch in Lisbon with a budget of $12,000.';

  it('gathers what its tools know about a task, and reports that without judging', async () => {
    const asked = saying(task, { purpose: 'task', system: 'You are the planner.', tools: own });
    const toolRequests = requestsOf(await partsOf(asked));
    expect(toolRequests.map(({ tool }) => tool)).to.deep.equal([
      'recall_facts',
      'search_conversations',
      'search_conversations',
    ]);
    expect(toolRequests[1]?.arguments).to.deep.equal({ query: 'lisbon' });
    const results = [{ facts: [{ key: 'team', value: '4 people' }] }, { results: [] }, { results: [] }];
    const parts = await partsOf({
      ...asked,
      messages: [
        ...asked.messages,
        { role: 'assistant', content: '', toolRequests },
        ...toolRequests.map(({ toolCallId, tool }, index) => ({
          role: 'tool' as const,
          toolCallId,
          tool,
          result: results[index],
          isError: false,
        })),
      ],
    });
    expect(requestsOf(parts)).to.deep.equal([]);
    expect(textOf(parts))
      .to.match(/set of rules, without a language model/)
      .and.to.contain(task)
      .and.to.contain('$12,000')
      .and.to.contain('team: 4 people');
  });
  it('does the part of a task that it has rules for', async () => {
    expect(await callsTo(saying('What is 12 * 9?', { purpose: 'task', tools: own }))).to.deep.equal([
      ['calculate', { expression: '12 * 9' }],
    ]);
  });
  it('says so when it has no tools for a task', async () => {
    expect(textOf(await partsOf(saying(task, { purpose: 'task', tools: [] })))).to.contain(
      'No tool that I may use here',
    );
  });
  it('hands on what it is told to, and tells what came back', async () => {
    const wanted = [['delegate', { agent: 'researcher', task: 'find what I said about Rome' }]];
    for (const content of [
      'Ask the researcher to find what I said about Rome.',
      'Delegate to researcher: find what I said about Rome',
      'please delegate "find what I said about Rome" to the researcher agent',
    ]) {
      expect(await callsTo(saying(content, { tools: own })), content).to.deep.equal(wanted);
    }
    expect(await callsTo(saying('Ask John to call me', { tools: own }))).to.deep.equal([]);
    const content = 'Ask the researcher to look.';
    const [request] = requestsOf(await partsOf(saying(content, { tools: own })));
    const answered = async (result: object) =>
      textOf(
        await partsOf(
          saying('', {
            tools: own,
            messages: [
              { role: 'user', content },
              { role: 'assistant', content: '', toolRequests: [request!] },
              { role: 'tool', toolCallId: request!.toolCallId, tool: 'delegate', result, isError: false },
            ],
          }),
        ),
      );
    expect(await answered({ agent: 'researcher', status: 'success', response: 'Nothing.' })).to.equal(
      'The agent researcher answered:\nNothing.',
    );
    expect(await answered({ agent: 'researcher', status: 'failed', response: '', error: 'lost' })).to.equal(
      'The agent researcher did not finish (failed): lost.',
    );
  });

  it('answers soon, however many sentences there are for however many tools', async () => {
    const many = Array.from({ length: 128 }, (_, at) =>
      toolWith(
        `weather_${at}`,
        'Weather of a city today. '.repeat(200),
        Object.fromEntries(Array.from({ length: 30 }, (_unused, argument) => [`argument_${argument}`, text])),
      ),
    );
    for (const sentence of ['; ', 'abcd; ', 'Weather in Rome; ']) {
      const started = performance.now();
      await partsOf(saying(sentence.repeat(2_000), { tools: many }));
      expect(performance.now() - started, sentence).to.be.lessThan(2_000);
    }
  });
});
