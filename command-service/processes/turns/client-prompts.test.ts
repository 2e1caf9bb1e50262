/** Turns whose client says how the model is to be asked. */
import { createHash } from 'node:crypto';
import { expect } from 'chai';
import { z } from 'zod';
import type { EventData } from '../../../contracts/events/catalogue.ts';
import type { ClientPrompt, ClientTool, SentMessage } from '../../../contracts/events/conversation.ts';
import type { ModelPart, Prompt } from '../../../infra/models/port.ts';
import { requestInterrupt } from '../../domain/conversation.ts';
import { promptOf, readHistory } from './history.ts';
import {
  ask,
  dataOf,
  ends,
  hang,
  metaFor,
  modelsOf,
  openTurnWorld,
  say,
  scripted,
  type TurnWorld,
  usage,
} from './testing.ts';
import { describe as describeTool, tool } from './tool.ts';
import { begin, fold } from './transcript.ts';

const user = (content: string): SentMessage => ({ role: 'user', content });
const assistant = (content: string): SentMessage => ({ role: 'assistant', content, toolRequests: [] });
const weather: ClientTool = {
  name: 'get_weather',
  description: 'The weather in a city.',
  parameters: { type: 'object', properties: { city: { type: 'string' } }, required: ['city'] },
};
const SETTINGS = {
  temperature: null,
  topP: null,
  maxTokens: null,
  stop: [],
  seed: null,
  presencePenalty: null,
  frequencyPenalty: null,
};
const prompt = (changes: Partial<ClientPrompt>): ClientPrompt => ({
  system: null,
  messages: [],
  afresh: false,
  tools: [],
  toolChoice: 'auto',
  settings: SETTINGS,
  ...changes,
});
const clock = tool({
  name: 'clock',
  description: 'Tells.',
  input: z.object({}),
  readOnly: true,
  run: () => ({ time: 'noon' }),
});

