/** A model that answers at once, in OpenAI's protocol, in a process of its own. Prints its URL. */
import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';

export const FIRST = 'At';
const WORDS = [FIRST, ' once', '.'];

const frame = (data: object): string => `data: ${JSON.stringify(data)}\n\n`;

async function serve(): Promise<void> {
  const server = createServer(async (request, response) => {
    let asked = '';
    for await (const chunk of request) asked += chunk;
    const common = {
      ...{ id: 'chatcmpl-1', object: 'chat.completion.chunk', created: 1, model: JSON.parse(asked).model },
    };
    const piece = (delta: object, finish: string | null = null) =>
      frame({ ...common, choices: [{ index: 0, delta, finish_reason: finish }] });
    response.writeHead(200, { 'Content-Type': 'text/event-stream' });
    for (const content of WORDS) response.write(piece({ role: 'assistant', content }));
    response.write(piece({}, 'stop'));
    const usage = { prompt_tokens: 20, completion_tokens: WORDS.length, total_tokens: 20 + WORDS.length };
    response.write(frame({ ...common, choices: [], usage }));
    response.end('data: [DONE]\n\n');
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  console.log(`http://127.0.0.1:${(server.address() as AddressInfo).port}/v1`);
}

if (import.meta.main) await serve();
