/**
 * The command bus: validate, load, authorise, decide, append. A conflict is decided again on the newer state;
 * commands for one stream take turns within this process, so that conflicts come only from other processes.
 */
import { LRUCache } from 'lru-cache';
import { v5 as uuidV5 } from 'uuid';
import type { z } from 'zod';
import type { EventEnvelope, NewEvent } from '../contracts/envelope.ts';
import { Refusal } from '../contracts/errors.ts';
import {
  catalogue,
  type DecidedEvent,
  type EventType,
  type OdeonEvent,
} from '../contracts/events/catalogue.ts';
import { type EventStore, WrongExpectedRevision } from '../infra/event-store/port.ts';
import type { SnapshotStore } from '../infra/read-models/port.ts';
import type { Aggregate, Command, CommandBus, CommandMeta, CommandResult } from './command.ts';

/** How often a command is decided again before its caller is told of the conflict. */
const MAX_TRIES = 10;
/** A snapshot is written after so many events, so that loading never folds many more. */
const SNAPSHOT_EVERY = 250;
const CACHED_STREAMS = 20_000;

const EVENT_IDS = '8f0e3a52-6a43-4e0b-9d55-3c2f6f4f7a10';

/** The id of the nth event that a command appends to a stream: the same for every try of it. */
const eventId = (commandId: string, commandName: string, stream: string, index: number): string =>
  uuidV5(`${commandId}\n${commandName}\n${stream}\n${index}`, EVENT_IDS);

/** A folded stream. `revision` is -1 where there is no stream. */
interface Loaded<State> {
  readonly state: State;
  readonly revision: number;
  readonly snapshotRevision: number;
}

export interface CommandBusOptions {
  /** Wrapped by `withCatalogue`: it upcasts what is read and refuses what does not fit. */
  readonly store: EventStore;
  readonly snapshots: SnapshotStore;
  /** A snapshot that could not be read or written: the command goes on without it. */
  readonly onSnapshotError: (error: unknown) => void;
}

