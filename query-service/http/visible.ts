/** What the reads of conversations begin with: what a caller may not see looks as if it did not exist. */
import { type Caller, sees } from '../../contracts/caller.ts';
import { Refusal, refuse } from '../../contracts/errors.ts';
import type { ChatReads, MessagePage } from '../../contracts/read-models/chat-reads.ts';
import type { ConversationDocument } from '../../contracts/read-models/documents.ts';

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

/** @throws Refusal VALIDATION_ERROR when the page is to begin beside a message that is not there */
export async function messagesOf(reads: ChatReads, conversationId: string, page: MessagePage) {
  const found = await reads.messages(conversationId, page);
  if (found === null) {
    const name = page.after === undefined ? 'before' : 'after';
    throw new Refusal('VALIDATION_ERROR', 'The request is not valid.', {
      issues: [{ path: ['query', name], message: `${name} is the id of a message of this conversation` }],
    });
  }
  return found;
}
