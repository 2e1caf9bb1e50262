/** Agent Chat's search. */

import type { z } from 'zod';
import { searchConversations, type searchResult } from '../../contracts/http/search.ts';
import { callerOf, type Endpoint, endpoint } from '../../infra/http/port.ts';
import type { SearchHit } from '../../infra/search/port.ts';
import type { Search } from '../search.ts';

const render = (hit: SearchHit): z.infer<typeof searchResult> => ({
  id: hit.id,
  content: hit.content,
  score: hit.score,
  conversation_id: hit.conversationId,
  timestamp: hit.time,
  metadata: { model: hit.model, topic: hit.title, role: hit.role },
});

export const searchEndpoints = (search: Search): Endpoint[] => [
  endpoint(searchConversations, async ({ query, body, context }) => {
    const began = performance.now();
    const { filters } = body;
    const { hits, total, headers } = await search.searchMessages(body.query, callerOf(context), {
      limit: body.limit,
      minScore: body.min_score,
      userId: filters.user_id,
      conversationId: filters.conversation_id,
      role: filters.role,
      model: filters.model,
      ...filters.date_range,
      asOf: query.asOf,
    });
    const query_time_ms = Math.round(performance.now() - began);
    return { status: 200, headers, body: { results: hits.map(render), total, query_time_ms } };
  }),
];