describe('a turn that its client has a prompt for', () => {
  let world: TurnWorld;
  let { store, bus, start, begun, send, until } = {} as TurnWorld;
  beforeEach(async () => {
    world = await openTurnWorld();
    ({ store, bus, start, begun, send, until } = world);
  });
  afterEach(() => world.close());

  const sendPrompt = (id: string, content: string, changes: Partial<ClientPrompt>) =>
    send(id, content, content, { prompt: prompt({ messages: [user(content)], ...changes }) });

  it('shows the model the client’s messages, its system after ours, its tools and its settings', async () => {
    const model = scripted('one', () => say('Hi.'));
    await start(modelsOf(model), { tools: [clock] });
    const id = await begun();
    const settings = { ...SETTINGS, temperature: 0.5, maxTokens: 9, stop: ['END'], seed: 3 };
    await sendPrompt(id, 'and now?', {
      system: 'Speak French.',
      messages: [user('before'), assistant('then'), user('and now?')],
      afresh: true,
      tools: [weather],
      toolChoice: 'none',
      settings,
    });
    const all = await until(id, ends);
    const [asked] = model.prompts;
    expect(asked?.messages).to.deep.equal([user('before'), assistant('then'), user('and now?')]);
    expect(asked?.system).to.match(/^You are a capable assistant[\s\S]*\n\nSpeak French\.$/);
    expect(asked?.tools).to.deep.equal([weather]);
    expect(asked).to.deep.include({ toolChoice: 'none', settings });
    expect(dataOf(all, 'ContextPrepared')[0]?.tools).to.deep.equal(['get_weather']);
    await sendPrompt(id, 'the time?', { toolChoice: 'none' });
    await until(id, ends, 2);
    expect(model.prompts[1]?.tools.map(({ name }) => name)).to.deep.equal(['clock']);
    expect(model.prompts[1]?.toolChoice).to.equal('none');
  });

  it('ends when the model asks for a tool of the client’s, and goes on with its result', async () => {
    const model = scripted('one', (_prompt, call): ModelPart[] =>
      call === 1
        ? [{ type: 'text', text: 'Let me see.' }, ...ask(['get_weather', { city: 'Paris' }])]
        : say('It rains.'),
    );
    await start(modelsOf(model), { tools: [clock] });
    const id = await begun();
    await sendPrompt(id, 'weather?', { tools: [weather], toolChoice: { tool: 'get_weather' } });
    let all = await until(id, ends);
    const [asked] = dataOf(all, 'TurnCompleted');
    expect(asked).to.deep.include({ content: 'Let me see.', finishReason: 'tool-calls', toolsUsed: [] });
    expect(asked?.toolRequests).to.have.length(1);
    const { toolCallId } = asked!.toolRequests[0]!;
    expect(asked!.toolRequests[0]).to.deep.equal({
      toolCallId,
      tool: 'get_weather',
      arguments: { city: 'Paris' },
    });
    expect(dataOf(all, 'ToolCalled')).to.have.length(0);
    const result: SentMessage = {
      role: 'tool',
      toolCallId,
      tool: 'get_weather',
      result: { rain: true },
      isError: false,
    };
    await sendPrompt(id, '(result)', { messages: [result], tools: [weather] });
    all = await until(id, ends, 2);
    expect(model.prompts[1]?.messages).to.deep.equal([
      user('weather?'),
      { role: 'assistant', content: 'Let me see.', toolRequests: asked!.toolRequests },
      result,
    ]);
    expect(dataOf(all, 'TurnCompleted')[1]).to.deep.include({
      content: 'It rains.',
      finishReason: 'stop',
      toolRequests: [],
    });
  });

  it('does not show later turns a request that the client never answered, nor a result without its request', async () => {
    const model = scripted('one', (_prompt, call) =>
      call === 1 ? ask(['get_weather', { city: 'Paris' }]) : say('Well.'),
    );
    await start(modelsOf(model));
    const id = await begun();
    await sendPrompt(id, 'weather?', { tools: [weather] });
    await until(id, ends);
    await send(id, 'never mind');
    await until(id, ends, 2);
    expect(model.prompts[1]?.messages).to.deep.equal([user('weather?'), user('never mind')]);
    const stray = {
      role: 'tool',
      toolCallId: 'x',
      tool: 'get_weather',
      result: { rain: 1 },
      isError: false,
    } as const;
    await sendPrompt(id, 'stray', { messages: [stray, user('stray')] });
    await until(id, ends, 3);
    expect(model.prompts[2]?.messages.slice(-2)).to.deep.equal([
      user('Result of get_weather: {"rain":1}'),
      user('stray'),
    ]);
  });

  it('stands in place of the conversation so far when it is sent afresh, for later turns, too', async () => {
    const model = scripted('one', (_prompt, call) => say(`answer ${call}`));
    await start(modelsOf(model));
    const id = await begun();
    await send(id, 'forgotten');
    await until(id, ends);
    await sendPrompt(id, 'c', { messages: [user('a'), assistant('b'), user('c')], afresh: true });
    await until(id, ends, 2);
    await send(id, 'd');
    await until(id, ends, 3);
    await sendPrompt(id, 'e', {});
    await until(id, ends, 4);
    const [, second, third, fourth] = model.prompts.map(({ messages }) => messages.map(contentOf));
    expect(second).to.deep.equal(['a', 'b', 'c']);
    expect(third).to.deep.equal(['a', 'b', 'c', 'answer 2', 'd']);
    expect(fourth).to.deep.equal(['a', 'b', 'c', 'answer 2', 'd', 'answer 3', 'e']);
  });

  it('has a digest that the events of the stream rebuild the prompt of', async () => {
    const model = scripted('one', (_prompt, call) =>
      call === 2 ? ask(['clock', {}]) : call === 1 ? ask(['get_weather', { city: 'Rome' }]) : say('Noon.'),
    );
    await start(modelsOf(model), { tools: [clock] });
    const id = await begun();
    await sendPrompt(id, 'weather?', { tools: [weather], afresh: true });
    await until(id, ends);
    const settings = { ...SETTINGS, temperature: 1, stop: ['a', 'b'] };
    await sendPrompt(id, 'second', { system: 'Be brief.', settings });
    const all = await until(id, ends, 2);
    const from = all.findLastIndex((event) => event.type === 'MessageSent');
    const called = all.findLastIndex((event) => event.type === 'ModelCalled');
    const transcript = all
      .slice(from + 1, called)
      .reduce((current, event) => fold(current, event as never), begin(all[from] as never));
    const history = await readHistory(store, `conversation-${id}`, from);
    const rebuilt = promptOf(transcript, transcript.context!, history, [describeTool(clock)]);
    const digest = createHash('sha256').update(JSON.stringify(rebuilt)).digest('hex');
    expect((all[called]!.data as EventData<'ModelCalled'>).promptDigest).to.equal(digest);
    expect(rebuilt).to.deep.equal(model.prompts.at(-1));
  });

  it('tells how the last call ended', async () => {
    const cut = { type: 'finish', finishReason: 'length', usage } as const;
    const model = scripted('one', (asked, call, signal) => {
      if (call === 1) return [{ type: 'text', text: 'Half' }, cut];
      return hang(contentOf((asked as Prompt).messages.at(-1)!), signal);
    });
    await start(modelsOf(model));
    const id = await begun();
    await sendPrompt(id, 'long', { settings: { ...SETTINGS, maxTokens: 1 } });
    expect(dataOf(await until(id, ends), 'TurnCompleted')[0]?.finishReason).to.equal('length');
    await sendPrompt(id, 'stopped', {});
    await until(id, ['ModelCalled'], 2);
    await bus.dispatch(requestInterrupt, { conversationId: id, turnId: null }, metaFor('stop'));
    expect(dataOf(await until(id, ends, 2), 'TurnInterrupted')[0]?.finishReason).to.equal(null);
  });
});

const contentOf = (message: Prompt['messages'][number]): string =>
  message.role === 'tool' ? '' : message.content;
