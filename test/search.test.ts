/** Search over HTTP, with the real model: who finds what, by which filters, now and in the past, and after kill -9. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import fc from 'fast-check';
import type { z } from 'zod';
import { searchConversations } from '../contracts/http/search.ts';
import { ADMIN, type Client, condition, login, type Program, type Reply, startProgram } from './program.ts';

const PASSWORD = 'a password that is long enough';
/** Long enough for a busy machine: what a search waits for is what is tested. */
const env = { BUILTIN_DELAY_MS: '0', READ_YOUR_WRITES_MS: '60000', ACCESS_TOKEN_MINUTES: '1440' };

const search = async (by: Client, body: object, query = ''): Promise<Reply> => {
  const reply = await by.post(`/api/search${query}`, body);
  if (reply.status === 200) {
    const schema = searchConversations.answers[200] as z.ZodType;
    expect(schema.parse(reply.body)).to.deep.equal(reply.body);
  }
  return reply;
};
const contents = ({ body }: Reply): string[] =>
  body.results.map(({ content }: { content: string }) => content);
const begin = async (by: Client, title?: string): Promise<string> =>
  (await by.post('/api/conversations', title === undefined ? {} : { title })).body.id;
const say = async (by: Client, conversation: string, content: string): Promise<string> => {
  const { status, headers } = await by.post(`/api/v1/chat/${conversation}/message`, { content });
  expect(status).to.equal(202);
  return headers.get('X-Event-Position')!;
};
/** What users said; the assistant repeats it in its answers. */
const said = { filters: { role: 'user' } };

