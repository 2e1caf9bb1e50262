/**
 * The program is killed (-9) at random instants, again and again, while clients send messages and follow the
 * answers; each time the log must hold what was acknowledged, and in the end all must be as if nothing had
 * happened. KILLS says how often (12; 200 take about a quarter of an hour).
 */
import { randomInt, randomUUID } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { AssertionError, expect } from 'chai';
import { EventSourceParserStream } from 'eventsource-parser/stream';
import type { EventEnvelope } from '../contracts/envelope.ts';
import type { OdeonEvent } from '../contracts/events/catalogue.ts';
import { openSqliteReadModels } from '../infra/read-models/sqlite.ts';
import { type AcknowledgedMessage, faultsOf, openTurns } from './log-invariants.ts';
import { client, condition, launchProgram, login, type Program, startProgram } from './program.ts';

const KILLS = Number(process.env.KILLS ?? 12);
const CLIENTS = 6;
/** The longest time between two kills, and from a start to a kill before the program is ready. */
const LIVES_MS = 1_500;
const SETTLES_WITHIN_MS = 90_000;
/** A day, so that one login serves the whole test. */
const env = { ACCESS_TOKEN_MINUTES: '1440', LOG_LEVEL: 'error' };

/** Each asks for something else of the turn process: read-only tools, tools that change something, long answers. */
const messages: readonly ((n: number) => string)[] = [
  (n) => `What is ${n} * 17?`,
  (n) => `Remember that my lucky number ${n} is ${n + 1}.`,
  (n) => `Count from ${n} to ${n + 30}.`,
  (n) => `What time is it? And what is ${n} + 1?`,
  (n) => `Count from ${n} to ${n + 5} and what is my lucky number ${n}?`,
];

/** What a client has received of an answer. */
interface Reader {
  readonly turnId: string;
  lastEventId: string;
  text: string;
  done: boolean;
}

