import { expect } from 'chai';
import { createMetrics } from './metrics.ts';

describe('The metrics', () => {
  it('count requests, commits, clients, turns and models', async () => {
    const metrics = createMetrics();
    const route = metrics.route({ surface: 'luna', method: 'GET', route: '/x/:id' });
    route.answered(200, 30);
    route.answered(200, 30);
    route.answered(404, 1);
    route.streaming();
    metrics.commit({ appends: 3, events: 7, durationMs: 2 });
    metrics.liveClient('activity');
    const gone = metrics.liveClient('activity');
    gone();
    gone(); // counts once
    metrics.turnEnded({ outcome: 'completed', durationMs: 900 });
    metrics.modelCall({
      provider: 'openai',
      model: 'm"1',
      outcome: 'answered',
      usage: { promptTokens: 10, completionTokens: 4, cachedTokens: 6 },
      costUsd: 0.25,
      durationMs: 800,
      firstTokenMs: 90,
    });
    const { contentType, text } = await metrics.render();
    expect(contentType).to.match(/^text\/plain; version=0\.0\.4/);
    for (const line of [
      'odeon_http_requests_total{surface="luna",method="GET",route="/x/:id",status="200"} 2',
      'odeon_http_request_duration_seconds_count{surface="luna",method="GET",route="/x/:id",status="404"} 1',
      'odeon_http_request_duration_seconds_bucket{le="0.05",surface="luna",method="GET",route="/x/:id",status="200"} 2',
      'odeon_http_streams{surface="luna",method="GET",route="/x/:id"} 1',
      'odeon_appends_total 3',
      'odeon_events_appended_total 7',
      'odeon_commit_events_sum 7',
      'odeon_commit_duration_seconds_sum 0.002',
      'odeon_live_clients{feed="activity"} 1',
      'odeon_turns_total{outcome="completed"} 1',
      'odeon_model_calls_total{provider="openai",model="m\\"1",outcome="answered"} 1',
      'odeon_model_tokens_total{provider="openai",model="m\\"1",kind="cached"} 6',
      'odeon_model_cost_usd_total{provider="openai",model="m\\"1"} 0.25',
    ]) {
      expect(text.split('\n')).to.include(line);
    }
    expect(text).to.include('nodejs_eventloop_lag_seconds');
    expect(text).to.include('process_resident_memory_bytes');
  });

  it('ask for the projections whenever they are read, and forget those that are gone', async () => {
    const metrics = createMetrics();
    let health = [
      { projection: 'turns', lag: 4, missing: 2, setAside: 1 },
      { projection: 'old', lag: 1, missing: 0, setAside: 0 },
    ];
    metrics.observeProjections(async () => health);
    const first = (await metrics.render()).text;
    expect(first).to.include('odeon_projection_lag_events{projection="turns"} 4');
    expect(first).to.include('odeon_projection_missing_events{projection="turns"} 2');
    expect(first).to.include('odeon_projection_set_aside_events{projection="turns"} 1');
    health = [{ projection: 'turns', lag: 0, missing: 0, setAside: 0 }];
    const second = (await metrics.render()).text;
    expect(second).to.include('odeon_projection_lag_events{projection="turns"} 0');
    expect(second).to.not.include('projection="old"');
  });
});
