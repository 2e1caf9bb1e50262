/** Tests of deciders read as sentences: given these events, when this command, then these events. */
import { expect } from 'chai';
import type { Caller } from '../contracts/caller.ts';
import { Refusal } from '../contracts/errors.ts';
import type { DecidedEvent, EventType, OdeonEvent } from '../contracts/events/catalogue.ts';
import type { Aggregate, Command } from './command.ts';

export const OWNER = 'owner';

const envelope = <Type extends EventType>(event: DecidedEvent<Type>, revision: number): OdeonEvent<Type> =>
  ({
    id: `00000000-0000-4000-8000-${String(revision).padStart(12, '0')}`,
    schemaVersion: 1,
    stream: 'stream',
    revision,
    position: String(revision + 1),
    time: '2026-01-01T00:00:00.000Z',
    owner: OWNER,
    actor: { kind: 'user', id: OWNER },
    correlationId: 'correlation',
    causationId: null,
    commandId: 'command',
    surface: 'luna',
    ...event,
  }) as unknown as OdeonEvent<Type>;

export function given<State, Type extends EventType>(
  aggregate: Aggregate<State, Type>,
  ...events: DecidedEvent<Type>[]
) {
  const state = events.reduce(
    (current, event, revision) => aggregate.evolve(current, envelope(event, revision)),
    aggregate.initial,
  );
  return {
    state,
    when<Input>(command: Command<Input, State, Type>, input: NoInfer<Input>, caller?: Caller) {
      const decide = () => {
        const valid = command.schema.parse(input);
        if (caller !== undefined) command.authorise?.(caller, valid, state);
        return command.decide(valid, state);
      };
      return {
        // biome-ignore lint/suspicious/noThenProperty: it reads as a sentence and is never awaited
        then: (...expected: DecidedEvent<Type>[]): void => {
          expect(decide()).to.deep.equal(expected);
        },
        refused: (code: Refusal['code']): void => {
          expect(decide).to.throw(Refusal).with.property('code', code);
        },
      };
    },
  };
}
