/**
 * The chat commands of a process without the command role: each is passed to the command service over HTTP.
 * `command-service/http/internal.ts` is the other side.
 */
import type { z } from 'zod';
import type { ChatCommands, Issuer } from '../../contracts/commands/conversation.ts';
import { Refusal } from '../../contracts/errors.ts';
import {
  changeOutcome,
  conversationOutcome,
  interruptOutcome,
  issuerToSend,
  messageOutcome,
  passConversation,
  passDeletion,
  passInterrupt,
  passMessage,
  passRename,
  refusalFrom,
  type SentRefusal,
} from '../../contracts/http/internal.ts';
import type { RouteContract } from '../../contracts/http/route.ts';
import type { ServiceTokens } from '../auth/port.ts';
import type { Logger } from '../telemetry/port.ts';

const RETRY_SECONDS = 2;
/** Answers of proxies that do not know what became of the request. */
const LOST = [502, 504];

export interface RemoteChatCommandsOptions {
  /** Of the command service, e.g. `http://command:3080`: a command node, or what spreads calls over several. */
  readonly url: string;
  readonly tokens: Pick<ServiceTokens, 'sign'>;
  readonly logger: Pick<Logger, 'warn'>;
  /** How long a command may take at most, its repeat included. */
  readonly timeoutMs?: number;
}

/** A route, and what it answers. */
interface Way<Result> {
  readonly route: RouteContract;
  readonly outcome: z.ZodType<{ readonly result: Result } | { readonly refusal: SentRefusal }>;
}

/**
 * The commands throw the Refusal that the command service gave; or SERVICE_UNAVAILABLE when it cannot be reached or
 * does not answer in time, which leaves open whether the command was carried out: the same command id again is safe.
 * @throws Error when `url` is not one of HTTP, or holds credentials
 */
export function createRemoteChatCommands({
  url,
  tokens,
  logger,
  timeoutMs = 10_000,
}: RemoteChatCommandsOptions): ChatCommands {
  const base = URL.parse(url);
  if (base === null || !/^https?:$/.test(base.protocol) || base.username !== '' || base.password !== '') {
    throw new Error('The URL of the command service must be http:// or https://, without credentials.');
  }
  const root = base.href.replace(/[?#].*$/, '').replace(/\/+$/, '');

  /** @throws Refusal | Lost | Error */
  async function attempt<Result>(
    { route: { method, path }, outcome }: Way<Result>,
    input: object,
    issuer: Issuer,
    withinMs: number,
  ): Promise<Result> {
    const text = JSON.stringify({ input, issuer: issuerToSend(issuer) });
    const body = Buffer.from(text);
    let response: Response;
    let answer: string;
    try {
      response = await fetch(root + path, {
        method,
        headers: {
          Authorization: tokens.sign({ method, path, body }),
          'Content-Type': 'application/json',
          'X-Correlation-Id': issuer.correlationId,
        },
        body,
        redirect: 'manual',
        signal: AbortSignal.timeout(withinMs),
      });
      answer = await response.text();
    } catch (error) {
      throw new Lost(reasonOf(error), { cause: error });
    }
    const { status } = response;
    if (LOST.includes(status)) throw new Lost(`it answered ${status}`);
    if (status === 503) {
      throw new Refusal(
        'SERVICE_UNAVAILABLE',
        errorIn(answer) ?? 'The command service is not ready: try again.',
        {
          retryAfterSeconds: Number(response.headers.get('retry-after')) || RETRY_SECONDS,
        },
      );
    }
    const parsed = status === 200 ? outcome.safeParse(parse(answer)) : undefined;
    if (!parsed?.success) {
      const hint =
        status === 404
          ? ': it is no command node, has other keys, or its clock differs by more than 15 s (its log says which)'
          : '';
      throw new Error(
        `The command service at ${root} gave an answer to ${path} that is none (${status})${hint}`,
      );
    }
    if ('refusal' in parsed.data) throw refusalFrom(parsed.data.refusal);
    return parsed.data.result;
  }

  async function pass<Result>(way: Way<Result>, input: object, issuer: Issuer): Promise<Result> {
    const deadlineMs = performance.now() + timeoutMs;
    try {
      return await attempt(way, input, issuer, Math.ceil(timeoutMs / 2));
    } catch (error) {
      if (!(error instanceof Lost)) throw error;
      // What became of it is not known; under the same id it is done once, whatever did.
      logger.warn(
        { err: error, correlationId: issuer.correlationId, url: root },
        'A command got no answer from the command service: it is passed on once more',
      );
    }
    try {
      const leftMs = Math.max(1, Math.ceil(deadlineMs - performance.now()));
      return await attempt(way, input, { ...issuer, retried: true }, leftMs);
    } catch (error) {
      if (!(error instanceof Lost)) throw error;
      logger.warn(
        { err: error, correlationId: issuer.correlationId, url: root },
        'The command service cannot be reached',
      );
      throw new Refusal(
        'SERVICE_UNAVAILABLE',
        'The command service does not answer, so that it is not known whether this was done: try again.',
        { retryAfterSeconds: RETRY_SECONDS },
      );
    }
  }

  return {
    startConversation: (
      { title = null, mode = 'assistant', model = null, kind = 'chat', agent = null, linkId = null },
      issuer,
    ) =>
      pass(
        { route: passConversation, outcome: conversationOutcome },
        { title, mode, model, kind, agent, linkId } satisfies z.input<
          typeof passConversation.body & {}
        >['input'],
        issuer,
      ),
    sendMessage: (
      { conversationId, content, model, instructions = null, run = null, prompt = null },
      issuer,
    ) =>
      pass(
        { route: passMessage, outcome: messageOutcome },
        { conversationId, content, model, instructions, run, prompt } satisfies z.input<
          typeof passMessage.body & {}
        >['input'],
        issuer,
      ),
    interrupt: ({ conversationId, turnId }, issuer) =>
      pass(
        { route: passInterrupt, outcome: interruptOutcome },
        { conversationId, turnId } satisfies z.input<typeof passInterrupt.body & {}>['input'],
        issuer,
      ),
    renameConversation: ({ conversationId, title }, issuer) =>
      pass(
        { route: passRename, outcome: changeOutcome },
        { conversationId, title } satisfies z.input<typeof passRename.body & {}>['input'],
        issuer,
      ),
    deleteConversation: ({ conversationId }, issuer) =>
      pass(
        { route: passDeletion, outcome: changeOutcome },
        { conversationId } satisfies z.input<typeof passDeletion.body & {}>['input'],
        issuer,
      ),
  };
}

/** A call whose outcome is not known. */
class Lost extends Error {
  override readonly name = 'Lost';
}

/** Node hides why a fetch failed in the cause, and that in a list where a name has several addresses. */
function reasonOf(error: unknown): string {
  const { cause, message } = error as Error;
  if (cause instanceof AggregateError) return cause.errors.map((one: Error) => one.message).join('; ');
  return cause instanceof Error ? cause.message : message;
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** What the server's own refusals say. */
function errorIn(text: string): string | null {
  const body = parse(text);
  const said = typeof body === 'object' && body !== null && 'error' in body ? body.error : null;
  return typeof said === 'string' ? said : null;
}