describe(`killed ${KILLS} times under load`, function () {
  this.timeout(60_000 + KILLS * 20_000);

  let dataDir: string;
  let program: Program;
  let token: string;
  let sending = true;
  let count = 0;
  const log: EventEnvelope[] = [];
  const acknowledged: AcknowledgedMessage[] = [];
  const readers: Reader[] = [];

  before(async () => {
    dataDir = await mkdtemp(join(tmpdir(), 'odeon-kill-'));
    program = await startProgram({ dataDir, env });
    token = (await login(program.url)).token;
  });
  after(async () => {
    sending = false;
    await program[Symbol.asyncDispose]();
    await rm(dataDir, { recursive: true });
  });

  /** Does it on the running program; when that is killed meanwhile, again on the next, as a client would. */
  async function persist<Result>(work: (url: string) => Promise<Result>): Promise<Result> {
    for (;;) {
      const used = program;
      try {
        await used.ready;
        return await work(used.url);
      } catch (error) {
        if (error instanceof AssertionError) throw error;
        const { signal } = await Promise.race([used.exited, delay(5_000, { signal: null }, { ref: false })]);
        if (signal !== 'SIGKILL') throw error;
        await condition(() => program !== used, { withinMs: 60_000, what: 'the next start' });
      }
    }
  }

  const headers = () => ({ Authorization: `Bearer ${token}`, 'Content-Type': 'application/json' });

  /** Sends messages one after the other and follows their answers, over Luna Chat and ZERG in turn. */
  async function converse(): Promise<void> {
    const key = randomUUID();
    const sessionId = await persist(async (url) => {
      const made = await client(url, token).post('/api/v1/chat', {}, { 'Idempotency-Key': key });
      expect(made.status, JSON.stringify(made.body)).to.equal(200);
      return made.body.data.id as string;
    });
    while (sending) {
      count += 1;
      const n = count;
      const content = `${messages[n % messages.length]?.(n)} (${n})`;
      const send = n % 2 === 0 ? sendOverLuna : sendOverZerg;
      await follow(await send(sessionId, content, randomUUID()));
    }
  }

  async function sendOverZerg(sessionId: string, content: string, key: string): Promise<Reader> {
    const turnId = await persist(async (url) => {
      const path = `/api/v1/chat/${sessionId}/message`;
      const { status, body } = await client(url, token).post(path, { content }, { 'Idempotency-Key': key });
      expect(status, JSON.stringify(body)).to.equal(202);
      return body.data.turn_id as string;
    });
    return acknowledge(content, turnId);
  }

  /** The answer begins in the response itself. */
  async function sendOverLuna(sessionId: string, content: string, key: string): Promise<Reader> {
    const response = await persist(async (url) => {
      const answer = await fetch(`${url}/api/chat/sessions/${sessionId}/send`, {
        method: 'POST',
        headers: { ...headers(), Accept: 'text/event-stream', 'Idempotency-Key': key },
        body: JSON.stringify({ message: content }),
      });
      expect(answer.status).to.equal(200);
      return answer;
    });
    const reader = acknowledge(content, response.headers.get('X-Turn-Id') ?? 'no X-Turn-Id');
    await read(reader, response).catch((error) => {
      if (!(error instanceof TypeError)) throw error; // the connection broke: `follow` resumes
    });
    return reader;
  }

  function acknowledge(content: string, turnId: string): Reader {
    acknowledged.push({ content, turnId });
    const reader = { turnId, lastEventId: '', text: '', done: false };
    readers.push(reader);
    return reader;
  }

  /** Resumes the answer until its end. */
  async function follow(reader: Reader): Promise<void> {
    while (!reader.done) {
      await persist(async (url) => {
        const response = await fetch(`${url}/api/turns/${reader.turnId}/stream`, {
          headers: {
            ...headers(),
            ...(reader.lastEventId === '' ? {} : { 'Last-Event-ID': reader.lastEventId }),
          },
        });
        expect(response.status, reader.turnId).to.be.oneOf([200, 204]);
        if (response.status === 204) reader.done = true;
        else await read(reader, response);
      });
    }
  }

  /** Adds the frames of a response to what was received. Throws when the connection breaks. */
  async function read(reader: Reader, response: Response): Promise<void> {
    const frames = response
      .body!.pipeThrough(new TextDecoderStream())
      .pipeThrough(new EventSourceParserStream());
    for await (const { id, data } of frames) {
      if (id !== undefined) reader.lastEventId = id;
      if (data === '[DONE]') reader.done = true;
      else {
        const frame = JSON.parse(data);
        if (frame.type === 'content') reader.text += frame.content;
        if (frame.type === 'status' && frame.status === 'restarted') reader.text = '';
      }
    }
  }

  /** Kills the program at a random instant, and starts it again. */
  async function killAndRestart(): Promise<void> {
    await delay(randomInt(LIVES_MS));
    expect(program.stderr, 'errors that the program logged').to.equal('');
    await program.kill('SIGKILL');
    program = await launchProgram({ dataDir, env });
    await program.ready;
  }
  /** Twice in a row, the second time maybe before it is ready. */
  async function killWhileStarting(): Promise<void> {
    await program.kill('SIGKILL');
    program = await launchProgram({ dataDir, env });
    await killAndRestart();
  }

  /** Reads what the log got since the last time, and checks all of it. */
  async function checkLog(): Promise<void> {
    // Of those acknowledged from now on, the log that is read may hold nothing yet.
    const expected = [...acknowledged];
    const { get } = client(program.url, token);
    let next: string | null = log.at(-2)?.position ?? '0';
    const known = log.pop();
    const readBefore = log.length;
    while (next !== null) {
      const { status, body } = await get(`/api/log/events?from=${next}&limit=1000`);
      expect(status, JSON.stringify(body)).to.equal(200);
      log.push(...body.events);
      next = body.next;
    }
    if (known !== undefined) expect(log[readBefore], 'an event that was there before').to.deep.equal(known);
    expect(faultsOf(log, expected), 'faults of the log').to.deep.equal([]);
  }

  async function readModelsAreCurrent(): Promise<boolean> {
    const { body } = await client(program.url, token).get('/api/projections');
    expect(body.projections).not.to.be.empty;
    for (const projection of body.projections) {
      expect(projection, projection.name).to.include({ failed: 0, waiting: 0 });
      if (projection.lag > 0 || projection.state !== 'live') return false;
      expect(projection.complete, `${projection.name} has seen every event of its types`).to.equal(true);
    }
    return true;
  }

  /** Every document of every live copy, as text. The program must have ended. */
  async function dump(): Promise<string[]> {
    const readModels = await openSqliteReadModels({ file: join(dataDir, 'read-models.db') });
    try {
      const lines: string[] = [];
      for (const { copy, projection, live } of await readModels.copies()) {
        if (!live) continue;
        for await (const document of readModels.dump(copy)) {
          lines.push(`${projection} ${JSON.stringify(document)}`);
        }
      }
      return lines.sort();
    } finally {
      await readModels.close();
    }
  }

  it('loses, doubles and repeats nothing, and finishes every answer', async () => {
    const clients = Array.from({ length: CLIENTS }, converse);
    const failed = Promise.all(clients);
    failed.catch(() => {}); // reported below
    for (let kill = 0; kill < KILLS; kill += 1) {
      await Promise.race([kill % 4 === 3 ? killWhileStarting() : killAndRestart(), failed]);
      await checkLog();
    }
    sending = false;
    await failed;

    await condition(
      async () => {
        await checkLog();
        return openTurns(log).length === 0;
      },
      { withinMs: SETTLES_WITHIN_MS, what: 'the end of every turn' },
    );
    expect(acknowledged.length, 'messages sent').to.be.greaterThan(KILLS);

    const answers = new Map<string, string>();
    for (const event of log as OdeonEvent[]) {
      if (event.type === 'TurnCompleted') answers.set(event.data.turnId, event.data.content);
    }
    for (const { turnId, text } of readers.filter((reader) => answers.has(reader.turnId))) {
      expect(text, `what a client read of ${turnId}`).to.equal(answers.get(turnId));
    }
  });

  it('leaves read models that are, byte for byte, those of a rebuild from scratch', async () => {
    const current = { withinMs: SETTLES_WITHIN_MS, what: 'the projections to catch up' };
    await condition(readModelsAreCurrent, current);
    await program.stop();
    const kept = await dump();

    for (const suffix of ['', '-wal', '-shm']) {
      await rm(join(dataDir, `read-models.db${suffix}`), { force: true });
    }
    program = await startProgram({ dataDir, env });
    await condition(readModelsAreCurrent, current);
    await program.stop();
    const rebuilt = await dump();

    expect(kept.length).to.be.greaterThan(acknowledged.length);
    expect(rebuilt).to.deep.equal(kept);
  });
});
