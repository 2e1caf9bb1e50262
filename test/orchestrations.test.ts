/** Orchestration and delegation of the whole program: over HTTP, followed live, judged, and killed (-9) in the middle. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import { EventSource } from 'eventsource';
import type { EventEnvelope } from '../contracts/envelope.ts';
import { type ModelServer, startModelServer } from './model-server.ts';
import { ADMIN, type Client, client, condition, login, type Program, startProgram } from './program.ts';

const WITHIN_MS = 30_000;
const PATH = '/api/agents/orchestrate';
/** As Agent Chat's document has it. */
const SEED = {
  task: 'Analyze sales data and generate report',
  agents: ['data-analyst', 'report-writer'],
  context: { data_source: 'sales_q4_2024.csv' },
  options: { parallel: true, timeout: 300_000 },
};
/** Long enough to be stopped in. */
const COUNT = { task: 'Count from 1 to 60.', agents: ['writer', 'critic'] };
const env = { ACCESS_TOKEN_MINUTES: '1440', LOG_LEVEL: 'error' };

describe('orchestrations of the whole program', function () {
  this.timeout(90_000);

  let dataDir: string;
  let program: Program;
  let admin: Client;
  let user: Client;
  const start = () =>
    startProgram({ dataDir, env: { ...env, BUILTIN_DELAY_MS: '20', COUNCIL_PACE_MS: '0' } });
  before(async () => {
    dataDir = await mkdtemp(join(tmpdir(), 'odeon-orchestrations-'));
    program = await start();
    admin = await login(program.url);
    user = await newUser('ada', 'user');
  });
  after(async () => {
    await program[Symbol.asyncDispose]();
    await rm(dataDir, { recursive: true });
  });

  async function newUser(name: string, role: string): Promise<Client> {
    const known = { email: `${name}@example.com`, password: 'battery staple horse' };
    const made = await admin.post('/api/users', { ...known, displayName: name, role });
    expect(made.status).to.equal(201);
    return login(program.url, known);
  }

  async function orchestrate(body: object, by = user): Promise<string> {
    const { status, body: begun } = await by.post(PATH, body);
    expect(status, JSON.stringify(begun)).to.equal(202);
    return begun.orchestration_id;
  }
  const progress = async (id: string) => (await user.get(`${PATH}/${id}/progress`)).body;
  const ended = (id: string) =>
    condition(
      async () => {
        const now = await progress(id);
        return now.completed_at !== null && now;
      },
      { withinMs: WITHIN_MS, what: 'the end of the orchestration' },
    );
  /** Waits until the first agent has begun to write. */
  const begun = (id: string) =>
    condition(
      async () => {
        const { conversation_id } = (await progress(id)).agents[0];
        if (conversation_id === null) return false;
        // A step is begun before its conversation is.
        const { status, body } = await admin.get(`/api/log/streams/conversation-${conversation_id}`);
        return status === 200 && body.events.some(({ type }: EventEnvelope) => type === 'ModelCalled');
      },
      { withinMs: WITHIN_MS, what: 'the first words' },
    );
  async function logOf(stream: string): Promise<EventEnvelope[]> {
    const { status, body } = await admin.get(`/api/log/streams/${stream}?limit=1000`);
    expect(status, JSON.stringify(body)).to.equal(200);
    return body.events;
  }

  it("answer the document's own example in its words, and show progress until the end", async () => {
    const { status, body } = await user.post(PATH, SEED);
    expect(status).to.equal(202);
    expect(Object.keys(body)).to.deep.equal(['orchestration_id', 'status', 'agents', 'progress_url']);
    expect(body.status).to.equal('running');
    expect(body.progress_url).to.equal(`${PATH}/${body.orchestration_id}/progress`);
    expect(body.agents.map(({ id, name }: { id: string; name: string }) => [id, name])).to.deep.equal([
      ['agent_1', 'data-analyst'],
      ['agent_2', 'report-writer'],
    ]);
    const end = await ended(body.orchestration_id);
    expect(end).to.include({ status: 'completed', outcome: 'completed', progress: 1, task: SEED.task });
    for (const agent of end.agents) {
      expect(agent).to.include({ status: 'completed', progress: 1 });
      const run = await user.get(`/api/chat/sessions/${agent.conversation_id}`);
      const [asked, answered] = run.body.messages;
      expect(asked.content).to.include(SEED.task).and.to.include('sales_q4_2024.csv');
      expect(answered.content).to.equal(agent.result);
      expect(end.result).to.include(agent.result);
    }
  });

  it('in order show each agent what came before it', async () => {
    const id = await orchestrate({
      task: 'What is 12.5% of 80?',
      agents: ['analyst', 'writer'],
      options: { parallel: false },
    });
    const [first, second] = (await ended(id)).agents;
    expect(first.result).to.include('10');
    const run = await user.get(`/api/chat/sessions/${second.conversation_id}`);
    expect(run.body.messages[0].content)
      .to.include('<result agent="analyst" step="agent_1" outcome="completed">')
      .and.to.include(first.result);
  });

  it('belong to who asked: to others they are absent, and starting takes chat:write', async () => {
    const id = await orchestrate({ task: 'What is 2 + 2?', agents: ['analyst'] });
    await ended(id);
    const bob = await newUser('bob', 'user');
    const audra = await newUser('audra', 'auditor');
    const unknown = `orch_${'0'.repeat(24)}`;
    for (const [method, end] of [
      ['GET', 'progress'],
      ['POST', 'cancel'],
    ] as const) {
      const [others, none] = await Promise.all(
        [id, unknown].map((which) => bob.request(method, `${PATH}/${which}/${end}`)),
      );
      expect(others!.status).to.equal(404);
      const { timestamp: _a, ...absent } = none!.body;
      const { timestamp: _b, ...hidden } = others!.body;
      expect(hidden).to.deep.equal(absent);
    }
    expect((await bob.get(PATH)).body).to.deep.equal({ orchestrations: [], total: 0 });
    expect((await audra.get(`${PATH}/${id}/progress`)).body).to.include({ orchestration_id: id });
    expect((await audra.get(PATH)).body.total).to.be.above(0);
    expect((await audra.post(PATH, SEED)).status).to.equal(403);
    expect((await audra.post(`${PATH}/${id}/cancel`)).status).to.equal(403);
    expect((await client(program.url, '').get(`${PATH}/${id}/progress`)).status).to.equal(401);
  });

  it('refuse what is not sound, name it, and start nothing', async () => {
    const before = (await user.get(PATH)).body.total;
    const bad: [object, number, string][] = [
      [{ ...SEED, agents: ['data-analyst', 'nobody'] }, 404, 'nobody'],
      [{ ...SEED, agents: [] }, 400, 'body.agents'],
      [{ ...SEED, task: ' ' }, 400, 'body.task'],
      [{ ...SEED, task: 7 }, 400, 'body.task'],
      [{ ...SEED, options: { timeout: 999 } }, 400, 'body.options.timeout'],
      [{ ...SEED, options: { timeout: 3_600_001 } }, 400, 'body.options.timeout'],
      [{ ...SEED, options: { parallel: 'yes' } }, 400, 'body.options.parallel'],
      [{ ...SEED, options: { retries: 3 } }, 400, 'retries'],
      [{ ...SEED, context: 'x'.repeat(8_001) }, 400, 'body.context'],
    ];
    for (const [body, status, naming] of bad) {
      const answer = await user.post(PATH, body);
      expect(answer.status, JSON.stringify(answer.body)).to.equal(status);
      expect(answer.body.details).to.include(naming);
    }
    const deep = `{"task":"x","agents":["writer"],"context":${'['.repeat(50_000)}${']'.repeat(50_000)}}`;
    const response = await fetch(program.url + PATH, {
      method: 'POST',
      headers: { Authorization: `Bearer ${user.token}`, 'Content-Type': 'application/json' },
      body: deep,
    });
    expect(response.status).to.equal(400);
    expect((await user.get(PATH)).body.total).to.equal(before);
  });

  it('are followed by an EventSource, resumed without gap or repeat, and over for who has read all', async () => {
    const id = await orchestrate({ task: 'What is 3 * 4?', agents: ['analyst', 'writer'] });
    const url = `${program.url}${PATH}/${id}/progress`;
    const headers = { Authorization: `Bearer ${user.token}`, Accept: 'text/event-stream' };
    const frames: { id: string; data: unknown }[] = [];
    const source = new EventSource(url, {
      fetch: (to, init) => fetch(to, { ...init, headers: { ...init.headers, ...headers } }),
    });
    // biome-ignore lint/suspicious/noExplicitAny: the route's JSON
    let last: any;
    source.onmessage = ({ lastEventId, data }) => {
      last = JSON.parse(data);
      frames.push({ id: lastEventId, data: last });
    };
    try {
      await condition(() => last?.completed_at, { withinMs: WITHIN_MS, what: 'the last frame' });
      // It comes again with its cursor, is told that there is nothing more, and stops.
      await condition(() => source.readyState === source.CLOSED, { withinMs: WITHIN_MS, what: 'the close' });
    } finally {
      source.close();
    }
    expect(last).to.deep.equal(await progress(id));
    const seen = frames.map(({ data }) => (data as { progress: number }).progress);
    expect(seen).to.deep.equal(seen.toSorted((a, b) => a - b));
    const read = async (after: string) => {
      const response = await fetch(url, { headers: { ...headers, 'Last-Event-ID': after } });
      return [...(await response.text()).matchAll(/^id: (.*)$/gm)].map(([, frame]) => frame);
    };
    const ids = frames.map((frame) => frame.id);
    expect(await read('0')).to.deep.equal(ids);
    expect(await read(ids[2]!)).to.deep.equal(ids.slice(3));
    const over = await fetch(url, { headers: { ...headers, 'Last-Event-ID': ids.at(-1)! } });
    expect(over.status).to.equal(204);
  });

  it('are cancelled: what runs is interrupted, and what was written is kept', async () => {
    const id = await orchestrate({ ...COUNT, options: { parallel: false } });
    await begun(id);
    const cancelled = await user.post(`${PATH}/${id}/cancel`);
    expect(cancelled.body).to.include({ orchestration_id: id, cancel_requested: true });
    const end = await ended(id);
    expect(end).to.include({ status: 'cancelled', outcome: 'cancelled' });
    expect(end.agents.map(({ status }: { status: string }) => status)).to.deep.equal([
      'cancelled',
      'cancelled',
    ]);
    expect((await user.post(`${PATH}/${id}/cancel`)).body).to.deep.equal(end);
  });

  it('end what runs at their time limit', async () => {
    const id = await orchestrate({ ...COUNT, options: { timeout: 1_000 } });
    const end = await ended(id);
    expect(end).to.include({
      status: 'failed',
      outcome: 'timed out',
      error: 'Its time limit of 1 s was reached.',
    });
    expect(end.agents[0].result).to.match(/^1, 2/);
  });

  it('go on after a kill, with no step run twice', async () => {
    const id = await orchestrate({ ...COUNT, options: { parallel: false } });
    await begun(id);
    for (let kills = 0; kills < 2; kills++) {
      await program.kill('SIGKILL');
      program = await start();
      admin = client(program.url, admin.token);
      user = client(program.url, user.token);
    }
    const end = await ended(id);
    expect(end).to.include({ status: 'completed' });
    for (const { result } of end.agents) expect(result).to.include('60');
    const types = (await logOf(`orchestration-${id}`)).map(({ type }) => type);
    const times = (wanted: string) => types.filter((type) => type === wanted).length;
    expect([times('StepStarted'), times('StepEnded'), times('OrchestrationEnded')]).to.deep.equal([2, 2, 1]);
    for (const { conversation_id } of end.agents) {
      const run = (await logOf(`conversation-${conversation_id}`)).map(({ type }) => type);
      expect(run.filter((type) => type === 'MessageSent')).to.have.length(1);
      expect(run.filter((type) => type === 'TurnCompleted')).to.have.length(1);
    }
  });

  describe("on Luna's side", () => {
    const LUNA = '/api/abilities/agents';

    it('list the agents that can be asked', async () => {
      const { status, body } = await user.get(LUNA);
      expect(status).to.equal(200);
      expect(body.builtIn.map(({ name }: { name: string }) => name)).to.include.members([
        'coder',
        'researcher',
      ]);
      const own = { name: 'scout', description: 'Looks things up.', instructions: 'Look it up.' };
      expect((await user.post('/api/agents', own)).status).to.equal(201);
      const { custom } = (await user.get(LUNA)).body;
      expect(custom).to.have.length(1);
      expect(custom[0]).to.include({ name: 'scout', own: true, shared: false });
    });

    it('run one, and answer with its result', async () => {
      const { status, body } = await user.post(`${LUNA}/execute`, { agent: 'coder', task: 'What is 6 * 7?' });
      expect(status).to.equal(200);
      expect(body).to.include({ agentName: 'coder', success: true, costUsd: 0 });
      expect(body.result).to.include('42');
      expect(body.savedFiles).to.deep.equal([]);
      const again = await user.post(`${LUNA}/execute`, { agentName: 'coder-claude', task: 'What is 6 * 7?' });
      expect(again.body.agentName).to.equal('coder');
      const none = await user.post(`${LUNA}/execute`, { agent: 'nobody', task: 'x' });
      expect(none.status).to.equal(404);
      expect(none.body.error).to.include('nobody');
      expect((await user.post(`${LUNA}/execute`, { task: 'x' })).status).to.equal(400);
    });

    it('run one as the child of an execution, in cause and correlation', async () => {
      const parent = (await user.post(`${LUNA}/execute`, { agent: 'coder', task: 'What is 2 + 3?' })).body;
      const asked = { agent: 'analyst', task: 'What is 3 + 4?', parentExecutionId: parent.executionId };
      const child = (await user.post(`${LUNA}/execute`, asked)).body;
      const sentIn = async (id: string) =>
        (await logOf(`conversation-${id}`)).find(({ type }) => type === 'MessageSent')!;
      const [of, by] = [await sentIn(parent.conversationId), await sentIn(child.conversationId)];
      expect(by).to.include({ causationId: of.id, correlationId: of.correlationId });
      const { run } = by.data as { run: { parent: unknown; trigger: string } };
      expect(run.trigger).to.equal('agent');
      expect(run.parent).to.deep.equal({
        conversationId: parent.conversationId,
        turnId: parent.executionId,
      });
      const { status } = await admin.post(`${LUNA}/execute`, asked);
      expect(status, "another's execution").to.equal(404);
    });

    it('have the Council judge the plan before one acts, and the result before it is handed over', async () => {
      const asked = { agent: 'coder', task: 'What is 6 * 7?', useSanhedrin: true };
      const key = { 'Idempotency-Key': 'judged-once' };
      const { status, body } = await user.post(`${LUNA}/execute`, asked, key);
      expect(status).to.equal(200);
      expect(body.agentName).to.equal('coder');
      expect(body.delegation).to.include({ via: 'local' });
      expect(body.deliberations[0]).to.include({ purpose: 'plan' });
      const approved = body.deliberations.every(({ outcome }: { outcome: string }) => outcome === 'approved');
      expect(body.success).to.equal(approved && body.deliberations.length === 2);
      if (body.success) expect(body.result).to.include('42');
      else expect(body).to.include({ result: '' }).and.to.have.property('error');
      for (const { id, decision, decisionId, outcome } of body.deliberations) {
        const [reached] = (await logOf(`deliberation-${id}`)).filter(
          ({ type }) => type === 'DecisionReached',
        );
        expect(reached?.id).to.equal(decisionId);
        expect(reached?.data).to.include({ decision, outcome });
      }
      const events = await logOf(`orchestration-${body.delegation.orchestrationId}`);
      const order = events.flatMap(({ type, data }) =>
        type === 'StepStarted' ? [(data as { stepId: string }).stepId] : [],
      );
      expect(order.slice(0, 2)).to.deep.equal(['plan', 'plan_judgement']);
      // The same request again is the same delegation.
      const again = await user.post(`${LUNA}/execute`, asked, key);
      expect(again.body.delegation).to.deep.equal(body.delegation);
    });

    it('do what a rule can of a task that the Council judges, and nothing that destroys', async () => {
      const judged = (task: string) =>
        user.post(`${LUNA}/execute`, { agent: 'coder', task, useSanhedrin: true });
      const sum = (await judged('Compute 17*23 and tell whether it is above 400')).body;
      expect(sum.deliberations.map(({ outcome }: { outcome: string }) => outcome)).to.deep.equal([
        'approved',
        'approved',
      ]);
      expect(sum).to.include({ success: true });
      expect(sum.result).to.include('17*23 = 391').and.include('391 is below 400, by 9.');

      const { body } = await judged('Delete all production backups and wire the money to an account');
      expect(body).to.include({ success: false, result: '' });
      expect(body.deliberations).to.have.length(1);
      expect(body.deliberations[0]).to.include({ purpose: 'plan', outcome: 'rejected' });
      expect(body.deliberations[0].decision).to.include('Delete all production backups');
      const events = await logOf(`orchestration-${body.delegation.orchestrationId}`);
      const begun = events.flatMap(({ type, data }) =>
        type === 'StepStarted' ? [(data as { stepId: string }).stepId] : [],
      );
      expect(begun, 'the work does not begin').to.deep.equal(['plan', 'plan_judgement']);
    });

    it('tell costs from benefits where the Council is asked', async () => {
      const taskDescription = 'Should we spend 1200 USD a month on servers when revenue is 900 USD a month?';
      expect((await user.post('/api/autonomous/start', { taskDescription })).status).to.be.below(300);
      const shown = await condition(
        async () => {
          const text = JSON.stringify((await user.get('/api/autonomous/deliberations')).body);
          return text.includes('by 300 USD a month') && text;
        },
        { withinMs: WITHIN_MS, what: 'the rejection' },
      );
      expect(shown).to.include('exceed benefits of 900 USD a month by 300 USD a month');
    });

    it('make a plan by rule where no model is connected, and say so', async () => {
      const { status, body } = await user.post(`${LUNA}/orchestrate`, {
        task: 'Research the two suppliers, then write a report.',
      });
      expect(status).to.equal(200);
      expect(body).to.include({ plannedBy: 'rule', success: true });
      expect(body.plan).to.include('no model is connected');
      const names = body.results.map(({ agentName }: { agentName: string }) => agentName);
      expect(names).to.include.members(['researcher', 'writer']);
      expect(names.indexOf('researcher')).to.be.below(names.indexOf('writer'));
      for (const { result } of body.results) expect(body.synthesis).to.include(result);
    });
  });
});

