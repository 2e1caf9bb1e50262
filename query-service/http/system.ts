/** How this deployment is doing, and what it is: health, numbers, features. */
import type { EngineName, EngineStatus } from '../../contracts/engines.ts';
import type { RouteContract } from '../../contracts/http/route.ts';
import {
  getFeatures,
  getHealth,
  getInfo,
  getLiveness,
  getMetrics,
  getReadiness,
  type Health,
  type ServiceRole,
} from '../../contracts/http/system.ts';
import { type Answer, type Endpoint, endpoint } from '../../infra/http/port.ts';
import type { Metrics } from '../../infra/telemetry/port.ts';
import { endpointsOf, featuresOf } from './features.ts';

export interface SystemDependencies {
  /** How far the process is itself; whether its engines can be used is looked up in `engines`. */
  readonly status: () => 'healthy' | 'starting' | 'stopping';
  readonly version: string;
  readonly metrics: Pick<Metrics, 'render'>;
  readonly roles: Iterable<ServiceRole>;
  readonly engines: () => readonly EngineStatus[];
  /** Of the whole deployment. */
  readonly routes: readonly RouteContract[];
  /** The address of a server that the models are asked through; null where there is none. */
  readonly modelGateway: string | null;
}

/**
 * The engines without which a process of a role can do nothing of use: commands are refused while any is away.
 * Without the event store or the bus a query node still answers from the read models, so it goes on getting requests.
 */
const needs: Readonly<Record<ServiceRole, readonly EngineName[]>> = {
  command: ['event store', 'bus', 'read models'],
  query: ['read models'],
  projections: ['event store', 'bus', 'read models'],
  processes: ['event store', 'bus', 'read models'],
};
const RETRY_SECONDS = 5;

export function systemEndpoints({
  status,
  version,
  metrics,
  roles,
  engines,
  routes,
  modelGateway,
}: SystemDependencies): Endpoint[] {
  const ownRoles = [...roles];
  const features = featuresOf(routes);
  const here = features.filter(({ enabled }) => enabled);
  const needed = new Set(ownRoles.flatMap((role) => needs[role]));

  function health(): Health {
    const seen = engines().map(shown);
    const away = seen.filter(({ available }) => !available);
    const own = status();
    return {
      status: own === 'healthy' && away.some(({ name }) => needed.has(name)) ? 'unavailable' : own,
      service: 'bluefly-enterprise-chat',
      product: 'odeon',
      version,
      timestamp: new Date().toISOString(),
      uptimeSeconds: Math.floor(process.uptime()),
      roles: ownRoles,
      engines: seen,
      waitingFor: away.length === 0 ? null : away.map(described).join('; '),
      ecosystem: {
        gateway: modelGateway && withoutCredentials(modelGateway),
        // Search is part of this program.
        vector: null,
        tddai: null,
      },
      voice: { enabled: false, status: 'unavailable' },
      librechat: { enhanced: false, kagent: false, ossa: false, agentStudio: false },
      consumers: { drupal: false, llmPlatform: false },
      rocketship: {
        enabled: here.length > 0,
        features: here.length,
        statusEndpoint: '/api/rocketship/status',
      },
    };
  }

  function readiness(): Answer {
    const body = health();
    return body.status === 'healthy'
      ? { status: 200, body }
      : { status: 503, body, headers: { 'Retry-After': String(RETRY_SECONDS) } };
  }

  return [
    endpoint(getHealth, readiness),
    endpoint(getReadiness, readiness),
    endpoint(getLiveness, () => ({ status: 200, body: health() })),
    endpoint(getInfo, () => ({
      status: 200,
      body: {
        name: 'Odeon',
        description: 'Event-sourced backend for AI chat and agents: four chat APIs over one domain',
        version,
        features: here.map(({ name }) => name),
        endpoints: endpointsOf(routes),
      },
    })),
    endpoint(getFeatures, () => ({
      status: 200,
      body: {
        enabled: here.length > 0,
        count: here.length,
        features,
        timestamp: new Date().toISOString(),
      },
    })),
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

const described = ({ name, address, problem }: EngineStatus): string =>
  `the ${name}${address === null ? '' : ` at ${address}`}${problem === null ? '' : `: ${problem}`}`;

/** Whatever a driver says of its server: who logs in there is nobody's business. */
const shown = ({ name, kind, address, available, problem }: EngineStatus): EngineStatus => ({
  name,
  kind,
  address: address && withoutCredentials(address),
  available,
  problem: problem && withoutCredentials(problem),
});

/** Takes `user:password@` out of URLs, and the values of what is called a password, secret, token or key. */
const withoutCredentials = (text: string): string =>
  text
    .replace(/\/\/\S*@/g, '//')
    .replace(/((?:passw(?:or)?d|secret|token|key)\w*["']?\s*[=:]\s*)[^\s&;,]+/gi, '$1…');
