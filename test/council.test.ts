/** The Council from outside: sessions, members, records, theater mode live and played back, and what a kill leaves. */
import { expect } from 'chai';
import { EventSource } from 'eventsource';
import { type TheaterFrame, theaterFrame } from '../contracts/live/theater.ts';
import { type Client, condition, login, type Program, startProgram } from './program.ts';

const WITHIN_MS = 20_000;
const START = '/api/autonomous/start';
const LIVE = '/api/autonomous/deliberations/live';
const archive = {
  taskDescription: 'Should we move the archive to cold storage?',
  material: [
    { title: 'Bill', text: 'The archive costs 310 dollars a month. 310 * 12 = 3720.' },
    { title: 'Offer', text: 'Cold storage saves 900 dollars a month. It was tested in May.' },
  ],
};

interface Shown {
  readonly id: string;
  readonly frame: TheaterFrame;
}

/** Frames in order until the stream ends, or `enough` is shown. Each is held against its schema. */
async function read(
  program: Program,
  client: Client,
  path: string,
  enough: (frame: TheaterFrame) => boolean = () => false,
  headers: Record<string, string> = {},
): Promise<{ status: number; shown: Shown[] }> {
  const response = await fetch(program.url + path, {
    headers: { Authorization: `Bearer ${client.token}`, ...headers },
    signal: AbortSignal.timeout(WITHIN_MS),
  });
  const shown: Shown[] = [];
  if (response.status !== 200) return { status: response.status, shown };
  let rest = '';
  const decoder = new TextDecoder();
  for await (const chunk of response.body!) {
    rest += decoder.decode(chunk, { stream: true });
    for (let end = rest.indexOf('\n\n'); end >= 0; end = rest.indexOf('\n\n')) {
      const block = rest.slice(0, end);
      rest = rest.slice(end + 2);
      const data = /^data: (.*)$/m.exec(block)?.[1];
      if (data === undefined) continue;
      const frame = theaterFrame.parse(JSON.parse(data));
      expect(frame).to.deep.equal(JSON.parse(data));
      shown.push({ id: /^id: (.*)$/m.exec(block)?.[1] ?? '', frame });
      // Leaving the loop closes the connection.
      if (enough(frame)) return { status: 200, shown };
    }
  }
  return { status: 200, shown };
}
const durable = (shown: readonly Shown[]) => shown.filter(({ id }) => id !== '');
const typesOf = (shown: readonly Shown[]) => shown.map(({ frame }) => frame.type);

