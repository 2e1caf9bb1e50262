/**
 * An orchestration: steps over several agents, carried out at once or in order, within a time limit. The worker that
 * holds it is the only one whose steps are recorded.
 */
import { z } from 'zod';
import { type Caller, sees } from '../../contracts/caller.ts';
import * as commands from '../../contracts/commands/orchestration.ts';
import type { Actor, Surface } from '../../contracts/envelope.ts';
import { refuse } from '../../contracts/errors.ts';
import type { DecidedEvent, EventData, OdeonEvent } from '../../contracts/events/catalogue.ts';
import type { OrchestrationStep, orchestrationEvents } from '../../contracts/events/orchestration.ts';
import { addUsd } from '../../contracts/read-models/orchestration.ts';
import type { Aggregate, Command } from '../command.ts';
import { derivedId } from './derived-id.ts';

export type OrchestrationEventType = keyof typeof orchestrationEvents;
type OrchestrationEvent = OdeonEvent<OrchestrationEventType>;

export const orchestrationIdFor = (commandId: string): string =>
  `orch_${derivedId(24, 'orchestration', commandId)}`;

// ── state ─────────────────────────────────────────────────────────────────
/** A step that has begun. */
export interface StartedStep {
  /** Of its StepStarted event. */
  readonly eventId: string;
  readonly time: string;
  readonly data: EventData<'StepStarted'>;
}
export type EndedStep = EventData<'StepEnded'>;

export interface OrchestrationRequest extends Omit<EventData<'OrchestrationRequested'>, 'steps'> {
  readonly steps: readonly OrchestrationStep[];
  readonly requestId: string;
  readonly correlationId: string;
  readonly surface: Surface;
  /** Who asked for it. */
  readonly actor: Actor;
  readonly time: string;
}

/** What carrying it on needs. */
export interface OrchestrationState {
  readonly status: 'none' | 'waiting' | 'running' | 'ended';
  readonly owner: string;
  /** Null while there is none. */
  readonly request: OrchestrationRequest | null;
  readonly attempt: number;
  /** Who holds it; null while nobody does. */
  readonly worker: string | null;
  readonly cancelRequested: boolean;
  /** By the step's id. */
  readonly started: Readonly<Record<string, StartedStep>>;
  readonly ended: Readonly<Record<string, EndedStep>>;
  /** How it ended; null before. */
  readonly end: EventData<'OrchestrationEnded'> | null;
}

const initial: OrchestrationState = {
  status: 'none',
  owner: '',
  request: null,
  attempt: 0,
  worker: null,
  cancelRequested: false,
  started: {},
  ended: {},
  end: null,
};

function evolve(state: OrchestrationState, event: OrchestrationEvent): OrchestrationState {
  switch (event.type) {
    case 'OrchestrationRequested': {
      const { id: requestId, correlationId, surface, actor, time, owner, data } = event;
      const request = { ...data, requestId, correlationId, surface, actor, time };
      return { ...state, status: 'waiting', owner, request };
    }
    case 'OrchestrationStarted':
      return { ...state, status: 'running', attempt: event.data.attempt, worker: event.data.worker };
    case 'OrchestrationReleased':
      return { ...state, status: 'waiting', worker: null };
    case 'OrchestrationCancelRequested':
      return { ...state, cancelRequested: true };
    case 'StepStarted': {
      const { id: eventId, time, data } = event;
      return { ...state, started: { ...state.started, [data.stepId]: { eventId, time, data } } };
    }
    case 'StepEnded':
      return { ...state, ended: { ...state.ended, [event.data.stepId]: event.data } };
    case 'OrchestrationEnded':
      return { ...state, status: 'ended', worker: null, end: event.data };
  }
}

export const orchestration: Aggregate<OrchestrationState, OrchestrationEventType> = {
  category: 'orchestration',
  initial,
  evolve,
  stateVersion: 1,
};

// ── commands ──────────────────────────────────────────────────────────────
type OrchestrationCommand<Input> = Command<Input, OrchestrationState, OrchestrationEventType>;

function authorise(caller: Caller, _input: unknown, state: OrchestrationState): void {
  if (state.status === 'none' || !sees(caller, state.owner)) absent();
}
const absent = (): never => refuse('NOT_FOUND', 'Orchestration not found.');

