/** What operators read: the log, and how the projections are doing. */

import type { EventEnvelope, Position } from '../../contracts/envelope.ts';
import { isAfter, START } from '../../contracts/envelope.ts';
import { refuse } from '../../contracts/errors.ts';
import * as operators from '../../contracts/http/operators.ts';
import type { ProjectionRuntime } from '../../contracts/projections.ts';
import type { EventFilter, EventStore } from '../../infra/event-store/port.ts';
import { type Endpoint, endpoint } from '../../infra/http/port.ts';

export interface OperatorQueryDependencies {
  readonly store: Pick<EventStore, 'readAll' | 'readStream'>;
  readonly projections: Pick<ProjectionRuntime, 'status' | 'failures'>;
}

export function operatorQueryEndpoints({ store, projections }: OperatorQueryDependencies): Endpoint[] {
  return [
    endpoint(operators.listEvents, async ({ query }) => {
      const { limit, order, to } = query;
      const { after = START, before } = query.from ?? {};
      const upTo = before !== undefined && (to === undefined || isAfter(to, before)) ? before : to;
      const pages = store.readAll({
        direction: order === 'asc' ? 'forwards' : 'backwards',
        after,
        ...(upTo !== undefined && { upTo }),
        filter: filterOf(query),
      });
      const { events, more } = await take(eventsOf(pages, before), limit);
      const last = events.at(-1)?.position ?? START;
      const next = !more ? null : order === 'asc' ? last : `${after}..${last}`;
      return { status: 200, body: { events, next } };
    }),

    endpoint(operators.readStream, async ({ params, query }) => {
      const { limit, order, from } = query;
      const pages = store.readStream(params.stream, {
        direction: order === 'asc' ? 'forwards' : 'backwards',
        limit: limit + 1,
        ...(from !== undefined && { from }),
      });
      const { events, more } = await take(flat(pages), limit);
      if (events.length === 0 && !(await exists(store, params.stream))) {
        refuse('NOT_FOUND', 'Stream not found.');
      }
      // Revisions have no gaps, in contrast to positions.
      const last = events.at(-1)?.revision ?? 0;
      const next = more ? last + (order === 'asc' ? 1 : -1) : null;
      return { status: 200, body: { stream: params.stream, events, next } };
    }),

    endpoint(operators.listProjections, async () => ({
      status: 200,
      body: { projections: await projections.status() },
    })),

    endpoint(operators.listFailures, async ({ params }) => ({
      status: 200,
      body: { failures: await projections.failures(params.name) },
    })),
  ];
}

type Query = {
  readonly stream?: string | undefined;
  readonly type?: readonly string[] | undefined;
  readonly owner?: string | undefined;
  readonly correlationId?: string | undefined;
};

const filterOf = ({ stream, type, owner, correlationId }: Query): EventFilter => ({
  ...(stream !== undefined && { stream }),
  ...(type !== undefined && { types: type }),
  ...(owner !== undefined && { owner }),
  ...(correlationId !== undefined && { correlationId }),
});

/** @param before left out: positions cannot be counted down, so the upper bound is read and dropped */
async function* eventsOf(
  pages: ReturnType<EventStore['readAll']>,
  before: Position | undefined,
): AsyncGenerator<EventEnvelope> {
  for await (const page of pages) {
    for (const event of page.events) if (event.position !== before) yield event;
  }
}

async function* flat<Item>(pages: AsyncIterable<readonly Item[]>): AsyncGenerator<Item> {
  for await (const page of pages) yield* page;
}

/** The first `limit` events, and whether there are more. */
async function take(all: AsyncIterable<EventEnvelope>, limit: number) {
  const events: EventEnvelope[] = [];
  for await (const event of all) {
    if (events.length === limit) return { events, more: true };
    events.push(event);
  }
  return { events, more: false };
}

async function exists(store: Pick<EventStore, 'readStream'>, stream: string): Promise<boolean> {
  const { events } = await take(flat(store.readStream(stream, { limit: 1 })), 1);
  return events.length > 0;
}