describe('the Council', function () {
  this.timeout(60_000);
  let program: Program;
  let admin: Client;
  let ada: Client;
  let bob: Client;

  const userNamed = async (name: string): Promise<Client> => {
    const account = { email: `${name}@example.com`, password: 'a long enough password', displayName: name };
    const { status } = await admin.post('/api/users', { ...account, role: 'user' });
    expect(status).to.equal(201);
    return login(program.url, account);
  };
  /** Starts a session, and gives the id of its deliberation. */
  const start = async (client: Client, body: object = archive): Promise<string> => {
    const { status, body: answer } = await client.post(START, body);
    expect(status, JSON.stringify(answer)).to.equal(200);
    expect(answer).to.include({ success: true });
    return answer.session.deliberationId;
  };
  const ended = (client: Client, id: string) =>
    condition(
      async () => {
        const { body } = await client.get(`/api/autonomous/deliberations/${id}`);
        return body.endedAt === null ? null : body;
      },
      { withinMs: WITHIN_MS },
    );

  before(async () => {
    program = await startProgram({ env: { COUNCIL_PACE_MS: '40' } });
    admin = await login(program.url);
    ada = await userNamed('ada');
    bob = await userNamed('bob');
  });
  after(() => program.stop());

  it('has nothing to follow, to stop or to deliberate on at first', async () => {
    expect((await ada.get('/api/autonomous/status')).body).to.deep.include({
      ...{ status: 'idle', currentSession: null, todaySessionCount: 0 },
    });
    expect((await read(program, ada, LIVE)).shown.map(({ frame }) => frame)).to.deep.equal([
      { type: 'error', message: 'No active session' },
    ]);
    for (const path of [START, '/api/autonomous/stop']) {
      const { status, body } = await ada.post(path, {});
      expect(status).to.equal(400);
      expect(body.error).to.match(/no/i);
    }
  });

  it('deliberates, one session at a time, and its record says everything', async () => {
    const id = await start(ada);
    const again = await ada.post(START, archive);
    expect(again.status).to.equal(400);
    expect(again.body).to.deep.equal({ error: 'A session is active already: stop it first.' });
    const status = (await ada.get('/api/autonomous/status')).body;
    expect(status).to.include({ status: 'active', todaySessionCount: 1 });
    expect(status.currentSession.deliberationId).to.equal(id);

    const live = await read(program, ada, LIVE);
    expect(typesOf(live.shown).slice(0, 3)).to.deep.equal(['connected', 'deliberation', 'phase_start']);
    expect(typesOf(live.shown)).to.include.members([
      'search_start',
      'search_complete',
      'tool_count_update',
      'vote',
    ]);
    expect(typesOf(live.shown).at(-1)).to.equal('session_end');

    const record = await ended(ada, id);
    expect(record).to.include({ status: 'decided', autonomousSessionId: status.currentSession.id });
    expect(record.statements).to.have.length(6);
    expect(record.objections).to.have.length(5);
    expect(record.votes).to.have.length(5);
    expect(record.decisionReached.outcome).to.equal('approved');
    expect(record.actions[0].decisionId).to.equal(record.decisionReached.id);
    expect(record.material.some((one: { tool: string }) => one.tool === 'calculate')).to.equal(true);
    const spoken = live.shown.flatMap(({ frame }) => (frame.type === 'council_message' ? frame.message : []));
    expect(record.conversationData.map((one: { message: string }) => one.message)).to.deep.equal(spoken);
    const facts = await ada.get('/api/abilities/facts');
    expect(JSON.stringify(facts.body)).to.include(`decision: ${archive.taskDescription}`);

    // As it was in the middle of it.
    const middle = live.shown.find(({ frame }) => frame.type === 'phase_start' && frame.phase === 'vote')!.id;
    const past = await ada.get(`/api/autonomous/deliberations/${id}?asOf=${middle}`);
    expect(past.headers.get('x-event-position')).to.equal(middle);
    expect(past.body).to.deep.include({ status: 'running', currentPhase: 'vote', votes: [], decision: null });

    // What was followed live is what is played back.
    const played = await read(program, ada, `${LIVE}?deliberation=${id}&speed=100`);
    expect(played.shown).to.deep.equal(live.shown);
    const from = live.shown[20]!.id;
    const sought = await read(program, ada, `${LIVE}?deliberation=${id}&speed=100&from=${from}`);
    expect(durable(sought.shown)).to.deep.equal(live.shown.slice(21));
    const resume = { 'Last-Event-ID': live.shown.at(-1)!.id };
    expect((await read(program, ada, LIVE, undefined, resume)).status).to.equal(204);
    expect((await read(program, ada, `${LIVE}?deliberation=${id}`, undefined, resume)).status).to.equal(204);
  });

  it('is seen by its owner, and by who sees everything', async () => {
    const id = await ended(ada, await start(ada)).then(({ id }) => id);
    for (const path of [`/api/autonomous/deliberations/${id}`, `${LIVE}?deliberation=${id}`]) {
      const { status, body } = await bob.get(path);
      expect(status).to.equal(404);
      expect((await bob.get(path.replace(id, 'delib_0'))).body).to.deep.equal(body);
    }
    expect((await bob.get('/api/autonomous/deliberations')).body.deliberations).to.deep.equal([]);
    expect((await bob.get('/api/autonomous/sessions')).body.sessions).to.deep.equal([]);
    expect((await admin.get(`/api/autonomous/deliberations/${id}`)).status).to.equal(200);
    const listed = (await admin.get('/api/autonomous/deliberations?limit=1')).body.deliberations;
    expect(listed.map((one: { id: string }) => one.id)).to.deep.equal([id]);
  });

  it('refuses what it does not understand, naming it', async () => {
    const id = (await ada.get('/api/autonomous/deliberations')).body.deliberations[0].id;
    const wrong: [string, string, unknown?][] = [
      [`${LIVE}?deliberation=${id}&speed=0.05`, 'speed'],
      [`${LIVE}?deliberation=${id}&speed=101`, 'speed'],
      [`${LIVE}?deliberation=${id}&speed=fast`, 'speed'],
      [`${LIVE}?deliberation=${id}&from=x`, 'from'],
      [`${LIVE}?deliberation=${id}&from=99999999`, 'from'],
      [`${LIVE}?speed=2`, 'speed'],
      [START, 'sessionMode', { taskDescription: 'x', sessionMode: 'loud' }],
      [START, 'maxLoops', { taskDescription: 'x', maxLoops: 51 }],
      [START, 'maxToolUses', { taskDescription: 'x', maxToolUses: 101 }],
      [START, 'taskDescription', { taskDescription: '' }],
    ];
    for (const [path, field, body] of wrong) {
      const answer = body === undefined ? await ada.get(path) : await ada.post(path, body);
      expect(answer.status, path).to.equal(400);
      expect(JSON.stringify(answer.body), path).to.include(field);
    }
    expect((await ada.get('/api/autonomous/status')).body.status).to.equal('idle');
  });

  it('takes its topic from the latest conversation where none is given', async () => {
    const { body: session } = await bob.post('/api/chat/sessions', {});
    await bob.post(`/api/chat/sessions/${session.id}/send`, { message: 'What is 17 * 3?', stream: false });
    const record = await ended(bob, await start(bob, {}));
    expect(record.topic).to.equal('What is 17 * 3?');
    expect(record.material.map(({ text }: { text: string }) => text)).to.include('17 * 3 = 51');
  });

  it('stops when it is asked to', async () => {
    const id = await start(ada);
    const { status, body } = await ada.post('/api/autonomous/stop');
    expect(status).to.equal(200);
    expect(body.session).to.include({ status: 'stopped', deliberationId: id });
    expect((await ada.get('/api/autonomous/status')).body.status).to.equal('idle');
    expect((await ended(ada, id)).decision).to.equal(null);
  });

  it('has members that can be changed', async () => {
    const names = async () =>
      (await ada.get('/api/autonomous/council')).body.council.map(({ name }: { name: string }) => name);
    expect(await names()).to.deep.equal('planner sceptic advocate ethicist judge'.split(' '));
    const path = (name: string) => `/api/autonomous/council/${name}`;
    const changed = await ada.request('PATCH', path('sceptic'), { personality: 'Blunt.' });
    expect(changed.body).to.include({ name: 'sceptic', personality: 'Blunt.' });
    const lawyer = { role: 'Lawyer', systemPrompt: 'Look for what is unlawful.' };
    expect((await ada.request('PUT', path('lawyer'), lawyer)).status).to.equal(201);
    expect((await ada.request('PUT', path('lawyer'), lawyer)).status).to.equal(200);
    expect((await ada.request('PATCH', path('nobody'), {})).status).to.equal(404);
    expect((await ada.request('PUT', path('Bad%20Name'), lawyer)).status).to.equal(400);
    expect((await ada.request('DELETE', path('judge'))).status).to.equal(409);
    expect((await ada.request('DELETE', path('advocate'))).status).to.equal(200);
    expect(await names()).to.deep.equal('planner sceptic ethicist lawyer judge'.split(' '));
    expect((await bob.get('/api/autonomous/council')).body.council).to.have.length(5);
    const record = await ended(ada, await start(ada));
    expect(record.participants).to.include('lawyer').and.not.include('advocate');
    expect((await ada.post('/api/autonomous/council/reset')).body.council).to.have.length(5);
    expect(await names()).to.deep.equal('planner sceptic advocate ethicist judge'.split(' '));
  });

  it('is followed by an EventSource through cuts, without gap or repeat', async () => {
    const id = await start(ada);
    const shown: Shown[] = [];
    let cuts = 0;
    let cut = () => {};
    const source = new EventSource(program.url + LIVE, {
      async fetch(url, init) {
        const headers = { ...init.headers, Authorization: `Bearer ${ada.token}` };
        const { ok, status, redirected, headers: answered, body } = await fetch(url, { ...init, headers });
        const reader = body?.getReader();
        const relayed = new ReadableStream<Uint8Array>({
          start: (controller) => {
            cut = () => {
              controller.error(new Error('cut'));
              reader?.cancel().catch(() => {});
            };
          },
          async pull(controller) {
            const { done, value } = (await reader?.read().catch(() => null)) ?? {
              done: true,
              value: undefined,
            };
            // After a cut, closing it or adding to it throws.
            if (done) controller.close();
            else controller.enqueue(value!);
          },
        });
        return { ok, status, redirected, headers: answered, url: String(url), body: relayed };
      },
    });
    try {
      source.onmessage = ({ data, lastEventId }) => {
        const frame = JSON.parse(data) as TheaterFrame;
        if (frame.type === 'connected' || frame.type === 'ping') return;
        shown.push({ id: lastEventId, frame });
        if (shown.length % 15 === 0 && cuts < 2) {
          cuts++;
          cut();
        }
      };
      // After a cut it comes again with its cursor (3 s later, as the stream says), and at the end it is told to stop.
      await condition(() => source.readyState === EventSource.CLOSED, { withinMs: WITHIN_MS });
    } finally {
      source.close();
    }
    expect(cuts).to.equal(2);
    const played = await read(program, ada, `${LIVE}?deliberation=${id}&speed=100`);
    expect(shown).to.deep.equal(durable(played.shown));
  });
});