export const requestOrchestration: OrchestrationCommand<z.infer<typeof commands.requestOrchestration>> = {
  name: 'RequestOrchestration',
  aggregate: orchestration,
  schema: commands.requestOrchestration,
  id: (input) => input.orchestrationId,
  owner: (input) => input.owner,
  decide({ orchestrationId: _id, owner: _owner, ...data }, state) {
    if (state.status !== 'none') refuse('CONFLICT', 'There is such an orchestration already.');
    return [{ type: 'OrchestrationRequested', data }];
  },
};

/** A command on an orchestration that there is. */
const command = <Input extends { orchestrationId: string }>(
  name: string,
  schema: z.ZodType<Input>,
  decide: OrchestrationCommand<Input>['decide'],
): OrchestrationCommand<Input> => ({
  name,
  aggregate: orchestration,
  schema,
  id: (input) => input.orchestrationId,
  owner: (_input, state) => state.owner,
  authorise,
  decide,
});

/** Asks for its end: what runs is interrupted, and nothing else begins. */
export const cancelOrchestration = command(
  'CancelOrchestration',
  commands.cancelOrchestration,
  (_input, { status, cancelRequested }) => {
    if (status === 'none') return absent();
    return status === 'ended' || cancelRequested ? [] : [{ type: 'OrchestrationCancelRequested', data: {} }];
  },
);

/** Takes it where nobody holds it, or (`takeOverFrom`) from a worker that is gone. */
export const claimOrchestration = command(
  'ClaimOrchestration',
  z.strictObject({
    orchestrationId: commands.orchestrationId,
    worker: z.string(),
    takeOverFrom: z.string().nullable(),
  }),
  ({ worker, takeOverFrom }, state) => {
    if (state.status !== 'waiting' && state.status !== 'running') refuse('CONFLICT', 'It has ended.');
    if (state.worker !== null && state.worker !== takeOverFrom)
      refuse('CONFLICT', 'Another worker holds it.');
    return [{ type: 'OrchestrationStarted', data: { attempt: state.attempt + 1, worker } }];
  },
);

const progressTypes = [
  'StepStarted',
  'StepEnded',
  'OrchestrationReleased',
  'OrchestrationEnded',
] as const satisfies readonly OrchestrationEventType[];
/** What a worker records of an orchestration that it holds. */
export type OrchestrationProgress = DecidedEvent<(typeof progressTypes)[number]>;

/** Records what a worker did, as long as it holds the orchestration. A step begins once and ends once. */
export const recordProgress = command(
  'RecordProgress',
  z.strictObject({
    orchestrationId: commands.orchestrationId,
    worker: z.string(),
    attempt: z.int().positive(),
    /** Checked against their own schemas when they are appended. */
    events: z
      .array(z.object({ type: z.enum(progressTypes), data: z.looseObject({}) }))
      .min(1) as unknown as z.ZodType<OrchestrationProgress[]>,
  }),
  ({ worker, attempt, events }, state) => {
    if (state.worker !== worker || state.attempt !== attempt) {
      refuse('CONFLICT', 'The orchestration is no longer held by this worker.');
    }
    const again = events.some(
      ({ type, data }) =>
        (type === 'StepStarted' && Object.hasOwn(state.started, data.stepId)) ||
        (type === 'StepEnded' && Object.hasOwn(state.ended, data.stepId)),
    );
    if (again) refuse('CONFLICT', 'A step begins once and ends once.');
    return events;
  },
);

// ── what is to be done ────────────────────────────────────────────────────
/** Whether what has ended keeps the rest from beginning. */
function halted({ request, ended }: OrchestrationState): boolean {
  return Object.values(ended).some(
    ({ outcome, verdict }) =>
      verdict?.outcome === 'rejected' || (request?.kind === 'delegation' && outcome !== 'completed'),
  );
}

/** The steps to be carried on now: those that have begun, and those whose turn it is. */
export function stepsToDo(state: OrchestrationState): readonly OrchestrationStep[] {
  const stops = halted(state);
  return (state.request?.steps ?? []).filter(({ id, after }) => {
    if (Object.hasOwn(state.ended, id)) return false;
    if (Object.hasOwn(state.started, id)) return true;
    return !stops && after.every((earlier) => Object.hasOwn(state.ended, earlier));
  });
}

/**
 * The end of an orchestration of which nothing is carried on any more: what becomes of the steps that have not begun,
 * and how it ended.
 * @param cutOff why the steps that have not ended were not waited for
 */
