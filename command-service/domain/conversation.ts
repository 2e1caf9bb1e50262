/**
 * A conversation: messages in order, and one turn at a time that answers them. The worker that holds the
 * running turn is the only one whose steps are recorded.
 */
import { z } from 'zod';
import { type Caller, sees } from '../../contracts/caller.ts';
import * as commands from '../../contracts/commands/conversation.ts';
import type { Surface } from '../../contracts/envelope.ts';
import { Refusal, refuse } from '../../contracts/errors.ts';
import type { DecidedEvent, EventType, OdeonEvent } from '../../contracts/events/catalogue.ts';
import {
  type AgentReference,
  type ConversationKind,
  type ConversationMode,
  conversationEvents,
} from '../../contracts/events/conversation.ts';
import type { Aggregate, Command } from '../command.ts';
import { derivedId } from './derived-id.ts';

export type ConversationEventType = keyof typeof conversationEvents;
export type ConversationEvent = OdeonEvent<ConversationEventType>;
type Decided = DecidedEvent<ConversationEventType>;

// ── ids, derived from the command that makes them ─────────────────────────
/** 12 hexadecimal digits; `salt` counts up when such a conversation exists already. */
export const conversationIdFor = (commandId: string, salt = 0): string =>
  derivedId(12, 'conversation', commandId, salt);
export const messageIdFor = (commandId: string): string => `msg_${derivedId(24, 'message', commandId)}`;
export const turnIdFor = (commandId: string): string => `turn_${derivedId(24, 'turn', commandId)}`;
export const answerIdFor = (turnId: string): string => `msg_${derivedId(24, 'answer', turnId)}`;

// ── state: only what deciding needs ───────────────────────────────────────
export interface WaitingTurn {
  readonly turnId: string;
  /** Of the MessageSent event that asked for it. */
  readonly requestId: string;
  readonly correlationId: string;
  readonly surface: Surface;
  /** Of a run: its agent, and how many runs of it run at once. */
  readonly agent: { readonly id: string; readonly atOnce: number } | null;
}

export interface RunningTurn extends WaitingTurn {
  readonly attempt: number;
  /** Who holds it; null once its worker gave it back. */
  readonly worker: string | null;
  readonly interruptRequested: boolean;
}

export interface ConversationState {
  readonly status: 'none' | 'active' | 'ended' | 'deleted';
  readonly owner: string;
  readonly title: string | null;
  readonly mode: ConversationMode;
  readonly model: string | null;
  readonly archived: boolean;
  readonly kind: ConversationKind;
  readonly agent: AgentReference | null;
  readonly linkId: string | null;
  readonly waiting: readonly WaitingTurn[];
  readonly running: RunningTurn | null;
}

const initial: ConversationState = {
  status: 'none',
  owner: '',
  title: null,
  mode: 'assistant',
  model: null,
  archived: false,
  kind: 'chat',
  agent: null,
  linkId: null,
  waiting: [],
  running: null,
};

function evolve(state: ConversationState, event: ConversationEvent): ConversationState {
  switch (event.type) {
    case 'ConversationStarted':
      return { ...state, ...event.data, status: 'active', owner: event.owner };
    case 'ConversationRenamed':
      return { ...state, title: event.data.title };
    case 'ConversationModeChanged':
      return { ...state, mode: event.data.mode };
    case 'ConversationArchived':
      return { ...state, archived: true };
    case 'ConversationUnarchived':
      return { ...state, archived: false };
    case 'ConversationEnded':
      return { ...state, status: 'ended' };
    case 'ConversationDeleted':
      return { ...state, status: 'deleted' };
    case 'MessageSent': {
      const { correlationId, surface } = event;
      const { turnId, run } = event.data;
      const agent = run && { id: run.agent.id, atOnce: run.concurrency };
      const turn = { turnId, requestId: event.id, correlationId, surface, agent };
      return { ...state, waiting: [...state.waiting, turn] };
    }
    case 'TurnStarted': {
      const { turnId, attempt, worker } = event.data;
      const begun = state.running ?? state.waiting.find((turn) => turn.turnId === turnId);
      if (begun === undefined) return state;
      return {
        ...state,
        waiting: state.waiting.filter((turn) => turn.turnId !== turnId),
        running: { interruptRequested: false, ...begun, attempt, worker },
      };
    }
    case 'TurnReleased':
      return state.running === null ? state : { ...state, running: { ...state.running, worker: null } };
    case 'InterruptRequested':
      return state.running === null
        ? state
        : { ...state, running: { ...state.running, interruptRequested: true } };
    case 'TurnCompleted':
    case 'TurnInterrupted':
    case 'TurnFailed': {
      const { turnId } = event.data;
      return {
        ...state,
        waiting: state.waiting.filter((turn) => turn.turnId !== turnId),
        running: state.running?.turnId === turnId ? null : state.running,
      };
    }
    default:
      return state;
  }
}

