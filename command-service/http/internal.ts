/** The commands that other processes pass on. `infra/commands/remote.ts` is the other side. */
import type { ChatCommands } from '../../contracts/commands/conversation.ts';
import { Refusal } from '../../contracts/errors.ts';
import {
  passConversation,
  passDeletion,
  passInterrupt,
  passMessage,
  passRename,
  refusalToSend,
} from '../../contracts/http/internal.ts';
import { type Endpoint, endpoint, type JsonAnswer } from '../../infra/http/port.ts';

export interface InternalCommandDependencies {
  readonly commands: ChatCommands;
}

// What was appended is not noted with `context.reached`: whoever passed the command on has read models of its own
// to wait for, and gets the position.
export const internalCommandEndpoints = ({ commands }: InternalCommandDependencies): Endpoint[] => [
  endpoint(passConversation, ({ body }) => outcomeOf(commands.startConversation(body.input, body.issuer))),
  endpoint(passMessage, ({ body }) => outcomeOf(commands.sendMessage(body.input, body.issuer))),
  endpoint(passInterrupt, ({ body }) => outcomeOf(commands.interrupt(body.input, body.issuer))),
  endpoint(passRename, ({ body }) => outcomeOf(commands.renameConversation(body.input, body.issuer))),
  endpoint(passDeletion, ({ body }) => outcomeOf(commands.deleteConversation(body.input, body.issuer))),
];

async function outcomeOf(command: Promise<unknown>): Promise<JsonAnswer> {
  try {
    return { status: 200, body: { result: await command } };
  } catch (error) {
    if (!(error instanceof Refusal)) throw error;
    return { status: 200, body: { refusal: refusalToSend(error) } };
  }
}
