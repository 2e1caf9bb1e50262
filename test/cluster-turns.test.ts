/**
 * Turns on several processes, with a model that notes every call: a turn is carried on when its process is killed,
 * told to end, or stopped by its machine, and when partitions move; and no turn is ever run twice at the same time.
 */
import { once } from 'node:events';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import { expect } from 'chai';
import type { OdeonEvent } from '../contracts/events/catalogue.ts';
import { type Cluster, startCluster } from './cluster.ts';
import { describeWithEngines, FIRST_START_MS } from './engines/availability.ts';
import { faultsOf, openTurns } from './log-invariants.ts';
import { type Client, client, condition, launchProgram, login, type Program } from './program.ts';
import { readTurn, type TurnReader } from './turn-reader.ts';

const PARTITIONS = 6;
const WORDS = 30;
const WORD_MS = 100;
/** A worker counts as gone after twelve seconds of silence. */
const TAKEN_OVER_WITHIN_MS = 20_000;
/** Longer than that. */
const STOPPED_MS = 15_000;

interface Call {
  /** The message that is to be answered: different in every turn. */
  readonly message: string;
  /** Which process made it. */
  readonly node: string;
  readonly begun: number;
  /** Null while it runs. */
  ended: number | null;
}

describeWithEngines(['kafka', 'ferretdb'], 'turns on several processes', function (this: Mocha.Suite) {
  this.timeout(90_000);

  let cluster: Cluster;
  let command: Client;
  let query: Client;
  let model: Server;
  const calls: Call[] = [];
  const nodes = new Map<string, Program>();
  const acknowledged: { content: string; turnId: string }[] = [];
  const closing = new AbortController();

  before(async function () {
    this.timeout(FIRST_START_MS);
    model = createServer(async (request, response) => {
      let body = '';
      for await (const chunk of request) body += chunk;
      const { messages } = JSON.parse(body) as { messages: { role: string; content: unknown }[] };
      const content = messages.findLast(({ role }) => role === 'user')!.content;
      const message = typeof content === 'string' ? content : (content as { text: string }[])[0]!.text;
      const node = request.headers.authorization!.replace('Bearer ', '');
      const call: Call = { message, node, begun: performance.now(), ended: null };
      calls.push(call);
      response.on('close', () => {
        call.ended = performance.now();
      });
      const nth = calls.filter((one) => one.message === message).length;
      response.writeHead(200, { 'content-type': 'text/event-stream' });
      const say = (delta: object, finish: string | null = null) =>
        response.write(
          `data: ${JSON.stringify({ id: 'c', object: 'chat.completion.chunk', created: 1, model: 'm', choices: [{ index: 0, delta, finish_reason: finish }] })}\n\n`,
        );
      for (let n = 1; n <= WORDS && !response.destroyed; n++) {
        say({ content: `${n} of call ${nth}. ` });
        await delay(WORD_MS);
      }
      say({}, 'stop');
      response.end('data: [DONE]\n\n');
    });
    model.listen(0, '127.0.0.1');
    await once(model, 'listening');
    cluster = await startCluster({
      processes: { command: 1, query: 1, projections: 1 },
      env: { KAFKA_PARTITIONS: String(PARTITIONS), ACCESS_TOKEN_MINUTES: '1440' },
    });
    command = await login(cluster.with('command')[0]!.url);
    query = client(cluster.with('query')[0]!.url, command.token);
    await Promise.all(['one', 'two'].map(startNode));
  });
  after(async () => {
    closing.abort();
    await Promise.all([...nodes.values()].map((node) => node[Symbol.asyncDispose]()));
    await cluster?.[Symbol.asyncDispose]();
    model.closeAllConnections();
    model.close();
  });

  async function startNode(name: string): Promise<void> {
    const node = await launchProgram({
      dataDir: cluster.with('command')[0]!.program.dataDir,
      readyWithinMs: 60_000,
      env: {
        ROLES: 'processes',
        KAFKA_BROKERS: cluster.kafka.brokers,
        MONGODB_URL: cluster.database.url,
        KAFKA_PARTITIONS: String(PARTITIONS),
        OPENAI_BASE_URL: `http://127.0.0.1:${(model.address() as AddressInfo).port}/v1`,
        OPENAI_API_KEY: name,
        OPENAI_MODEL: 'scripted',
      },
    });
    nodes.set(name, node);
    await node.ready;
  }

  let users = 0;
  let sent = 0;
  /** A message in a new conversation of a new user: users are what the partitions are made of. */
  async function ask(): Promise<{ content: string; turnId: string; reader: TurnReader }> {
    const email = `user${++users}@example.org`;
    const password = 'a password that is long enough';
    const made = await command.post('/api/users', { email, password, displayName: email, role: 'user' });
    expect(made.status, JSON.stringify(made.body)).to.equal(201);
    const user = await login(cluster.with('command')[0]!.url, { email, password });
    const { body } = await user.post('/api/v1/chat', {});
    const content = `Tell me about number ${++sent}.`;
    const answer = await user.post(`/api/v1/chat/${body.data.id}/message`, { content });
    expect(answer.status, JSON.stringify(answer.body)).to.equal(202);
    const { turn_id: turnId } = answer.body.data;
    acknowledged.push({ content, turnId });
    const reader = readTurn(cluster.with('query')[0]!.url, user.token, turnId, closing.signal);
    return { content, turnId, reader };
  }

  const running = (): Call[] => calls.filter(({ ended }) => ended === null);

  /** Messages until calls run on every one of the nodes. */
  async function busy(...names: string[]) {
    const asked: Awaited<ReturnType<typeof ask>>[] = [];
    const isBusy = () => names.every((name) => running().some(({ node }) => node === name));
    await condition(
      async () => {
        if (!isBusy()) asked.push(await ask());
        return isBusy();
      },
      { withinMs: 20_000, what: `calls on ${names.join(' and ')}` },
    );
    return asked;
  }

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

  /** Pairs of calls for the same turn that ran at the same time. */
  const overlaps = (): { first: Call; second: Call }[] =>
    calls.flatMap((first, at) =>
      calls
        .slice(at + 1)
        .filter(
          (second) =>
            second.message === first.message && (first.ended === null || second.begun < first.ended),
        )
        .map((second) => ({ first, second })),
    );

  /** Waits for all ends, and holds what was read and called to what is recorded. */
  async function allEndWell(asked: readonly { turnId: string; reader: TurnReader }[]): Promise<void> {
    await Promise.all(asked.map(({ reader }) => reader.done));
    let log: OdeonEvent[] = [];
    await condition(
      async () => {
        log = await readLog();
        return openTurns(log).length === 0;
      },
      { withinMs: TAKEN_OVER_WITHIN_MS, what: 'the end of every turn' },
    );
    expect(faultsOf(log, acknowledged)).to.deep.equal([]);
    const answers = new Map(
      log.flatMap((event) =>
        event.type === 'TurnCompleted' ? [[event.data.turnId, event.data.content] as const] : [],
      ),
    );
    for (const { turnId, reader } of asked) {
      expect(answers.get(turnId), turnId).to.include(`${WORDS} of call`);
      expect(reader.text.trim(), turnId).to.equal(answers.get(turnId)!.trim());
    }
  }

  /** How long after an instant the last of the turns was begun again by another node. */
  const takenOver = (of: readonly Call[], since: number): number =>
    Math.max(...of.map(({ message }) => calls.findLast((call) => call.message === message)!.begun - since));

  it('are carried on at once when their process is told to end', async () => {
    const asked = await busy('one', 'two');
    const given = running().filter(({ node }) => node === 'one');
    const since = performance.now();
    expect(await nodes.get('one')!.kill('SIGTERM')).to.deep.equal({ code: 0, signal: null });
    const endedMs = Math.round(performance.now() - since);
    await allEndWell(asked);
    console.log(
      `${given.length} turns given back, ended after ${endedMs} ms, carried on ${Math.round(takenOver(given, since))} ms after SIGTERM`,
    );
    expect(overlaps()).to.deep.equal([]);
    expect(takenOver(given, since)).to.be.below(8_000);
  });

  it('run once while partitions move to a process that starts', async () => {
    const asked = await busy('two');
    await startNode('one');
    asked.push(...(await busy('one', 'two')));
    await allEndWell(asked);
    expect(overlaps()).to.deep.equal([]);
  });

  it('are taken over when their process is killed', async () => {
    const asked = await busy('one', 'two');
    const lost = running().filter(({ node }) => node === 'two');
    const since = performance.now();
    await nodes.get('two')!.kill('SIGKILL');
    await allEndWell(asked);
    const tookMs = takenOver(lost, since);
    console.log(`${lost.length} turns taken over ${Math.round(tookMs)} ms after kill -9`);
    expect(overlaps()).to.deep.equal([]);
    expect(tookMs).to.be.below(TAKEN_OVER_WITHIN_MS);
    expect(asked.some(({ reader }) => reader.restarts > 0)).to.equal(true);
  });

  it('are taken over when their process stands still, which then lets go of them', async () => {
    await startNode('two');
    const asked = await busy('one', 'two');
    const lost = running().filter(({ node }) => node === 'two');
    const stopped = nodes.get('two')!;
    process.kill(stopped.pid, 'SIGSTOP');
    const since = performance.now();
    await delay(STOPPED_MS);
    process.kill(stopped.pid, 'SIGCONT');
    const goesOnAt = performance.now();
    await allEndWell(asked);
    console.log(`${lost.length} turns taken over ${Math.round(takenOver(lost, since))} ms after SIGSTOP`);
    // The calls of the stopped process stay open as long as it stands still; what matters is when it runs again.
    for (const { first, second } of overlaps()) {
      expect(first.node, 'the node of a call that ran beside another').to.equal('two');
      expect(lost).to.include(first);
      expect(second.node).to.equal('one');
    }
    for (const { ended } of lost)
      expect(ended! - goesOnAt, 'ms until the call was let go').to.be.below(1_500);
    for (const call of calls)
      expect(
        call.node === 'two' && call.begun > goesOnAt && lost.some((one) => one.message === call.message),
      ).to.equal(false);
    expect(stopped.stderr).not.to.match(/"level":(50|60)|"level":"(error|fatal)"/);
    // It works again.
    await allEndWell(await busy('one', 'two'));
  });
});
