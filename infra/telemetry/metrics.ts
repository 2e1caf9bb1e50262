/** Numbers for operators in the Prometheus format (prom-client). The only file that knows prom-client. */
import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client';
import type { Metrics, ProjectionHealth } from './port.ts';

const REQUEST_SECONDS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30];
const COMMIT_SECONDS = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5];
const COMMIT_SIZES = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000];
const MODEL_SECONDS = [0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 80, 160, 320];

const seconds = (durationMs: number): number => durationMs / 1000;

/** A registry of its own, with the process's numbers (CPU, memory, event loop delay, collections). */
export function createMetrics(): Metrics {
  const registry = new Registry();
  const registers = [registry];
  collectDefaultMetrics({ register: registry });

  const requestSeconds = new Histogram({
    name: 'odeon_http_request_duration_seconds',
    help: 'HTTP requests, from their headers to the end of their answers (streams: to their beginning).',
    labelNames: ['surface', 'method', 'route', 'status'] as const,
    buckets: REQUEST_SECONDS,
    registers,
  });
  const requests = new Counter({
    name: 'odeon_http_requests_total',
    help: 'HTTP requests that were answered. Status 499: the client went away before its answer.',
    labelNames: ['surface', 'method', 'route', 'status'] as const,
    registers,
  });
  const streams = new Gauge({
    name: 'odeon_http_streams',
    help: 'HTTP answers that are streams and still open.',
    labelNames: ['surface', 'method', 'route'] as const,
    registers,
  });
  const appends = new Counter({
    name: 'odeon_appends_total',
    help: 'Appends to the event store that were acknowledged.',
    registers,
  });
  const events = new Counter({
    name: 'odeon_events_appended_total',
    help: 'Events that were appended.',
    registers,
  });
  const commitEvents = new Histogram({
    name: 'odeon_commit_events',
    help: 'Events in one durable commit.',
    buckets: COMMIT_SIZES,
    registers,
  });
  const commitSeconds = new Histogram({
    name: 'odeon_commit_duration_seconds',
    help: 'How long a durable commit took.',
    buckets: COMMIT_SECONDS,
    registers,
  });
  const liveClients = new Gauge({
    name: 'odeon_live_clients',
    help: 'Clients that follow a live feed.',
    labelNames: ['feed'] as const,
    registers,
  });
  const turns = new Counter({
    name: 'odeon_turns_total',
    help: 'Turns that ended.',
    labelNames: ['outcome'] as const,
    registers,
  });
  const turnSeconds = new Histogram({
    name: 'odeon_turn_duration_seconds',
    help: 'How long turns took.',
    labelNames: ['outcome'] as const,
    buckets: MODEL_SECONDS,
    registers,
  });
  const modelCalls = new Counter({
    name: 'odeon_model_calls_total',
    help: 'Calls of language models.',
    labelNames: ['provider', 'model', 'outcome'] as const,
    registers,
  });
  const modelSeconds = new Histogram({
    name: 'odeon_model_call_duration_seconds',
    help: 'How long calls of language models took.',
    labelNames: ['provider', 'model'] as const,
    buckets: MODEL_SECONDS,
    registers,
  });
  const firstTokenSeconds = new Histogram({
    name: 'odeon_model_first_token_seconds',
    help: 'How long the first token of a call took.',
    labelNames: ['provider', 'model'] as const,
    buckets: MODEL_SECONDS,
    registers,
  });
  const tokens = new Counter({
    name: 'odeon_model_tokens_total',
    help: 'Tokens by kind: prompt (cached ones included), cached, completion.',
    labelNames: ['provider', 'model', 'kind'] as const,
    registers,
  });
  const cost = new Counter({
    name: 'odeon_model_cost_usd_total',
    help: 'US dollars spent on models whose price is known.',
    labelNames: ['provider', 'model'] as const,
    registers,
  });

  let readProjections: () => readonly ProjectionHealth[] | Promise<readonly ProjectionHealth[]> = () => [];
  const lag = new Gauge({
    name: 'odeon_projection_lag_events',
    help: 'How many events of its types a projection is behind.',
    labelNames: ['projection'] as const,
    registers,
  });
  const missing = new Gauge({
    name: 'odeon_projection_missing_events',
    help: 'Events of its types, up to where it stands, that a projection has not seen: other than 0, rebuild it.',
    labelNames: ['projection'] as const,
    registers,
  });
  const setAside = new Gauge({
    name: 'odeon_projection_set_aside_events',
    help: 'Events that a projection could not apply.',
    labelNames: ['projection'] as const,
    registers,
  });

  return {
    route(labels) {
      const byStatus = new Map<number, { seconds: Histogram.Internal<string>; count: Counter.Internal }>();
      return {
        answered(status, durationMs) {
          let recorders = byStatus.get(status);
          if (recorders === undefined) {
            const all = { ...labels, status };
            recorders = { seconds: requestSeconds.labels(all), count: requests.labels(all) };
            byStatus.set(status, recorders);
          }
          recorders.seconds.observe(seconds(durationMs));
          recorders.count.inc();
        },
        streaming() {
          const gauge = streams.labels(labels);
          gauge.inc();
          return once(() => gauge.dec());
        },
      };
    },
    commit(commit) {
      appends.inc(commit.appends);
      events.inc(commit.events);
      commitEvents.observe(commit.events);
      commitSeconds.observe(seconds(commit.durationMs));
    },
    liveClient(feed) {
      const gauge = liveClients.labels(feed);
      gauge.inc();
      return once(() => gauge.dec());
    },
    turnEnded({ outcome, durationMs }) {
      turns.inc({ outcome });
      turnSeconds.observe({ outcome }, seconds(durationMs));
    },
    modelCall({ provider, model, outcome, usage, costUsd, durationMs, firstTokenMs }) {
      const labels = { provider, model };
      modelCalls.inc({ ...labels, outcome });
      modelSeconds.observe(labels, seconds(durationMs));
      if (firstTokenMs !== null) firstTokenSeconds.observe(labels, seconds(firstTokenMs));
      tokens.inc({ ...labels, kind: 'prompt' }, usage.promptTokens);
      tokens.inc({ ...labels, kind: 'cached' }, usage.cachedTokens);
      tokens.inc({ ...labels, kind: 'completion' }, usage.completionTokens);
      if (costUsd !== null) cost.inc(labels, costUsd);
    },
    observeProjections(read) {
      readProjections = read;
    },
    async render() {
      // Here and not in `collect`: prom-client collects all at once and would read one gauge before the other.
      const projections = await readProjections();
      lag.reset();
      missing.reset();
      setAside.reset();
      for (const health of projections) {
        lag.set({ projection: health.projection }, health.lag);
        missing.set({ projection: health.projection }, health.missing);
        setAside.set({ projection: health.projection }, health.setAside);
      }
      return { contentType: registry.contentType, text: await registry.metrics() };
    },
  };
}

function once(action: () => void): () => void {
  let done = false;
  return () => {
    if (done) return;
    done = true;
    action();
  };
}
