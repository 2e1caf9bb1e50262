/** What the reads of conversations begin with: what a caller may not see looks as if it did not exist. */
import { type Caller, sees } from '../../contracts/caller.ts';
import { Refusal, refuse } from '../../contracts/errors.ts';
import type { ChatReads, MessagePage } from '../../contracts/read-models/chat-reads.ts';
import type { ConversationDocument, MessageDocument } from '../../contracts/read-models/documents.ts';

/** @throws Refusal NOT_FOUND */
export async function visibleConversation(
  reads: ChatReads,
  caller: Caller,
  id: string,
): Promise<ConversationDocument> {
  const conversation = await reads.conversation(id);
  if (conversation === null || !sees(caller, conversation.owner)) {
    refuse('NOT_FOUND', 'Conversation not found.');
  }
  return conversation;
}

/** Whose things lists show to the caller: their own, or everybody's. */
export const visibleOwner = (caller: Caller): { readonly owner?: string } =>
  caller.permissions.has('all:read') ? {} : { owner: caller.userId };

/**
 * What the messages of a page hold together, in UTF-16 code units; one that is longer comes alone. By their number
 * alone a page could be as large as the memory.
 */
const LONGEST_PAGE = 1024 * 1024;
const FIRST_STEP = 50;

/**
 * The page, or as much of it as fits; what does not fit counts as more.
 * @throws Refusal VALIDATION_ERROR when the page is to begin beside a message that is not there
 */
export async function messagesOf(
  reads: ChatReads,
  conversationId: string,
  page: MessagePage,
): Promise<{ readonly messages: readonly MessageDocument[]; readonly more: boolean }> {
  const name = page.after === undefined ? 'before' : 'after';
  let beside = page[name];
  /** Those next to where the page begins come first. */
  const taken: MessageDocument[] = [];
  let size = 0;
  const pageOf = (more: boolean) => ({ messages: name === 'after' ? taken : taken.reverse(), more });
  for (let step = FIRST_STEP; ; step *= 2) {
    const limit = Math.min(step, page.limit - taken.length);
    const found = await reads.messages(conversationId, { [name]: beside, limit });
    if (found === null) {
      throw new Refusal('VALIDATION_ERROR', 'The request is not valid.', {
        issues: [{ path: ['query', name], message: `${name} is the id of a message of this conversation` }],
      });
    }
    for (const message of name === 'after' ? found.messages : found.messages.toReversed()) {
      size += message.content.length;
      if (size > LONGEST_PAGE && taken.length > 0) return pageOf(true);
      taken.push(message);
    }
    if (!found.more || taken.length === page.limit) return pageOf(found.more);
    beside = taken.at(-1)?.id;
  }
}
