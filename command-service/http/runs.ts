/** What the routes that have agents run have in common. One for all of them: they share the agents' queues. */
import type { Caller } from '../../contracts/caller.ts';
import type { ChatCommands, Issuer } from '../../contracts/commands/conversation.ts';
import { Refusal, refuse } from '../../contracts/errors.ts';
import { statusOf } from '../../contracts/http/executions.ts';
import { MODEL_FAMILIES } from '../../contracts/http/trinity.ts';
import type { TurnEnd } from '../../contracts/live/feeds.ts';
import type { Agents } from '../../contracts/read-models/agents.ts';
import type { AgentDocument, TurnDocument } from '../../contracts/read-models/documents.ts';
import type { EventStore } from '../../infra/event-store/port.ts';
import type { JsonAnswer, RequestContext } from '../../infra/http/port.ts';
import type { ReadModels } from '../../infra/read-models/port.ts';
import { turnIdFor } from '../domain/conversation.ts';

const QUEUE_RETRY_SECONDS = 30;
const RESTART_RETRY_SECONDS = 5;

export interface AgentRunsDependencies {
  readonly agents: Pick<Agents, 'find'>;
  readonly commands: Pick<ChatCommands, 'interrupt'>;
  readonly readModels: Pick<ReadModels, 'find' | 'get'>;
  readonly store: Pick<EventStore, 'head'>;
  /** Whether a configured provider serves the model (or route). */
  readonly serves: (model: string) => boolean;
}

/** A place among an agent's runs, until the read models show the run. */
export interface Place {
  /** As many run as may run at once. */
  readonly queued: boolean;
  leave(): void;
}

export interface AgentRuns {
  turnOf(turnId: string): Promise<TurnDocument | null>;
  /**
   * The first run under the command id that did not fail; `turn` null: none has been asked for. A run that failed or
   * was cancelled may be tried again, under an id that follows from the one before.
   */
  latestTry(commandId: string): Promise<{ readonly commandId: string; readonly turn: TurnDocument | null }>;
  /** What a repeated request is refused with while the first one is carried out. */
  inProgress(context: RequestContext): Promise<Refusal>;
  /** @throws Refusal VALIDATION_ERROR for a model of no family that Trinity knows, and that is not served here */
  checkModel(model: string | null | undefined): void;
  /** The agent that the request says it is from. @throws Refusal FORBIDDEN for one that the caller may not use */
  sourceAgent(caller: Caller, context: RequestContext): Promise<string | undefined>;
  /** @throws Refusal RATE_LIMIT_EXCEEDED when the queue is full */
  admit(agent: AgentDocument, turnId: string): Promise<Place>;
  /** Stops a run that runs or waits. */
  stop(
    turn: TurnDocument,
    issuer: Issuer,
    context: RequestContext,
  ): Promise<'terminated' | 'cancelled_while_queued' | 'already_finished'>;
}

export function createAgentRuns(deps: AgentRunsDependencies): AgentRuns {
  const { agents, commands, readModels, store, serves } = deps;
  const admit = createAdmission(readModels);
  const turnOf = async (id: string) => (await readModels.get<TurnDocument>('turns', id))?.body ?? null;

  async function latestTry(commandId: string) {
    for (let tries = 0; ; tries++) {
      const id = tries === 0 ? commandId : `${commandId}:again-${tries}`;
      const turn = await turnOf(turnIdFor(id));
      if (turn === null || (turn.status !== 'failed' && turn.status !== 'interrupted')) {
        return { commandId: id, turn };
      }
    }
  }

  return {
    turnOf,
    latestTry,
    admit,

    async inProgress({ commandId }) {
      const message = 'The first request with this Idempotency-Key is still running.';
      const execution_id = turnIdFor((await latestTry(commandId)).commandId);
      return new Refusal('CONFLICT', message, {
        retryAfterSeconds: 1,
        detail: { error: 'request_in_progress', message, execution_id },
      });
    },

    checkModel(model) {
      if (model == null || MODEL_FAMILIES.test(model) || serves(model)) return;
      const message = `is of no known family, and not served here: ${model}`;
      throw new Refusal('VALIDATION_ERROR', 'The request is not valid.', {
        issues: [{ path: ['body', 'model'], message }],
      });
    },

    async sourceAgent(caller, { headers }) {
      const name = headers['x-source-agent'];
      if (name === undefined) return undefined;
      try {
        return (await agents.find(caller, String(name))).name;
      } catch (error) {
        if (!(error instanceof Refusal) || error.code !== 'NOT_FOUND') throw error;
        return refuse('FORBIDDEN', 'X-Source-Agent names no agent that you may use.');
      }
    },

    async stop(turn, issuer, context) {
      const { conversationId, id: turnId } = turn;
      const { turnId: stopped, position } = await commands.interrupt({ conversationId, turnId }, issuer);
      context.reached(position ?? (await store.head()));
      await context.settled();
      return outcomeOf((await turnOf(turnId)) ?? turn, stopped !== null);
    },
  };
}

