/** The activity feed in Luna Chat's frames (api-notes A2.10), for one owner or for all. */
import type { OdeonEvent } from '../../contracts/events/catalogue.ts';
import { renderActivity } from '../../contracts/http/luna.ts';
import type { ActivityFrame } from '../../contracts/live/frames.ts';
import type { ActivityDocument } from '../../contracts/read-models/documents.ts';
import { eventFeed, type Feed, type Frame, rememberingLast, sse } from './feed.ts';

const dataOnly = (data: ActivityFrame, id: string | null = null): Frame => ({ id, name: null, data });

export const activityConnected = (timestamp: string, id: string): Frame =>
  dataOnly({ type: 'connected', timestamp }, id);

/** @param activityRow of an event; null when it is not shown as activity */
export function activityFeeds(activityRow: (event: OdeonEvent) => ActivityDocument | null) {
  const text = rememberingLast((event) => {
    const row = activityRow(event as OdeonEvent);
    if (row === null) return null;
    const activity = renderActivity(row, event.position);
    return sse.encode(dataOnly({ type: 'activity', timestamp: row.createdAt, activity }, event.position));
  });
  const ping = (timestamp: string) => dataOnly({ type: 'ping', timestamp });
  const resync = (reason: string, timestamp: string) => dataOnly({ type: 'resync', timestamp, reason });
  const farewell = (timestamp: string) => dataOnly({ type: 'shutdown', timestamp });
  /** `owner` null: everybody's. */
  return (owner: string | null): Feed =>
    eventFeed({
      key: owner === null ? 'activity' : `activity ${owner}`,
      transport: sse,
      filter: owner === null ? {} : { owner },
      text,
      resync,
      ping,
      farewell,
    });
}
