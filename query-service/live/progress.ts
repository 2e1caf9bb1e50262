/**
 * The progress of agents' runs, and of orchestrations. What an event shows depends on the event, on whose run it is,
 * and on how many calls the run had made until then: that is kept, for the latest runs, beside the feeds, so that
 * they can begin at any position.
 */
import { LRUCache } from 'lru-cache';
import { type Caller, sees } from '../../contracts/caller.ts';
import { type EventEnvelope, isAfter, type Position } from '../../contracts/envelope.ts';
import { Refusal, refuse } from '../../contracts/errors.ts';
import type { OdeonEvent } from '../../contracts/events/catalogue.ts';
import type { Seq } from '../../contracts/live/socket-io.ts';
import type { Agents } from '../../contracts/read-models/agents.ts';
import type { TurnDocument } from '../../contracts/read-models/documents.ts';
import type { EventFilter, EventStore } from '../../infra/event-store/port.ts';
import type { Query, ReadModels } from '../../infra/read-models/port.ts';
import { readerOf } from './answer.ts';
import { NOTHING_READ } from './cursor.ts';
import { eventFeed, type Feed, type Frame, type Transport } from './feed.ts';

/** What is shown. `progress` is from 0 to 1, which it is when all has ended. */
export interface Progress {
  readonly task_id: string;
  readonly progress: number;
  readonly status:
    | 'queued'
    | 'running'
    | 'thinking'
    | 'using_tool'
    | 'completed'
    | 'failed'
    | 'cancelled'
    | 'partial';
  readonly message: string;
}

export interface ProgressFeeds {
  /** To be given every event from now on. */
  follow(event: EventEnvelope): void;
  /**
   * A feed of what is the caller's to see, for who begins after the position.
   * @throws Refusal NOT_FOUND
   */
  feed(of: Omit<Seq, 'frame'>, caller: Caller, after: Position, transport: Transport): Promise<Feed>;
}

export interface ProgressOptions {
  readonly store: Pick<EventStore, 'readStream'>;
  readonly readModels: Pick<ReadModels, 'find'>;
  readonly agents: Pick<Agents, 'find' | 'get'>;
}

interface Run {
  readonly agentId: string;
  readonly agentName: string;
  /** Of its calls of models. */
  readonly calls: Position[];
}

const REMEMBERED_RUNS = 20_000;
/** Of so many that run, and of so many of the latest, those that are not over are looked up for one reader. */
const MOST_RUNS = 200;
const RUN_EVENTS = [
  'MessageSent',
  'TurnStarted',
  'TurnReleased',
  'ModelCalled',
  'ToolCalled',
  'TurnCompleted',
  'TurnInterrupted',
  'TurnFailed',
] as const;
type RunEvent = OdeonEvent<(typeof RUN_EVENTS)[number]>;