export const conversation: Aggregate<ConversationState, ConversationEventType> = {
  category: 'conversation',
  initial,
  evolve,
  stateVersion: 3,
};

// ── commands ──────────────────────────────────────────────────────────────
/** So many messages may wait for their turn. */
export const MAX_WAITING = 100;
/** A turn whose attempts failed so often has failed. */
export const MAX_ATTEMPTS = 3;

interface OfConversation {
  conversationId: string;
}

function authorise(caller: Caller, _input: unknown, state: ConversationState): void {
  if (state.status === 'none' || state.status === 'deleted' || !sees(caller, state.owner)) absent();
}
const absent = (): never => refuse('NOT_FOUND', 'Conversation not found.');

type ConversationCommand<Input> = Command<Input, ConversationState, ConversationEventType>;

/** A command on a conversation that there is. */
const command = <Input extends OfConversation>(
  name: string,
  schema: z.ZodType<Input>,
  decide: ConversationCommand<Input>['decide'],
): ConversationCommand<Input> => ({
  name,
  aggregate: conversation,
  schema,
  id: (input) => input.conversationId,
  owner: (_input, state) => state.owner,
  authorise,
  decide,
});

export const startConversation: ConversationCommand<z.infer<typeof commands.startConversation>> = {
  name: 'StartConversation',
  aggregate: conversation,
  schema: commands.startConversation,
  id: (input) => input.conversationId,
  owner: (input) => input.owner,
  decide({ title, mode, model, kind, agent, linkId }, state) {
    if (state.status !== 'none') refuse('CONFLICT', 'There is such a conversation already.');
    return [{ type: 'ConversationStarted', data: { title, mode, model, kind, agent, linkId } }];
  },
};

export const changeConversation = command(
  'ChangeConversation',
  commands.changeConversation,
  (input, state) => {
    const events: Decided[] = [];
    if (input.title !== undefined && input.title !== state.title) {
      events.push({ type: 'ConversationRenamed', data: { title: input.title } });
    }
    if (input.mode !== undefined && input.mode !== state.mode) {
      events.push({ type: 'ConversationModeChanged', data: { mode: input.mode } });
    }
    if (input.archived !== undefined && input.archived !== state.archived) {
      events.push({ type: input.archived ? 'ConversationArchived' : 'ConversationUnarchived', data: {} });
    }
    return events;
  },
);

export const endConversation = command('EndConversation', commands.endConversation, (_input, state) =>
  state.status === 'ended' ? [] : [...stopTurns(state), { type: 'ConversationEnded', data: {} }],
);

export const deleteConversation = command(
  'DeleteConversation',
  commands.deleteConversation,
  (_input, state) => [...stopTurns(state), { type: 'ConversationDeleted', data: {} }],
);

export const sendMessage = command('SendMessage', commands.sendMessage, (input, state) => {
  if (state.status === 'ended') refuse('CONFLICT', 'The conversation has ended: start a new one.');
  if (state.waiting.length >= MAX_WAITING) {
    throw new Refusal('RATE_LIMIT_EXCEEDED', `${MAX_WAITING} messages wait for an answer already.`, {
      retryAfterSeconds: 5,
    });
  }
  const { conversationId: _id, ...data } = input;
  refuseContradiction(data.prompt);
  return [{ type: 'MessageSent', data }];
});

/** A tool can only be asked for where there is one. */
function refuseContradiction(prompt: z.infer<typeof commands.sendMessage>['prompt']): void {
  if (prompt === null) return;
  const { tools, toolChoice, messages } = prompt;
  if (messages.length === 0) refuse('VALIDATION_ERROR', 'messages: there is none to answer.');
  if (typeof toolChoice === 'object' && !tools.some(({ name }) => name === toolChoice.tool)) {
    refuse('VALIDATION_ERROR', `tool_choice: no tool named "${toolChoice.tool}" is offered.`);
  }
  if (toolChoice === 'required' && tools.length === 0) {
    refuse('VALIDATION_ERROR', 'tool_choice: a tool is required, and none is offered.');
  }
}