/** What became of a turn that was to be stopped. `now`: by this request. */
function outcomeOf({ status, startedAt }: TurnDocument, now: boolean) {
  if (startedAt === null && now) return 'cancelled_while_queued';
  const hasEnded = status !== 'queued' && status !== 'running';
  return hasEnded && !now ? 'already_finished' : 'terminated';
}

/**
 * Lets no more runs of an agent wait than its policy says. The read models say which there are; those that this
 * process has just let in and that are not seen there yet are remembered. Several command nodes may each let in what
 * the others have not shown yet.
 */
function createAdmission(readModels: Pick<ReadModels, 'find'>) {
  const admitted = new Map<string, Set<string>>();
  /** Of each agent the last that asks: one is looked at after the other. */
  const asking = new Map<string, Promise<void>>();

  function leave(agentId: string, turnId: string): void {
    const turns = admitted.get(agentId);
    turns?.delete(turnId);
    if (turns?.size === 0) admitted.delete(agentId);
  }

  async function admit({ id, name, policy }: AgentDocument, turnId: string): Promise<Place> {
    const { concurrency, queueLength } = policy;
    // Who leaves while the read models are read may not be in what they say.
    const before = [...(admitted.get(id) ?? [])];
    const { documents } = await readModels.find<TurnDocument>('turns', {
      where: { agentId: id, status: ['queued', 'running'] },
      limit: concurrency + queueLength,
    });
    const underWay = new Set([...documents.map((one) => one.id), ...before]);
    underWay.delete(turnId);
    if (underWay.size >= concurrency + queueLength) throw queueFull(name, underWay.size - concurrency);
    admitted.set(id, (admitted.get(id) ?? new Set()).add(turnId));
    return { queued: underWay.size >= concurrency, leave: () => leave(id, turnId) };
  }

  return (agent: AgentDocument, turnId: string): Promise<Place> => {
    const place = (asking.get(agent.id) ?? Promise.resolve()).then(() => admit(agent, turnId));
    const asked = place.then(
      () => {},
      () => {},
    );
    asking.set(agent.id, asked);
    asked.then(() => asking.get(agent.id) === asked && asking.delete(agent.id));
    return place;
  };
}

function queueFull(agent: string, waiting: number): Refusal {
  const message = `${waiting} tasks wait for ${agent} already: try again in ${QUEUE_RETRY_SECONDS} s.`;
  return new Refusal('RATE_LIMIT_EXCEEDED', message, {
    retryAfterSeconds: QUEUE_RETRY_SECONDS,
    detail: {
      error: 'Agent queue is full',
      agent,
      queue_length: waiting,
      retry_after: QUEUE_RETRY_SECONDS,
      message,
    },
  });
}

/** What is answered when a request cannot wait for the end. */
export const stillRunning = (turnId: string, turn: TurnDocument | null): JsonAnswer => ({
  status: 504,
  body: {
    detail: {
      error: 'The execution takes long',
      message: `It goes on: poll the execution ${turnId}.`,
      execution_id: turnId,
      status: turn === null ? 'queued' : statusOf(turn),
    },
  },
});

export const shuttingDown = (turnId: string): JsonAnswer => ({
  status: 503,
  headers: { 'Retry-After': String(RESTART_RETRY_SECONDS) },
  body: {
    detail: {
      error: 'The server restarts',
      message: `The execution will be finished: poll ${turnId}.`,
      execution_id: turnId,
      status: 'running',
    },
  },
});

/** As the turn process says it of a run that took longer than it may. */
const TIMED_OUT = /^timed out\b/;

/** What is answered for a run that brought no whole answer. */
export function failed(end: Exclude<TurnEnd, { type: 'TurnCompleted' }>): JsonAnswer {
  const execution_id = end.data.turnId;
  if (end.type === 'TurnInterrupted') {
    const message = 'The execution was stopped before it was finished.';
    return {
      status: 502,
      body: { detail: { error: 'Execution cancelled', message, execution_id, status: 'cancelled' } },
    };
  }
  const { reason } = end.data;
  const [status, error] = TIMED_OUT.test(reason) ? [504, 'Execution timed out'] : [502, 'Execution failed'];
  return { status, body: { detail: { error, message: reason, execution_id, status: 'failed' } } };
}
