import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import { z } from 'zod';
import type { Caller } from '../contracts/caller.ts';
import type { EventEnvelope } from '../contracts/envelope.ts';
import { Refusal, refuse } from '../contracts/errors.ts';
import type { EventStore } from '../infra/event-store/port.ts';
import { openSqliteEventStore } from '../infra/event-store/sqlite.ts';
import { withCatalogue } from '../infra/event-store/with-catalogue.ts';
import type { Snapshot, SnapshotStore } from '../infra/read-models/port.ts';
import { createCommandBus } from './bus.ts';
import type { Aggregate, Command, CommandMeta } from './command.ts';

/** A conversation's title, as an aggregate of its own: how often it was changed, and to what. */
interface State {
  readonly count: number;
  readonly title: string | null;
}
let folded = 0;
const titles: Aggregate<State, 'ConversationRenamed'> = {
  category: 'titles',
  initial: { count: 0, title: null },
  evolve: (state, event) => {
    folded++;
    return { count: state.count + 1, title: event.data.title };
  },
  stateVersion: 1,
};
const input = z.strictObject({ id: z.string(), titles: z.array(z.string()), onlyAfter: z.int().optional() });
type Input = z.infer<typeof input>;
const rename: Command<Input, State, 'ConversationRenamed'> = {
  name: 'Rename',
  aggregate: titles,
  schema: input,
  id: ({ id }) => id,
  owner: () => 'owner',
  authorise: (caller) => {
    if (caller.userId !== 'owner') refuse('NOT_FOUND', 'Not found.');
  },
  decide: ({ titles: wanted, onlyAfter }, state) => {
    if (onlyAfter !== undefined && state.count !== onlyAfter) refuse('CONFLICT', `There are ${state.count}.`);
    return wanted
      .filter((title) => title !== state.title)
      .map((title) => ({ type: 'ConversationRenamed', data: { title } }));
  },
};

const meta = (commandId: string, changes: Partial<CommandMeta> = {}): CommandMeta => ({
  commandId,
  correlationId: 'correlation',
  causationId: null,
  surface: 'odeon',
  actor: { kind: 'user', id: 'owner' },
  caller: null,
  retried: false,
  ...changes,
});

