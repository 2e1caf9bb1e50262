import { once } from 'node:events';
import type { Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { expect } from 'chai';
import type { z } from 'zod';
import type { EngineStatus } from '../../contracts/engines.ts';
import { routes } from '../../contracts/http/all.ts';
import {
  getFeatures,
  getHealth,
  getInfo,
  type Health,
  type ServiceRole,
  serviceRoles,
} from '../../contracts/http/system.ts';
import { createHttpServer } from '../../infra/http/node-server.ts';
import { createHttpApp } from '../../infra/http/server.ts';
import { createLogger } from '../../infra/telemetry/logger.ts';
import { createMetrics } from '../../infra/telemetry/metrics.ts';
import { systemEndpoints } from './system.ts';

describe('The system’s routes', () => {
  let status: 'healthy' | 'starting' | 'stopping';
  let engines: EngineStatus[];
  let server: Server;
  let url: string;

  async function start(...roles: ServiceRole[]): Promise<void> {
    const metrics = createMetrics();
    const refuseAll = () => Promise.reject(new Error('not asked'));
    server = createHttpServer(
      createHttpApp({
        endpoints: systemEndpoints({
          status: () => status,
          version: '1.2.3',
          metrics,
          roles: new Set(roles),
          engines: () => engines,
          routes,
          modelGateway: 'http://user:hunter7@gateway.internal:4000/v1?key=hunter8',
        }),
        authenticator: { authenticate: refuseAll, recheck: refuseAll },
        settle: { position: () => '0', head: refuseAll, waitFor: refuseAll, timeoutMs: 1 },
        idempotency: { accept: refuseAll, answered: refuseAll },
        fingerprintSecret: 'secret',
        logger: createLogger({ level: 'silent' }),
        metrics,
      }),
    );
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  }
  beforeEach(() => {
    status = 'healthy';
    engines = [
      engine('event store'),
      engine('bus'),
      { ...engine('read models'), kind: 'embedded', address: null },
    ];
  });
  afterEach(() => {
    server.closeAllConnections();
    server.close();
  });

  const engine = (name: EngineStatus['name'], problem: string | null = null): EngineStatus => ({
    name,
    kind: 'server',
    address: `${name.replace(' ', '-')}.internal:9000`,
    available: problem === null,
    problem,
  });
  const away = (name: EngineStatus['name'], problem = 'connect ECONNREFUSED') => {
    engines = engines.map((one) => (one.name === name ? engine(name, problem) : one));
  };
  async function ask(path: string): Promise<{ status: number; retryAfter: string | null; body: Health }> {
    const answer = await fetch(url + path);
    const body = (await answer.json()) as Health;
    // What is said is what the contract says.
    expect(getHealth.answers[200]).to.have.property('parse');
    (getHealth.answers[200] as { parse(value: unknown): unknown }).parse(body);
    return { status: answer.status, retryAfter: answer.headers.get('retry-after'), body };
  }

  it('tell when it is ready, and always that it is alive', async () => {
    await start(...serviceRoles);
    for (const now of ['starting', 'stopping'] as const) {
      status = now;
      for (const path of ['/health', '/health/ready']) {
        expect(await ask(path), `${now} ${path}`).to.deep.include({ status: 503, retryAfter: '5' });
      }
      expect((await ask('/health/live')).status).to.equal(200);
      expect((await ask('/health/live')).body.status).to.equal(now);
    }
    status = 'healthy';
    for (const path of ['/health', '/health/ready', '/health/live']) {
      const answer = await ask(path);
      expect(answer, path).to.deep.include({ status: 200, retryAfter: null });
      expect(answer.body).to.deep.include({
        status: 'healthy',
        service: 'bluefly-enterprise-chat',
        product: 'odeon',
        version: '1.2.3',
        roles: serviceRoles,
        engines,
        waitingFor: null,
      });
      expect(Date.parse(answer.body.timestamp)).to.be.closeTo(Date.now(), 5_000);
    }
  });

  it('tell which engine it waits for, and why', async () => {
    await start('projections');
    status = 'starting';
    away('event store');
    away('bus', 'no broker answers');
    const { body } = await ask('/health');
    expect(body.waitingFor).to.equal(
      'the event store at event-store.internal:9000: connect ECONNREFUSED; the bus at bus.internal:9000: no broker answers',
    );
    expect(body.engines.filter(({ available }) => !available).map(({ name }) => name)).to.deep.equal([
      'event store',
      'bus',
    ]);
  });

  for (const [role, name, expected] of [
    ['query', 'read models', 503],
    ['query', 'event store', 200],
    ['query', 'bus', 200],
    ['command', 'event store', 503],
    ['command', 'read models', 503],
    ['command', 'bus', 503],
    ['projections', 'bus', 503],
    ['processes', 'bus', 503],
  ] as const) {
    it(`a ${role} node without the ${name} is ${expected === 200 ? 'ready all the same' : 'not ready'}`, async () => {
      await start(role);
      away(name);
      const answer = await ask('/health/ready');
      expect(answer.status).to.equal(expected);
      expect(answer.body.status).to.equal(expected === 200 ? 'healthy' : 'unavailable');
      expect(answer.body.waitingFor).to.match(new RegExp(`^the ${name}`));
      expect((await ask('/health/live')).status).to.equal(200);
    });
  }

  it('never name who logs in at an engine', async () => {
    await start('query');
    const problem =
      'Authentication failed for mongodb://ada:hunter2@mongo:27017/odeon?password=hunter3 and esdb://b:hun/ter4@es:2113; ' +
      'sasl password: hunter5, apiKey="hunter6"';
    engines = [{ ...engine('read models', problem), address: 'mongodb://ada:hunter2@mongo:27017' }];
    const { body } = await ask('/health');
    expect(JSON.stringify(body)).not.to.match(/hun\/?ter|ada/);
    expect(body.ecosystem.gateway).to.equal('http://gateway.internal:4000/v1?key=…');
    expect(body.engines[0]?.address).to.equal('mongodb://mongo:27017');
    expect(body.engines[0]?.problem).to.match(/Authentication failed for mongodb:\/\/mongo:27017/);
  });

  it('tell Agent Chat’s clients what is here, and what is not', async () => {
    await start('query');
    const { body } = await ask('/health');
    expect(Object.keys(body)).to.include.members([
      ...['status', 'service', 'version', 'timestamp', 'ecosystem', 'voice', 'librechat', 'consumers'],
      'rocketship',
    ]);
    expect(body.voice).to.deep.equal({ enabled: false, status: 'unavailable' });
    expect([...Object.values(body.librechat), ...Object.values(body.consumers)]).not.to.include(true);

    type Info = { features: string[]; endpoints: Record<string, string> };
    const info = (await (await fetch(`${url}/api/info`)).json()) as Info;
    (getInfo.answers[200] as z.ZodType).parse(info);
    expect(info.endpoints).to.include({ health: '/health', chat: '/api/chat' });
    expect(info.endpoints).not.to.have.any.keys('voice', 'tddai');
    for (const place of Object.values(info.endpoints)) {
      const served = place === '/socket.io' || routes.some(({ path }) => path.startsWith(place));
      expect(served, place).to.equal(true);
    }
    const status = await (await fetch(url + body.rocketship.statusEndpoint)).json();
    type Status = { count: number; features: { name: string; enabled: boolean; endpoint: string | null }[] };
    const { features, count } = (getFeatures.answers[200] as z.ZodType<Status>).parse(status);
    const here = features.filter(({ enabled }) => enabled);
    expect([count, body.rocketship.features]).to.deep.equal([here.length, here.length]);
    expect(here.map(({ name }) => name)).to.deep.equal(info.features);
    expect(features.find(({ name }) => /Voice/.test(name))).to.deep.include({
      enabled: false,
      endpoint: null,
    });
  });

  it('give the numbers in the Prometheus text format', async () => {
    await start('query');
    const answer = await fetch(`${url}/metrics`);
    expect(answer.headers.get('content-type')).to.match(/^text\/plain; version=0\.0\.4/);
    expect(await answer.text()).to.include('# TYPE odeon_http_requests_total counter');
  });
});
