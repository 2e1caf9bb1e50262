/** The routes of the live feeds. All resume by the header `Last-Event-ID` or `?lastEventId=`. */
import { z } from 'zod';
import { position } from '../envelope.ts';
import { frameId } from '../live/frames.ts';
import { eventFilter } from './operators.ts';
import { idParams } from './parameters.ts';
import { route } from './route.ts';

/** Nothing has been read yet where the id is empty, as in the header. */
export const lastEventId = z.preprocess((id) => (id === '' ? undefined : id), frameId.optional());
const resume = { lastEventId };

/** 204: the turn has ended and all of it was read. */
export const streamTurn = route({
  surface: 'luna',
  method: 'GET',
  path: '/api/turns/:turnId/stream',
  summary:
    'An answer as it is written, in Luna Chat frames: from its beginning, or from where the reader was.',
  access: 'chat:read',
  params: z.object({ turnId: z.string() }),
  query: z.object(resume),
  answers: { 200: 'stream', 204: 'empty' },
});

/** What the `X-Stream-Id` of a completion stands for: a POST cannot be resumed by itself (api-notes B9). */
export const streamCompletionAgain = route({
  surface: 'agent-chat',
  method: 'GET',
  path: '/api/streams/:turnId',
  summary:
    "An answer as it is written, in OpenAI's chunks: from its beginning, or from where the reader was. The id is the " +
    '`X-Stream-Id` of the completion. 204: the answer has ended and all of it was read.',
  access: 'chat:read',
  errors: 'openai',
  params: z.object({ turnId: z.string() }),
  query: z.object({ ...resume, include_usage: z.enum(['true', 'false']).default('false') }),
  answers: { 200: 'stream', 204: 'empty' },
});

export const streamActivity = route({
  surface: 'luna',
  method: 'GET',
  path: '/api/activity/stream',
  summary: 'What happens, as it happens: of the caller, or of all whom the caller may see.',
  access: 'chat:read',
  query: z.object(resume),
  answers: { 200: 'stream' },
});

export const streamLog = route({
  surface: 'odeon',
  method: 'GET',
  path: '/api/log/live',
  summary: 'Events of the log as they are committed: from now on, or from after `from`.',
  access: 'log:read',
  query: z.strictObject({
    ...resume,
    ...eventFilter,
    /** Begin after this position; who resumes has got further. */
    from: position.optional(),
  }),
  answers: { 200: 'stream' },
});

export const streamConversation = route({
  surface: 'zerg',
  method: 'GET',
  path: '/api/v1/chat/:id/stream',
  summary: 'The answers of a conversation as they are written, from now on.',
  access: 'chat:read',
  params: idParams,
  query: z.object(resume),
  answers: { 200: 'stream' },
});
