/** What the tests of deliberations share: a world as that of turns, with the Council's process in it. */
import type { EventEnvelope } from '../../../contracts/envelope.ts';
import type { EventType } from '../../../contracts/events/catalogue.ts';
import type { Models } from '../../../infra/models/port.ts';
import { membersOf } from '../../domain/council.ts';
import { deliberationIdFor, openDeliberation } from '../../domain/deliberation.ts';
import { metaFor, OWNER, openTurnWorld } from '../turns/testing.ts';
import { createTools } from '../turns/tools/index.ts';
import type { WorkProcess } from '../work.ts';
import { soleWorker } from '../workers.ts';
import { type DeliberationProcessOptions, startDeliberationProcess } from './process.ts';

export type Opened = Parameters<(typeof openDeliberation)['decide']>[0];

/** No model is connected. */
export const noModels: Models = {
  candidates: () => ({ models: [], served: true }),
  serves: () => false,
  knows: () => false,
  list: () => [],
};

export const piece = (id: string, text: string, title = id) => ({ id, title, text, tool: null });

export async function openCouncilWorld() {
  const world = await openTurnWorld();
  const { bus, base, store } = world;
  const started = new Set<WorkProcess>();
  // None of these tests asks for a tool that finds agents.
  const tools = createTools(noModels, {} as never);

  async function open(name: string, changes: Partial<Opened> = {}): Promise<string> {
    const deliberationId = deliberationIdFor(name);
    await bus.dispatch(
      openDeliberation,
      {
        deliberationId,
        owner: OWNER,
        topic: 'Should we move the archive?',
        purpose: 'autonomous',
        material: [],
        members: await membersOf(bus, OWNER),
        maxLoops: 3,
        maxToolUses: 20,
        sessionId: null,
        mode: 'standard',
        ...changes,
      },
      metaFor(`open ${name}`),
    );
    return deliberationId;
  }

  async function start(
    models: Models = noModels,
    options: Partial<DeliberationProcessOptions> = {},
  ): Promise<WorkProcess> {
    const process = await startDeliberationProcess({
      ...base,
      models,
      tools,
      workers: soleWorker('w1'),
      paceMs: 0,
      ...options,
    });
    started.add(process);
    return process;
  }

  async function events(deliberationId: string): Promise<EventEnvelope[]> {
    const all: EventEnvelope[] = [];
    for await (const page of store.readStream(`deliberation-${deliberationId}`)) all.push(...page);
    return all;
  }

  /** Follows it until `count` events of the type have come; gives the whole stream. */
  async function until(deliberationId: string, type: EventType = 'DeliberationEnded', count = 1) {
    const filter = { stream: `deliberation-${deliberationId}`, types: [type] };
    const signal = AbortSignal.timeout(10_000);
    let seen = 0;
    for await (const page of store.subscribe({ after: '0', filter, signal })) {
      seen += page.events.length;
      if (seen >= count) return events(deliberationId);
    }
    const found = (await events(deliberationId)).map((event) => event.type);
    throw new Error(`Waited for ${count} of ${type}; found ${found.join(', ')}.`);
  }

  return {
    ...world,
    open,
    start,
    events,
    until,
    async stop(process: WorkProcess) {
      started.delete(process);
      await process.stop();
    },
    async close() {
      for (const process of started) await process.stop();
      await world.close();
    },
  };
}
