/**
 * What a spoken command asks for, by rule: there is no speech here, only the text that a recogniser made of it.
 * What is none of the commands is a message.
 */
import type { ServerEvent } from '../../../contracts/live/socket-io.ts';
import type { ConversationDocument } from '../../../contracts/read-models/documents.ts';

export interface Found {
  readonly conversationId: string;
  readonly title: string | null;
  readonly content: string;
}

/** What may be done. All throw Refusal. */
export interface Voice {
  start(title: string | null): Promise<string>;
  conversations(): Promise<{ readonly latest: readonly ConversationDocument[]; readonly total: number }>;
  /** The best matches first. */
  search(query: string): Promise<readonly Found[]>;
  /** Whether anything was running. */
  interrupt(conversationId: string): Promise<boolean>;
  send(conversationId: string, content: string): Promise<void>;
}

export interface Spoken {
  readonly transcription: string;
  readonly confidence: number;
  /** Where it was said. */
  readonly sessionId: string | null;
}

type Feedback = ServerEvent<'voice_feedback'>;

/** What was understood with less is asked for again. */
const LEAST_CONFIDENCE = 0.4;
const LONGEST_TITLE = 200;
const SAID_OF_A_MATCH = 120;

const SESSION = '(?:chat|conversation|session|thread)s?(?: sessions?)?';
const START = new RegExp(
  `^(?:please )?(?:create|start|begin|open|make)(?: me)?(?: up)? (?:an? |the )?(?:new |fresh |another )*${SESSION}` +
    `(?:,? (?:called|named|titled|about|for) (?<title>.+?))?[.!]?$`,
  'i',
);
const LIST = new RegExp(
  `^(?:please )?(?:list|show|read(?: out)?|what are|tell me)(?: me)?(?: all)?(?: of)?(?: my| the)?(?: latest| recent| last)? ${SESSION}(?: do i have)?[.?!]?$`,
  'i',
);
const SEARCH =
  /^(?:please )?(?:search|find|look)(?: (?:in|through|up))?(?: (?:my|all|the))*(?: (?:chats?|conversations?|messages?|sessions?|history))?(?: (?:for|about|on|where|that mentions?))+ (?<query>.+?)[.?!]?$/i;
const STOP =
  /^(?:please )?(?:stop|cancel|interrupt|be quiet|shut up|never mind)(?: that| it| talking| answering)?[.!]?$/i;

export async function voiceCommand(
  { transcription, confidence, sessionId }: Spoken,
  voice: Voice,
): Promise<Feedback> {
  const text = transcription.trim();
  if (confidence < LEAST_CONFIDENCE) {
    return {
      speech: "I'm not sure that I understood you. Please say it again.",
      action: 'not_understood',
      session_id: sessionId,
    };
  }
  const start = START.exec(text);
  if (start !== null) {
    const title = start.groups?.title?.slice(0, LONGEST_TITLE).toWellFormed() ?? null;
    const id = await voice.start(title);
    const named = title === null ? '' : ` called ${title}`;
    return {
      speech: `I've created a new chat session${named} for you.`,
      action: 'session_created',
      session_id: id,
    };
  }
  if (LIST.test(text)) return sessions(await voice.conversations());
  const query = SEARCH.exec(text)?.groups?.query;
  if (query !== undefined) return matches(query, await voice.search(query));
  if (STOP.test(text) && sessionId !== null) {
    const running = await voice.interrupt(sessionId);
    const speech = running ? "I've stopped." : 'There was nothing to stop.';
    return { speech, action: 'interrupted', session_id: sessionId };
  }
  const id = sessionId ?? (await voice.start(null));
  await voice.send(id, transcription);
  return { speech: "I'm on it.", action: 'message_sent', session_id: id };
}

const nameOf = (title: string | null): string => title ?? 'one without a title';

function sessions({ latest, total }: Awaited<ReturnType<Voice['conversations']>>): Feedback {
  const names = latest.map(({ title }) => nameOf(title)).join(', ');
  const speech =
    total === 0
      ? 'You have no chat sessions yet.'
      : total === 1
        ? `You have one chat session: ${names}.`
        : `You have ${total} chat sessions. The latest are: ${names}.`;
  return { speech, action: 'sessions_listed', session_id: latest[0]?.id ?? null };
}

function matches(query: string, found: readonly Found[]): Feedback {
  const [best] = found;
  if (best === undefined) {
    return { speech: `I found nothing about ${query}.`, action: 'search_results', session_id: null };
  }
  const content = best.content.slice(0, SAID_OF_A_MATCH).toWellFormed();
  const count = found.length === 1 ? 'one message' : `${found.length} messages`;
  return {
    speech: `I found ${count} about ${query}. The best match is in ${nameOf(best.title)}: ${content}`,
    action: 'search_results',
    session_id: best.conversationId,
  };
}
