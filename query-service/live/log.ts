/** The log as it is: envelopes, filtered, each with its position as id. */
import type { EventFilter } from '../../infra/event-store/port.ts';
import { eventFeed, type Feed, rememberingLast, sse } from './feed.ts';

export function logFeeds() {
  const text = rememberingLast((event) => sse.encode({ id: event.position, name: null, data: event }));
  return (filter: EventFilter): Feed =>
    eventFeed({ key: `log ${JSON.stringify(filter)}`, transport: sse, filter, text });
}
