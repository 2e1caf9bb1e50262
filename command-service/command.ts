/** What a command is made of; `bus.ts` carries commands out. */
import type { z } from 'zod';
import type { Caller } from '../contracts/caller.ts';
import type { Actor, EventEnvelope, Position, Surface } from '../contracts/envelope.ts';
import type { DecidedEvent, EventType, OdeonEvent } from '../contracts/events/catalogue.ts';

/** A stream category and its state, folded from events. Pure. */
export interface Aggregate<State, Type extends EventType = EventType> {
  /** The streams are named `<category>-<id>`. */
  readonly category: string;
  readonly initial: State;
  readonly evolve: (state: State, event: OdeonEvent<Type>) => State;
  /** Raise it when the shape of `State` changes, so that old snapshots are ignored. State must be plain JSON. */
  readonly stateVersion: number;
}

export interface Command<Input, State, Type extends EventType = EventType> {
  readonly name: string;
  readonly aggregate: Aggregate<State, Type>;
  readonly schema: z.ZodType<Input>;
  /** Which `<id>` of the category the command is for. */
  readonly id: (input: Input) => string;
  /** Who the events belong to. */
  readonly owner: (input: Input, state: State) => string;
  /**
   * Refuses (throws Refusal) a caller who may not do this to what `state` describes. Not called for the
   * system's own commands.
   */
  readonly authorise?: (caller: Caller, input: Input, state: State) => void;
  /** The events that follow; none when it is already so. Refuses by throwing Refusal. Pure. */
  readonly decide: (input: Input, state: State) => readonly DecidedEvent<Type>[];
}

/** Who issues a command, and why. */
export interface CommandMeta {
  readonly commandId: string;
  readonly correlationId: string;
  /** The event that this reacts to; null when a request from outside began it. */
  readonly causationId: string | null;
  readonly surface: Surface;
  readonly actor: Actor;
  /** Null for the system's own commands, which are not authorised. */
  readonly caller: Caller | null;
  /** True when an earlier try of the same command may have appended already. */
  readonly retried: boolean;
}

export interface CommandResult<State> {
  /** What was appended (by this or an earlier try of the same command); empty when nothing had to be. */
  readonly events: readonly EventEnvelope[];
  /** The state after them. */
  readonly state: State;
  /** Of the last event appended; null when nothing was. */
  readonly position: Position | null;
}

export interface CommandBus {
  /** @throws Refusal (bad input, not allowed, refused by the decider), StoreUnavailable */
  dispatch<Input, State, Type extends EventType>(
    command: Command<Input, State, Type>,
    input: NoInfer<Input>,
    meta: CommandMeta,
  ): Promise<CommandResult<State>>;
  /** The state of `<category>-<id>` now, with the revision of the stream's last event (-1: no stream). */
  load<State, Type extends EventType>(
    aggregate: Aggregate<State, Type>,
    id: string,
  ): Promise<{ state: State; revision: number }>;
}
