/** What the tests of turns share: a log, read models and a bus of their own, and models that do as they are told. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import type { z } from 'zod';
import type { EventEnvelope } from '../../../contracts/envelope.ts';
import type { EventData, EventType } from '../../../contracts/events/catalogue.ts';
import type { Signal } from '../../../contracts/live/signals.ts';
import { createInProcessSignalBus } from '../../../infra/bus/in-process.ts';
import { createInProcessEventBus } from '../../../infra/bus/in-process-events.ts';
import { openSqliteEventStore } from '../../../infra/event-store/sqlite.ts';
import { withCatalogue } from '../../../infra/event-store/with-catalogue.ts';
import type { ChatModel, ModelPart, Models, Prompt } from '../../../infra/models/port.ts';
import { openSqliteReadModels } from '../../../infra/read-models/sqlite.ts';
import { projections } from '../../../projections/list.ts';
import { startProjections } from '../../../projections/runtime/runtime.ts';
import { createCommandBus } from '../../bus.ts';
import type { CommandMeta } from '../../command.ts';
import {
  conversationIdFor,
  messageIdFor,
  sendMessage,
  startConversation,
  turnIdFor,
} from '../../domain/conversation.ts';
import type { WorkProcess } from '../work.ts';
import { soleWorker } from '../workers.ts';
import { startTurnProcess, type TurnProcessOptions } from './process.ts';

export const OWNER = 'usr_1';
export const usage = { promptTokens: 10, completionTokens: 5, cachedTokens: 0 };
export const stop: ModelPart = { type: 'finish', finishReason: 'stop', usage };
export const say = (...pieces: string[]): ModelPart[] => [
  ...pieces.map((text) => ({ type: 'text' as const, text })),
  stop,
];
export const ask = (...names: [string, unknown][]): ModelPart[] => [
  ...names.map(([name, given], index) => ({
    type: 'tool request' as const,
    request: { toolCallId: `given_${index}`, tool: name, arguments: given },
  })),
  { type: 'finish', finishReason: 'tool-calls', usage },
];

export type Script = (
  prompt: Prompt,
  call: number,
  signal: AbortSignal,
) => AsyncIterable<ModelPart> | ModelPart[];

/** A model that does as the test says, and keeps what it was asked. */
export function scripted(
  name: string,
  script: Script,
  contextWindow = 100_000,
): ChatModel & { prompts: Prompt[] } {
  const prompts: Prompt[] = [];
  return {
    provider: name,
    model: 'test',
    contextWindow,
    price: { input: 1, cachedInput: 0.5, output: 2 },
    prompts,
    async *stream(prompt, { signal }) {
      prompts.push(prompt);
      yield* script(prompt, prompts.length, signal);
    },
  };
}

export const modelsOf = (...list: ChatModel[]): Models => ({
  candidates: () => ({ models: list, served: true }),
  serves: () => true,
  knows: () => true,
  list: () => list,
});

/** Never ends until it is aborted. */
export async function* hang(text: string, signal: AbortSignal): AsyncGenerator<ModelPart> {
  if (text !== '') yield { type: 'text', text };
  await new Promise((_resolve, reject) => {
    if (signal.aborted) reject(signal.reason);
    signal.addEventListener('abort', () => reject(signal.reason), { once: true });
  });
}

export const ends = ['TurnCompleted', 'TurnInterrupted', 'TurnFailed'] as const;
export const typesOf = (all: readonly EventEnvelope[]) => all.map((event) => event.type);
export const dataOf = <Type extends EventType>(all: readonly EventEnvelope[], type: Type) =>
  all.filter((event) => event.type === type).map((event) => event.data as EventData<Type>);

export const metaFor = (commandId: string): CommandMeta => ({
  commandId,
  correlationId: `correlation of ${commandId}`,
  causationId: null,
  surface: 'luna',
  actor: { kind: 'user', id: OWNER },
  caller: null,
  retried: false,
});

