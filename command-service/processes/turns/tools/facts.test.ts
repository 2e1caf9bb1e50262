import { randomUUID } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import type { FactCategory } from '../../../../contracts/events/memory.ts';
import { openSqliteEventStore } from '../../../../infra/event-store/sqlite.ts';
import { withCatalogue } from '../../../../infra/event-store/with-catalogue.ts';
import { createCommandBus } from '../../../bus.ts';
import type { CommandBus, CommandMeta } from '../../../command.ts';
import { fact, factIdFor } from '../../../domain/fact.ts';
import { type ToolContext, useTool } from '../tool.ts';
import { forgetFactTool, rememberFactTool } from './facts.ts';

describe('the tool that forgets facts', () => {
  let directory: string;
  let bus: CommandBus;
  let close: () => Promise<void>;

  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), 'odeon-facts-'));
    const store = withCatalogue(await openSqliteEventStore({ directory }));
    const snapshots = { get: async () => null, put: async () => {} };
    bus = createCommandBus({ store, snapshots, onSnapshotError: () => {} });
    close = () => store.close();
  });
  afterEach(async () => {
    await close();
    await rm(directory, { recursive: true });
  });

  /** What these tools need of it: they neither read the log nor the read models. */
  const contextOf = (owner: string, toolCallId: string) => {
    const meta: CommandMeta = {
      commandId: toolCallId,
      correlationId: toolCallId,
      causationId: null,
      surface: 'luna',
      actor: { kind: 'agent', id: 'builtin/assistant' },
      caller: null,
      retried: true,
    };
    const context: Partial<ToolContext> = {
      ...{ owner, conversationId: 'c1', turnId: 't1', toolCallId, meta, bus },
      signal: new AbortController().signal,
    };
    return context as ToolContext;
  };
  const remember = (owner: string, category: FactCategory, key: string) =>
    useTool(rememberFactTool, 'remember_fact', { category, key, value: 'x' }, contextOf(owner, randomUUID()));
  const forget = (owner: string, given: object, toolCallId: string = randomUUID()) =>
    useTool(forgetFactTool, 'forget_fact', given, contextOf(owner, toolCallId));
  const known = async (owner: string, category: FactCategory, key: string) =>
    (await bus.load(fact, factIdFor(owner, category, key))).state.known;

  it('takes the key alone, in whatever category the fact is', async () => {
    await remember('ada', 'work', 'Employer');
    expect(await forget('ada', { key: ' employer ' })).to.deep.equal({
      result: { forgotten: [{ category: 'work', key: ' employer ' }] },
      isError: false,
    });
    expect(await known('ada', 'work', 'employer')).to.equal(false);
  });

  it('keeps to the category that it is given', async () => {
    await remember('ada', 'work', 'name');
    await remember('ada', 'personal', 'name');
    await forget('ada', { category: 'work', key: 'name' });
    expect(await known('ada', 'work', 'name')).to.equal(false);
    expect(await known('ada', 'personal', 'name')).to.equal(true);
  });

  it('says when there is no such fact, and leaves those of others alone', async () => {
    await remember('bob', 'personal', 'name');
    expect(await forget('ada', { key: 'name' })).to.deep.equal({
      result: { error: 'There is no fact named "name".' },
      isError: true,
    });
    const { result } = await forget('ada', { key: 'name', category: 'work' });
    expect(result)
      .to.have.property('error')
      .that.match(/named "name" in the category work\./);
    expect(await known('bob', 'personal', 'name')).to.equal(true);
  });

  it('answers the same when the same call is run again', async () => {
    await remember('ada', 'personal', 'name');
    const first = await forget('ada', { key: 'name' }, 'call_1');
    expect(first.isError).to.equal(false);
    expect(await forget('ada', { key: 'name' }, 'call_1')).to.deep.equal(first);
    expect((await forget('ada', { key: 'name' }, 'call_2')).isError).to.equal(true);
  });
});
