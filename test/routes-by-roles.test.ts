/** Every route × everybody who may knock: only whom the table lets in gets in, and what is not theirs looks absent. */
import { expect } from 'chai';
import { routes } from '../contracts/http/all.ts';
import {
  type Access,
  isCommand,
  type Permission,
  type RouteContract,
  rolePermissions,
} from '../contracts/http/route.ts';
import { ADMIN, type Client, client, condition, login, type Program, startProgram } from './program.ts';

interface Visitor {
  readonly name: string;
  readonly permissions: ReadonlySet<Permission> | null;
  /** Sees what belongs to Ada. */
  readonly seesAda: boolean;
  readonly headers: Readonly<Record<string, string>>;
}

const PASSWORD = 'a password that is long enough';
const AGENT = { description: 'For a test.', instructions: 'Do it.' };
const ORCHESTRATION = { task: 'hello', agents: ['writer'] };
/** Whose agent: a private one of Ada's. */
const OF_AGENT = '/api/agents/:name';
const OF_ORCHESTRATION = '/api/agents/orchestrate/:id';

const lets = (access: Access, { permissions }: Visitor): 'in' | 401 | 403 | 404 => {
  if (access === 'public') return 'in';
  // Of the routes between services nobody else learns that they are there.
  if (access === 'service') return 404;
  if (permissions === null) return 401;
  if (access === 'authenticated') return 'in';
  return [access].flat().some((permission) => permissions.has(permission)) ? 'in' : 403;
};

const keyOf = ({ method, path }: RouteContract): string => `${method} ${path}`;

/** A sound body for routes whose example would not do here: what it names is not there, or is there only once. */
const bodies: Readonly<Record<string, (unique: string) => unknown>> = {
  'POST /api/users': (unique) => ({
    email: `${unique}@example.org`,
    password: PASSWORD,
    displayName: 'New',
    role: 'user',
  }),
  // Ada stays what she is.
  'PATCH /api/users/:id': () => ({ role: 'user' }),
  'POST /api/agents': (unique) => ({ name: unique, ...AGENT }),
  'POST /api/agents/:name/task': () => ({ message: 'hello', async_mode: true }),
  'POST /api/agents/:name/chat': () => ({ message: 'hello' }),
  'PUT /api/agents/:name/model': () => ({ model: 'nano' }),
  'POST /api/agents/:name/public-links': () => ({}),
  'PATCH /api/agents/:name/public-links/:id': () => ({ enabled: false }),
  'PUT /api/agents/:name/public-links/:id': () => ({ name: 'Fair' }),
  'POST /api/agents/orchestrate': () => ORCHESTRATION,
  'POST /api/abilities/agents/execute': () => ({ agent: 'writer', task: 'hello' }),
  'POST /api/abilities/agents/orchestrate': () => ORCHESTRATION,
  'POST /api/chat/completions': () => ({ messages: [{ role: 'user', content: 'hello' }] }),
  'POST /api/chat/stream': () => ({ messages: [{ role: 'user', content: 'hello' }] }),
  'POST /graphql': () => ({ query: '{ conversations { id } }' }),
};
const bodyOf = (route: RouteContract, unique: string): unknown =>
  route.access === 'service'
    ? { input: {}, issuer: {} }
    : (bodies[keyOf(route)]?.(unique) ?? route.example?.body ?? {});
/** Log in and out without a caller: their own tests say what they do. */
const withoutCaller = /\/auth\/(login|refresh|logout)$|^\/api\/token$/;
/** For visitors, whoever they are: all that counts is the link, and here it is one that there is not. */
const BY_LINK = '/api/public/';
const OF_COUNCIL = '/api/autonomous/';
const SESSION = { taskDescription: 'Should we buy 3 servers at 400 USD each with 1000 USD?' };

