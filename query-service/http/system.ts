/** `GET /health` and `GET /metrics`. */
import { getHealth, getMetrics, type Health } from '../../contracts/http/system.ts';
import { type Endpoint, endpoint } from '../../infra/http/port.ts';
import type { Metrics } from '../../infra/telemetry/port.ts';

export interface SystemDependencies {
  /** What the process can do now. */
  readonly status: () => Health['status'];
  readonly version: string;
  readonly metrics: Pick<Metrics, 'render'>;
}

export function systemEndpoints({ status, version, metrics }: SystemDependencies): Endpoint[] {
  return [
    endpoint(getHealth, () => {
      const body: Health = {
        status: status(),
        service: 'odeon',
        version,
        timestamp: new Date().toISOString(),
        uptimeSeconds: Math.floor(process.uptime()),
      };
      return { status: body.status === 'healthy' ? 200 : 503, body };
    }),
    endpoint(getMetrics, async () => {
      const { contentType, text } = await metrics.render();
      return {
        stream: (response) => {
          response.writeHead(200, { 'Content-Type': contentType, 'Content-Length': Buffer.byteLength(text) });
          response.end(text);
        },
      };
    }),
  ];
}
