/**
 * A deliberation: members of the Council speak about a topic, object, vote, and reach a decision that actions cite.
 * The worker that holds it is the only one whose steps are recorded.
 */
import { z } from 'zod';
import { type Caller, sees } from '../../contracts/caller.ts';
import * as commands from '../../contracts/commands/deliberation.ts';
import type { Surface } from '../../contracts/envelope.ts';
import { refuse } from '../../contracts/errors.ts';
import type { DecidedEvent, OdeonEvent } from '../../contracts/events/catalogue.ts';
import type { TokenUsage } from '../../contracts/events/conversation.ts';
import type { deliberationEvents, Voice } from '../../contracts/events/deliberation.ts';
import type { Aggregate, Command } from '../command.ts';
import type { CouncilEventType } from './council.ts';
import { derivedId } from './derived-id.ts';

export type DeliberationEventType = Exclude<keyof typeof deliberationEvents, CouncilEventType>;
export type DeliberationEvent = OdeonEvent<DeliberationEventType>;

export const deliberationIdFor = (commandId: string): string =>
  `delib_${derivedId(24, 'deliberation', commandId)}`;

// ── state: only what deciding needs ───────────────────────────────────────
export interface DeliberationState {
  readonly status: 'none' | 'open' | 'ended';
  readonly id: string;
  readonly owner: string;
  /** Of the DeliberationOpened event. */
  readonly requestId: string;
  readonly correlationId: string;
  readonly surface: Surface;
  /** Starts after a worker was lost. */
  readonly attempt: number;
  /** How many workers in a row were lost before they had recorded a step. */
  readonly fruitless: number;
  /** Who holds it; null while nobody does. */
  readonly worker: string | null;
  readonly stopRequested: boolean;
  readonly openedAt: string;
  /** On models, so far. `costUsd` null: of a model whose price is not known. */
  readonly usage: TokenUsage;
  readonly costUsd: number | null;
}

const initial: DeliberationState = {
  status: 'none',
  id: '',
  owner: '',
  requestId: '',
  correlationId: '',
  surface: 'luna',
  attempt: 0,
  fruitless: 0,
  worker: null,
  stopRequested: false,
  openedAt: '',
  usage: { promptTokens: 0, completionTokens: 0, cachedTokens: 0 },
  costUsd: 0,
};

function evolve(state: DeliberationState, event: DeliberationEvent): DeliberationState {
  switch (event.type) {
    case 'DeliberationOpened': {
      const { owner, correlationId, surface, id: requestId, time: openedAt } = event;
      const id = event.stream.slice('deliberation-'.length);
      return { ...state, status: 'open', id, owner, requestId, correlationId, surface, openedAt };
    }
    case 'DeliberationStarted': {
      const { attempt, worker } = event.data;
      const isLost = state.worker !== null;
      return { ...state, attempt, worker, fruitless: isLost ? state.fruitless + 1 : state.fruitless };
    }
    case 'DeliberationReleased':
      return { ...state, worker: null };
    case 'DeliberationStopRequested':
      return { ...state, stopRequested: true };
    case 'MemberSpoke':
    case 'VoteCast':
    case 'DecisionReached':
      return { ...state, ...(event.data.voice !== null && withSpent(state, event.data.voice)), fruitless: 0 };
    case 'DeliberationEnded':
      return { ...state, status: 'ended', worker: null };
    default:
      // Any other step.
      return state.fruitless === 0 ? state : { ...state, fruitless: 0 };
  }
}

/** What was spent, and what a voice cost, together. */
export function withSpent(
  spent: Pick<DeliberationState, 'usage' | 'costUsd'>,
  { usage, costUsd }: Pick<Voice, 'usage' | 'costUsd'>,
): Pick<DeliberationState, 'usage' | 'costUsd'> {
  return {
    usage: {
      promptTokens: spent.usage.promptTokens + usage.promptTokens,
      completionTokens: spent.usage.completionTokens + usage.completionTokens,
      cachedTokens: spent.usage.cachedTokens + usage.cachedTokens,
    },
    // In units of 10⁻¹², so that sums have no rounding errors of their own.
    costUsd:
      spent.costUsd === null || costUsd === null
        ? null
        : (Math.round(spent.costUsd * 1e12) + Math.round(costUsd * 1e12)) / 1e12,
  };
}

export const deliberation: Aggregate<DeliberationState, DeliberationEventType> = {
  category: 'deliberation',
  initial,
  evolve,
  stateVersion: 2,
};

