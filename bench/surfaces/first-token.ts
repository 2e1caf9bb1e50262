/**
 * The time to first token that the platform adds to a model that answers at once: the same request by turns to the
 * model itself, and to the program, which asks the model. Model and program run in processes of their own. Each
 * request begins a conversation; what is added is what it takes to make it durable, to take up the turn, to ask the
 * model, and to carry its first words to the client.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { Agent, request } from 'node:http';
import { join } from 'node:path';
import { login, startProgram } from '../../test/program.ts';
import { type BenchResult, percentile } from '../result.ts';
import { FIRST } from './instant-model.ts';

const REQUESTS = 200;
/** Until the just-in-time compilers are done with most of it. */
const WARM_UP = 50;
const MODEL = 'instant';
const WITHIN_MS = 10_000;

async function startModel(): Promise<AsyncDisposable & { url: string }> {
  const child = spawn(process.execPath, [join(import.meta.dirname, 'instant-model.ts')], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const [line] = await once(child.stdout, 'data');
  return {
    url: String(line).trim(),
    async [Symbol.asyncDispose]() {
      child.kill();
      await once(child, 'exit');
    },
  };
}

/** @returns ms from the request until the first piece of text; the answer is read to its end. */
function timeToFirstToken(url: string, token: string, agent: Agent): Promise<number> {
  const body = JSON.stringify({
    model: MODEL,
    stream: true,
    messages: [{ role: 'user', content: 'How fast are you?' }],
  });
  const headers = {
    'Content-Type': 'application/json',
    'Content-Length': Buffer.byteLength(body),
    Authorization: `Bearer ${token}`,
  };
  return new Promise((resolve, reject) => {
    const began = performance.now();
    const asking = request(url, { method: 'POST', headers, agent, timeout: WITHIN_MS }, (response) => {
      let text = '';
      let first: number | null = null;
      response.setEncoding('utf8').on('data', (chunk) => {
        text += chunk;
        if (first === null && text.includes(`"content":"${FIRST}`)) first = performance.now() - began;
      });
      response.on('error', reject).on('end', () => {
        if (first !== null && text.endsWith('data: [DONE]\n\n')) resolve(first);
        else reject(new Error(`${url}: ${response.statusCode} ${text}`));
      });
    });
    asking.on('error', reject).on('timeout', () => {
      asking.destroy(new Error(`${url} said nothing for ${WITHIN_MS} ms.`));
    });
    asking.end(body);
  });
}

export async function benchFirstToken(): Promise<BenchResult[]> {
  await using model = await startModel();
  await using program = await startProgram({
    env: {
      OPENAI_BASE_URL: model.url,
      OPENAI_API_KEY: 'sk-bench',
      OPENAI_MODEL: MODEL,
      RATE_LIMIT_PER_MINUTE: '0',
    },
  });
  const { token } = await login(program.url);
  const agent = new Agent({ keepAlive: true });
  const direct: number[] = [];
  const through: number[] = [];
  for (let n = 0; n < WARM_UP + REQUESTS; n++) {
    const bare = await timeToFirstToken(`${model.url}/chat/completions`, token, agent);
    const ours = await timeToFirstToken(`${program.url}/api/chat/completions`, token, agent);
    if (n < WARM_UP) continue;
    direct.push(bare);
    through.push(ours);
  }
  agent.destroy();
  const added = through.map((ms, n) => ms - direct[n]!);
  const figure = (name: string, floor: number | null, ours: number): BenchResult => ({
    name: `time to first token, ${name}`,
    ...{ floor, ours, unit: 'ms', ratio: null, target: null },
  });
  return [
    figure('a model that answers at once, median', percentile(direct, 0.5), percentile(through, 0.5)),
    figure('what the platform adds to it, median', null, percentile(added, 0.5)),
    figure('what the platform adds to it, p99', null, percentile(added, 0.99)),
  ];
}
