/** Named agents over HTTP, their commands and their reads. */
import { expect } from 'chai';
import { rolePermissions } from '../../contracts/http/route.ts';
import { type ChatApp, type Name, serveChat } from '../../test/chat-app.ts';
import { createAgents } from '../agents.ts';
import { provideReadyMadeAgents, readyMadeAgents } from '../ready-made-agents.ts';

describe('named agents', () => {
  let app: ChatApp;
  before(async () => {
    app = await serveChat();
    await provideReadyMadeAgents(app.bus);
    await app.projections.waitFor(await app.store.head(), 5_000);
  });
  after(() => app.close());

  const about = { description: 'Looks things up.', instructions: 'Look it up.' };
  const create = (name: Name, agent: string, more: object = {}) =>
    app.call(name, 'POST', '/api/agents', { body: { name: agent, ...about, ...more } });
  const names = async (name: Name, query = '') =>
    ((await app.call(name, 'GET', `/api/agents${query}`)).body as { name: string }[]).map((one) => one.name);

  it('are there from the first start, shared, with instructions, and only once', async () => {
    const head = await app.store.head();
    await provideReadyMadeAgents(app.bus);
    expect(await app.store.head()).to.equal(head);
    const made = (await app.call('ada', 'GET', '/api/agents?owner=system')).body;
    expect(made.map((one: { name: string }) => one.name)).to.have.members([
      ...['assistant', 'coder', 'researcher', 'analyst', 'writer', 'planner', 'critic'],
    ]);
    for (const one of made) {
      expect(one).to.include({ shared: true, ready_made: true, owner: 'system' });
      const words = one.instructions.split(/\s+/).length;
      expect(words, one.name).to.be.within(80, 200);
    }
  });

  it('answer to the names that the published examples use', async () => {
    const known = { 'research-agent': 'researcher', 'data-analyst': 'analyst', 'report-writer': 'writer' };
    const coders = Object.fromEntries(
      ['coder-claude', 'coder-gemini', 'coder-api'].map((one) => [one, 'coder']),
    );
    for (const [alias, name] of Object.entries({ ...known, ...coders })) {
      expect((await app.call('ada', 'GET', `/api/agents/${alias}`)).body.name).to.equal(name);
    }
    const all = readyMadeAgents.flatMap(({ name, aliases }) => [name, ...aliases]);
    expect(new Set(all).size, 'each name is one agent').to.equal(all.length);
  });

  it('are made with what was said, and defaults for the rest', async () => {
    const { status, body } = await create('ada', 'scout', {
      ...{ model: 'openai/gpt-5-mini', tools: ['calculate'], budget: { tokens: 900, cost: 0.5 } },
      policy: { timeout_seconds: 30, concurrency: 1 },
    });
    expect(status).to.equal(201);
    expect(body).to.deep.include({
      ...{ name: 'scout', owner: 'ada', ...about, model: 'openai/gpt-5-mini', tools: ['calculate'] },
      ...{ budget: { tokens: 900, cost: 0.5, turns: null }, shared: false, ready_made: false, aliases: [] },
      policy: { timeout_seconds: 30, max_attempts: 2, concurrency: 1, queue_length: 20 },
    });
    expect((await app.call('ada', 'GET', '/api/agents/scout')).body).to.deep.equal(body);
  });

  it('refuse by name what they cannot be', async () => {
    const wrong: [object, string, string?][] = [
      [{}, 'name', 'orchestrate'],
      [{}, 'name', 'Not a name'],
      [{ instructions: ' ' }, 'instructions'],
      [{ description: '' }, 'description'],
      [{ tools: ['calculate', 'rm_rf'] }, 'tools'],
      [{ model: 'gpt 5' }, 'model'],
      [{ budget: { tokens: 0 } }, 'budget'],
      [{ budget: { tokens: 1, time: 2 } }, 'budget'],
      [{ policy: { timeout_seconds: 0 } }, 'policy'],
      [{ shared: 'yes' }, 'shared'],
    ];
    for (const [more, field, name = 'wrong'] of wrong) {
      const { status, body } = await create('ada', name, more);
      expect(status, JSON.stringify(more)).to.equal(422);
      expect(body.detail[0].loc.slice(0, 2), JSON.stringify(more)).to.deep.equal(['body', field]);
    }
    const unknown = await create('ada', 'wrong', { temperature: 1 });
    expect(unknown.status).to.equal(422);
    expect(unknown.body.detail[0].msg).to.include('temperature');
    expect(await names('ada', '?owner=ada')).not.to.include('wrong');
  });

  it('are one of a name for each owner, and one of a name among those that are shared', async () => {
    expect((await create('ada', 'twin')).status).to.equal(201);
    expect((await create('ada', 'twin')).status).to.equal(409);
    expect((await create('bob', 'twin', { shared: true })).status).to.equal(201);
    expect((await app.call('ada', 'PATCH', '/api/agents/twin', { body: { shared: true } })).status).to.equal(
      409,
    );
    expect((await create('ada', 'coder-api', { shared: true })).status, 'an alias').to.equal(409);
    const atOnce = await Promise.all([
      create('bob', 'twins', { shared: true }),
      create('ada', 'twins', { shared: true }),
    ]);
    expect(atOnce.map(({ status }) => status)).to.have.members([201, 409]);
    await create('bob', 'older');
    await create('ada', 'older');
    const share = (name: Name) => app.call(name, 'PATCH', '/api/agents/older', { body: { shared: true } });
    const shared = await Promise.all([share('ada'), share('bob')]);
    expect(shared.map(({ status }) => status)).to.have.members([200, 409]);
    // An own one goes before a shared one.
    expect((await app.call('ada', 'GET', '/api/agents/twin')).body.owner).to.equal('ada');
    expect((await app.call('root', 'GET', '/api/agents/twin')).body.owner).to.equal('bob');
  });

  it('change in what is said', async () => {
    await create('ada', 'changing', { tools: ['calculate'], budget: { turns: 5 } });
    const { status, body } = await app.call('ada', 'PATCH', '/api/agents/changing', {
      body: { tools: null, budget: { cost: 1 }, policy: { timeout_seconds: 1.5 } },
    });
    expect(status).to.equal(200);
    expect(body).to.deep.include({ tools: null, budget: { tokens: null, cost: 1, turns: 5 }, ...about });
    expect(body.policy.timeout_seconds).to.equal(1.5);
    expect((await app.call('ada', 'GET', '/api/agents/changing')).body).to.deep.equal(body);
    for (const wrong of [{}, { name: 'other' }, { tools: ['nothing'] }]) {
      expect((await app.call('ada', 'PATCH', '/api/agents/changing', { body: wrong })).status).to.equal(422);
    }
  });

  it('are deleted for good, and then not found', async () => {
    await create('ada', 'brief');
    const gone = await app.call('ada', 'DELETE', '/api/agents/brief');
    expect(gone.body).to.deep.equal({ status: 'deleted', name: 'brief' });
    expect((await app.call('ada', 'GET', '/api/agents/brief')).status).to.equal(404);
    expect((await app.call('ada', 'DELETE', '/api/agents/brief')).status).to.equal(404);
    expect((await create('ada', 'brief')).status, 'made again').to.equal(201);
  });

  it('say what answers for them', async () => {
    await create('ada', 'modelled');
    expect((await app.call('ada', 'GET', '/api/agents/modelled/model')).body).to.deep.include({
      model: 'builtin/assistant',
      available_models: ['nano', 'pro', 'tools', 'builtin/assistant'],
    });
    const set = await app.call('ada', 'PUT', '/api/agents/modelled/model', { body: { model: 'gpt-9' } });
    expect(set.body).to.include({ status: 'success', model: 'gpt-9' });
    expect(set.body.note).to.include('No configured provider');
    expect((await app.call('ada', 'GET', '/api/agents/modelled')).body.model).to.equal('gpt-9');
    await app.call('ada', 'PUT', '/api/agents/modelled/model', { body: { model: '' } });
    expect((await app.call('ada', 'GET', '/api/agents/modelled')).body.model).to.equal(null);
  });

  describe('for others than their owner', () => {
    before(async () => {
      await create('ada', 'hidden');
      await create('ada', 'open', { shared: true });
    });

    const attempts = [
      ['GET', ''],
      ['GET', '/model'],
      ['PATCH', '', { shared: true }],
      ['PUT', '/model', { model: 'nano' }],
      ['DELETE', ''],
    ] as const;
    const tryAll = async (name: Name, agent: string) => {
      const statuses: number[] = [];
      for (const [method, path, body] of attempts) {
        const { status } = await app.call(name, method, `/api/agents/${agent}${path}`, { body });
        statuses.push(status);
      }
      return statuses;
    };

    it('a private one looks as if it did not exist', async () => {
      expect(await tryAll('bob', 'hidden')).to.deep.equal([404, 404, 404, 404, 404]);
      const hidden = await app.call('bob', 'GET', '/api/agents/hidden');
      const absent = await app.call('bob', 'GET', '/api/agents/absent');
      expect(hidden.body).to.deep.equal(absent.body);
      expect(await names('bob')).not.to.include('hidden');
      expect(await names('bob', '?owner=ada'))
        .to.include('open')
        .and.not.to.include('hidden');
    });

    it('a shared or ready-made one can be used and not changed', async () => {
      expect(await tryAll('bob', 'open')).to.deep.equal([200, 200, 403, 403, 403]);
      expect(await tryAll('bob', 'critic')).to.deep.equal([200, 200, 403, 403, 403]);
      expect(await names('bob')).to.include.members(['open', 'critic']);
    });

    it('auditors see and do not change, admins do both', async () => {
      expect(await tryAll('audra', 'hidden')).to.deep.equal([200, 200, 403, 403, 403]);
      expect(await names('audra')).to.include.members(['hidden', 'open', 'critic']);
      expect(await tryAll('root', 'hidden')).to.deep.equal([200, 200, 200, 200, 200]);
      expect(await tryAll('root', 'critic')).to.deep.equal([200, 200, 200, 200, 200]);
      await provideReadyMadeAgents(app.bus);
      await app.projections.waitFor(await app.store.head(), 5_000);
      expect((await app.call('ada', 'GET', '/api/agents/critic')).status, 'stays deleted').to.equal(404);
    });
  });

  it('are listed a page at a time, oldest first', async () => {
    const all = await names('bob');
    const pages = [await names('bob', '?limit=3'), await names('bob', '?limit=100&offset=3')];
    expect(pages.flat()).to.deep.equal(all);
    expect(pages[0]).to.have.length(3);
  });

  it('run within what they are allowed, and requests narrow that', async () => {
    await create('ada', 'narrow', {
      ...{ tools: ['calculate', 'current_time'], budget: { tokens: 100, turns: 5 } },
      policy: { timeout_seconds: 60 },
    });
    const agents = createAgents({ readModels: app.readModels });
    const permissions = new Set(rolePermissions.user);
    const ada = {
      ...{ userId: 'ada', email: 'ada@example.org', displayName: 'ada', role: 'user' as const },
      ...{ actor: { kind: 'user' as const, id: 'ada' }, permissions, sessionId: null, expiresAtMs: null },
    };
    const agent = await agents.find(ada, 'narrow');
    expect(agents.runOf(agent, { trigger: 'manual' })).to.deep.equal({
      ...{ agent: { id: agent.id, name: 'narrow' }, trigger: 'manual', parent: null, orchestrationId: null },
      ...{ tools: ['calculate', 'current_time'], budget: { tokens: 100, cost: null, turns: 5 } },
      ...{ timeoutMs: 60_000, maxAttempts: 2, concurrency: 3 },
    });
    const narrowed = agents.runOf(agent, {
      ...{ trigger: 'agent', tools: ['current_time', 'forget_fact'], timeoutMs: 90_000, maxTurns: 3 },
      budget: { tokens: 500, cost: 2 },
    });
    expect(narrowed).to.deep.include({
      ...{ tools: ['current_time'], timeoutMs: 60_000 },
      budget: { tokens: 100, cost: 2, turns: 3 },
    });
  });
});