describe('the command bus', () => {
  let directory: string;
  let store: EventStore;
  let snapshots: Map<string, Snapshot>;
  let snapshotErrors: unknown[];
  let snapshotStore: SnapshotStore;

  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), 'odeon-bus-'));
    store = withCatalogue(await openSqliteEventStore({ directory }));
    snapshots = new Map();
    snapshotErrors = [];
    snapshotStore = {
      get: async (stream) => snapshots.get(stream) ?? null,
      put: async (stream, snapshot) => void snapshots.set(stream, structuredClone(snapshot)),
    };
    folded = 0;
  });
  afterEach(async () => {
    await store.close();
    await rm(directory, { recursive: true });
  });

  /** Each is like another process: it shares the log and nothing else. */
  const open = () =>
    createCommandBus({
      store,
      snapshots: snapshotStore,
      onSnapshotError: (error) => snapshotErrors.push(error),
    });

  async function streamOf(id: string): Promise<EventEnvelope[]> {
    const events: EventEnvelope[] = [];
    for await (const page of store.readStream(`titles-${id}`)) events.push(...page);
    return events;
  }

  async function refusal(work: Promise<unknown>): Promise<Refusal> {
    try {
      await work;
    } catch (error) {
      expect(error).to.be.instanceOf(Refusal);
      return error as Refusal;
    }
    throw new Error('It was not refused.');
  }

  it('appends what was decided, with the envelope of who and why', async () => {
    const result = await open().dispatch(rename, { id: 'a', titles: ['x', 'y'] }, meta('one'));
    expect(result.state).to.deep.equal({ count: 2, title: 'y' });
    const events = await streamOf('a');
    expect(result.events).to.deep.equal(events);
    expect(result.position).to.equal(events[1]?.position);
    expect(events[0]).to.deep.include({
      type: 'ConversationRenamed',
      owner: 'owner',
      actor: { kind: 'user', id: 'owner' },
      commandId: 'one',
      correlationId: 'correlation',
      surface: 'odeon',
      schemaVersion: 1,
    });
  });

  it('names the field of input that is not valid', async () => {
    const { code, issues } = await refusal(open().dispatch(rename, { id: 'a' } as Input, meta('one')));
    expect(code).to.equal('VALIDATION_ERROR');
    expect(issues[0]?.path).to.deep.equal(['titles']);
  });

  it('authorises callers, but not the system', async () => {
    const caller = { userId: 'stranger', permissions: new Set() } as unknown as Caller;
    const bus = open();
    const refused = await refusal(bus.dispatch(rename, { id: 'a', titles: ['x'] }, meta('one', { caller })));
    expect(refused.code).to.equal('NOT_FOUND');
    expect(await streamOf('a')).to.deep.equal([]);
    await bus.dispatch(rename, { id: 'a', titles: ['x'] }, meta('two'));
  });

  it('records nothing when nothing follows', async () => {
    const bus = open();
    await bus.dispatch(rename, { id: 'a', titles: ['x'] }, meta('one'));
    const again = await bus.dispatch(rename, { id: 'a', titles: ['x'] }, meta('two'));
    expect(again).to.deep.equal({ events: [], state: { count: 1, title: 'x' }, position: null });
  });

  it('the same command twice is one set of events, and answers the same', async () => {
    const first = await open().dispatch(rename, { id: 'a', titles: ['x'] }, meta('one'));
    await open().dispatch(rename, { id: 'a', titles: ['y'] }, meta('two'));
    const again = await open().dispatch(rename, { id: 'a', titles: ['x'] }, meta('one', { retried: true }));
    expect(again).to.deep.equal(first);
    expect(await streamOf('a')).to.have.length(2);
  });

  it('recognises its own events without being told that it is a retry', async () => {
    const bus = open();
    const first = await bus.dispatch(rename, { id: 'a', titles: ['x'] }, meta('one'));
    await bus.dispatch(rename, { id: 'a', titles: ['y'] }, meta('two'));
    const again = await bus.dispatch(rename, { id: 'a', titles: ['x'] }, meta('one'));
    expect(again.events).to.deep.equal(first.events);
    expect(await streamOf('a')).to.have.length(2);
    await bus.dispatch(rename, { id: 'a', titles: ['z'] }, meta('three'));
    expect((await streamOf('a')).map((event) => event.revision)).to.deep.equal([0, 1, 2]);
  });

  it('decides again when another process was first', async () => {
    const [one, two] = [open(), open()];
    await one.dispatch(rename, { id: 'a', titles: ['x'] }, meta('one'));
    await two.dispatch(rename, { id: 'a', titles: ['y'] }, meta('two'));
    // `one` still believes in revision 0.
    const { state } = await one.dispatch(rename, { id: 'a', titles: ['z'] }, meta('three'));
    expect(state).to.deep.equal({ count: 3, title: 'z' });
  });

  it('does not refuse, or do nothing, for a state that another process has changed', async () => {
    const [one, two] = [open(), open()];
    await one.dispatch(rename, { id: 'a', titles: ['x'] }, meta('one'));
    await two.dispatch(rename, { id: 'a', titles: ['y'] }, meta('two'));
    const conditional = await one.dispatch(rename, { id: 'a', titles: ['z'], onlyAfter: 2 }, meta('three'));
    expect(conditional.events).to.have.length(1);
    await two.dispatch(rename, { id: 'a', titles: ['w'] }, meta('four'));
    const same = await one.dispatch(rename, { id: 'a', titles: ['z'] }, meta('five'));
    expect(same.state.title).to.equal('z');
  });

  it('loses and doubles nothing when many write to one stream at once', async () => {
    const buses = [open(), open(), open()];
    const work = Array.from({ length: 60 }, (_, index) =>
      buses[index % 3]!.dispatch(rename, { id: 'a', titles: [`title ${index}`] }, meta(`command ${index}`)),
    );
    const outcomes = await Promise.allSettled(work);
    const done = outcomes.filter((outcome) => outcome.status === 'fulfilled').length;
    const events = await streamOf('a');
    expect(events.map((event) => event.revision)).to.deep.equal(events.map((_, index) => index));
    expect(new Set(events.map((event) => event.commandId)).size).to.equal(done);
    for (const outcome of outcomes) {
      if (outcome.status === 'rejected') expect(outcome.reason).to.have.property('code', 'CONFLICT');
    }
  });

  it('loads a long stream from its snapshot', async () => {
    const many = Array.from({ length: 300 }, (_, index) => `title ${index}`);
    await open().dispatch(rename, { id: 'a', titles: many }, meta('many'));
    expect(snapshots.get('titles-a')).to.include({ revision: 299, stateVersion: 1 });
    folded = 0;
    const { state, revision } = await open().load(titles, 'a');
    expect({ state, revision }).to.deep.equal({ state: { count: 300, title: 'title 299' }, revision: 299 });
    expect(folded).to.equal(0);
  });

  it('ignores a snapshot of another version, and goes on without one that cannot be read', async () => {
    await open().dispatch(rename, { id: 'a', titles: ['x'] }, meta('one'));
    snapshots.set('titles-a', { revision: 0, stateVersion: 99, state: { count: 77, title: 'wrong' } });
    expect((await open().load(titles, 'a')).state).to.deep.equal({ count: 1, title: 'x' });
    snapshotStore = {
      get: async () => {
        throw new Error('unreadable');
      },
      put: async () => {},
    };
    expect((await open().load(titles, 'a')).state).to.deep.equal({ count: 1, title: 'x' });
    expect(snapshotErrors).to.have.length(1);
  });

  it('says that there is no stream', async () => {
    expect(await open().load(titles, 'none')).to.deep.equal({ state: titles.initial, revision: -1 });
  });
});
