/** The activity feed in Luna Chat's frames (api-notes A2.10), for one owner or for all. */
import type { OdeonEvent } from '../../contracts/events/catalogue.ts';
import type { ActivityFrame, LunaActivity } from '../../contracts/live/frames.ts';
import type { ActivityDocument } from '../../contracts/read-models/documents.ts';
import { eventFeed, type Feed, type Frame, rememberingLast, sse } from './feed.ts';

export const lunaActivity = (row: ActivityDocument): LunaActivity => ({
  id: row.id,
  userId: row.owner,
  ...(row.conversationId !== null && { sessionId: row.conversationId }),
  ...(row.turnId !== null && { turnId: row.turnId }),
  category: row.category,
  eventType: row.eventType,
  level: row.level,
  title: row.title,
  ...(row.message !== null && { message: row.message }),
  details: row.details,
  source: row.source,
  ...(row.durationMs !== null && { durationMs: row.durationMs }),
  createdAt: row.createdAt,
});

const dataOnly = (data: ActivityFrame, id: string | null = null): Frame => ({ id, name: null, data });

export const activityConnected = (timestamp: string, id: string): Frame =>
  dataOnly({ type: 'connected', timestamp }, id);

/** @param activityRow of an event; null when it is not shown as activity */
export function activityFeeds(activityRow: (event: OdeonEvent) => ActivityDocument | null) {
  const text = rememberingLast((event) => {
    const row = activityRow(event as OdeonEvent);
    if (row === null) return null;
    const frame = { type: 'activity' as const, timestamp: row.createdAt, activity: lunaActivity(row) };
    return sse.encode(dataOnly(frame, event.position));
  });
  const ping = (timestamp: string) => dataOnly({ type: 'ping', timestamp });
  /** `owner` null: everybody's. */
  return (owner: string | null): Feed =>
    eventFeed({
      key: owner === null ? 'activity' : `activity ${owner}`,
      transport: sse,
      filter: owner === null ? {} : { owner },
      text,
      ping,
    });
}
