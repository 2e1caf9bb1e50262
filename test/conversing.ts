/**
 * Clients that send messages over Luna Chat and ZERG and follow the answers, whatever happens to the servers: what
 * was acknowledged to them and what they have read is kept, to be compared with the log.
 */
import { randomUUID } from 'node:crypto';
import { expect } from 'chai';
import { EventSourceParserStream } from 'eventsource-parser/stream';
import type { EventEnvelope } from '../contracts/envelope.ts';
import type { OdeonEvent } from '../contracts/events/catalogue.ts';
import type { AcknowledgedMessage } from './log-invariants.ts';
import { client } from './program.ts';

/** A server that takes commands, or one that answers queries. */
export type Service = 'command' | 'query';

/** The server cannot answer now, and said so: to be tried again. */
export class Unavailable extends Error {}

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

export interface ConversingOptions {
  /** Does it on a running server, and, when that goes away meanwhile, again on the next, as a client would. */
  readonly persist: <Result>(service: Service, work: (url: string) => Promise<Result>) => Promise<Result>;
  readonly token: () => string;
}

export interface Conversing {
  readonly acknowledged: readonly AcknowledgedMessage[];
  /** A client in a conversation of its own: messages one after the other, as long as `goOn` says so. */
  converse(goOn: () => boolean): Promise<void>;
  /** Holds what clients have read of the answers to what the log says of them. */
  compareWith(log: readonly EventEnvelope[]): void;
}

export function createConversing({ persist, token }: ConversingOptions): Conversing {
  const acknowledged: AcknowledgedMessage[] = [];
  const readers: Reader[] = [];
  let count = 0;

  const headers = () => ({ Authorization: `Bearer ${token()}`, 'Content-Type': 'application/json' });

  /** @throws Unavailable for a 503 */
  function expectStatus(status: number, wanted: readonly number[], about: unknown): void {
    if (status === 503) throw new Unavailable(JSON.stringify(about));
    expect(status, JSON.stringify(about)).to.be.oneOf(wanted);
  }

  async function post(path: string, body: unknown, key: string, wanted: number) {
    return persist('command', async (url) => {
      const answer = await client(url, token()).post(path, body, { 'Idempotency-Key': key });
      expectStatus(answer.status, [wanted], answer.body);
      return answer.body.data;
    });
  }

  async function sendOverZerg(sessionId: string, content: string, key: string): Promise<Reader> {
    const sent = await post(`/api/v1/chat/${sessionId}/message`, { content }, key, 202);
    return acknowledge(content, sent.turn_id);
  }

  /** The answer begins in the response itself. */
  async function sendOverLuna(sessionId: string, content: string, key: string): Promise<Reader> {
    const response = await persist('command', async (url) => {
      const answer = await fetch(`${url}/api/chat/sessions/${sessionId}/send`, {
        method: 'POST',
        headers: { ...headers(), Accept: 'text/event-stream', 'Idempotency-Key': key },
        body: JSON.stringify({ message: content }),
      });
      expectStatus(answer.status, [200], content);
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
      await persist('query', async (url) => {
        const response = await fetch(`${url}/api/turns/${reader.turnId}/stream`, {
          headers: {
            ...headers(),
            ...(reader.lastEventId === '' ? {} : { 'Last-Event-ID': reader.lastEventId }),
          },
        });
        expectStatus(response.status, [200, 204], reader.turnId);
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

  return {
    acknowledged,
    async converse(goOn) {
      const { id } = await post('/api/v1/chat', {}, randomUUID(), 200);
      while (goOn()) {
        count += 1;
        const n = count;
        const content = `${messages[n % messages.length]?.(n)} (${n})`;
        const send = n % 2 === 0 ? sendOverLuna : sendOverZerg;
        await follow(await send(id, content, randomUUID()));
      }
    },
    compareWith(log) {
      const answers = new Map<string, string>();
      for (const event of log as readonly OdeonEvent[]) {
        if (event.type === 'TurnCompleted') answers.set(event.data.turnId, event.data.content);
      }
      for (const { turnId, text } of readers.filter((reader) => answers.has(reader.turnId))) {
        expect(text, `what a client read of ${turnId}`).to.equal(answers.get(turnId));
      }
    },
  };
}
