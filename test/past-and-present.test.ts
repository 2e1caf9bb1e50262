/**
 * What the read models show and what is folded from the log are the same, in the same order, also where many
 * things happened within a millisecond.
 */
import { randomUUID } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import type { NewEvent } from '../contracts/envelope.ts';
import { catalogue, type EventData, type EventType } from '../contracts/events/catalogue.ts';
import { conversationIdOf } from '../contracts/read-models/conversation.ts';
import { activityDocument } from '../contracts/read-models/documents.ts';
import { openSqliteEventStore } from '../infra/event-store/sqlite.ts';
import { openSqliteReadModels } from '../infra/read-models/sqlite.ts';
import { createHistory } from '../projections/history.ts';
import { projections } from '../projections/list.ts';
import { startProjections } from '../projections/runtime/runtime.ts';
import { presentReads } from '../query-service/chat-reads.ts';
import { answered, outcome } from './log.ts';

const CONVERSATIONS = 24;
/** Their order is not the one in which anything happens to them. */
const ids = Array.from({ length: CONVERSATIONS }, (_, at) => `c${(at * 7) % CONVERSATIONS}`);
const ownerOf = (id: string) => (Number(id.slice(1)) % 3 === 0 ? 'bob' : 'ada');

function event<Type extends EventType>(type: Type, owner: string, data: EventData<Type>): NewEvent {
  const commandId = randomUUID();
  return {
    id: randomUUID(),
    type,
    schemaVersion: catalogue[type].version,
    owner,
    actor: { kind: 'user', id: owner },
    correlationId: commandId,
    causationId: null,
    commandId,
    surface: 'luna',
    data,
  };
}

async function started() {
  const directory = await mkdtemp(join(tmpdir(), 'odeon-past-'));
  const store = await openSqliteEventStore({ directory });
  const readModels = await openSqliteReadModels({ file: join(directory, 'read-models.db') });
  const onError = (error: Error) => {
    throw error;
  };
  const runtime = await startProjections({ store, readModels, projections, onError });
  return {
    store,
    runtime,
    present: presentReads(readModels),
    /** All at once, so that many are committed together: at most one event a stream. */
    appendTogether: (events: readonly (readonly [stream: string, event: NewEvent])[]) =>
      Promise.all(events.map(([stream, one]) => store.append(stream, [one], { expectedRevision: 'any' }))),
    async close() {
      await runtime.stop();
      await readModels.close();
      await store.close();
      await rm(directory, { recursive: true });
    },
  };
}

describe('the past and the present', () => {
  let app: Awaited<ReturnType<typeof started>>;

  before(async () => {
    app = await started();
    const each = (wanted: (at: number) => boolean, make: (id: string) => NewEvent) =>
      app.appendTogether(
        ids.filter((_, at) => wanted(at)).map((id) => [`conversation-${id}`, make(id)] as const),
      );
    const all = () => true;
    const agent = { id: 'a1', name: 'scout' };
    const begun = { title: null, mode: 'assistant', model: null } as const;
    const kinds = [
      { kind: 'chat', agent: null, linkId: null },
      { kind: 'chat', agent: null, linkId: null },
      { kind: 'run', agent, linkId: null },
      { kind: 'public', agent, linkId: 'l1' },
    ] as const;
    await each(all, (id) =>
      event('ConversationStarted', ownerOf(id), { ...begun, ...kinds[ids.indexOf(id) % kinds.length]! }),
    );
    await each(all, (id) =>
      event('MessageSent', ownerOf(id), {
        messageId: `m${id}`,
        turnId: id,
        content: 'hi',
        model: null,
        instructions: null,
        run: null,
        prompt: null,
      }),
    );
    await each(all, (id) => event('ModelAnswered', ownerOf(id), answered(id)));
    await each(
      (at) => at % 5 === 0,
      (id) =>
        event('ToolReturned', ownerOf(id), {
          ...{ turnId: id, toolCallId: 'k', tool: 'calculate' },
          ...{ result: null, isError: true, durationMs: 1 },
        }),
    );
    await each(
      (at) => at % 2 === 0,
      (id) => event('TurnCompleted', ownerOf(id), outcome(id)),
    );
    await each(
      (at) => at % 3 === 0,
      (id) => event('ConversationArchived', ownerOf(id), {}),
    );
    await each(
      (at) => at % 4 === 0,
      (id) => event('ConversationEnded', ownerOf(id), {}),
    );
    await app.appendTogether([
      [
        'orchestration-o1',
        event('StepStarted', ownerOf('c5'), {
          kind: 'run',
          stepId: 's1',
          conversationId: 'c5',
          turnId: 'c5',
        }),
      ],
    ]);
    await each(
      (at) => at % 11 === 0,
      (id) => event('ConversationDeleted', ownerOf(id), {}),
    );
    expect(await app.runtime.waitFor(await app.store.head(), 10_000)).to.equal(true);
  });
  after(() => app.close());

  const past = async () => createHistory(app.store)(await app.store.head());
  const owners = [{}, { owner: 'ada' }, { owner: 'bob' }, { owner: 'nobody' }];

  it('list the same conversations in the order of what happened to each last', async () => {
    const lastTouched = new Map<string, number>();
    let order = 0;
    const touching: readonly string[] = Object.keys(
      projections.find(({ name }) => name === 'conversations')!.on,
    );
    for await (const page of app.store.readAll()) {
      for (const one of page.events) {
        if (touching.includes(one.type)) lastTouched.set(conversationIdOf(one), order++);
      }
    }
    for (const owner of owners) {
      for (const kind of [
        { kind: 'chat', archived: false },
        { kind: 'chat', archived: true },
        { kind: 'chat', status: 'active' },
        { kind: 'chat', status: 'ended' },
        { kind: 'run', archived: false },
        { agentId: 'a1' },
        { linkId: 'l1' },
      ] as const) {
        for (const page of [
          { limit: 100, offset: 0 },
          { limit: 3, offset: 2 },
        ]) {
          const what = JSON.stringify({ ...owner, ...kind, ...page });
          const now = await app.present.conversations({ ...owner, ...kind }, page);
          expect(await (await past()).conversations({ ...owner, ...kind }, page), what).to.deep.equal(now);
          const touched = now.map(({ id }) => lastTouched.get(id)!);
          expect(touched, what).to.deep.equal(touched.toSorted((a, b) => b - a));
        }
      }
    }
    for (const [filter, least] of [
      [{ kind: 'chat', archived: false }, 6],
      [{ kind: 'run' }, 2],
      [{ agentId: 'a1' }, 2],
      [{ linkId: 'l1' }, 2],
    ] as const) {
      const listed = await app.present.conversations(filter, { limit: 100, offset: 0 });
      expect(listed, JSON.stringify(filter)).to.have.length.above(least);
    }
  });

  it('show the same activity, whatever is asked for', async () => {
    const { category, level } = activityDocument.shape;
    let rows = 0;
    for (const owner of [...owners, { owner: ownerOf('c5'), conversationId: 'c5' }]) {
      for (const ofCategory of [{}, ...category.options.map((one) => ({ category: one }))]) {
        for (const ofLevel of [{}, ...level.options.map((one) => ({ level: one }))]) {
          const filter = { ...owner, ...ofCategory, ...ofLevel };
          for (const page of [{ limit: 7 }, { limit: 100, after: '20', before: '70' }]) {
            const now = await app.present.activity(filter, page);
            rows += now.length;
            expect(await (await past()).activity(filter, page), JSON.stringify(filter)).to.deep.equal(now);
          }
        }
      }
    }
    expect(rows).to.be.above(300);
  });
});
