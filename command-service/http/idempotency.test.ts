import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import type { EventEnvelope } from '../../contracts/envelope.ts';
import type { EventStore } from '../../infra/event-store/port.ts';
import { openSqliteEventStore } from '../../infra/event-store/sqlite.ts';
import { withCatalogue } from '../../infra/event-store/with-catalogue.ts';
import type { KeyedRequest } from '../../infra/http/port.ts';
import { createCommandBus } from '../bus.ts';
import { createIdempotencyRecords } from './idempotency.ts';

const request = (changes: Partial<KeyedRequest> = {}): KeyedRequest => ({
  id: 'a'.repeat(64),
  fingerprint: 'f1',
  caller: null,
  surface: 'luna',
  correlationId: 'c1',
  ...changes,
});

describe('The records of Idempotency-Keys', () => {
  let directory: string;
  let store: EventStore;
  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), 'odeon-idempotency-'));
    store = withCatalogue(await openSqliteEventStore({ directory }));
  });
  afterEach(async () => {
    await store.close();
    await rm(directory, { recursive: true });
  });

  /** Each is like another process: it shares the log and nothing else. */
  const open = () =>
    createIdempotencyRecords(
      createCommandBus({
        store,
        snapshots: { get: async () => null, put: async () => undefined },
        onSnapshotError: (error) => {
          throw error;
        },
      }),
    );

  async function log(): Promise<EventEnvelope[]> {
    const events: EventEnvelope[] = [];
    for await (const page of store.readAll()) events.push(...page.events);
    return events;
  }

  it('are accepted, then answered, and say so ever after', async () => {
    expect(await open().accept(request())).to.deep.equal({ status: 'accepted' });
    expect(await open().accept(request())).to.deep.equal({ status: 'unanswered' });
    await open().answered(request(), { status: 201, body: '{"a":1}' });
    await open().answered(request(), { status: 409, body: null });
    expect(await open().accept(request())).to.deep.equal({
      status: 'answered',
      answer: { status: 201, body: '{"a":1}' },
      position: '2',
    });
    expect(await open().accept(request({ fingerprint: 'f2' }))).to.deep.equal({ status: 'taken' });
    expect(
      (await log()).map(({ type, stream, owner, correlationId }) => [type, stream, owner, correlationId]),
    ).to.deep.equal([
      ['RequestAccepted', `request-${'a'.repeat(64)}`, 'system', 'c1'],
      ['RequestAnswered', `request-${'a'.repeat(64)}`, 'system', 'c1'],
    ]);
  });

  it('belong to the user who asked', async () => {
    const caller = {
      userId: 'ada',
      email: 'ada@example.org',
      displayName: 'Ada',
      role: 'user',
      actor: { kind: 'apiKey', id: 'key-1' },
      permissions: new Set<never>(),
      sessionId: null,
      expiresAtMs: null,
    } as const;
    await open().accept(request({ caller }));
    const [event] = await log();
    expect([event?.owner, event?.actor]).to.deep.equal(['ada', { kind: 'apiKey', id: 'key-1' }]);
  });

  it('have one who is first, of many processes that accept at once', async () => {
    const tries = Array.from({ length: 8 }, (_, i) => request({ fingerprint: i % 2 === 0 ? 'f1' : 'f2' }));
    const answers = await Promise.all(tries.map((one) => open().accept(one)));
    const statuses = answers.map(({ status }) => status);
    expect(statuses.filter((status) => status === 'accepted')).to.have.length(1);
    expect(statuses.filter((status) => status === 'unanswered')).to.have.length(3);
    expect(statuses.filter((status) => status === 'taken')).to.have.length(4);
    expect(await log()).to.have.length(1);
  });
});
