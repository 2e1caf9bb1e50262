/** A client that reads one answer to its end, whatever becomes of the servers meanwhile. */
import { setTimeout as delay } from 'node:timers/promises';
import { EventSourceParserStream } from 'eventsource-parser/stream';

export interface TurnReader {
  /** What it has of the answer. */
  readonly text: string;
  /** How often the answer has begun anew. */
  readonly restarts: number;
  /** Whether it has read all of it. */
  readonly ended: boolean;
  /** Resolves when it has, or `signal` is aborted. */
  readonly done: Promise<void>;
}

const AGAIN_MS = 50;

/** Reads over Luna's stream of a turn, and resumes it where it broke. */
export function readTurn(url: string, token: string, turnId: string, signal: AbortSignal): TurnReader {
  let text = '';
  let restarts = 0;
  let ended = false;
  let lastEventId = '';

  async function read(): Promise<void> {
    const response = await fetch(`${url}/api/turns/${turnId}/stream`, {
      headers: {
        Authorization: `Bearer ${token}`,
        ...(lastEventId === '' ? {} : { 'Last-Event-ID': lastEventId }),
      },
      signal,
    });
    if (response.status !== 200) {
      await response.text();
      if (response.status === 204) ended = true;
      else if (response.status !== 503) throw new Error(`The stream of ${turnId}: ${response.status}`);
      return;
    }
    const frames = response
      .body!.pipeThrough(new TextDecoderStream())
      .pipeThrough(new EventSourceParserStream());
    for await (const { id, data } of frames) {
      if (id !== undefined) lastEventId = id;
      if (data === '[DONE]') {
        ended = true;
        return;
      }
      const frame = JSON.parse(data);
      if (frame.type === 'content') text += frame.content;
      if (frame.type === 'status' && frame.status === 'restarted') {
        text = '';
        restarts++;
      }
    }
  }

  const done = (async () => {
    for (; !ended && !signal.aborted; await delay(AGAIN_MS)) {
      try {
        await read();
      } catch (error) {
        if (signal.aborted) return;
        if (!(error instanceof TypeError)) throw error; // the connection broke: resumed
      }
    }
  })();
  done.catch(() => {}); // who waits for it is told
  return {
    get text() {
      return text;
    },
    get restarts() {
      return restarts;
    },
    get ended() {
      return ended;
    },
    done,
  };
}
