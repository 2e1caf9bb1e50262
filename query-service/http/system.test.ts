import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { expect } from 'chai';
import type { Health } from '../../contracts/http/system.ts';
import { createHttpServer } from '../../infra/http/node-server.ts';
import { createHttpApp } from '../../infra/http/server.ts';
import { createLogger } from '../../infra/telemetry/logger.ts';
import { createMetrics } from '../../infra/telemetry/metrics.ts';
import { systemEndpoints } from './system.ts';

describe('The system’s routes', () => {
  let status: Health['status'] = 'starting';
  const metrics = createMetrics();
  const refuseAll = () => Promise.reject(new Error('not asked'));
  const server = createHttpServer(
    createHttpApp({
      endpoints: systemEndpoints({ status: () => status, version: '1.2.3', metrics }),
      authenticator: { authenticate: refuseAll, recheck: refuseAll },
      settle: { position: () => '0', waitFor: refuseAll, timeoutMs: 1 },
      idempotency: { accept: refuseAll, answered: refuseAll },
      fingerprintSecret: 'secret',
      logger: createLogger({ level: 'silent' }),
      metrics,
    }),
  );
  let url: string;
  before(async () => {
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  });
  after(() => {
    server.closeAllConnections();
    server.close();
  });

  it('tell when it is ready', async () => {
    expect((await fetch(`${url}/health`)).status).to.equal(503);
    status = 'healthy';
    const answer = await fetch(`${url}/health`);
    expect(answer.status).to.equal(200);
    const body = (await answer.json()) as Health;
    expect(body).to.include({ status: 'healthy', service: 'odeon', version: '1.2.3' });
    expect(Date.parse(body.timestamp)).to.be.closeTo(Date.now(), 5_000);
    status = 'stopping';
    expect((await fetch(`${url}/health`)).status).to.equal(503);
  });

  it('give the numbers in the Prometheus text format', async () => {
    const answer = await fetch(`${url}/metrics`);
    expect(answer.headers.get('content-type')).to.match(/^text\/plain; version=0\.0\.4/);
    expect(await answer.text()).to.include('# TYPE odeon_http_requests_total counter');
  });
});
