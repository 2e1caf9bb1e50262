/** The rules of nginx.conf against the table of routes; and, where there is an nginx, what it does with them. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { accessSync, constants, readFileSync } from 'node:fs';
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import {
  createServer,
  type IncomingHttpHeaders,
  type IncomingMessage,
  type RequestListener,
  type RequestOptions,
  request,
  type Server,
  type ServerResponse,
} from 'node:http';
import { type AddressInfo, connect } from 'node:net';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { expect } from 'chai';
import { WebSocket, WebSocketServer } from 'ws';
import { autonomousCommandEndpoints } from '../command-service/http/autonomous.ts';
import { chatCommandEndpoints } from '../command-service/http/chat.ts';
import { identityCommandEndpoints } from '../command-service/http/identity.ts';
import { internalCommandEndpoints } from '../command-service/http/internal.ts';
import { operatorCommandEndpoints } from '../command-service/http/operators.ts';
import { orchestrationCommandEndpoints } from '../command-service/http/orchestration.ts';
import { serviceEndpoints } from '../command-service/http/services.ts';
import { routes } from '../contracts/http/all.ts';
import { streamExecution } from '../contracts/http/executions.ts';
import { getGraphql, postGraphql } from '../contracts/http/graphql.ts';
import * as live from '../contracts/http/live.ts';
import { publicExecutionStream } from '../contracts/http/public-links.ts';
import { isCommand, type RouteContract } from '../contracts/http/route.ts';
import { getMetrics, systemRoutes } from '../contracts/http/system.ts';
import { autonomousQueryEndpoints } from '../query-service/http/autonomous.ts';
import { chatQueryEndpoints } from '../query-service/http/chat.ts';
import { documentationEndpoints } from '../query-service/http/documentation.ts';
import { identityQueryEndpoints } from '../query-service/http/identity.ts';
import { modelQueryEndpoints } from '../query-service/http/models.ts';
import { operatorQueryEndpoints } from '../query-service/http/operators.ts';
import { orchestrationQueryEndpoints } from '../query-service/http/orchestration.ts';
import { searchEndpoints } from '../query-service/http/search.ts';
import { theaterEndpoints } from '../query-service/live/theater.ts';
import { condition } from '../test/program.ts';

const text = readFileSync(join(import.meta.dirname, 'nginx.conf'), 'utf8');
const keyOf = ({ method, path }: RouteContract): string => `${method} ${path}`;

/** What the services serve. Handlers are not called, so their dependencies are of no matter. */
const nothing = {} as never;
const commandService = [
  ...chatCommandEndpoints(nothing),
  ...identityCommandEndpoints(nothing),
  ...autonomousCommandEndpoints(nothing),
  ...operatorCommandEndpoints(nothing),
  ...orchestrationCommandEndpoints(nothing),
  ...internalCommandEndpoints(nothing),
  ...serviceEndpoints(nothing),
].map(({ contract }) => contract);
const queryService = [
  ...[
    ...chatQueryEndpoints(nothing),
    ...identityQueryEndpoints(nothing),
    ...autonomousQueryEndpoints(nothing),
    ...theaterEndpoints(nothing),
    ...operatorQueryEndpoints(nothing),
    ...documentationEndpoints([], ''),
    ...orchestrationQueryEndpoints(nothing),
    ...searchEndpoints(nothing),
    ...modelQueryEndpoints(nothing),
    ...serviceEndpoints(nothing),
    { contract: postGraphql },
    { contract: getGraphql },
  ].map(({ contract }) => contract),
  live.streamTurn,
  live.streamCompletionAgain,
  live.streamActivity,
  live.streamLog,
  live.streamConversation,
  streamExecution,
  publicExecutionStream,
  ...systemRoutes,
];
/** Not to be reached through the proxy. */
const hidden = (route: RouteContract): boolean => route.access === 'service' || route === getMetrics;