export interface TurnWorld extends Awaited<ReturnType<typeof openTurnWorld>> {}

export async function openTurnWorld() {
  const directory = await mkdtemp(join(tmpdir(), 'odeon-turns-'));
  const store = withCatalogue(await openSqliteEventStore({ directory }));
  const readModels = await openSqliteReadModels({ file: join(directory, 'read-models.db') });
  const runtime = await startProjections({ store, readModels, projections });
  const shown: Signal[] = [];
  const errors: unknown[] = [];
  const signals = createInProcessSignalBus({ onError: (error) => errors.push(error) });
  signals.subscribe((signal) => shown.push(signal));
  const bus = createCommandBus({
    store,
    snapshots: readModels.snapshots,
    onSnapshotError: (error) => errors.push(error),
  });
  const reached = async (position: string) => {
    if (!(await runtime.waitFor(position, 10_000))) throw new Error('The projections are behind.');
  };
  const base: Omit<TurnProcessOptions, 'models' | 'workers' | 'tools'> = {
    bus,
    store,
    readModels,
    signals,
    settled: async () => reached(await store.head()),
    reached,
    now: () => new Date(),
    metrics: { turnEnded: () => {}, modelCall: () => {} },
    events: createInProcessEventBus({ store, onError: (error) => errors.push(error) }),
    onError: (error) => errors.push(error),
    retryAfterMs: [1, 1],
  };
  const closeAll: (() => Promise<unknown>)[] = [
    () => runtime.stop(),
    () => store.close(),
    () => readModels.close(),
  ];

  async function start(models: Models, options: Partial<TurnProcessOptions> = {}): Promise<WorkProcess> {
    const process = await startTurnProcess({
      ...base,
      models,
      tools: [],
      workers: soleWorker('w1'),
      ...options,
    });
    closeAll.unshift(() => process.stop());
    return process;
  }

  async function begun(name = 'c', changes: { model?: string } = {}): Promise<string> {
    const conversationId = conversationIdFor(name);
    await bus.dispatch(
      startConversation,
      {
        conversationId,
        owner: OWNER,
        title: null,
        mode: 'assistant',
        model: null,
        kind: 'chat',
        agent: null,
        linkId: null,
        ...changes,
      },
      metaFor(`start ${name}`),
    );
    return conversationId;
  }

  type Sent = z.infer<typeof sendMessage.schema>;
  const send = (conversationId: string, content: string, name = content, changes: Partial<Sent> = {}) =>
    bus.dispatch(
      sendMessage,
      {
        conversationId,
        messageId: messageIdFor(name),
        turnId: turnIdFor(name),
        content,
        model: null,
        instructions: null,
        run: null,
        prompt: null,
        ...changes,
      },
      metaFor(`send ${name}`),
    );

  async function events(conversationId: string): Promise<EventEnvelope[]> {
    const all: EventEnvelope[] = [];
    for await (const page of store.readStream(`conversation-${conversationId}`)) all.push(...page);
    return all;
  }

  /** Follows the conversation until `count` events of the types have come; gives the whole stream. */
  async function until(conversationId: string, types: readonly EventType[], count = 1) {
    const filter = { stream: `conversation-${conversationId}`, types };
    const signal = AbortSignal.timeout(10_000);
    let seen = 0;
    for await (const page of store.subscribe({ after: '0', filter, signal })) {
      seen += page.events.length;
      if (seen >= count) return events(conversationId);
    }
    const found = (await events(conversationId)).map((event) => event.type);
    throw new Error(`Waited for ${count} of ${types.join(', ')}; found ${found.join(', ')}.`);
  }

  return {
    store,
    readModels,
    bus,
    signals,
    shown,
    errors,
    base,
    start,
    begun,
    send,
    events,
    until,
    /** Stops everything. @throws when something unexpected happened meanwhile */
    async close() {
      for (const close of closeAll) await close();
      await rm(directory, { recursive: true });
      expect(errors).to.deep.equal([]);
    },
  };
}
