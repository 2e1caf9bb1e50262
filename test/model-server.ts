/** A server of language models for tests: it speaks OpenAI's streaming chat completions, and says what it is told to. */
import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';

// biome-ignore lint/suspicious/noExplicitAny: as the provider's client sent it
export type Asked = any;

export interface Said {
  /** Pieces of text, in order. */
  readonly text?: readonly string[];
  readonly calls?: readonly { readonly id: string; readonly name: string; readonly arguments: string }[];
  readonly finish?: string;
  readonly usage?: object;
  /** Answers with this status instead. */
  readonly status?: number;
  /** Waits before the last piece. */
  readonly hold?: Promise<unknown>;
  /** Breaks off after the text. */
  readonly breaks?: boolean;
}

export interface ModelServer {
  /** For OPENAI_BASE_URL. */
  readonly url: string;
  /** What it was asked, the last one last. */
  readonly asked: Asked[];
  /** What it says next, and from then on. */
  answer: (asked: Asked) => Said;
  close(): Promise<void>;
}

export async function startModelServer(): Promise<ModelServer> {
  const asked: Asked[] = [];
  const server = createServer(async (request, response) => {
    let text = '';
    for await (const chunk of request) text += chunk;
    const body = JSON.parse(text);
    asked.push(body);
    const said = state.answer(body);
    if (said.status !== undefined) {
      response.writeHead(said.status, { 'content-type': 'application/json' });
      response.end(JSON.stringify({ error: { message: 'the model is tired', type: 'server_error' } }));
      return;
    }
    response.writeHead(200, { 'content-type': 'text/event-stream' });
    const write = (data: object) => response.write(`data: ${JSON.stringify(data)}\n\n`);
    const chunk = (delta: object, finish: string | null = null) =>
      write({
        ...{ id: 'c', object: 'chat.completion.chunk', created: 1, model: body.model },
        choices: [{ index: 0, delta, finish_reason: finish }],
      });
    const pieces = said.text ?? [];
    for (const [at, content] of pieces.entries()) {
      if (at === pieces.length - 1) await said.hold;
      chunk({ role: 'assistant', content });
    }
    if (said.breaks) {
      await new Promise((resolve) => response.write(': it breaks\n\n', resolve));
      response.destroy();
      return;
    }
    for (const [index, { id, name, arguments: given }] of (said.calls ?? []).entries()) {
      chunk({ tool_calls: [{ index, id, type: 'function', function: { name, arguments: '' } }] });
      chunk({ tool_calls: [{ index, function: { arguments: given } }] });
    }
    chunk({}, said.finish ?? (said.calls === undefined ? 'stop' : 'tool_calls'));
    const usage = said.usage ?? { prompt_tokens: 20, completion_tokens: 8, total_tokens: 28 };
    write({
      ...{ id: 'c', object: 'chat.completion.chunk', created: 1, model: body.model },
      choices: [],
      usage,
    });
    response.end('data: [DONE]\n\n');
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const state: ModelServer = {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/v1`,
    asked,
    answer: () => ({ text: ['Hello.'] }),
    async close() {
      server.closeAllConnections();
      server.close();
      await once(server, 'close');
    },
  };
  return state;
}