describe('deploy/nginx.conf', () => {
  it('sends each route to a service that has it', () => {
    const block = /map \$request_method \$odeon_method_kind \{([^}]*)\}/.exec(text)![1]!;
    const kinds = new Map(
      [...block.matchAll(/^\s*(\w+) (\w+);/gm)].map(([, method, kind]) => [method!, kind!]),
    );
    const others = /map "\$request_method \$uri" \$odeon_kind \{([^}]*)\}/.exec(text)![1]!;
    const exceptions = [...others.matchAll(/^\s*"~(.*)" (\w+);/gm)].map(([, pattern, kind]) => ({
      pattern: new RegExp(pattern!),
      kind: kind!,
    }));
    expect(others).to.include('default $odeon_method_kind;');
    const has = { query: queryService, command: commandService, command_once: commandService };
    for (const route of routes) {
      const exception = exceptions.find(({ pattern }) => pattern.test(keyOf(route)));
      const kind = (exception?.kind ?? kinds.get(route.method) ?? kinds.get('default')) as keyof typeof has;
      expect(has[kind].map(keyOf), `${keyOf(route)} → ${kind}`).to.include(keyOf(route));
      expect(kind === 'query', keyOf(route)).to.equal(!isCommand(route));
    }
    expect(routes.map(keyOf)).to.include.members([...queryService, ...commandService].map(keyOf));
  });

  it('keeps a client of Socket.IO with one query node', () => {
    const named = /upstream odeon_socket_io \{\s*ip_hash;([^}]*)\}/.exec(text)![1]!;
    const all = /upstream odeon_query \{([^}]*)\}/.exec(text)![1]!;
    const nodesIn = (block: string) => [...block.matchAll(/server (\S+)/g)].map(([, node]) => node);
    expect(nodesIn(named)).to.deep.equal(nodesIn(all));
    expect(text).to.match(/location \^~ \/socket\.io\/ \{\s*proxy_pass http:\/\/odeon_socket_io;/);
  });

  it('refuses what is between the processes, and nothing else', () => {
    const refused = [...text.matchAll(/location \^~ (\S+) \{\s*return 404;/g)].map(([, prefix]) => prefix!);
    expect(refused).to.deep.equal(['/internal', '/metrics']);
    for (const route of routes) {
      const matches = refused.some((prefix) => route.path.startsWith(prefix));
      expect(matches, keyOf(route)).to.equal(hidden(route));
    }
  });
});

/** The program, where there is one: NGINX names it, or it is in PATH. */
function findNginx(): string | null {
  const folders = [...(process.env.PATH ?? '').split(delimiter), '/usr/sbin', '/usr/local/sbin'];
  const places = [process.env.NGINX ?? '', ...folders.map((folder) => join(folder, 'nginx'))];
  const isProgram = (path: string): boolean => {
    try {
      accessSync(path, constants.X_OK);
      return true;
    } catch {
      return false;
    }
  };
  return places.find((path) => path !== '' && isProgram(path)) ?? null;
}

interface Seen {
  readonly node: string;
  readonly method: string;
  readonly url: string;
  readonly headers: IncomingHttpHeaders;
}
interface Reply {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly body: string;
}

// CI fails on skipped tests, and is not promised an nginx.
const here = findNginx() !== null || process.env.CI === undefined ? describe : () => {};

