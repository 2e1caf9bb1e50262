/**
 * Agents at work on several processes: who answers clients, who carries the work out and who keeps the read models are
 * all apart, and whoever carries it out is killed in the middle.
 */
import { expect } from 'chai';
import type { OdeonEvent } from '../contracts/events/catalogue.ts';
import { agentFaultsOf, openWork } from './agent-log-invariants.ts';
import { type Cluster, startCluster } from './cluster.ts';
import { describeWithEngines, FIRST_START_MS } from './engines/availability.ts';
import { faultsOf, openTurns } from './log-invariants.ts';
import { type Client, client, condition, login } from './program.ts';

const ENDS_WITHIN_MS = 90_000;

/** Of the answers that are looked at, what is. */
interface Answer {
  readonly status: string;
  readonly projections: readonly {
    readonly failed: number;
    readonly waiting: number;
    readonly lag: number;
  }[];
}

describeWithEngines(['kafka', 'ferretdb'], 'agents on several processes', function (this: Mocha.Suite) {
  this.timeout(ENDS_WITHIN_MS * 2);

  let cluster: Cluster;
  let command: Client;
  let query: Client;

  before(async function () {
    this.timeout(FIRST_START_MS);
    cluster = await startCluster({
      processes: { command: 1, query: 1, projections: 1, processes: 1 },
      env: { ACCESS_TOKEN_MINUTES: '1440', BUILTIN_DELAY_MS: '200', COUNCIL_PACE_MS: '500' },
    });
    command = await login(cluster.with('command')[0]!.url);
    query = client(cluster.with('query')[0]!.url, command.token);
  });
  after(() => cluster?.[Symbol.asyncDispose]());

  async function readLog(): Promise<OdeonEvent[]> {
    const log: OdeonEvent[] = [];
    for (let next: string | null = '0'; next !== null; ) {
      const { status, body } = await query.get(`/api/log/events?from=${next}&limit=1000`);
      expect(status, JSON.stringify(body)).to.equal(200);
      log.push(...body.events);
      next = body.next;
    }
    return log;
  }

  it('end a run, an orchestration and a deliberation once, though who works on them is killed', async () => {
    const task = 'Count from 1 to 40.';
    const run = await command.post('/api/agents/coder/task', { message: task, async_mode: true });
    expect(run.status, JSON.stringify(run.body)).to.equal(200);
    const turnId = run.body.execution_id as string;
    const plan = { task: 'Count from 1 to 30.', agents: ['writer', 'critic'], options: { parallel: true } };
    const orchestration = await command.post('/api/agents/orchestrate', plan);
    expect(orchestration.status, JSON.stringify(orchestration.body)).to.equal(202);
    const session = await command.post('/api/autonomous/start', {
      taskDescription: 'Should we move the archive to cold storage?',
      material: [
        { title: 'Bill', text: 'The archive costs 310 dollars a month.' },
        { title: 'Offer', text: 'Cold storage saves 900 dollars a month. It was tested in May.' },
      ],
    });
    expect(session.status, JSON.stringify(session.body)).to.equal(200);
    // Over GraphQL a query node hands the message on to the command node.
    const asked = await query.post('/graphql', {
      query: 'mutation ($input: MessageInput!) { sendMessage(input: $input) { id } }',
      variables: { input: { content: 'Count from 1 to 20.', model: 'agent:analyst', stream: true } },
    });
    expect(asked.body.errors, JSON.stringify(asked.body)).to.equal(undefined);

    const happened = (log: readonly OdeonEvent[]) => new Set(log.map(({ type }) => type));
    await condition(
      async () => {
        const types = happened(await readLog());
        return ['TurnStarted', 'StepStarted', 'MemberSpoke'].every((type) => types.has(type as never));
      },
      { withinMs: ENDS_WITHIN_MS, what: 'the work to be under way' },
    );
    const [worker] = cluster.with('processes');
    await worker!.kill();
    const before = await readLog();
    expect(openTurns(before), 'turns under way').not.to.be.empty;
    expect(openWork(before), 'work under way').not.to.be.empty;
    await worker!.start();

    let log: OdeonEvent[] = [];
    await condition(
      async () => {
        log = await readLog();
        return openTurns(log).length === 0 && openWork(log).length === 0;
      },
      { withinMs: ENDS_WITHIN_MS, what: 'the end of all work' },
    );
    expect(faultsOf(log, [{ content: task, turnId }])).to.deep.equal([]);
    expect(agentFaultsOf(log)).to.deep.equal([]);
    const ends = (type: OdeonEvent['type']) => log.filter((event) => event.type === type).length;
    expect(ends('TurnCompleted'), 'the run, the message and two steps').to.equal(4);
    expect(ends('OrchestrationEnded')).to.equal(1);
    expect(ends('DeliberationEnded')).to.equal(1);

    // The query node shows it as it ended.
    const shows = (path: string, isSo: (body: Answer) => boolean) =>
      condition(async () => isSo((await query.get(path)).body), { withinMs: 20_000, what: path });
    await shows(`/api/agents/coder/executions/${turnId}`, ({ status }) => status === 'success');
    await shows('/api/agents/orchestrate', (body) => JSON.stringify(body).includes('"completed"'));
    await shows('/api/autonomous/status', ({ status }) => status === 'idle');
    await shows('/api/projections', ({ projections }) =>
      projections.every(({ failed, waiting, lag }) => failed === 0 && waiting === 0 && lag === 0),
    );
  });
});
