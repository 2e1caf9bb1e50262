/** What the chat routes read: from the read models for the present, folded from the log for the past. */
import type { Position } from '../envelope.ts';
import type { ActivityDocument, ConversationDocument, MessageDocument } from './documents.ts';

export interface ConversationFilter {
  readonly owner?: string;
  readonly status?: ConversationDocument['status'];
  readonly archived?: boolean;
  /** Lists for people are of `chat`: the others are made by runs of agents and visitors of links. */
  readonly kind?: ConversationDocument['kind'];
  readonly agentId?: string;
  readonly linkId?: string;
}

export interface ActivityFilter {
  readonly owner?: string;
  readonly conversationId?: string;
  readonly category?: ActivityDocument['category'];
  readonly level?: ActivityDocument['level'];
}

export interface MessagePage {
  /** Message ids: what comes before, or after, that message. At most one of them. */
  readonly before?: string | undefined;
  readonly after?: string | undefined;
  readonly limit: number;
}

export interface ActivityEntry {
  readonly position: Position;
  readonly row: ActivityDocument;
}

export interface ChatReads {
  /** Null when it does not exist or has been deleted. */
  conversation(id: string): Promise<ConversationDocument | null>;
  /** The one that changed last comes first. */
  conversations(
    filter: ConversationFilter,
    page: { readonly limit: number; readonly offset: number },
  ): Promise<readonly ConversationDocument[]>;
  /** How many there are, on whatever page. */
  countConversations(filter: ConversationFilter): Promise<number>;
  /**
   * Messages in the order they were made: the last ones, or those next to `before` or `after`. `more`: there
   * are others in that direction. Null when the conversation has no message `before` (or `after`).
   */
  messages(
    conversationId: string,
    page: MessagePage,
  ): Promise<{ readonly messages: readonly MessageDocument[]; readonly more: boolean } | null>;
  /** Newest first, within the two positions (both excluded). */
  activity(
    filter: ActivityFilter,
    page: {
      readonly after?: Position | undefined;
      readonly before?: Position | undefined;
      readonly limit: number;
    },
  ): Promise<readonly ActivityEntry[]>;
}

/** The past, up to a position (included). */
export type History = (upTo: Position) => ChatReads;