export function createCommandBus({ store, snapshots, onSnapshotError }: CommandBusOptions): CommandBus {
  const cache = new LRUCache<string, Loaded<unknown>>({ max: CACHED_STREAMS });
  const queues = new Map<string, Promise<unknown>>();

  async function exclusively<T>(stream: string, work: () => Promise<T>): Promise<T> {
    const before = queues.get(stream);
    const run = before === undefined ? work() : before.then(work, work);
    queues.set(stream, run);
    try {
      return await run;
    } finally {
      if (queues.get(stream) === run) queues.delete(stream);
    }
  }

  const fold = <State, Type extends EventType>(
    aggregate: Aggregate<State, Type>,
    from: Loaded<State>,
    events: readonly EventEnvelope[],
  ): Loaded<State> => {
    let { state, revision } = from;
    for (const event of events) {
      state = aggregate.evolve(state, event as OdeonEvent<Type>);
      revision = event.revision;
    }
    return { state, revision, snapshotRevision: from.snapshotRevision };
  };

  async function fromSnapshot<State>(aggregate: Aggregate<State>, stream: string): Promise<Loaded<State>> {
    const snapshot = await snapshots.get(stream).catch((error: unknown) => {
      onSnapshotError(error);
      return null;
    });
    return snapshot?.stateVersion === aggregate.stateVersion
      ? { state: snapshot.state as State, revision: snapshot.revision, snapshotRevision: snapshot.revision }
      : { state: aggregate.initial, revision: -1, snapshotRevision: -1 };
  }

  function keep<State>(aggregate: Aggregate<State>, stream: string, loaded: Loaded<State>): Loaded<State> {
    let kept = loaded;
    if (loaded.revision - loaded.snapshotRevision >= SNAPSHOT_EVERY) {
      kept = { ...loaded, snapshotRevision: loaded.revision };
      const { revision, state } = loaded;
      snapshots.put(stream, { revision, stateVersion: aggregate.stateVersion, state }).catch(onSnapshotError);
    }
    cache.set(stream, kept);
    return kept;
  }

  /** The newest state: what is cached or snapshot, and the events since. */
  async function refresh<State, Type extends EventType>(
    aggregate: Aggregate<State, Type>,
    stream: string,
  ): Promise<Loaded<State>> {
    let loaded =
      (cache.get(stream) as Loaded<State> | undefined) ??
      (await fromSnapshot(aggregate as Aggregate<State>, stream));
    for await (const events of store.readStream(stream, { from: loaded.revision + 1 })) {
      loaded = fold(aggregate, loaded, events);
    }
    return keep(aggregate as Aggregate<State>, stream, loaded);
  }

  /** What an earlier try of the command appended, with the state right after it; null when it did not. */
  async function earlierTry<State, Type extends EventType>(
    aggregate: Aggregate<State, Type>,
    stream: string,
    firstId: string,
  ): Promise<CommandResult<State> | null> {
    let found: EventEnvelope | undefined;
    for await (const page of store.readStream(stream, { direction: 'backwards' })) {
      found = page.find((event) => event.id === firstId);
      if (found !== undefined) break;
    }
    if (found === undefined) return null;
    const events: EventEnvelope[] = [];
    let loaded: Loaded<State> = { state: aggregate.initial, revision: -1, snapshotRevision: -1 };
    for await (const page of store.readStream(stream)) {
      for (const event of page) {
        if (event.revision >= found.revision) {
          if (event.commandId !== found.commandId) return resultOf(events, loaded.state);
          events.push(event);
        }
        loaded = fold(aggregate, loaded, [event]);
      }
    }
    return resultOf(events, loaded.state);
  }

  async function attempt<Input, State, Type extends EventType>(
    command: Command<Input, State, Type>,
    input: Input,
    meta: CommandMeta,
    stream: string,
  ): Promise<CommandResult<State>> {
    const { aggregate } = command;
    let loaded = cache.get(stream) as Loaded<State> | undefined;
    let fresh = loaded === undefined;
    loaded ??= await refresh(aggregate, stream);

    for (let tries = 1; ; tries++) {
      let decided: readonly DecidedEvent<Type>[];
      try {
        if (meta.caller !== null) command.authorise?.(meta.caller, input, loaded.state);
        decided = command.decide(input, loaded.state);
      } catch (error) {
        // A refusal may come from a state that another process has changed since it was cached.
        if (fresh || !(error instanceof Refusal)) throw error;
        loaded = await refresh(aggregate, stream);
        fresh = true;
        continue;
      }
      if (decided.length === 0) {
        if (fresh) return { events: [], state: loaded.state, position: null };
        loaded = await refresh(aggregate, stream);
        fresh = true;
        continue;
      }
      const owner = command.owner(input, loaded.state);
      const expected = loaded.revision;
      const events = decided.map((event, index) => newEvent(command.name, event, owner, meta, stream, index));
      try {
        const appended = await store.append(stream, events, {
          expectedRevision: expected < 0 ? 'no stream' : expected,
        });
        if (appended.events[0]?.revision !== expected + 1) {
          // The store knew these ids: an earlier try of this command, already part of the stream.
          cache.delete(stream);
          return resultOf(appended.events, (await refresh(aggregate, stream)).state);
        }
        const after = keep(aggregate as Aggregate<State>, stream, fold(aggregate, loaded, appended.events));
        return resultOf(appended.events, after.state);
      } catch (error) {
        if (!(error instanceof WrongExpectedRevision)) throw error;
        if (tries === MAX_TRIES) {
          // Not the decision's last word: a repeat of the request may well succeed.
          throw new Refusal('CONFLICT', 'Too many others changed this at the same time: try again.', {
            retryAfterSeconds: 1,
          });
        }
        loaded = await refresh(aggregate, stream);
        fresh = true;
      }
    }
  }

  return {
    async dispatch(command, input, meta) {
      const valid = parse(command.schema, input);
      const stream = `${command.aggregate.category}-${command.id(valid)}`;
      if (meta.retried) {
        const firstId = eventId(meta.commandId, command.name, stream, 0);
        const earlier = await earlierTry(command.aggregate, stream, firstId);
        if (earlier !== null) return earlier;
      }
      return exclusively(stream, () => attempt(command, valid, meta, stream));
    },

    async load(aggregate, id) {
      const stream = `${aggregate.category}-${id}`;
      const { state, revision } = await exclusively(stream, () => refresh(aggregate, stream));
      return { state, revision };
    },
  };
}

const resultOf = <State>(events: readonly EventEnvelope[], state: State): CommandResult<State> => ({
  events,
  state,
  position: events.at(-1)?.position ?? null,
});

function parse<Input>(schema: z.ZodType<Input>, input: unknown): Input {
  const parsed = schema.safeParse(input);
  if (parsed.success) return parsed.data;
  throw new Refusal('VALIDATION_ERROR', 'The command is not valid.', {
    issues: parsed.error.issues.map((issue) => ({
      path: issue.path.map((part) => (typeof part === 'symbol' ? String(part) : part)),
      message: issue.message,
    })),
  });
}

function newEvent(
  commandName: string,
  event: { readonly type: EventType; readonly data: unknown },
  owner: string,
  meta: CommandMeta,
  stream: string,
  index: number,
): NewEvent {
  return {
    id: eventId(meta.commandId, commandName, stream, index),
    type: event.type,
    schemaVersion: catalogue[event.type].version,
    owner,
    actor: meta.actor,
    correlationId: meta.correlationId,
    causationId: meta.causationId,
    commandId: meta.commandId,
    surface: meta.surface,
    data: event.data,
  };
}
