/**
 * Carries one orchestration on from wherever its events say it is, to its end: begins the steps whose turn it is,
 * waits for what they bring, and records it. Everything that it sends out has ids that follow from the orchestration
 * and the step, so that nothing is done twice however often it is begun again.
 */
import type { EventEnvelope } from '../../../contracts/envelope.ts';
import { Refusal } from '../../../contracts/errors.ts';
import type { OdeonEvent } from '../../../contracts/events/catalogue.ts';
import type { OrchestrationStep } from '../../../contracts/events/orchestration.ts';
import type { SignalBus } from '../../../infra/bus/port.ts';
import type { EventStore } from '../../../infra/event-store/port.ts';
import type { CommandBus, CommandMeta } from '../../command.ts';
import {
  conversation,
  conversationIdFor,
  messageIdFor,
  requestInterrupt,
  sendMessage,
  startConversation,
  turnIdFor,
} from '../../domain/conversation.ts';
import { deliberation, deliberationIdFor } from '../../domain/deliberation.ts';
import {
  type EndedStep,
  endOf,
  type OrchestrationProgress,
  type OrchestrationState,
  recordProgress,
  type StartedStep,
  stepsToDo,
  timeLimit,
} from '../../domain/orchestration.ts';
import type { Held, StopReason } from '../work.ts';
import { askCouncil, stopCouncil } from './judges.ts';
import { taskText, withContext } from './task.ts';

/** So long an interrupted run is waited for. */
const GRACE_MS = 10_000;

export interface OrchestrationDependencies {
  readonly bus: CommandBus;
  readonly store: EventStore;
  readonly signals: SignalBus;
  readonly now: () => Date;
  readonly graceMs?: number;
}

type Run = Extract<OrchestrationStep, { kind: 'run' }>;
type Judgement = Extract<OrchestrationStep, { kind: 'judgement' }>;
/** Why the steps are not waited for any more. */
type CutOff = 'cancelled' | 'timed out' | 'shutdown' | 'error';

/** The orchestration is no longer this worker's: somebody else goes on with it, or it has ended. */
class OrchestrationLost extends Error {}
/** The step is left as it is: another worker, or another try, goes on with it. */
class CutShort extends Error {}

/**
 * Runs the orchestration until it has ended, was given back (shutdown), or was lost to another worker.
 * @param stop aborted with a StopReason: `interrupt` when its cancelling was requested
 */