// ── commands ──────────────────────────────────────────────────────────────
type DeliberationCommand<Input> = Command<Input, DeliberationState, DeliberationEventType>;

function authorise(caller: Caller, _input: unknown, state: DeliberationState): void {
  if (state.status === 'none' || !sees(caller, state.owner)) absent();
}
const absent = (): never => refuse('NOT_FOUND', 'Deliberation not found.');

/** A command on a deliberation that there is. */
const command = <Input extends { deliberationId: string }>(
  name: string,
  schema: z.ZodType<Input>,
  decide: DeliberationCommand<Input>['decide'],
): DeliberationCommand<Input> => ({
  name,
  aggregate: deliberation,
  schema,
  id: (input) => input.deliberationId,
  owner: (_input, state) => state.owner,
  authorise,
  decide: (input, state) => (state.status === 'none' ? absent() : decide(input, state)),
});

/** Opens one, unless it is open already: whoever asks again asks for the same. */
export const openDeliberation: DeliberationCommand<z.infer<typeof commands.openDeliberation>> = {
  name: 'OpenDeliberation',
  aggregate: deliberation,
  schema: commands.openDeliberation,
  id: (input) => input.deliberationId,
  owner: (input) => input.owner,
  decide({ deliberationId: _id, owner: _owner, ...opened }, state) {
    if (state.status !== 'none') return [];
    return [{ type: 'DeliberationOpened', data: opened }];
  },
};

/** Asks its worker to stop it. One that nobody holds is stopped at once. */
export const requestDeliberationStop = command(
  'RequestDeliberationStop',
  commands.requestDeliberationStop,
  ({ at }, { status, worker, stopRequested, usage, costUsd, openedAt }) => {
    if (status === 'ended') return [];
    const events: DecidedEvent<DeliberationEventType>[] = [];
    if (!stopRequested) events.push({ type: 'DeliberationStopRequested', data: {} });
    if (worker === null) {
      const durationMs = Math.max(0, Date.parse(at) - Date.parse(openedAt));
      const data = { outcome: 'stopped' as const, reason: null, usage, costUsd, durationMs };
      events.push({ type: 'DeliberationEnded', data });
    }
    return events;
  },
);

/** Takes one that nobody holds, or (`takeOverFrom`) whose worker is gone. */
export const claimDeliberation = command(
  'ClaimDeliberation',
  z.strictObject({
    deliberationId: commands.deliberationId,
    worker: z.string(),
    /** The worker that is known to be gone, or this one itself. */
    takeOverFrom: z.string().nullable(),
  }),
  ({ worker, takeOverFrom }, state) => {
    if (state.status === 'ended') refuse('CONFLICT', 'The deliberation has ended.');
    if (state.worker !== takeOverFrom) refuse('CONFLICT', 'Another worker holds the deliberation.');
    // Given back it goes on with the same attempt; after a worker that was lost, it is another one.
    const attempt = state.worker === null ? Math.max(state.attempt, 1) : state.attempt + 1;
    return [{ type: 'DeliberationStarted', data: { attempt, worker } }];
  },
);

const stepTypes = [
  'PhaseStarted',
  'MaterialSought',
  'MaterialGathered',
  'DeliberationLimited',
  'VoiceFailed',
  'MemberSpoke',
  'VoteCast',
  'PhaseEnded',
  'DecisionReached',
  'ActionTaken',
  'DeliberationReleased',
  'DeliberationEnded',
] as const satisfies readonly DeliberationEventType[];
/** What a worker records of a deliberation that it holds. */
export type DeliberationStep = DecidedEvent<(typeof stepTypes)[number]>;

/** Records what a worker did, as long as it holds the deliberation. */
export const recordDeliberation = command(
  'RecordDeliberation',
  z.strictObject({
    deliberationId: commands.deliberationId,
    worker: z.string(),
    attempt: z.int().positive(),
    /** Checked against their own schemas when they are appended. */
    steps: z
      .array(z.object({ type: z.enum(stepTypes), data: z.looseObject({}) }))
      .min(1) as unknown as z.ZodType<DeliberationStep[]>,
  }),
  ({ worker, attempt, steps }, state) => {
    if (state.status !== 'open' || state.worker !== worker || state.attempt !== attempt) {
      refuse('CONFLICT', 'The deliberation is no longer held by this worker.');
    }
    return steps;
  },
);