export function createProgress({ store, readModels, agents }: ProgressOptions): ProgressFeeds {
  const runs = new LRUCache<string, Run>({ max: REMEMBERED_RUNS });

  function follow(envelope: EventEnvelope): void {
    const event = envelope as RunEvent;
    if (event.type === 'MessageSent') {
      const { run, turnId } = event.data;
      if (run === null || runs.has(turnId)) return;
      runs.set(turnId, { agentId: run.agent.id, agentName: run.agent.name, calls: [] });
    } else if (event.type === 'ModelCalled') {
      const calls = runs.get(event.data.turnId)?.calls;
      const last = calls?.at(-1);
      if (last === undefined || isAfter(event.position, last)) calls?.push(event.position);
    }
  }

  /** Remembers the runs that are not over at the position. */
  async function lookUp(where: NonNullable<Query['where']>, after: Position): Promise<void> {
    const orderBy = { field: 'runAt', direction: 'descending' } as const;
    const [active, latest] = await Promise.all([
      readModels.find<TurnDocument>('turns', {
        where: { ...where, status: ['queued', 'running'] },
        orderBy,
        limit: MOST_RUNS,
      }),
      readModels.find<TurnDocument>('turns', { where, orderBy, limit: MOST_RUNS }),
    ]);
    const since = latest.documents.filter(({ position }) => isAfter(position, after));
    for (const { body } of [...active.documents, ...since]) {
      if (body.run === null || body.agentId === null || runs.has(body.id)) continue;
      const calls: Position[] = [];
      const stream = `conversation-${body.conversationId}`;
      for await (const page of store.readStream(stream, { from: body.firstRevision })) {
        for (const event of page as readonly RunEvent[]) {
          if (event.type === 'ModelCalled' && event.data.turnId === body.id) calls.push(event.position);
        }
      }
      // Who followed it meanwhile knows as much.
      if (!runs.has(body.id))
        runs.set(body.id, { agentId: body.agentId, agentName: body.run.agentName, calls });
    }
  }

  /** Its runs: of one agent, or of all. */
  function runFeed(
    agent: { readonly id: string; readonly shownAs: string } | null,
    owner: string | null,
    transport: Transport,
  ): Feed {
    const filter: EventFilter = { types: RUN_EVENTS, ...(owner !== null && { owner }) };
    return eventFeed({
      key: `progress ${transport.name} ${agent?.id ?? ''} ${agent?.shownAs ?? ''} ${owner ?? ''}`,
      transport,
      filter,
      text(envelope) {
        const event = envelope as RunEvent;
        const run = runs.get(event.data.turnId);
        if (run === undefined || (agent !== null && run.agentId !== agent.id)) return null;
        const shown = { agent_id: agent?.shownAs ?? run.agentName, ...progressOf(event, run) };
        return transport.encode({ id: event.position, name: 'agent_progress', data: shown });
      },
      resync,
      farewell: null,
    });
  }

  async function agentOf(caller: Caller, nameOrId: string) {
    try {
      return await agents.find(caller, nameOrId);
    } catch (error) {
      if (!(error instanceof Refusal) || error.code !== 'NOT_FOUND') throw error;
      return agents.get(caller, nameOrId);
    }
  }

  async function orchestrationFeed(id: string, caller: Caller, transport: Transport): Promise<Feed> {
    const stream = `orchestration-${id}`;
    for await (const [first] of store.readStream(stream, { limit: 1 })) {
      if (first !== undefined && sees(caller, first.owner)) return stepsOf(stream, id, transport);
    }
    return refuse('NOT_FOUND', 'Orchestration not found.');
  }

  return {
    follow,
    async feed({ kind, id }, caller, after, transport) {
      if (kind === 'orchestration') return orchestrationFeed(id, caller, transport);
      const owner = caller.permissions.has('all:read') ? null : caller.userId;
      const whose = owner === null ? {} : { owner };
      if (kind === 'agents') {
        await lookUp(whose, after);
        return runFeed(null, owner, transport);
      }
      const agent = await agentOf(caller, id);
      await lookUp({ ...whose, agentId: agent.id }, after);
      return runFeed({ id: agent.id, shownAs: id }, owner, transport);
    },
  };
}

const resync = (reason: string): Frame => ({ id: null, name: 'resync', data: { reason } });

/** Nobody knows how many calls a run will make: each brings it nearer to its end, and none there. */
const afterCalls = (calls: number): number => Math.round(950 * (1 - 0.75 ** calls)) / 1_000;

function progressOf(event: RunEvent, run: Run): Progress {
  const task_id = event.data.turnId;
  const calls = run.calls.filter((position) => !isAfter(position, event.position)).length;
  const step = (status: Progress['status'], progress: number, message: string): Progress => ({
    task_id,
    progress,
    status,
    message,
  });
  switch (event.type) {
    case 'MessageSent':
      return step('queued', 0, 'Waiting to be taken up.');
    case 'TurnReleased':
      return step('queued', afterCalls(calls), 'Given back: another worker goes on with it.');
    case 'TurnStarted':
      return step('running', afterCalls(calls), `Taken up, attempt ${event.data.attempt}.`);
    case 'ModelCalled': {
      const { provider, model } = event.data;
      return step('thinking', afterCalls(calls), `Asking ${provider}/${model}, call ${calls}.`);
    }
    case 'ToolCalled':
      return step('using_tool', afterCalls(calls + 0.5), `Using the tool ${event.data.tool}.`);
    case 'TurnCompleted':
      return step('completed', 1, 'Done.');
    case 'TurnInterrupted':
      return step('cancelled', 1, 'Stopped.');
    case 'TurnFailed':
      return step('failed', 1, event.data.reason);
  }
}

