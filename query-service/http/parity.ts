/**
 * Whether all surfaces say the same of a conversation: what each renders is reduced to one canonical form, and the
 * digests are compared. What is reduced is what the surfaces' own routes answer with, not what they are made from.
 */
import { createHash } from 'node:crypto';
import * as agentChat from '../../contracts/http/agent-chat.ts';
import { getParity } from '../../contracts/http/documentation.ts';
import * as luna from '../../contracts/http/luna.ts';
import * as trinity from '../../contracts/http/trinity.ts';
import * as zerg from '../../contracts/http/zerg.ts';
import type { ChatReads } from '../../contracts/read-models/chat-reads.ts';
import type { ConversationDocument, MessageDocument } from '../../contracts/read-models/documents.ts';
import { callerOf, type Endpoint, endpoint } from '../../infra/http/port.ts';
import { conversationFields, shown, shownMessage } from '../graphql/shown.ts';
import { type AsOfDependencies, readsAsOf } from './as-of.ts';
import { visibleConversation } from './visible.ts';

/** `timestamp` in Unix seconds, the coarsest that a surface gives. */
interface CanonicalMessage {
  readonly conversationId: string;
  readonly id: string;
  readonly role: string;
  readonly content: string;
  readonly timestamp: number;
}
const CANONICAL_FORM =
  'For the conversation and then for each message, oldest first, the JSON of [conversationId] and of ' +
  '[conversationId, id, role, content, timestamp in Unix seconds], each followed by a line feed.';

const unixSeconds = (time: string): number => Math.floor(Date.parse(time) / 1_000);

interface SurfaceReading {
  conversation(document: ConversationDocument): string;
  message(document: MessageDocument, conversation: ConversationDocument): CanonicalMessage;
}

/** Nothing of it is compared. */
const trinitySource = ({ agentName }: ConversationDocument): trinity.SessionSource => ({
  agentName: agentName ?? '',
  userEmail: null,
  contextWindow: 0,
});

const graphql = conversationFields('');

const surfaces: Readonly<Record<string, SurfaceReading>> = {
  luna: {
    conversation: (document) => luna.renderSession(document).id,
    message(document) {
      const { id, sessionId, role, content, createdAt } = luna.renderMessage(document);
      return { conversationId: sessionId, id, role, content, timestamp: unixSeconds(createdAt) };
    },
  },
  'agent-chat': {
    conversation: (document) => agentChat.renderConversation(document, '').id,
    message(document, conversation) {
      const { id, role, content, timestamp } = agentChat.renderMessage(document);
      const { id: conversationId } = agentChat.renderConversation(conversation, '');
      return { conversationId, id, role, content, timestamp: unixSeconds(timestamp) };
    },
  },
  'agent-chat-graphql': {
    conversation: (document) => graphql.id(shown(document)),
    message(document) {
      const { id, conversationId, role, content, timestamp } = shownMessage(document);
      return { conversationId, id, role, content, timestamp: unixSeconds(timestamp) };
    },
  },
  trinity: {
    conversation: (document) => trinity.renderSession(document, trinitySource(document)).id,
    message(document, conversation) {
      const shown = trinity.renderMessage(document, trinitySource(conversation), null);
      const { id, session_id, role, content, timestamp } = shown;
      return { conversationId: session_id, id, role, content, timestamp: unixSeconds(timestamp) };
    },
  },
  zerg: {
    conversation: (document) => zerg.renderSession(document, '').id,
    message(document) {
      const { id, session_id, role, content, timestamp } = zerg.renderMessage(document);
      return { conversationId: session_id, id, role, content, timestamp };
    },
  },
};

const PAGE = 500;
const MOST_DIFFERENCES = 10;

export function parityEndpoints(deps: AsOfDependencies): Endpoint[] {
  return [
    endpoint(getParity, async ({ params, query, context }) => {
      // Both the conversation and its messages of one moment, whatever is written meanwhile.
      const position = query.asOf ?? (await deps.store.end());
      const { reads, headers } = await readsAsOf(position, deps);
      const conversation = await visibleConversation(reads, callerOf(context), params.conversationId);
      const names = Object.keys(surfaces);
      const hashes = new Map(names.map((name) => [name, createHash('sha256')]));
      for (const [name, hash] of hashes) {
        hash.update(`${JSON.stringify([surfaces[name]!.conversation(conversation)])}\n`);
      }
      const differences: { messageId: string; surfaces: Record<string, unknown> }[] = [];
      const messages = await everyMessage(reads, conversation.id);
      for (const message of messages) {
        const forms = new Map(
          names.map((name) => [name, lineOf(surfaces[name]!.message(message, conversation))]),
        );
        for (const [name, line] of forms) hashes.get(name)!.update(`${line}\n`);
        if (new Set(forms.values()).size > 1 && differences.length < MOST_DIFFERENCES) {
          const parsed = [...forms].map(([name, line]) => [name, JSON.parse(line)]);
          differences.push({ messageId: message.id, surfaces: Object.fromEntries(parsed) });
        }
      }
      const digests = Object.fromEntries([...hashes].map(([name, hash]) => [name, hash.digest('hex')]));
      return {
        status: 200,
        headers,
        body: {
          conversationId: conversation.id,
          position: headers['X-Event-Position'] ?? position,
          equal: new Set(Object.values(digests)).size === 1,
          canonicalForm: CANONICAL_FORM,
          messages: messages.length,
          digests,
          differences,
        },
      };
    }),
  ];
}

const lineOf = ({ conversationId, id, role, content, timestamp }: CanonicalMessage): string =>
  JSON.stringify([conversationId, id, role, content, timestamp]);

async function everyMessage(reads: ChatReads, conversationId: string): Promise<readonly MessageDocument[]> {
  const pages: (readonly MessageDocument[])[] = [];
  for (let before: string | undefined; ; ) {
    const page = await reads.messages(conversationId, { before, limit: PAGE });
    if (page === null) break;
    pages.unshift(page.messages);
    if (!page.more) break;
    before = page.messages[0]!.id;
  }
  return pages.flat();
}
