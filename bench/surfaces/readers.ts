/**
 * Clients that read tokens, in a process of their own: what they cost must not count as what the server costs. They
 * speak over bare TCP and look for nothing but the mark of a token, so that no client library is measured either.
 */
import { fork } from 'node:child_process';
import { connect } from 'node:net';

/**
 * In every token once, and in nothing else that is sent (the length of a WebSocket frame could look like it: of 33
 * bytes, or of 289). As it is one byte, it cannot be cut in two. Who counts wrong for all that is told.
 */
export const MARK = '!';

/** What a client sends, and what it then waits to read; without `until`, nothing. */
export interface Step {
  readonly send: string;
  /** As a frame of WebSocket. */
  readonly framed?: true;
  readonly until?: string;
}

export interface Readers extends Disposable {
  /** From now on, the tokens and bytes of each are counted. */
  begin(): Promise<void>;
  /** Resolves when each has had so many tokens since `begin`, with the bytes that all have read since then. */
  have(tokens: number): Promise<number>;
}

type Asked = { readonly begin: true } | { readonly have: number };
interface Setting {
  readonly port: number;
  readonly count: number;
  readonly hello: readonly Step[];
}

export async function startReaders(setting: Setting): Promise<Readers> {
  const child = fork(import.meta.filename, [JSON.stringify(setting)]);
  let closing = false;
  const { promise: died, reject } = Promise.withResolvers<never>();
  died.catch(() => {}); // who waits for an answer is told
  child.once('exit', (code) => {
    if (!closing) reject(new Error(`The readers ended with ${code}.`));
  });
  const next = (): Promise<number> =>
    Promise.race([new Promise<number>((resolve) => child.once('message', resolve)), died]);
  const ask = (asked: Asked): Promise<number> => {
    const answer = next();
    child.send(asked);
    return answer;
  };
  await next();
  return {
    begin: async () => void (await ask({ begin: true })),
    have: (tokens) => ask({ have: tokens }),
    [Symbol.dispose]() {
      closing = true;
      child.kill();
    },
  };
}

async function read({ port, count, hello }: Setting): Promise<void> {
  const mark = MARK.charCodeAt(0);
  const tokens = new Uint32Array(count);
  let bytes = 0;
  let wanted: number | null = null;
  /** How many have what is wanted. */
  let done = 0;

  function check(): void {
    if (wanted === null || done < count) return;
    const wrong = tokens.find((seen) => seen !== wanted);
    if (wrong !== undefined) throw new Error(`A reader had ${wrong} tokens where it was sent ${wanted}.`);
    wanted = null;
    process.send!(bytes);
  }

  function begin(reader: number): Promise<void> {
    return new Promise((resolve) => {
      const socket = connect(port, '127.0.0.1');
      let read = '';
      let step = 0;
      const say = (): void => {
        let waits = false;
        while (!waits && step < hello.length) {
          const { send, framed, until } = hello[step]!;
          socket.write(framed ? frameOf(send) : send);
          waits = until !== undefined;
          if (!waits) step++;
        }
        if (step === hello.length) resolve();
      };
      socket.on('connect', say);
      socket.on('close', () => {
        throw new Error(`A reader was cut off: ${read.slice(0, 500)}`);
      });
      socket.on('data', (chunk) => {
        const until = hello[step]?.until;
        if (until !== undefined) {
          read += chunk.toString('latin1');
          if (!read.includes(until)) return;
          read = '';
          step++;
          say();
          return;
        }
        bytes += chunk.length;
        const before = tokens[reader]!;
        for (let at = chunk.indexOf(mark); at >= 0; at = chunk.indexOf(mark, at + 1)) tokens[reader]!++;
        if (wanted !== null && before < wanted && tokens[reader]! >= wanted && ++done === count) check();
      });
    });
  }

  process.on('message', (asked: Asked) => {
    if ('begin' in asked) {
      tokens.fill(0);
      bytes = 0;
      process.send!(0);
    } else {
      wanted = asked.have;
      done = tokens.reduce((sum, seen) => sum + (seen >= wanted! ? 1 : 0), 0);
      check();
    }
  });
  await Promise.all(Array.from({ length: count }, (_, reader) => begin(reader)));
  process.send!(0);
}

/** A text frame, masked with zeros: clients have to mask. */
function frameOf(text: string): Buffer {
  const payload = Buffer.from(text);
  const { length } = payload;
  const size = length < 126 ? [0x80 | length] : [0x80 | 126, length >> 8, length & 0xff];
  return Buffer.concat([Buffer.from([0x81, ...size, 0, 0, 0, 0]), payload]);
}

if (import.meta.main) await read(JSON.parse(process.argv[2]!));
