/**
 * The program is killed (-9) at random instants while agents work: tasks, chats, delegations, orchestrations and
 * sessions of the Council, all of them followed live. In the end nothing is lost, nothing was done twice, whoever
 * followed saw everything once, and everything derived from the log is what the log says. KILLS says how often (6).
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import { isAfter } from '../contracts/envelope.ts';
import type { OdeonEvent } from '../contracts/events/catalogue.ts';
import { agentFaultsOf, openWork } from './agent-log-invariants.ts';
import { type AgentsAtWork, createAgentsAtWork, type Frame, playBack, tellAgain } from './agents-at-work.ts';
import { type Killable, startKillable } from './killable.ts';
import { faultsOf, openTurns } from './log-invariants.ts';
import { type Client, client, condition, login } from './program.ts';

const KILLS = Number(process.env.KILLS ?? 6);
const LIVES_MS = 2_500;
/** Search embeds every message anew in a rebuild: the longer it went on, the longer that takes. */
const SETTLES_WITHIN_MS = 60_000 + KILLS * 10_000;
const env = {
  ACCESS_TOKEN_MINUTES: '1440',
  LOG_LEVEL: 'error',
  RATE_LIMIT_PER_MINUTE: '0',
  BUILTIN_DELAY_MS: '4',
  COUNCIL_PACE_MS: '20',
};
const SURFACES = ['luna', 'agent-chat', 'agent-chat-graphql', 'trinity', 'zerg'];
const USERS = 3;
const SEARCHED = [
  { query: 'lucky number', limit: 100 },
  { query: 'moving an archive to cold storage', limit: 100 },
  { query: 'count', limit: 100, filters: { role: 'assistant' } },
];