describe('routes × roles', () => {
  let program: Program;
  let ada: Client;
  let adaId: string;
  let admin: Client;
  let visitors: Visitor[];
  let unique = 0;
  let adasDeliberation: string;

  before(async () => {
    program = await startProgram({ env: { BUILTIN_DELAY_MS: '0' } });
    admin = await login(program.url, ADMIN);
    const register = async (name: string, role: string) => {
      const email = `${name}@example.org`;
      const made = await admin.post('/api/users', { email, password: PASSWORD, displayName: name, role });
      expect(made.status).to.equal(201);
      return { id: made.body.id as string, client: await login(program.url, { email, password: PASSWORD }) };
    };
    const adas = await register('ada', 'user');
    ada = adas.client;
    adaId = adas.id;
    expect((await ada.post(`${OF_COUNCIL}start`, SESSION)).status).to.equal(200);
    adasDeliberation = (await ada.get(`${OF_COUNCIL}deliberations`)).body.deliberations[0].id;
    const bob = (await register('bob', 'user')).client;
    const audra = (await register('audra', 'auditor')).client;
    const key = async (owner: Client, permissions: Permission[]) => {
      const made = await owner.post('/api/api-keys', { name: permissions.join(), permissions });
      expect(made.status).to.equal(201);
      return { 'X-API-Key': made.body.key as string };
    };
    const bearer = ({ token }: Client) => ({ Authorization: `Bearer ${token}` });
    visitors = [
      { name: 'nobody', permissions: null, seesAda: false, headers: {} },
      { name: 'the owner', permissions: new Set(rolePermissions.user), seesAda: true, headers: bearer(ada) },
      {
        name: 'another user',
        permissions: new Set(rolePermissions.user),
        seesAda: false,
        headers: bearer(bob),
      },
      {
        name: 'an auditor',
        permissions: new Set(rolePermissions.auditor),
        seesAda: true,
        headers: bearer(audra),
      },
      {
        name: 'an admin',
        permissions: new Set(rolePermissions.admin),
        seesAda: true,
        headers: bearer(admin),
      },
      {
        name: 'a key of the owner that only reads',
        permissions: new Set(['chat:read']),
        seesAda: true,
        headers: await key(ada, ['chat:read']),
      },
      {
        name: 'a key of the owner that only writes',
        permissions: new Set(['chat:write']),
        seesAda: true,
        headers: await key(ada, ['chat:write']),
      },
      {
        name: 'a key of an admin that only reads chats',
        permissions: new Set(['chat:read']),
        seesAda: false,
        headers: await key(admin, ['chat:read']),
      },
    ];
  });

  after(() => program.stop());

  /** Ada's, made anew for each try, so that no try depends on another. */
  async function adasThings() {
    const session = await ada.post('/api/chat/sessions', {});
    const sent = await ada.post(`/api/v1/chat/${session.body.id}/message`, { content: 'hello' });
    const key = await ada.post('/api/api-keys', { name: 'ada', permissions: ['chat:read'] });
    return {
      conversation: session.body.id as string,
      turn: sent.body.data.turn_id as string,
      key: key.body.id as string,
    };
  }

  /** A private agent of Ada's, with an execution. */
  async function adasAgent() {
    const name = `agent-${unique++}`;
    expect((await ada.post('/api/agents', { name, ...AGENT })).status).to.equal(201);
    const task = await ada.post(`/api/agents/${name}/task`, { message: 'hello', async_mode: true });
    return { name, execution: task.body.execution_id as string };
  }

  async function adasOrchestration(): Promise<string> {
    const { status, body } = await ada.post('/api/agents/orchestrate', ORCHESTRATION);
    expect(status).to.equal(202);
    return body.orchestration_id;
  }

  /** A Council has one session at a time: there is one to stop, and none in the way of a start. */
  async function prepareCouncil({ method, path }: RouteContract, { headers }: Visitor): Promise<void> {
    const ask = (verb: string, name: string, body?: object) =>
      client(program.url, '').request(verb, `${OF_COUNCIL}${name}`, body, headers);
    if (path.endsWith('/stop')) await ask('POST', 'start', SESSION);
    if (path.endsWith('/start')) {
      await ask('POST', 'stop');
      const isIdle = async () => (await ask('GET', 'status')).body.currentSession === null;
      // Who may not read cannot look; their start is refused, or theirs alone.
      if ((await ask('GET', 'status')).status === 200) {
        await condition(isIdle, { withinMs: 10_000, what: 'the session to end' });
      }
    }
    if (path.endsWith('/council/:name') && method !== 'GET') await ask('POST', 'council/reset', {});
  }

  async function urlOfAgent(path: string): Promise<string> {
    const { name, execution } = await adasAgent();
    const agent = `/api/agents/${name}`;
    let url = path.replace(':name', name).replace('/executions/:id', `/executions/${execution}`);
    if (path.includes('/public-links/:id')) {
      const { body } = await ada.post(`${agent}/public-links`, {});
      url = url.replace(':id', body.id);
    }
    if (path.includes('/sessions/:id') || path.includes(':tool_id')) {
      const { body } = await ada.post(`${agent}/chat`, { message: 'What is 6*7?' });
      url = url.replace(':id', body.session_id).replace(':tool_id', body.execution_log_simplified[0].id);
    }
    return url;
  }

  function urlOf(path: string, things: Awaited<ReturnType<typeof adasThings>>): string {
    return path
      .replace(':turnId', things.turn)
      .replace(':stream', `conversation-${things.conversation}`)
      .replace(':name', 'messages')
      .replace(':model', 'pro')
      .replace(':file', 'swagger-ui.css')
      .replace(':conversationId', things.conversation)
      .replace(/^\/api\/users\/:id/, `/api/users/${adaId}`)
      .replace(/^\/api\/api-keys\/:id/, `/api/api-keys/${things.key}`)
      .replace(':id', things.conversation);
  }

  /** The status alone: a stream is left at once. */
  async function knock(route: RouteContract, visitor: Visitor): Promise<number> {
    if (route.path.startsWith(OF_COUNCIL)) await prepareCouncil(route, visitor);
    const leave = new AbortController();
    const things = route.path.includes(':') ? await adasThings() : { conversation: '', turn: '', key: '' };
    const path = route.path.startsWith(OF_AGENT)
      ? await urlOfAgent(route.path)
      : route.path.startsWith(OF_ORCHESTRATION)
        ? route.path.replace(':id', await adasOrchestration())
        : route.path.startsWith(OF_COUNCIL)
          ? route.path.replace(':name', 'sceptic').replace(':id', adasDeliberation)
          : route.path;
    const response = await fetch(program.url + urlOf(path, things), {
      method: route.method,
      headers: { ...visitor.headers, ...(route.method !== 'GET' && { 'Content-Type': 'application/json' }) },
      ...(route.method !== 'GET' && { body: JSON.stringify(bodyOf(route, `new-${unique++}`)) }),
      signal: leave.signal,
    });
    leave.abort();
    return response.status;
  }

  for (const route of routes.filter(({ path }) => !withoutCaller.test(path))) {
    it(`${keyOf(route)} is for ${[route.access].flat().join(' or ')}`, async () => {
      for (const visitor of visitors) {
        const status = await knock(route, visitor);
        const allowed = lets(route.access, visitor);
        if (allowed !== 'in') {
          expect(status, visitor.name).to.equal(allowed);
        } else if (route.path.startsWith(BY_LINK)) {
          expect(status, visitor.name).to.equal(route.path.startsWith('/api/public/link/') ? 200 : 404);
        } else {
          expect(status, visitor.name).not.to.be.oneOf([401, 403, 405, 500]);
          // What is under an id is Ada's; projections and the log are nobody's.
          const adas = /:(id|turnId)/.test(route.path) || route.path.startsWith(OF_AGENT);
          if (adas && !visitor.seesAda) expect(status, visitor.name).to.equal(404);
          else expect(status, visitor.name).to.be.below(400);
        }
      }
    }).timeout(60_000);
  }

  it('lists only what the caller may see', async () => {
    const { conversation } = await adasThings();
    for (const visitor of visitors.filter(({ permissions }) => permissions?.has('chat:read'))) {
      for (const path of ['/api/chat/sessions?limit=100', '/api/v1/chat', '/api/activity?limit=200']) {
        const text = await (await fetch(program.url + path, { headers: visitor.headers })).text();
        expect(text.includes(conversation), `${visitor.name} ${path}`).to.equal(visitor.seesAda);
      }
    }
  });

  it('an auditor changes nothing: every command is refused', () => {
    const auditor = visitors.find(({ name }) => name === 'an auditor')!;
    const open = routes.filter((route) => isCommand(route) && lets(route.access, auditor) === 'in');
    expect(open.map(keyOf).filter((key) => !/\/auth\/|\/api\/token|\/api\/public\//.test(key))).to.deep.equal(
      [],
    );
  });

  it('takes back what it gave at once', async () => {
    const { body } = await ada.post('/api/api-keys', { name: 'short-lived', permissions: ['chat:read'] });
    const withKey = () => fetch(`${program.url}/api/chat/sessions`, { headers: { 'X-API-Key': body.key } });
    expect((await withKey()).status).to.equal(200);
    await ada.request('DELETE', `/api/api-keys/${body.id}`);
    expect((await withKey()).status).to.equal(401);

    const email = 'eve@example.org';
    const made = await admin.post('/api/users', {
      email,
      password: PASSWORD,
      displayName: 'Eve',
      role: 'user',
    });
    const eve = await login(program.url, { email, password: PASSWORD });
    expect((await eve.get('/api/auth/me')).status).to.equal(200);
    await admin.request('PATCH', `/api/users/${made.body.id}`, { disabled: true });
    expect((await eve.get('/api/auth/me')).status).to.equal(401);
  });

  it('a turn that runs goes on when its reader may not', async () => {
    const { conversation } = await adasThings();
    const stranger = client(program.url, '');
    expect((await stranger.post(`/api/chat/sessions/${conversation}/interrupt`)).status).to.equal(401);
    await condition(
      async () => (await ada.get(`/api/v1/chat/${conversation}/history`)).body.data.length === 2,
      { withinMs: 10_000, what: 'the answer' },
    );
  });
});