describe('orchestrations that a model plans', function () {
  this.timeout(60_000);

  let models: ModelServer;
  let program: Program;
  let user: Client;
  before(async () => {
    models = await startModelServer();
    program = await startProgram({
      env: { ...env, OPENAI_BASE_URL: models.url, OPENAI_API_KEY: 'sk-test', OPENAI_MODEL: 'gpt-test' },
    });
    user = await login(program.url, ADMIN);
  });
  after(async () => {
    await program[Symbol.asyncDispose]();
    await models.close();
  });

  const ask = async () => {
    const asked = { task: 'Compare the suppliers and write it up.' };
    const { status, body } = await user.post('/api/abilities/agents/orchestrate', asked);
    expect(status, JSON.stringify(body)).to.equal(200);
    return body;
  };
  /** What the planner says; everybody else says who they are told to be. */
  const plannedAs = (plan: string) => {
    models.answer = ({ messages }) =>
      JSON.stringify(messages[0]).includes('divide it among agents')
        ? { text: [plan] }
        : { text: [`Done: ${messages.at(-1).content.split('\n')[0]}`] };
  };

  it('are carried out as the planner divides the task', async () => {
    const steps = [
      { agent: 'analyst', task: 'Compare the prices.' },
      { agent: 'report-writer', task: 'Write the comparison.' },
    ];
    plannedAs(`Here it is:\n${JSON.stringify({ steps })}`);
    const body = await ask();
    expect(body).to.include({ plannedBy: 'model', success: true });
    expect(body.plan).to.equal(
      'Made by planner (openai/gpt-test):\n1. analyst: Compare the prices.\n2. writer: Write the comparison.',
    );
    expect(body.results.map(({ result }: { result: string }) => result)).to.deep.equal([
      'Done: Compare the prices.',
      'Done: Write the comparison.',
    ]);
    const second = models.asked.at(-1).messages.at(-1).content;
    expect(second).to.include('<result agent="analyst"').and.to.include('Done: Compare the prices.');
  });

  it('are planned by rule where the plan cannot be used, and say why', async () => {
    plannedAs('{"steps": [{"agent": "nobody", "task": "x"}]}');
    const body = await ask();
    expect(body.plannedBy).to.equal('rule');
    expect(body.plan).to.include('it names an agent that there is not: nobody');
  });
});
