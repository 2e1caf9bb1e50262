/** What came by a public link. */
import type { ConversationDocument } from './documents.ts';

export interface LinkUsage {
  readonly sessions: number;
  readonly messages: number;
  readonly inputTokens: number;
  readonly outputTokens: number;
  /** US dollars, as far as the models' prices are known. */
  readonly costUsd: number;
  readonly lastUsedAt: string | null;
}

export const NOT_USED: LinkUsage = {
  sessions: 0,
  messages: 0,
  inputTokens: 0,
  outputTokens: 0,
  costUsd: 0,
  lastUsedAt: null,
};

const PAGE = 500;

/** Of the read models' port. */
export interface ConversationFinder {
  find(
    collection: 'conversations',
    query: { where: { linkId: string }; limit: number; cursor?: string },
  ): Promise<{
    readonly documents: readonly { readonly body: ConversationDocument }[];
    readonly next: string | null;
  }>;
}

/** Of all conversations with visitors that are there: what the owner has deleted counts no more. */
export async function linkUsage(readModels: ConversationFinder, linkId: string): Promise<LinkUsage> {
  let usage = NOT_USED;
  let cursor: string | null = null;
  do {
    const page: Awaited<ReturnType<ConversationFinder['find']>> = await readModels.find('conversations', {
      where: { linkId },
      limit: PAGE,
      ...(cursor !== null && { cursor }),
    });
    usage = page.documents.reduce((sum, { body }) => add(sum, body), usage);
    cursor = page.next;
  } while (cursor !== null);
  return usage;
}

const add = (sum: LinkUsage, conversation: ConversationDocument): LinkUsage => ({
  sessions: sum.sessions + 1,
  messages: sum.messages + conversation.messageCount,
  inputTokens: sum.inputTokens + conversation.usage.promptTokens,
  outputTokens: sum.outputTokens + conversation.usage.completionTokens,
  costUsd: Math.round((sum.costUsd + conversation.costUsd) * 1e12) / 1e12,
  lastUsedAt: later(sum.lastUsedAt, conversation.lastMessageAt),
});

const later = (a: string | null, b: string | null): string | null =>
  a === null || (b !== null && b > a) ? b : a;