// ── orchestrations ────────────────────────────────────────────────────────
type OrchestrationEvent = OdeonEvent<
  | 'OrchestrationRequested'
  | 'OrchestrationStarted'
  | 'OrchestrationReleased'
  | 'StepStarted'
  | 'StepEnded'
  | 'OrchestrationCancelRequested'
  | 'OrchestrationEnded'
>;

/** Steps by their ids, as who does them, and how many have ended. */
interface Steps {
  readonly names: Readonly<Record<string, string>>;
  readonly ended: number;
}

function stepsOf(stream: string, id: string, transport: Transport): Feed {
  const feed: Feed<Steps> = {
    key: `progress ${transport.name} ${stream}`,
    transport,
    source: { kind: 'conversation', stream, turnId: null, firstRevision: 0 },
    initial: { names: {}, ended: 0 },
    takes: (event) => event.stream === stream,
    evolve(state, envelope) {
      const event = envelope as OrchestrationEvent;
      if (event.type === 'OrchestrationRequested') {
        const names = event.data.steps.map((step) => [
          step.id,
          step.kind === 'run' ? step.run.agent.name : 'council',
        ]);
        return { names: Object.fromEntries(names), ended: 0 };
      }
      return event.type === 'StepEnded' ? { ...state, ended: state.ended + 1 } : state;
    },
    reader: () => readerOf(NOTHING_READ),
    render(state, reader, event) {
      const shown = event && shownOf(event as OrchestrationEvent, state);
      if (!event || !shown) return { frames: [], reader };
      const data = { ...shown, task_id: id };
      return { frames: [transport.encode({ id: event.position, name: 'agent_progress', data })], reader };
    },
    ends: ({ type }) => type === 'OrchestrationEnded',
    cursor: (_state, _reader, position) => ({ position, read: null }),
    resync,
    farewell: null,
  };
  // Only the feed itself looks into its state.
  return feed as Feed;
}

function shownOf(
  event: OrchestrationEvent,
  { names, ended }: Steps,
): (Omit<Progress, 'task_id'> & { agent_id: string }) | null {
  const total = Math.max(1, Object.keys(names).length);
  // Until all of it has ended, the results are not put together.
  const progress = Math.min(0.99, Math.round((1_000 * ended) / total) / 1_000);
  switch (event.type) {
    case 'OrchestrationRequested':
      return {
        agent_id: 'orchestrate',
        progress: 0,
        status: 'queued',
        message: `${total} steps are to be done.`,
      };
    case 'OrchestrationStarted':
      return {
        agent_id: 'orchestrate',
        progress,
        status: 'running',
        message: `Taken up, attempt ${event.data.attempt}.`,
      };
    case 'OrchestrationReleased':
      return {
        agent_id: 'orchestrate',
        progress,
        status: 'queued',
        message: 'Given back: another worker goes on with it.',
      };
    case 'StepStarted': {
      const agent = names[event.data.stepId] ?? event.data.stepId;
      return {
        agent_id: agent,
        progress,
        status: 'running',
        message: `The step ${event.data.stepId} has begun.`,
      };
    }
    case 'StepEnded': {
      const { stepId, outcome, reason } = event.data;
      const agent = names[stepId] ?? stepId;
      const message = reason ?? `The step ${stepId} is done: ${ended} of ${total}.`;
      return { agent_id: agent, progress, status: 'running', message: `${outcome}: ${message}` };
    }
    case 'OrchestrationCancelRequested':
      return null;
    case 'OrchestrationEnded': {
      const { outcome, reason } = event.data;
      const status = outcome === 'timed out' ? 'failed' : outcome;
      return {
        agent_id: 'orchestrate',
        progress: 1,
        status,
        message: reason ?? `${ended} of ${total} steps ended.`,
      };
    }
  }
}