here('nginx with deploy/nginx.conf', function () {
  this.timeout(60_000);
  let folder: string;
  let port: number;
  let stop: () => Promise<void>;
  const servers: Server[] = [];
  const seen: Seen[] = [];
  /** What the nodes do with a request, apart from noting it. */
  let act: (seen: Seen, ...args: Parameters<RequestListener>) => void;
  const answer: typeof act = ({ node }, incoming, response) => {
    incoming.resume().on('end', () => response.end(JSON.stringify({ node })));
  };

  async function startNode(node: string): Promise<number> {
    const server = createServer((incoming, response) => {
      const noted = { node, method: incoming.method!, url: incoming.url!, headers: incoming.headers };
      seen.push(noted);
      act(noted, incoming, response);
    });
    const sockets = new WebSocketServer({ server });
    sockets.on('connection', (socket, incoming: IncomingMessage) => {
      seen.push({ node, method: 'WebSocket', url: incoming.url!, headers: incoming.headers });
      socket.on('message', (data) => socket.send(`${node}: ${data}`));
    });
    servers.push(server);
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    return (server.address() as AddressInfo).port;
  }

  async function freePort(): Promise<number> {
    const server = createServer().listen(0, '127.0.0.1');
    await once(server, 'listening');
    const { port: free } = server.address() as AddressInfo;
    server.close();
    await once(server, 'close');
    return free;
  }

  async function startNginx(program: string): Promise<void> {
    const command = await Promise.all([startNode('command'), startNode('command')]);
    const query = await Promise.all([startNode('query'), startNode('query')]);
    port = await freePort();
    for (const name of ['body', 'proxy', 'fastcgi', 'uwsgi', 'scgi']) await mkdir(join(folder, name));
    const temporary = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi']
      .map((kind) => `${kind}_temp_path ${folder}/${kind.replace('client_', '')};`)
      .join(' ');
    // The failures that the tests make do not count.
    const upstream = (ports: number[]) => ports.map((to) => `server 127.0.0.1:${to} max_fails=0;`).join(' ');
    const config = text
      .replace(/(server query-\d.*\n\s*){2}/g, `${upstream(query)} `)
      .replace(/server command:.*/, upstream(command))
      .replace('listen 8080;', `listen 127.0.0.1:${port}; listen unix:${folder}/socket;`)
      .replace('access_log /dev/stdout;', `access_log off; ${temporary}`)
      .replace('error_log /dev/stderr', `error_log ${folder}/error.log`);
    for (const name of ['query-1', 'listen 8080', 'command:3080', '/dev/'])
      expect(config).not.to.include(name);
    const file = join(folder, 'nginx.conf');
    await writeFile(file, config);
    const user = process.getuid?.() === 0 ? 'user root root;' : '';
    const child = spawn(
      program,
      [
        '-p',
        folder,
        '-c',
        file,
        '-e',
        join(folder, 'error.log'),
        '-g',
        `daemon off; pid ${folder}/pid; ${user}`,
      ],
      { stdio: ['ignore', 'ignore', 'pipe'] },
    );
    let said = '';
    child.stderr.setEncoding('utf8').on('data', (part) => (said += part));
    const ended = once(child, 'close');
    const kill = () => child.kill('SIGKILL');
    process.once('exit', kill);
    stop = async () => {
      process.off('exit', kill);
      child.kill('SIGTERM');
      await ended;
    };
    const answers = () =>
      ask('GET', '/health').then(
        () => true,
        () => false,
      );
    await condition(answers, { withinMs: 20_000, what: 'nginx', or: ended }).catch(async (error: Error) => {
      const log = await readFile(join(folder, 'error.log'), 'utf8').catch(() => '');
      throw new Error(`${error.message}\n${said}${log}`);
    });
  }

  function ask(
    method: string,
    path: string,
    { body, ...options }: RequestOptions & { body?: string } = {},
  ): Promise<Reply> {
    return new Promise((resolve, reject) => {
      const outgoing = request(
        { host: '127.0.0.1', port, method, path, agent: false, ...options },
        (incoming) => {
          let text = '';
          incoming.setEncoding('utf8').on('data', (part) => (text += part));
          incoming.on('error', reject);
          incoming.on('end', () =>
            resolve({ status: incoming.statusCode!, headers: incoming.headers, body: text }),
          );
        },
      );
      outgoing.on('error', reject);
      outgoing.end(body);
    });
  }
  /** Sends a path as it is, which a client would tidy up. */
  async function askRaw(path: string): Promise<string> {
    const socket = connect(port, '127.0.0.1');
    socket.end(`POST ${path} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n`);
    let received = '';
    for await (const part of socket.setEncoding('utf8')) received += part;
    return received;
  }

  before(async function () {
    const program = findNginx();
    if (program === null) {
      console.log('  there is no nginx here (set NGINX to one): its rules were only read, not run');
      this.skip();
    }
    folder = await mkdtemp(join(tmpdir(), 'odeon-nginx-'));
    act = answer;
    await startNginx(program);
  });
  after(async () => {
    await stop?.();
    for (const server of servers) {
      server.closeAllConnections();
      server.close();
    }
    if (folder !== undefined) await rm(folder, { recursive: true });
  });
  beforeEach(() => {
    seen.length = 0;
    act = answer;
  });

  it('sends each route to its service', async () => {
    for (const route of routes) {
      const path = route.path.replace(/:\w+/g, 'x');
      const reply = await ask(route.method, `${path}?a=1`, route.method === 'GET' ? {} : { body: '{}' });
      if (hidden(route)) expect(reply.status, keyOf(route)).to.equal(404);
      // More logins than a client may try in a minute are not asked for here.
      else
        expect(reply, keyOf(route)).to.deep.include({
          status: 200,
          body: JSON.stringify({ node: isCommand(route) ? 'command' : 'query' }),
        });
    }
    const open = routes.filter((route) => !hidden(route));
    expect(seen.map(({ method, url }) => `${method} ${url}`)).to.deep.equal(
      open.map(({ method, path }) => `${method} ${path.replace(/:\w+/g, 'x')}?a=1`),
    );
    for (const method of ['HEAD', 'OPTIONS']) {
      await ask(method, '/api/chat/sessions');
      expect(seen.at(-1)).to.include({ node: 'query', method });
    }
  });

  it('lets nobody at what is between the processes, however it is written', async () => {
    for (const path of [
      '/internal/commands/interrupt',
      '//internal/commands/interrupt',
      '/internal//commands/interrupt',
      '/%69nternal/commands/interrupt',
      '/api/../internal/commands/interrupt',
      '/api/%2e%2e/internal/commands/interrupt',
      '/./internal/commands/interrupt',
      '/internal',
      '/metrics',
    ]) {
      expect(await askRaw(path), path).to.match(/^HTTP\/1\.1 404/);
    }
    expect(seen).to.deep.equal([]);
  });

  it('shows health to clients from private addresses only', async () => {
    expect((await ask('GET', '/health/ready')).status).to.equal(200);
    // Over the socket in the file system it comes from no address.
    const stranger = { host: null, port: null, socketPath: join(folder, 'socket') };
    expect((await ask('GET', '/health', stranger)).status).to.equal(403);
    expect((await ask('GET', '/api/chat/sessions', stranger)).status).to.equal(200);
  });

  it('says who asks, under which id, and for which host', async () => {
    await ask('GET', '/api/activity', {
      headers: {
        Host: 'chat.example',
        'X-Forwarded-For': '1.2.3.4',
        'X-Request-Id': 'abc-1',
        Cookie: 'session=1',
      },
    });
    await ask('POST', '/api/chat/sessions', { body: '{}', headers: { Authorization: 'Bearer 1' } });
    expect(seen[0]!.headers).to.include({
      host: 'chat.example',
      'x-request-id': 'abc-1',
      'x-forwarded-for': '127.0.0.1',
      'x-forwarded-proto': 'http',
      'x-forwarded-host': 'chat.example',
      cookie: 'session=1',
    });
    expect(seen[1]!.headers['x-request-id']).to.match(/^[0-9a-f]{32}$/);
    expect(seen[1]!.headers).to.include({ authorization: 'Bearer 1', host: `127.0.0.1:${port}` });
  });

  for (const method of ['GET', 'POST']) {
    it(`hands a stream on as it comes (${method})`, async () => {
      const stream = Promise.withResolvers<ServerResponse>();
      act = (_seen, incoming, response) => {
        incoming.resume();
        response.writeHead(200, { 'Content-Type': 'text/event-stream' });
        response.flushHeaders();
        stream.resolve(response);
      };
      const outgoing = request({
        host: '127.0.0.1',
        port,
        method,
        path: '/api/turns/x/stream',
        agent: false,
      });
      outgoing.end();
      const [incoming] = (await once(outgoing, 'response')) as [IncomingMessage];
      const parts = incoming.setEncoding('utf8')[Symbol.asyncIterator]();
      const response = await stream.promise;
      // Nothing more is written before what was written is there.
      for (const part of ['data: 1\n\n', 'data: 2\n\n', ': ping\n\n']) {
        response.write(part);
        expect((await parts.next()).value).to.equal(part);
      }
      response.end();
      expect((await parts.next()).done).to.equal(true);
    });
  }

  it('carries WebSockets to a query node, and no other protocol', async () => {
    const socket = new WebSocket(`ws://127.0.0.1:${port}/api/v1/chat/x/ws?token=1`);
    await once(socket, 'open');
    socket.send('hello');
    const [data] = await once(socket, 'message');
    expect(String(data)).to.equal('query: hello');
    expect(seen).to.have.length(1);
    expect(seen[0]).to.include({ method: 'WebSocket', url: '/api/v1/chat/x/ws?token=1' });
    socket.close();
    await once(socket, 'close');

    const reply = await ask('GET', '/api/activity', { headers: { Connection: 'Upgrade', Upgrade: 'h2c' } });
    expect(reply.status).to.equal(200);
    expect(seen[1]!.headers).not.to.have.property('upgrade');
  });

  for (const method of ['POST', 'PATCH', 'DELETE', 'PUT']) {
    it(`repeats no ${method} that a node may have carried out`, async () => {
      act = (_seen, incoming) => void incoming.resume().on('end', () => incoming.socket.destroy());
      const reply = await ask(method, '/api/chat/sessions/x', { body: '{}' });
      expect(seen).to.have.length(1);
      expect(reply.status).to.equal(502);
      expect(reply.headers).to.include({ 'content-type': 'application/json', 'retry-after': '5' });
      expect(JSON.parse(reply.body))
        .to.include({ ok: false })
        .and.to.have.property('error')
        .that.matches(/Idempotency-Key/);
    });
  }

  it('asks another query node when one does not answer', async () => {
    let tries = 0;
    act = (noted, incoming, response) => {
      if (tries++ === 0) incoming.socket.destroy();
      else answer(noted, incoming, response);
    };
    expect(await ask('GET', '/api/activity')).to.deep.include({ status: 200, body: '{"node":"query"}' });
    expect(seen).to.have.length(2);
  });

  it('says in JSON when no query node answers', async () => {
    act = (_seen, incoming) => incoming.socket.destroy();
    const reply = await ask('GET', '/api/activity');
    expect(reply.status).to.equal(502);
    expect(JSON.parse(reply.body)).to.include({ ok: false });
    expect(seen).to.have.length(2);
  });

  it('hands refusals on as they are', async () => {
    act = (_seen, incoming, response) => {
      incoming.resume();
      response.writeHead(503, { 'Retry-After': '7' }).end('{"error":"away"}');
    };
    const reply = await ask('POST', '/api/chat/sessions', { body: '{}' });
    expect(reply).to.deep.include({ status: 503, body: '{"error":"away"}' });
    expect(reply.headers['retry-after']).to.equal('7');
    expect(seen).to.have.length(1);
  });

  it('refuses bodies beyond 1 MiB, in JSON', async () => {
    const most = 'x'.repeat(1024 * 1024);
    expect((await ask('POST', '/api/chat/sessions', { body: most })).status).to.equal(200);
    const reply = await ask('POST', '/api/chat/sessions', { body: `${most}x` });
    expect(reply.status).to.equal(413);
    expect(JSON.parse(reply.body).error).to.match(/larger than 1 MiB/);
    expect(seen).to.have.length(1);
  });

  it('limits the logins that a client tries, in JSON', async () => {
    const statuses: number[] = [];
    for (let i = 0; i < 40; i++) {
      const path = i % 2 === 0 ? '/api/auth/login' : '/api/v1/auth/login/';
      const reply = await ask('POST', path, { body: '{}' });
      statuses.push(reply.status);
      if (reply.status === 429) {
        expect(reply.headers).to.include({ 'content-type': 'application/json', 'retry-after': '5' });
        expect(JSON.parse(reply.body)).to.include({ ok: false });
      }
    }
    expect(statuses.filter((status) => status === 200)).to.have.length.within(5, 16);
    expect(statuses.slice(20)).to.include(429);
    expect((await ask('POST', '/api/auth/refresh', { body: '{}' })).status).to.equal(200);
  });

  // The last: a node is gone after it.
  it('takes commands to the node that is left, when the other one is gone', async () => {
    const gone = servers[0]!;
    gone.closeAllConnections();
    gone.close();
    await once(gone, 'close');
    for (let i = 0; i < 4; i++)
      expect((await ask('POST', '/api/chat/sessions', { body: '{}' })).status).to.equal(200);
    expect(seen).to.have.length(4);
  });
});
