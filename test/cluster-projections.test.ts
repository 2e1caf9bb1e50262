/** Rebuilds, failures and status of projections that several processes run, over the API of any of them. */
import { expect } from 'chai';
import { type Cluster, startCluster } from './cluster.ts';
import { describeWithEngines, FIRST_START_MS } from './engines/availability.ts';
import { type Client, client, condition, login } from './program.ts';

const PARTITIONS = 4;
/** A process without runtimes of its partitions says so when nothing was heard of them for 10 s. */
const SILENT_WITHIN_MS = 20_000;

describeWithEngines(['kafka', 'ferretdb'], 'projections of several processes', function (this: Mocha.Suite) {
  this.timeout(60_000);

  let cluster: Cluster;
  let command: Client;
  let queries: readonly [Client, Client];

  before(async function () {
    this.timeout(FIRST_START_MS);
    cluster = await startCluster({
      processes: { command: 1, query: 2, projections: 1 },
      env: { KAFKA_PARTITIONS: String(PARTITIONS) },
    });
    command = await login(cluster.with('command')[0]!.url);
    const [first, second] = cluster.with('query').map(({ url }) => client(url, command.token));
    queries = [first!, second!];
  });
  after(() => cluster?.[Symbol.asyncDispose]());

  const projections = async (by: Client) => {
    const { status, body } = await by.get('/api/projections');
    expect(status, JSON.stringify(body)).to.equal(200);
    return body.projections as Record<string, unknown>[];
  };
  const live = async (by: Client): Promise<boolean> =>
    (await projections(by)).every(
      ({ state, lag, complete, problem }) =>
        state === 'live' && lag === 0 && complete === true && problem === null,
    );

  it('rebuilds a projection, and shows it on the query nodes meanwhile and afterwards', async () => {
    await condition(() => live(queries[0]), { withinMs: 10_000, what: 'the projections to be live' });
    const before = (await queries[0].get('/api/chat/sessions?limit=100')).body;
    const { status } = await command.post('/api/projections/conversations/rebuild');
    expect(status).to.equal(202);
    const seen = new Set<unknown>();
    await condition(
      async () => {
        const states = await projections(queries[1]);
        const { state } = states.find(({ name }) => name === 'conversations')!;
        seen.add(state);
        return state === 'live';
      },
      { withinMs: 20_000, what: 'the end of the rebuild' },
    );
    console.log(`states seen during the rebuild: ${[...seen].join(', ')}`);
    expect((await queries[1].get('/api/chat/sessions?limit=100')).body).to.deep.equal(before);
    expect((await command.post('/api/projections/none/rebuild')).status).to.equal(404);
    const retried = await command.post('/api/projections/conversations/failures/retry');
    expect(retried.status, JSON.stringify(retried.body)).to.equal(200);
    expect(retried.body).to.deep.include({ applied: 0, failed: 0 });
    const failures = await queries[1].get('/api/projections/conversations/failures');
    expect(failures.status).to.equal(200);
  });

  it('says so when no process runs the projections; commands answer, and all is there afterwards', async () => {
    const [node] = cluster.with('projections');
    await node!.kill();
    const made = await command.post('/api/chat/sessions', { title: 'Made meanwhile' });
    expect(made.status).to.equal(201);
    expect(made.headers.get('x-read-model')).to.equal('behind');
    await condition(
      async () =>
        (await projections(queries[0])).every(
          ({ name, state, problem }) =>
            // Who answers searches keeps the index itself.
            name === 'search' || (state === 'stopped' && /No process runs/.test(String(problem))),
        ),
      { withinMs: SILENT_WITHIN_MS, what: 'the query node to say so' },
    );
    const retry = await command.post('/api/projections/conversations/failures/retry');
    expect(retry.status).to.equal(503);
    expect(retry.headers.get('retry-after')).to.match(/^\d+$/);
    expect(await command.post('/api/projections/conversations/rebuild')).to.include({ status: 202 });

    await node!.start();
    await node!.program.ready;
    await condition(() => live(queries[0]), { withinMs: 20_000, what: 'the projections to be live again' });
    const seen = await queries[1].get(`/api/chat/sessions/${made.body.id}`);
    expect(seen.body.title).to.equal('Made meanwhile');
  });
});
