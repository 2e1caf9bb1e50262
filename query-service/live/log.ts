/** The log as it is: envelopes, filtered, each with its position as id. */

import type { LogFrame } from '../../contracts/live/frames.ts';
import type { EventFilter } from '../../infra/event-store/port.ts';
import { eventFeed, type Feed, type Frame, rememberingLast, sse } from './feed.ts';

const named = ({ type, ...data }: LogFrame): Frame => ({ id: null, name: type, data });
const resync = (reason: string) => named({ type: 'resync', reason });
const farewell = (timestamp: string) => named({ type: 'shutdown', timestamp });

export function logFeeds() {
  const text = rememberingLast((event) => sse.encode({ id: event.position, name: null, data: event }));
  return (filter: EventFilter): Feed =>
    eventFeed({ key: `log ${JSON.stringify(filter)}`, transport: sse, filter, text, resync, farewell });
}