describe('the Council, killed', function () {
  this.timeout(60_000);
  it('goes on where it was, and what a reader had goes on, too', async () => {
    await using first = await startProgram({ env: { COUNCIL_PACE_MS: '60' } });
    const { dataDir } = first;
    let client = await login(first.url);
    const { body } = await client.post(START, archive);
    const id = body.session.deliberationId;
    const before = await read(first, client, LIVE, ({ type }) => type === 'council_message');
    const more = await read(first, client, LIVE, ({ type }) => type === 'vote', {
      'Last-Event-ID': before.shown.at(-1)!.id,
    });
    await first.kill('SIGKILL');

    await using second = await startProgram({ dataDir, env: { COUNCIL_PACE_MS: '0' } });
    client = await login(second.url);
    const rest = await read(second, client, LIVE, ({ type }) => type === 'session_end', {
      'Last-Event-ID': more.shown.at(-1)!.id,
    });
    const all = durable([...before.shown, ...more.shown, ...rest.shown]);
    const played = await read(second, client, `${LIVE}?deliberation=${id}&speed=100`);
    expect(all).to.deep.equal(durable(played.shown));
    expect(typesOf(all)).to.include('session_resumed');
    const votes = all.flatMap(({ frame }) => (frame.type === 'vote' ? frame.speaker : []));
    expect(votes).to.deep.equal('planner sceptic advocate ethicist judge'.split(' '));
    expect(typesOf(all).filter((type) => type === 'council_message')).to.have.length(11);
  });

  it('stands still where no worker runs, and says so to who follows', async () => {
    await using program = await startProgram({ env: { ROLES: 'command,query,projections' } });
    const client = await login(program.url);
    const { body } = await client.post(START, archive);
    const { shown } = await read(program, client, LIVE, ({ type }) => type === 'session_paused');
    expect(typesOf(shown)).to.deep.equal(['connected', 'history_load', 'session_paused']);
    expect(shown[1]!.id).to.not.equal('');
    const stopped = await client.post('/api/autonomous/stop');
    expect(stopped.body.session).to.include({ id: body.session.id, status: 'stopped' });
    expect((await client.post(START, archive)).status).to.equal(200);
  });
});
