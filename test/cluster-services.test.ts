/** The services of one process of several are stopped and started: the others go on, and nothing is lost. */
import { expect } from 'chai';
import { type Cluster, startCluster } from './cluster.ts';
import { describeWithEngines, FIRST_START_MS } from './engines/availability.ts';
import { type Client, client, condition, login } from './program.ts';

describeWithEngines(['kafka', 'ferretdb'], 'services of several processes', function (this: Mocha.Suite) {
  this.timeout(90_000);

  let cluster: Cluster;
  let command: Client;
  let query: Client;
  let projecting: Client;

  before(async function () {
    this.timeout(FIRST_START_MS);
    cluster = await startCluster({ processes: { command: 1, query: 1, projections: 1 } });
    command = await login(cluster.with('command')[0]!.url);
    query = client(cluster.with('query')[0]!.url, command.token);
    projecting = client(cluster.with('projections')[0]!.url, command.token);
  });
  after(() => cluster?.[Symbol.asyncDispose]());

  const change = async (what: 'start' | 'stop', services: readonly string[]) => {
    const { status, body } = await projecting.post(`/api/cli/${what}`, { services });
    expect(status, JSON.stringify(body)).to.equal(200);
  };
  const running = async (by: Client): Promise<string[]> =>
    (await by.get('/api/cli/status')).body.containers
      .filter(({ state }: { state: string }) => state === 'running')
      .map(({ name }: { name: string }) => name);
  const titles = async (): Promise<string[]> =>
    (await query.get('/api/conversations')).body.conversations.map(({ title }: { title: string }) => title);
  const shows = (...wanted: string[]) =>
    condition(async () => JSON.stringify(await titles()) === JSON.stringify(wanted), {
      withinMs: 40_000,
      what: `the conversations ${wanted.join(', ')}`,
    });

  it('shows what each has', async () => {
    expect(await running(projecting)).to.deep.equal(['odeon-http', 'odeon-relay', 'odeon-projections']);
    expect(await running(query)).to.deep.equal(['odeon-http', 'odeon-search']);
    expect(await running(command)).to.deep.equal(['odeon-http']);
  });

  for (const services of [['projections'], ['relay'], ['relay', 'projections']]) {
    it(`goes on from where it was when ${services.join(' and ')} are started again`, async () => {
      const before = await titles();
      await change('stop', services);
      const made = await command.post('/api/conversations', { title: services.join('+') });
      expect([made.status, made.headers.get('x-read-model')]).to.deep.equal([201, 'behind']);
      expect(await titles()).to.deep.equal(before);
      await change('start', services);
      await shows(services.join('+'), ...before);
    });
  }
});
