/** What the parts tell operators: log lines and numbers. Neither may hold secrets or what users wrote. */
import type { Surface } from '../../contracts/envelope.ts';
import type { TokenUsage } from '../../contracts/events/conversation.ts';

type Log = (fields: Readonly<Record<string, unknown>>, message: string) => void;

/** One JSON line a call. An error goes under `err`: its name, message, stack, code and causes are written. */
export interface Logger {
  readonly debug: Log;
  readonly info: Log;
  readonly warn: Log;
  readonly error: Log;
  /** A logger that adds these fields to every line. */
  child(fields: Readonly<Record<string, unknown>>): Logger;
}

export interface ProjectionHealth {
  readonly projection: string;
  /** How many events of its types it is behind. */
  readonly lag: number;
  /** Events of its types that it should have seen by now and has not: other than 0, something was skipped. */
  readonly missing: number;
  /** Events that it could not apply. */
  readonly setAside: number;
}

/** Counts the requests of one route; made once for each route. */
export interface RouteMetrics {
  answered(status: number, durationMs: number): void;
  /** A stream begins; call what is returned when it has ended. */
  streaming(): () => void;
}

export interface Metrics {
  /** `route` is the pattern, never the path of a request. */
  route(labels: { surface: Surface; method: string; route: string }): RouteMetrics;
  /** One durable commit of the event store, which may carry the appends of several callers. */
  commit(commit: { appends: number; events: number; durationMs: number }): void;
  /** A client of a live feed has come; call what is returned when it has gone. */
  liveClient(feed: string): () => void;
  turnEnded(turn: { outcome: 'completed' | 'interrupted' | 'failed'; durationMs: number }): void;
  /** One call of a model. `costUsd` null: no known price. `firstTokenMs` null: nothing came. */
  modelCall(call: {
    provider: string;
    model: string;
    outcome: 'answered' | 'failed' | 'interrupted';
    usage: TokenUsage;
    costUsd: number | null;
    durationMs: number;
    firstTokenMs: number | null;
  }): void;
  /** Asked whenever the numbers are read. */
  observeProjections(read: () => readonly ProjectionHealth[] | Promise<readonly ProjectionHealth[]>): void;
  /** Every number in the Prometheus text format. */
  render(): Promise<{ contentType: string; text: string }>;
}