export function endOf(
  state: OrchestrationState,
  cutOff: 'cancelled' | 'timed out' | null,
  now: Date,
): readonly DecidedEvent<'StepEnded' | 'OrchestrationEnded'>[] {
  const { request, ended } = state;
  if (request === null) throw new Error('What was not asked for cannot end.');
  const left = request.steps.filter(({ id }) => !Object.hasOwn(ended, id));
  const reason =
    cutOff === null ? whyHalted(state) : cutOff === 'cancelled' ? 'It was cancelled.' : timeLimit(request);
  const neverBegan: EndedStep[] = left.map(({ id }) => ({
    stepId: id,
    outcome: cutOff === null ? 'skipped' : 'cancelled',
    result: '',
    reason,
    verdict: null,
    tokens: 0,
    costUsd: 0,
    durationMs: 0,
  }));
  const all = request.steps.map(({ id }) => ended[id] ?? neverBegan.find(({ stepId }) => stepId === id)!);
  const wasCutOff = cutOff !== null && all.some(({ outcome }) => outcome === 'cancelled');
  const outcome = wasCutOff ? cutOff : outcomeOf(request, all);
  const data: EventData<'OrchestrationEnded'> = {
    outcome,
    reason: outcome === 'completed' ? null : wasCutOff ? reason : whyNot(state, all),
    result: resultOf(request, all, outcome),
    tokens: all.reduce((sum, { tokens }) => sum + tokens, 0),
    costUsd: all.reduce<number | null>((sum, { costUsd }) => addUsd(sum, costUsd), 0),
    durationMs: Math.max(0, now.getTime() - Date.parse(request.time)),
  };
  return [
    ...neverBegan.map((step) => ({ type: 'StepEnded' as const, data: step })),
    { type: 'OrchestrationEnded', data },
  ];
}

export const timeLimit = ({ timeoutMs }: Pick<OrchestrationRequest, 'timeoutMs'>): string =>
  `Its time limit of ${timeoutMs / 1_000} s was reached.`;

type Outcome = EventData<'OrchestrationEnded'>['outcome'];

function outcomeOf({ kind, steps }: OrchestrationRequest, all: readonly EndedStep[]): Outcome {
  const good = all.filter(
    ({ outcome, verdict }) => outcome === 'completed' && verdict?.outcome !== 'rejected',
  );
  if (good.length === steps.length) return 'completed';
  // A delegation is for its result: part of it is none.
  return kind === 'orchestration' && good.length > 0 ? 'partial' : 'failed';
}

/** What ended otherwise than hoped for, in the order of the plan. */
function whyNot(state: OrchestrationState, all: readonly EndedStep[]): string {
  return (
    whyHalted(state) ??
    all
      .filter(({ outcome }) => outcome !== 'completed')
      .map(({ stepId, outcome, reason }) => `${nameOf(state, stepId)} ${outcome}: ${reason}`)
      .join(' ')
  );
}

function whyHalted(state: OrchestrationState): string | null {
  if (!halted(state)) return null;
  for (const { id } of state.request!.steps) {
    const step = state.ended[id];
    if (step?.verdict?.outcome === 'rejected') {
      const { dissent } = step.verdict;
      const others = dissent.map(({ member, reason }) => ` ${member} disagreed: ${reason}`).join('');
      return `The Council rejected the ${purposeOf(state, id)}: ${step.result}${others}`;
    }
    if (step !== undefined && step.outcome !== 'completed') {
      return `${nameOf(state, id)} ${step.outcome}: ${step.reason}`;
    }
  }
  return null;
}

function purposeOf(state: OrchestrationState, stepId: string): string {
  const step = state.request!.steps.find(({ id }) => id === stepId);
  return step?.kind === 'judgement' ? step.purpose : 'result';
}

/** Who does the step, for people. */
export function nameOf({ request }: Pick<OrchestrationState, 'request'>, stepId: string): string {
  const step = request?.steps.find(({ id }) => id === stepId);
  return step?.kind === 'run' ? `${step.run.agent.name} (${stepId})` : `The judgement ${stepId}`;
}

/** The results put together. Of a delegation it is that of the work, as long as nobody rejected it. */
function resultOf(request: OrchestrationRequest, all: readonly EndedStep[], outcome: Outcome): string {
  const results = request.steps.flatMap((step, index) =>
    step.kind === 'run' && all[index]!.outcome === 'completed' ? [{ step, text: all[index]!.result }] : [],
  );
  if (request.kind === 'delegation') return outcome === 'completed' ? (results.at(-1)?.text ?? '') : '';
  if (request.steps.length === 1) return results[0]?.text ?? '';
  return results.map(({ step, text }) => `## ${step.run.agent.name}\n\n${text}`).join('\n\n');
}