export const requestInterrupt = command('RequestInterrupt', commands.requestInterrupt, (input, state) => {
  const { running, waiting } = state;
  const turnId = input.turnId ?? running?.turnId;
  if (turnId === undefined) return [];
  if (running?.turnId === turnId) {
    return running.interruptRequested ? [] : [{ type: 'InterruptRequested', data: { turnId } }];
  }
  return waiting.some((turn) => turn.turnId === turnId) ? [cancelled(turnId)] : [];
});

/** Takes the next waiting turn, one that was given back, or (`takeOver`) one whose worker is gone. */
export const claimTurn = command(
  'ClaimTurn',
  z.strictObject({
    conversationId: commands.conversationId,
    turnId: commands.turnId,
    worker: z.string(),
    /** The worker that is known to be gone, or that gives its own turn another attempt. */
    takeOverFrom: z.string().nullable(),
  }),
  ({ turnId, worker, takeOverFrom }, state) => {
    const { running } = state;
    if (running === null) {
      if (state.waiting[0]?.turnId !== turnId) refuse('CONFLICT', 'Another turn is next.');
      return [{ type: 'TurnStarted', data: { turnId, attempt: 1, worker } }];
    }
    if (running.turnId !== turnId) refuse('CONFLICT', 'Another turn runs.');
    if (running.worker === null) {
      return [{ type: 'TurnStarted', data: { turnId, attempt: running.attempt, worker } }];
    }
    if (running.worker !== takeOverFrom) refuse('CONFLICT', 'Another worker holds the turn.');
    return [{ type: 'TurnStarted', data: { turnId, attempt: running.attempt + 1, worker } }];
  },
);

const stepTypes = [
  'MessageRouted',
  'ContextPrepared',
  'ContextCompacted',
  'ModelCalled',
  'ModelAnswered',
  'ModelFailed',
  'CheckpointTaken',
  'ToolCalled',
  'ToolReturned',
  'TurnReleased',
  'TurnCompleted',
  'TurnInterrupted',
  'TurnFailed',
] as const satisfies readonly ConversationEventType[];
/** What a worker records of a turn that it holds. */
export type TurnStep = DecidedEvent<(typeof stepTypes)[number]>;

/** Records what a worker did, as long as it holds the turn: a worker that was taken over is refused. */
export const recordSteps = command(
  'RecordSteps',
  z.strictObject({
    conversationId: commands.conversationId,
    turnId: commands.turnId,
    worker: z.string(),
    attempt: z.int().positive(),
    /** Of this turn; checked against their own schemas when they are appended. */
    steps: z
      .array(z.object({ type: z.enum(stepTypes), data: z.looseObject({ turnId: commands.turnId }) }))
      .min(1) as unknown as z.ZodType<TurnStep[]>,
  }),
  ({ turnId, worker, attempt, steps }, { running }) => {
    if (running?.turnId !== turnId || running.worker !== worker || running.attempt !== attempt) {
      refuse('CONFLICT', 'The turn is no longer held by this worker.');
    }
    return steps;
  },
);

/** What ends the turns of a conversation that is closed: the running one is stopped by its worker. */
function stopTurns({ running, waiting }: ConversationState): Decided[] {
  const stopped: Decided[] = waiting.map((turn) => cancelled(turn.turnId));
  if (running !== null && !running.interruptRequested) {
    stopped.unshift({ type: 'InterruptRequested', data: { turnId: running.turnId } });
  }
  return stopped;
}

/** A turn that ends before it began. */
const cancelled = (turnId: string): Decided => ({
  type: 'TurnInterrupted',
  data: {
    turnId,
    messageId: answerIdFor(turnId),
    content: '',
    provider: null,
    model: null,
    requestedModel: null,
    decision: null,
    tried: [],
    toolsUsed: [],
    usage: { promptTokens: 0, completionTokens: 0, cachedTokens: 0 },
    costUsd: 0,
    durationMs: 0,
    finishReason: null,
    toolRequests: [],
  },
});

export const isConversationEvent = (event: { type: EventType | string }): event is ConversationEvent =>
  Object.hasOwn(conversationEvents, event.type);