describe('POST /api/search', function () {
  this.timeout(90_000);
  let program: Program;
  let admin: Client;
  let ada: Client;
  let bob: Client;
  let adaId: string;
  let bobId: string;
  const conversations: Record<string, string> = {};

  before(async () => {
    program = await startProgram({ env });
    admin = await login(program.url, ADMIN);
    const register = async (name: string) => {
      const email = `${name}@example.org`;
      const made = await admin.post('/api/users', {
        email,
        password: PASSWORD,
        displayName: name,
        role: 'user',
      });
      return { id: made.body.id as string, client: await login(program.url, { email, password: PASSWORD }) };
    };
    ({ id: adaId, client: ada } = await register('ada'));
    ({ id: bobId, client: bob } = await register('bob'));
    conversations.csv = await begin(ada, 'python-csv');
    await say(ada, conversations.csv, 'How do I read a CSV file in Python?');
    conversations.cats = await begin(ada);
    await say(ada, conversations.cats, 'My cat refuses to eat dry food');
    conversations.sums = await begin(ada);
    await say(ada, conversations.sums, 'What is 12.5% of 80?');
    conversations.bobs = await begin(bob);
    await say(bob, conversations.bobs, 'How do I read a CSV file in Rust?');
  });
  after(() => program.stop());

  it('finds what was said just before, by its meaning', async () => {
    const reply = await search(ada, { query: 'the kitten will not touch its kibble', limit: 1, ...said });
    expect(contents(reply)).to.deep.equal(['My cat refuses to eat dry food']);
    expect(reply.headers.get('X-Read-Model')).to.equal(null);
    const [result] = (await search(ada, { query: 'python csv file reading', limit: 1, ...said })).body
      .results;
    expect(result).to.include({ conversation_id: conversations.csv });
    expect(result.metadata).to.deep.equal({ model: null, topic: 'python-csv', role: 'user' });
    expect(Date.parse(result.timestamp)).to.be.closeTo(Date.now(), 60_000);
  });

  it('gives 1 to the same text, and little to what has nothing to do with it', async () => {
    const { body } = await search(ada, { query: 'How do I read a CSV file in Python?', ...said });
    expect(body.results[0].score).to.equal(1);
    const cat = body.results.find(({ content }: { content: string }) => /cat/.test(content));
    expect(cat?.score ?? 0).to.be.below(0.3);
    const scores = body.results.map(({ score }: { score: number }) => score);
    expect(scores).to.deep.equal(scores.toSorted((a: number, b: number) => b - a));
  });

  it('leaves out what lies below min_score', async () => {
    const all = (await search(ada, { query: 'csv', limit: 100 })).body;
    for (const min_score of [0.2, 0.5, 0.9]) {
      const some = (await search(ada, { query: 'csv', limit: 100, min_score })).body;
      expect(some.results).to.deep.equal(
        all.results.filter(({ score }: { score: number }) => score >= min_score),
      );
      expect(some.total).to.equal(some.results.length);
    }
  });

  it('finds for a user their own only, for who sees all everything', async () => {
    expect(contents(await search(bob, { query: 'csv', ...said }))).to.deep.equal([
      'How do I read a CSV file in Rust?',
    ]);
    const foreign = await search(bob, { query: 'csv', filters: { user_id: adaId } });
    expect([foreign.status, foreign.body.results, foreign.body.total]).to.deep.equal([200, [], 0]);
    const none = await search(bob, { query: 'csv', filters: { conversation_id: conversations.csv } });
    expect(none.body.results).to.deep.equal([]);
    const all = contents(await search(admin, { query: 'csv file', limit: 100, ...said }));
    expect(all).to.include.members([
      'How do I read a CSV file in Python?',
      'How do I read a CSV file in Rust?',
    ]);
    const narrowed = await search(admin, { query: 'csv', filters: { user_id: bobId, role: 'user' } });
    expect(contents(narrowed)).to.deep.equal(['How do I read a CSV file in Rust?']);
    const nobody = await fetch(`${program.url}/api/search`, { method: 'POST' });
    expect(nobody.status).to.equal(401);
  });

  it('filters by conversation, role, model and time', async () => {
    const answers = (filters: object) => search(ada, { query: 'what is 12.5% of 80', limit: 100, filters });
    await condition(
      async () => (await answers({ role: 'assistant', conversation_id: conversations.sums })).body.total > 0,
      { withinMs: 20_000 },
    );
    const [answer] = (await answers({ role: 'assistant', conversation_id: conversations.sums })).body.results;
    expect(answer.metadata.role).to.equal('assistant');
    const { model } = answer.metadata;
    for (const result of (await answers({ model })).body.results)
      expect(result.metadata.model).to.equal(model);
    expect((await answers({ model: 'none' })).body.total).to.equal(0);
    const day = (offset: number) => new Date(Date.now() + offset * 86_400_000).toISOString().slice(0, 10);
    const total = (await answers({})).body.total;
    const ranges: [object, boolean][] = [
      [{ start: day(-1), end: day(1) }, true],
      [{ start: day(-1) }, true],
      [{ end: day(1) }, true],
      [{ start: day(1) }, false],
      [{ end: day(-1) }, false],
      [{ start: new Date(Date.now() - 3_600_000).toISOString(), end: day(0) }, true],
      [{ end: new Date(Date.parse(answer.timestamp) - 3_600_000).toISOString() }, false],
    ];
    for (const [date_range, found] of ranges) {
      expect((await answers({ date_range })).body.total, JSON.stringify(date_range)).to.equal(
        found ? total : 0,
      );
    }
    const exactly = { start: answer.timestamp, end: answer.timestamp };
    expect(contents(await answers({ date_range: exactly }))).to.include(answer.content);
  });

  it('answers from the past', async () => {
    const conversation = await begin(ada, 'garden');
    const position = await say(ada, conversation, 'Tomatoes need six hours of sun');
    const query = { query: 'sunlight for tomatoes', min_score: 0.3, ...said };
    const now = await search(ada, query);
    expect(contents(now)).to.deep.equal(['Tomatoes need six hours of sun']);
    await ada.request('DELETE', `/api/conversations/${conversation}`);
    expect(contents(await search(ada, query))).to.deep.equal([]);
    const then = await search(ada, query, `?asOf=${position}`);
    expect(then.body.results).to.deep.equal(now.body.results);
    expect(then.headers.get('X-Event-Position')).to.equal(position);
    const before = await search(ada, query, `?asOf=${Number(position) - 1}`);
    expect(contents(before)).to.deep.equal([]);
    expect((await search(bob, query, `?asOf=${position}`)).body.results).to.deep.equal([]);
    expect((await search(ada, query, '?asOf=999999')).body).to.include({ code: 'VALIDATION_ERROR' });
  });

  it('is no command: an Idempotency-Key means nothing to it, and the log stays as it is', async () => {
    const key = { 'Idempotency-Key': 'the same' };
    const one = await ada.post('/api/search', { query: 'csv' }, key);
    const other = await ada.post('/api/search', { query: 'cat' }, key);
    expect([one.status, other.status]).to.deep.equal([200, 200]);
    expect(other.headers.get('Idempotent-Replay')).to.equal(null);
    const head = (await admin.get('/api/log/events?order=desc&limit=1')).body.events[0].position;
    await search(ada, { query: 'csv' });
    expect((await admin.get('/api/log/events?order=desc&limit=1')).body.events[0].position).to.equal(head);
  });

  it('refuses what it cannot do, and names it', async () => {
    const wrong: [string, object][] = [
      ['query', {}],
      ['query', { query: '' }],
      ['query', { query: ' \n' }],
      ['query', { query: 7 }],
      ['query', { query: '\ud800' }],
      ['query', { query: 'x'.repeat(32_769) }],
      ['limit', { query: 'x', limit: 0 }],
      ['limit', { query: 'x', limit: 101 }],
      ['limit', { query: 'x', limit: '5' }],
      ['min_score', { query: 'x', min_score: 1.1 }],
      ['min_score', { query: 'x', min_score: -0.1 }],
      ['role', { query: 'x', filters: { role: 'system' } }],
      ['usr_id', { query: 'x', filters: { usr_id: 'ada' } }],
      ['start', { query: 'x', filters: { date_range: { start: 'yesterday' } } }],
      ['end', { query: 'x', filters: { date_range: { end: '2025-02-30' } } }],
      ['end', { query: 'x', filters: { date_range: { start: '2025-02-03', end: '2025-02-02' } } }],
    ];
    for (const [field, body] of wrong) {
      const reply = await search(ada, body);
      expect(reply.status, JSON.stringify(body)).to.equal(400);
      expect(reply.body).to.include({ success: false, code: 'VALIDATION_ERROR' });
      expect(reply.body.details, JSON.stringify(body)).to.include(field);
    }
  });

  it('takes any text for a query', async () => {
    const hostile = [
      '"',
      "a' OR 1=1 --",
      '*',
      'NEAR(a b)',
      'a AND (',
      '^x',
      'ab*',
      '-',
      '\u0000',
      '🎉',
      '漢字'.repeat(500),
      'x'.repeat(32_768),
      'w '.repeat(16_384),
      'NOT',
      '{}',
      '%',
      '_',
    ];
    for (const query of hostile)
      expect((await search(ada, { query })).status, query.slice(0, 20)).to.equal(200);
    await fc.assert(
      fc.asyncProperty(fc.string({ unit: 'binary', minLength: 1, maxLength: 50 }), async (query) => {
        const expected = query.trim() === '' || !query.isWellFormed() ? 400 : 200;
        expect((await search(ada, { query })).status).to.equal(expected);
      }),
      { numRuns: 25 },
    );
  });

  it('gives the same after a rebuild, and is among the projections', async () => {
    const status = async () =>
      (await admin.get('/api/projections')).body.projections.find(
        ({ name }: { name: string }) => name === 'search',
      );
    const asked = [{ query: 'csv' }, { query: 'food for pets' }, { query: 'what', limit: 100 }];
    const asOf = `?asOf=${(await search(admin, { query: 'csv' })).headers.get('X-Event-Position')}`;
    const before = await Promise.all(asked.map((body) => search(admin, body, asOf)));
    const rebuilt = await admin.post('/api/projections/search/rebuild');
    expect(rebuilt).to.deep.include({ status: 202, body: { projection: 'search', status: 'rebuilding' } });
    await condition(async () => (await status()).state === 'live', { withinMs: 30_000 });
    expect(await status()).to.include({ complete: true, failed: 0, problem: null });
    const after = await Promise.all(asked.map((body) => search(admin, body, asOf)));
    for (const [index, { body }] of after.entries()) {
      expect(body.results).to.deep.equal(before[index]!.body.results);
    }
    const retried = await admin.post('/api/projections/search/failures/retry');
    expect(retried.body).to.deep.equal({ applied: 0, failed: 0, waiting: 0 });
  });
});

