/** Searching the user's own conversations. */
import { z } from 'zod';
import type { ConversationDocument, MessageDocument } from '../../../../contracts/read-models/documents.ts';
import { tool } from '../tool.ts';

/** How many of the user's newest messages are looked through. */
const SEARCHED_MESSAGES = 5_000;
const PAGE = 500;

export const searchConversationsTool = tool({
  name: 'search_conversations',
  description:
    "Find messages in the user's own conversations that hold all words of the query, newest first.",
  input: z.object({
    query: z.string().min(1).max(200),
    limit: z.int().min(1).max(20).default(5),
  }),
  readOnly: true,
  async run({ query, limit }, { owner, turnId, readModels, settled, signal }) {
    await settled();
    const words = query.toLowerCase().split(/\s+/).filter(Boolean);
    const conversations = new Map<string, ConversationDocument | null>();
    const results: unknown[] = [];
    let searched = 0;
    let cursor: string | null = null;
    do {
      signal.throwIfAborted();
      const page: Awaited<ReturnType<typeof readModels.find<MessageDocument>>> =
        await readModels.find<MessageDocument>('messages', {
          where: { owner },
          orderBy: { field: 'position', direction: 'descending' },
          limit: PAGE,
          ...(cursor !== null && { cursor }),
        });
      cursor = page.next;
      for (const { body } of page.documents) {
        searched++;
        const content = body.content.toLowerCase();
        if (body.turnId === turnId || !words.every((word) => content.includes(word))) continue;
        const id = body.conversationId;
        if (!conversations.has(id)) {
          conversations.set(
            id,
            (await readModels.get<ConversationDocument>('conversations', id))?.body ?? null,
          );
        }
        const conversation = conversations.get(id) ?? null;
        // Deleted, or not the user's own words: of a run, or a visitor's.
        if (conversation?.kind !== 'chat') continue;
        const { role, createdAt } = body;
        results.push({
          conversationId: id,
          title: conversation.title,
          role,
          content: body.content,
          createdAt,
        });
        if (results.length === limit) return { results, searched };
      }
    } while (cursor !== null && searched < SEARCHED_MESSAGES);
    return { results, searched };
  },
});