export async function carryOn(
  { id, worker, state: claimed, leave }: Held<OrchestrationState>,
  { bus, store, signals, now, graceMs = GRACE_MS }: OrchestrationDependencies,
  stop: AbortSignal,
): Promise<void> {
  let state = claimed;
  const { attempt, owner } = state;
  const request = state.request!;
  const ending = new AbortController();
  const cutOff = (): CutOff => ending.signal.reason as CutOff;
  const cut = (why: CutOff) => ending.abort(why);
  const onStop = () => cut((stop.reason as StopReason) === 'interrupt' ? 'cancelled' : 'shutdown');

  const metaOf = (key: string, causationId: string): CommandMeta => ({
    commandId: `${id}/${key}`,
    correlationId: request.correlationId,
    causationId,
    surface: request.surface,
    actor: { kind: 'system', id: 'orchestrations' },
    caller: null,
    // A try before a crash may have carried it out already.
    retried: true,
  });

  async function record(key: string, events: readonly OrchestrationProgress[]): Promise<void> {
    try {
      const input = { orchestrationId: id, worker, attempt, events: [...events] };
      state = (await bus.dispatch(recordProgress, input, metaOf(key, request.requestId))).state;
    } catch (error) {
      if (error instanceof Refusal && error.code === 'CONFLICT') throw new OrchestrationLost(error.message);
      throw error;
    }
  }

  const dueMs = Date.parse(request.time) + request.timeoutMs - now().getTime();
  const timer = setTimeout(() => cut('timed out'), Math.max(0, dueMs));
  if (dueMs <= 0) cut('timed out');
  stop.addEventListener('abort', onStop, { once: true });
  if (stop.aborted) onStop();
  try {
    await steps();
    if (leave.aborted) {
      await record(`released/${attempt}`, [{ type: 'OrchestrationReleased', data: { worker } }]);
      return;
    }
    const why = ending.signal.aborted ? (cutOff() as 'cancelled' | 'timed out') : null;
    await record('ended', endOf(state, why, now()));
  } catch (error) {
    if (!(error instanceof OrchestrationLost)) throw error;
  } finally {
    clearTimeout(timer);
    stop.removeEventListener('abort', onStop);
  }

  /** Carries steps on until none is left, or they are not waited for any more. */
  async function steps(): Promise<void> {
    const running = new Map<string, Promise<void>>();
    try {
      for (;;) {
        for (const step of stepsToDo(state)) {
          const begun = Object.hasOwn(state.started, step.id);
          if (running.has(step.id) || (ending.signal.aborted && !begun)) continue;
          const done = carryStep(step).finally(() => running.delete(step.id));
          running.set(step.id, done);
        }
        if (running.size === 0) return;
        await Promise.race(running.values());
        if (leave.aborted) return;
      }
    } catch (error) {
      cut('error');
      throw error;
    } finally {
      await Promise.allSettled(running.values());
    }
  }

  async function carryStep(step: OrchestrationStep): Promise<void> {
    try {
      const end = await (step.kind === 'run' ? run(step) : judgement(step));
      await record(`ended/${step.id}`, [{ type: 'StepEnded', data: end }]);
    } catch (error) {
      // What was given back is gone on with by the next worker.
      if (!(error instanceof CutShort)) throw error;
    }
  }

  async function started(
    step: OrchestrationStep,
    data: () => Promise<StartedStep['data']> | StartedStep['data'],
  ) {
    if (!Object.hasOwn(state.started, step.id)) {
      await record(`started/${step.id}`, [{ type: 'StepStarted', data: await data() }]);
    }
    return state.started[step.id]!;
  }

  // ── runs ────────────────────────────────────────────────────────────────
  async function run(step: Run): Promise<EndedStep> {
    const key = `${id}/${step.id}`;
    const { eventId, data } = await started(step, async () => ({
      kind: 'run',
      stepId: step.id,
      conversationId: await freeConversationId(key),
      turnId: turnIdFor(key),
    }));
    if (data.kind !== 'run') throw new Error(`The step ${step.id} began as a judgement.`);
    const { conversationId, turnId } = data;
    const stream = `${conversation.category}-${conversationId}`;
    // The run is its asker's; this only sends it.
    const meta = { ...metaOf(step.id, eventId), actor: request.actor };
    if (!ending.signal.aborted) {
      try {
        await ask(step, conversationId, turnId, meta);
      } catch (error) {
        if (error instanceof Refusal) return failed(step, error.message);
        throw error;
      }
      const end = await ended(stream, isEndOf(turnId), ending.signal);
      if (end !== null) return endOfRun(step, end);
    }
    if (leave.aborted || cutOff() === 'error') throw new CutShort();
    const interrupted = await bus.dispatch(
      requestInterrupt,
      { conversationId, turnId },
      metaOf(`interrupt/${step.id}`, eventId),
    );
    const { running, waiting } = interrupted.state;
    const isOpen = running?.turnId === turnId || waiting.some((turn) => turn.turnId === turnId);
    if (isOpen) signals.publish({ kind: 'interrupt', stream, workId: turnId });
    const patience = isOpen ? AbortSignal.any([AbortSignal.timeout(graceMs), leave]) : AbortSignal.abort();
    const end = await ended(stream, isEndOf(turnId), patience);
    if (end === null && leave.aborted) throw new CutShort();
    return end === null ? cancelled(step) : endOfRun(step, end);
  }

  /** 48 bits may meet an id that is taken. */
  async function freeConversationId(key: string): Promise<string> {
    for (let salt = 0; ; salt++) {
      const conversationId = conversationIdFor(key, salt);
      if ((await bus.load(conversation, conversationId)).state.status === 'none') return conversationId;
    }
  }

  async function ask(step: Run, conversationId: string, turnId: string, meta: CommandMeta): Promise<void> {
    const { agent } = step.run;
    await bus.dispatch(
      startConversation,
      {
        conversationId,
        owner,
        title: null,
        mode: 'assistant',
        model: null,
        kind: 'run',
        agent,
        linkId: null,
      },
      meta,
    );
    const { parent } = request;
    await bus.dispatch(
      sendMessage,
      {
        conversationId,
        messageId: messageIdFor(`${id}/${step.id}`),
        turnId,
        content: taskText(step, state),
        model: step.model,
        instructions: step.instructions,
        run: {
          ...step.run,
          trigger: request.kind === 'delegation' ? 'agent' : 'fan_out',
          parent,
          orchestrationId: id,
        },
        prompt: null,
      },
      meta,
    );
  }

  function endOfRun({ id: stepId }: Run, end: RunEnd): EndedStep {
    const { content, usage, costUsd, durationMs } = end.data;
    const spent = { tokens: usage.promptTokens + usage.completionTokens, costUsd, durationMs };
    const step = { stepId, result: content, verdict: null, ...spent };
    if (end.type === 'TurnCompleted') return { ...step, outcome: 'completed', reason: null };
    if (end.type === 'TurnFailed') return { ...step, outcome: 'failed', reason: end.data.reason };
    return { ...step, outcome: 'cancelled', reason: whyCancelled() };
  }

  function whyCancelled(): string {
    if (cutOff() === 'timed out') return timeLimit(request);
    return cutOff() === 'cancelled' ? 'It was cancelled.' : 'The run was interrupted.';
  }

  // ── judgements ──────────────────────────────────────────────────────────
  async function judgement(step: Judgement): Promise<EndedStep> {
    const { eventId, data } = await started(step, () => ({
      kind: 'judgement',
      stepId: step.id,
      deliberationId: deliberationIdFor(`${id}/${step.id}`),
    }));
    if (data.kind !== 'judgement') throw new Error(`The step ${step.id} began as a run.`);
    const { deliberationId } = data;
    const stream = `${deliberation.category}-${deliberationId}`;
    if (!ending.signal.aborted) {
      const { question: topic, purpose } = step;
      try {
        const question = { deliberationId, owner, topic, purpose, material: materialOf(step) };
        await askCouncil(bus, question, metaOf(step.id, eventId));
      } catch (error) {
        if (error instanceof Refusal) return failed(step, error.message);
        throw error;
      }
      const end = await ended(stream, isEndOfDeliberation, ending.signal);
      if (end !== null) return endOfJudgement(step, stream, end);
    }
    if (leave.aborted || cutOff() === 'error') throw new CutShort();
    const { state: open } = await bus.load(deliberation, deliberationId);
    if (open.status === 'none') return cancelled(step);
    const meta = metaOf(`stop/${step.id}`, eventId);
    await stopCouncil(bus, { deliberationId, at: now() }, meta);
    signals.publish({ kind: 'interrupt', stream, workId: deliberationId });
    const patience = AbortSignal.any([AbortSignal.timeout(graceMs), leave]);
    const end = await ended(stream, isEndOfDeliberation, patience);
    if (end === null && leave.aborted) throw new CutShort();
    return end === null ? cancelled(step) : endOfJudgement(step, stream, end);
  }

  function materialOf(step: Judgement) {
    const judged = request.steps.find((other) => other.id === step.judges);
    const by = judged?.kind === 'run' ? judged.run.agent.name : step.judges;
    const task = withContext(request.task, request.context);
    const given = (pieceId: string, title: string, text: string) => ({
      id: pieceId,
      title,
      text,
      tool: null,
    });
    return [
      given('task', 'What was asked for', task),
      given(step.purpose, `The ${step.purpose} of ${by}`, state.ended[step.judges]?.result ?? ''),
    ];
  }

  async function endOfJudgement(
    { id: stepId }: Judgement,
    stream: string,
    end: OdeonEvent<'DeliberationEnded'>,
  ): Promise<EndedStep> {
    const { usage, costUsd, durationMs, outcome, reason } = end.data;
    const spent = { tokens: usage.promptTokens + usage.completionTokens, costUsd, durationMs };
    const decision = await find(stream, isDecision);
    if (outcome === 'decided' && decision !== null) {
      const { data, id: decisionId } = decision;
      const verdict = { outcome: data.outcome, decisionId, dissent: data.dissent };
      return { stepId, outcome: 'completed', result: data.decision, reason: null, verdict, ...spent };
    }
    const stopped = outcome === 'stopped';
    const why = stopped ? whyStopped() : `The Council came to no decision: ${reason ?? 'it failed'}`;
    const undecided = { stepId, result: '', verdict: null, reason: why, ...spent };
    return { ...undecided, outcome: stopped && ending.signal.aborted ? 'cancelled' : 'failed' };
  }

  function whyStopped(): string {
    if (ending.signal.aborted) return whyCancelled();
    return 'The deliberation was stopped before it came to a decision.';
  }

  // ── what others say ─────────────────────────────────────────────────────
  /** Reads the stream, then waits. Null when `signal` was aborted and the event is not there. */
  async function ended<Found extends EventEnvelope>(
    stream: string,
    is: (event: EventEnvelope) => event is Found,
    signal: AbortSignal,
  ): Promise<Found | null> {
    const after = await store.head();
    const found = await find(stream, is);
    if (found !== null || signal.aborted) return found;
    for await (const page of store.subscribe({ after, filter: { stream }, signal })) {
      const event = page.events.find(is);
      if (event !== undefined) return event;
    }
    if (!signal.aborted) throw new Error('The subscription of the log ended.');
    return find(stream, is);
  }

  async function find<Found extends EventEnvelope>(
    stream: string,
    is: (event: EventEnvelope) => event is Found,
  ): Promise<Found | null> {
    for await (const page of store.readStream(stream, { direction: 'backwards' })) {
      const found = page.find(is);
      if (found !== undefined) return found;
    }
    return null;
  }

  function cancelled({ id: stepId }: OrchestrationStep): EndedStep {
    return { ...nothing, stepId, outcome: 'cancelled', reason: whyCancelled() };
  }
}

type RunEnd = OdeonEvent<'TurnCompleted' | 'TurnInterrupted' | 'TurnFailed'>;
const turnEnds = ['TurnCompleted', 'TurnInterrupted', 'TurnFailed'];
const isEndOf =
  (turnId: string) =>
  (event: EventEnvelope): event is RunEnd =>
    turnEnds.includes(event.type) && (event as RunEnd).data.turnId === turnId;
const isEndOfDeliberation = (event: EventEnvelope): event is OdeonEvent<'DeliberationEnded'> =>
  event.type === 'DeliberationEnded';
const isDecision = (event: EventEnvelope): event is OdeonEvent<'DecisionReached'> =>
  event.type === 'DecisionReached';

const nothing = { result: '', verdict: null, tokens: 0, costUsd: 0, durationMs: 0 } as const;
const failed = ({ id: stepId }: OrchestrationStep, reason: string): EndedStep => ({
  ...nothing,
  stepId,
  outcome: 'failed',
  reason,
});