describe('searching after kill -9', function () {
  this.timeout(120_000);
  let dataDir: string;
  before(async () => {
    dataDir = await mkdtemp(join(tmpdir(), 'odeon-search-kill-'));
  });
  after(() => rm(dataDir, { recursive: true }));

  it('goes on from where it was: nothing is missing and nothing is there twice', async () => {
    const sent: string[] = [];
    let conversation: string | undefined;
    let token: Client | undefined;
    for (const life of [1, 2]) {
      await using program = await startProgram({ dataDir, env });
      token = await login(program.url, ADMIN);
      conversation ??= await begin(token);
      for (let n = 0; n < 10; n++) {
        const content = `remark${life}x${n} is about number ${n}`;
        await say(token, conversation, content);
        sent.push(content);
      }
      await program.kill('SIGKILL');
    }
    await using program = await startProgram({ dataDir, env });
    const admin = await login(program.url, ADMIN);
    const found = await search(admin, { query: 'remark about number', limit: 100, ...said });
    expect(found.headers.get('X-Read-Model')).to.equal(null);
    expect(contents(found).toSorted()).to.deep.equal(sent.toSorted());
    const { body } = await admin.get('/api/projections');
    const status = body.projections.find(({ name }: { name: string }) => name === 'search');
    expect(status).to.include({ complete: true, failed: 0 });
    await admin.post('/api/projections/search/rebuild');
    await condition(
      async () =>
        (await admin.get('/api/projections')).body.projections.every(
          ({ name, rebuild }: { name: string; rebuild: unknown }) => name !== 'search' || rebuild === null,
        ),
      { withinMs: 60_000 },
    );
    // Turns go on meanwhile: their answers count in how rare a word is.
    const asOf = `?asOf=${found.headers.get('X-Event-Position')}`;
    const again = await search(admin, { query: 'remark about number', limit: 100, ...said }, asOf);
    expect(again.body.results).to.deep.equal(found.body.results);
  });
});
