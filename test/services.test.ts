/** The services of a running program are stopped and started, and what depends on them waits meanwhile. */
import { expect } from 'chai';
import { type Client, condition, login, type Program, startProgram } from './program.ts';

interface Container {
  readonly name: string;
  readonly status: string;
  readonly ports: string;
  readonly image: string;
  readonly state: string;
  readonly uptime_seconds: number;
}

describe('the services of a process', () => {
  let program: Program;
  let admin: Client;
  beforeEach(async () => {
    program = await startProgram({ env: { BUILTIN_DELAY_MS: '0' } });
    admin = await login(program.url);
  });
  afterEach(() => program.stop());

  const containers = async (): Promise<Container[]> => (await admin.get('/api/cli/status')).body.containers;
  const running = async (): Promise<string[]> =>
    (await containers()).filter(({ status }) => status.startsWith('Up')).map(({ name }) => name);
  const change = async (what: 'start' | 'stop', body?: object) => {
    const answer = await admin.post(`/api/cli/${what}`, body);
    expect(answer.status, JSON.stringify(answer.body)).to.equal(200);
    return answer.body;
  };
  const history = async (id: string) => (await admin.get(`/api/v1/chat/${id}/history`)).body.data;
  const titles = async () => {
    const { body, headers } = await admin.get('/api/conversations');
    return {
      titles: body.conversations.map(({ title }: { title: string }) => title),
      model: headers.get('X-Read-Model'),
    };
  };

  it('are shown as containers are, and do as they are told, however often', async () => {
    const all = ['odeon-http', 'odeon-projections', 'odeon-search', 'odeon-turns'];
    expect(await running()).to.include.members(all);
    const { port } = new URL(program.url);
    for (const container of await containers()) {
      expect(container.status).to.match(/^Up (Less than a second|\d+ seconds?)$/);
      expect(container.ports).to.equal(`127.0.0.1:${port}->${port}/tcp`);
      expect(container.image).to.match(/^odeon:\d+\.\d+\.\d+$/);
    }

    const stopped = await change('stop');
    expect(stopped).to.include({ success: true, message: 'Odeon services stopped' });
    expect(await running()).to.deep.equal(['odeon-http']);
    const exited = (await containers()).find(({ name }) => name === 'odeon-turns');
    expect(exited).to.include({ state: 'exited', ports: '', uptime_seconds: 0 });
    expect(exited?.status).to.match(/^Exited \(0\) .+ ago$/);
    await change('stop');

    const simple = await change('start', { profile: 'simple' });
    expect(simple).to.deep.equal({
      success: true,
      message: 'Odeon services started successfully',
      services: ['projections', 'turns'],
    });
    expect(await running()).to.deep.equal(['odeon-http', 'odeon-projections', 'odeon-turns']);
    await change('start');
    expect(await running()).to.include.members(all);
    await change('start', { profile: 'full' });

    const rows = (await admin.get('/api/activity?category=system')).body.logs;
    const asked = rows.filter(({ eventType }: { eventType: string }) => /^Services/.test(eventType));
    // What changed nothing is not on record.
    expect(asked.map(({ eventType }: { eventType: string }) => eventType)).to.deep.equal([
      'ServicesStartRequested',
      'ServicesStartRequested',
      'ServicesStopRequested',
    ]);
    expect(asked[1]).to.deep.include({ actor: asked[0].actor, source: 'agent-chat' });
    expect(asked[1].details.services).to.deep.equal(['projections', 'turns']);
    const [event] = (await admin.get('/api/log/events?type=ServicesStopRequested')).body.events;
    expect(event.actor.kind).to.equal('user');
  });

  it('without the projections show what was there, and then everything', async () => {
    await admin.post('/api/conversations', { title: 'before' });
    await change('stop', { services: ['projections'] });
    const made = await admin.post('/api/conversations', { title: 'meanwhile' });
    expect([made.status, made.headers.get('X-Read-Model')]).to.deep.equal([201, 'behind']);
    expect(await titles()).to.deep.equal({ titles: ['before'], model: 'behind' });
    const projections = (await admin.get('/api/projections')).body.projections as {
      name: string;
      state: string;
    }[];
    expect(projections.find(({ name }) => name === 'conversations')?.state).to.equal('stopped');
    await change('start', { services: ['projections'] });
    expect(await titles()).to.deep.equal({ titles: ['meanwhile', 'before'], model: null });
  });

  it('without the turns keep messages, and answer them then', async () => {
    await change('stop', { services: ['turns'] });
    const { id } = (await admin.post('/api/v1/chat', {})).body.data;
    for (const content of ['What is 6 * 7?', 'What is 6 * 8?']) {
      expect((await admin.post(`/api/v1/chat/${id}/message`, { content })).status).to.equal(202);
    }
    expect(await history(id)).to.have.length(2);
    await change('start', { services: ['turns'] });
    const answered = await condition(
      async () => {
        const messages = await history(id);
        return messages.length === 4 ? messages : null;
      },
      { withinMs: 10_000, what: 'the answers' },
    );
    const answers = answered.filter(({ role }: { role: string }) => role === 'assistant');
    expect(answers.map(({ content }: { content: string }) => /4[28]/.exec(content)?.[0])).to.deep.equal([
      '42',
      '48',
    ]);
  });

  it('are refused by name where there are none such', async () => {
    const wrong = async (what: string, body: object) => {
      const answer = await admin.post(`/api/cli/${what}`, body);
      expect(answer.status).to.equal(400);
      return answer.body.details;
    };
    expect(await wrong('start', { profile: 'huge' })).to.equal('body.profile: a profile is simple or full');
    expect(await wrong('stop', { services: ['turns', 'http'] })).to.match(
      /^body\.services\.1: .*no service http/,
    );
    expect(await wrong('start', { profile: 'full', services: ['turns'] })).to.match(/^body\.profile/);
    expect(await wrong('start', { profiles: 'full' })).to.contain('profiles');
    expect(await running()).to.include('odeon-turns');
  });
});