describe(`killed ${KILLS} times while agents work`, function () {
  this.timeout(180_000 + KILLS * 45_000);
  // What comes later is about what the first has brought about.
  this.bail(true);

  let dataDir: string;
  let killable: Killable;
  let work: AgentsAtWork;
  let going = true;
  const users: string[] = [];

  before(async () => {
    dataDir = await mkdtemp(join(tmpdir(), 'odeon-kill-agents-'));
    killable = await startKillable({ dataDir, env, livesMs: LIVES_MS, settlesWithinMs: SETTLES_WITHIN_MS });
    work = createAgentsAtWork(killable);
    for (let user = 0; user < USERS; user++) {
      const account = { email: `user${user}@example.com`, password: 'battery staple horse' };
      const made = await admin().post('/api/users', {
        ...account,
        displayName: `User ${user}`,
        role: 'user',
      });
      expect(made.status).to.equal(201);
      users.push((await login(killable.program.url, account)).token);
    }
  });
  after(async () => {
    going = false;
    await killable[Symbol.asyncDispose]();
    await rm(dataDir, { recursive: true });
  });

  const admin = (): Client => client(killable.program.url, killable.token);
  const by = (token: string): Client => client(killable.program.url, token);
  const goOn = () => going;

  async function checkLog(): Promise<void> {
    const expected = [...work.messages];
    await killable.readLog();
    expect(faultsOf(killable.log, expected), 'faults of the log').to.deep.equal([]);
    expect(agentFaultsOf(killable.log), 'faults of what agents did').to.deep.equal([]);
  }
  const conversations = (): string[] =>
    (killable.log as readonly OdeonEvent[]).flatMap(({ type, stream }) =>
      type === 'ConversationStarted' ? [stream.slice('conversation-'.length)] : [],
    );

  it('loses, doubles and repeats nothing, and ends everything once', async () => {
    const [ada, bob, cy] = users as [string, string, string];
    const sockets = users.map((token) => work.listen(token));
    const clients = [
      work.task(ada, goOn),
      work.task(bob, goOn),
      work.chat(ada, 'coder', goOn),
      work.chat(bob, 'analyst', goOn),
      work.delegate(ada, false, goOn),
      work.delegate(bob, true, goOn),
      work.delegate(cy, true, goOn),
      work.orchestrate(bob, true, goOn),
      work.orchestrate(cy, false, goOn),
      work.deliberate(ada, goOn),
      work.deliberate(cy, goOn),
    ];
    const failed = Promise.all(clients);
    failed.catch(() => {}); // reported below
    // Whatever fails, nothing is asked for any more.
    using stopping = new DisposableStack();
    stopping.defer(() => {
      going = false;
    });
    for (let kill = 0; kill < KILLS; kill++) {
      const { killWhileStarting, killAndRestart } = killable;
      await Promise.race([kill % 4 === 3 ? killWhileStarting() : killAndRestart(), failed]);
      await checkLog();
    }
    going = false;
    await failed;
    await condition(
      async () => {
        await checkLog();
        return openTurns(killable.log).length === 0 && openWork(killable.log).length === 0;
      },
      { withinMs: SETTLES_WITHIN_MS, what: 'the end of all work' },
    );
    if (process.env.KILLS !== undefined) console.log(JSON.stringify(figures(), null, 1));
    await killable.current();
    await Promise.all(sockets.map((socket) => socket.stop()));
    for (const what of ['execution', 'orchestration', 'deliberation']) {
      expect(
        work.shown.filter((one) => one.what === what),
        what,
      ).not.to.be.empty;
    }
  });

  it('answers a request that it had acknowledged with the same, and does nothing', async () => {
    const { head } = await whereItEnds();
    const failed = new Set(
      (killable.log as readonly OdeonEvent[]).flatMap(({ type, data }) =>
        type === 'TurnFailed' ? [data.turnId] : [],
      ),
    );
    for (const { path, body, key, token, id, idOf } of work.acknowledged) {
      // Trinity's way: asked for again, an execution that failed is tried again.
      if (path.endsWith('/task') && failed.has(id)) continue;
      const again = await by(token).post(path, body, { 'Idempotency-Key': key });
      expect(again.status, `${path}: ${JSON.stringify(again.body)}`).to.be.oneOf([200, 202]);
      expect(idOf(again.body), path).to.equal(id);
    }
    expect((await whereItEnds()).head, 'the end of the log').to.equal(head);
  });

  it('has shown each that followed every durable frame once, with what is played back', async () => {
    const { url } = killable.program;
    for (const stream of work.shown) {
      const again = await playBack(url, stream);
      if (stream.what === 'execution') {
        expect(durable(stream.frames), stream.path).to.deep.equal(durable(again));
        expect(textOf(stream.frames), stream.path).to.equal(textOf(again));
      } else {
        const { since } = stream;
        const withId = again.filter(({ id }) => id !== '' && (since === undefined || isAfter(id, since)));
        // A reader that had seen nothing of a session, and came again when it was over, is told that there is none.
        if (stream.what === 'deliberation' && stream.frames.length === 0 && since === undefined) continue;
        expect(stream.frames, stream.path).to.deep.equal(withId);
      }
    }
  });

  it('has told over Socket.IO everything once', async () => {
    for (const listening of work.sockets) {
      const told = [...listening.events];
      expect(told).not.to.be.empty;
      expect(new Set(told.map(({ seq }) => seq)).size, 'told twice').to.equal(told.length);
      expect(told).to.deep.equal((await tellAgain(killable.program.url, listening)).slice(0, told.length));
    }
  });

  it('tells the same of every conversation on every surface', async () => {
    const all = conversations();
    expect(all).not.to.be.empty;
    for (const id of all) {
      const { status, body } = await admin().get(`/api/log/parity/${id}`);
      expect(status, id).to.equal(200);
      expect(Object.keys(body.digests)).to.have.members(SURFACES);
      expect(body.differences, id).to.deep.equal([]);
      expect(body.equal, id).to.equal(true);
    }
  });

  it('tells of the past what was read then', async () => {
    expect(work.read).not.to.be.empty;
    for (const { token, path, position, body } of work.read) {
      const then = await by(token).get(`${path}?asOf=${position}`);
      expect(then.status).to.equal(200);
      expect(then.body, `${path}?asOf=${position}`).to.deep.equal(body);
    }
  });

  it('rebuilds every read model as it was, byte for byte, beside the one that serves and from nothing', async () => {
    const asOf = (await admin().get('/api/log/events?limit=1&order=desc')).body.events[0].position;
    const search = () =>
      Promise.all(
        SEARCHED.map(async (body) => {
          const found = await admin().post(`/api/search?asOf=${asOf}`, body);
          expect(found.status, JSON.stringify(found.body)).to.equal(200);
          return found.body.results;
        }),
      );
    const found = await search();
    expect(found[0]).not.to.be.empty;
    await killable.current();
    const kept = await killable.whileStopped(() => killable.dump());

    const names = (await admin().get('/api/projections')).body.projections.map(
      ({ name }: { name: string }) => name,
    );
    expect(names).to.include.members([
      ...['conversations', 'messages', 'turns', 'activity', 'agents', 'orchestrations', 'deliberations'],
      ...['councils', 'public-links', 'search'],
    ]);
    for (const name of names) {
      expect((await admin().post(`/api/projections/${name}/rebuild`)).status, name).to.equal(202);
    }
    await killable.current();
    expect(await search(), 'what search finds').to.deep.equal(found);
    const rebuilt = await killable.whileStopped(async () => {
      const dump = await killable.dump();
      await killable.forgetReadModels();
      return dump;
    });
    // What was asked for meanwhile is told, too.
    const before = new Set(kept);
    const after = new Set(rebuilt);
    expect(
      kept.filter((line) => !after.has(line)),
      'what a rebuild changed',
    ).to.deep.equal([]);
    for (const line of rebuilt.filter((one) => !before.has(one)))
      expect(line).to.match(/^activity .*[Rr]ebuild/);

    await killable.current();
    const fromNothing = await killable.whileStopped(() => killable.dump());
    expect(fromNothing).to.deep.equal(rebuilt);
    expect(kept.length).to.be.above(conversations().length);
  });

  /** How much was done, and how much of it a kill has hit. */
  function figures(): Record<string, number> {
    const log = killable.log as readonly OdeonEvent[];
    const count = (is: (event: OdeonEvent) => boolean) => log.filter(is).length;
    const shown = (what: string) => work.shown.filter((one) => one.what === what);
    return {
      events: log.length,
      messages: count(({ type }) => type === 'MessageSent'),
      'turns taken again': count(({ type, data }) => type === 'TurnStarted' && data.attempt > 1),
      'turns failed': count(({ type }) => type === 'TurnFailed'),
      orchestrations: count(({ type }) => type === 'OrchestrationRequested'),
      'orchestrations taken again': count(
        ({ type, data }) => type === 'OrchestrationStarted' && data.attempt > 1,
      ),
      deliberations: count(({ type }) => type === 'DeliberationOpened'),
      'deliberations taken again': count(
        ({ type, data }) => type === 'DeliberationStarted' && data.attempt > 1,
      ),
      'deliberations failed': count(
        ({ type, data }) => type === 'DeliberationEnded' && data.outcome === 'failed',
      ),
      'executions followed': shown('execution').length,
      'orchestrations followed': shown('orchestration').length,
      'deliberations followed': shown('deliberation').length,
      'deliberations of which nothing was seen': shown('deliberation').filter(
        ({ frames }) => frames.length === 0,
      ).length,
      frames: work.shown.reduce((sum, { frames }) => sum + frames.length, 0),
      'events over Socket.IO': work.sockets.reduce((sum, { events }) => sum + events.length, 0),
      'reads kept': work.read.length,
    };
  }

  async function whereItEnds(): Promise<{ head: string }> {
    const { body } = await admin().get('/api/log/events?limit=1&order=desc');
    return { head: body.events[0].position };
  }
});

const passing = ['text', 'thinking', 'stream_end', 'server_shutdown'];
/** What an execution's stream says besides the text that is being written. */
const durable = (frames: readonly Frame[]) =>
  frames.flatMap(({ data }) => (passing.includes(data.type) || data.status === 'restarted' ? [] : [data]));
function textOf(frames: readonly Frame[]): string {
  let text = '';
  for (const { data } of frames) {
    if (data.type === 'text') text += data.text;
    if (data.status === 'restarted') text = '';
  }
  return text;
}
