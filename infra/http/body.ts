/** Reads a request's JSON body within bounds, and refuses with the reason what is not sound JSON. */
import type { IncomingMessage } from 'node:http';
import { Refusal } from '../../contracts/errors.ts';
import type { Budget } from './budget.ts';

export interface BodyLimits {
  readonly maxBytes: number;
  /** How deep arrays and objects may be nested. */
  readonly maxDepth: number;
  /** Bodies that are on their way share it: clients may take a minute to send one. */
  readonly budget: Budget;
}

/** The client went away before its request was complete. */
export class ClientGone extends Error {
  constructor(options?: ErrorOptions) {
    super('The client went away.', options);
    this.name = 'ClientGone';
  }
}

const invalid = (message: string): Refusal =>
  new Refusal('VALIDATION_ERROR', 'The body is not valid JSON.', { issues: [{ path: ['body'], message }] });

const MEDIA_TYPE = /^application\/(?:json|[\w.+-]+\+json)$/;
const CHARSET = /;\s*charset\s*=\s*"?([^";\s]*)/i;

/** Whether a body is a form's, as browsers and OAuth clients send it. */
export const isFormEncoded = ({ headers }: Pick<IncomingMessage, 'headers'>): boolean =>
  /^application\/x-www-form-urlencoded\s*(?:;|$)/i.test(headers['content-type'] ?? '');

/** A missing content type is taken for JSON: clients that leave it out mean nothing else here. */
function checkHeaders({ headers }: IncomingMessage, maxBytes: number, takesForms: boolean): void {
  const type = headers['content-type'];
  if (type !== undefined && type !== 'application/json') {
    const semicolon = type.indexOf(';');
    const mediaType = (semicolon < 0 ? type : type.slice(0, semicolon)).trim().toLowerCase();
    const charset = CHARSET.exec(type)?.[1]?.toLowerCase();
    const known = MEDIA_TYPE.test(mediaType) || (takesForms && isFormEncoded({ headers }));
    if (!known || (charset !== undefined && charset !== 'utf-8' && charset !== 'utf8')) {
      throw new Refusal('UNSUPPORTED_MEDIA_TYPE', 'Send the body as application/json in UTF-8.');
    }
  }
  const encoding = headers['content-encoding'];
  if (encoding !== undefined && encoding.toLowerCase() !== 'identity') {
    throw new Refusal('UNSUPPORTED_MEDIA_TYPE', 'Send the body uncompressed.');
  }
  if (Number(headers['content-length'] ?? 0) > maxBytes) throw tooLarge(maxBytes);
}

const tooLarge = (maxBytes: number): Refusal =>
  new Refusal('PAYLOAD_TOO_LARGE', `The body is larger than ${maxBytes} bytes.`);

/** So much of a body, with what its pieces cost, is let in whatever others send. */
const FREE_BYTES = 16 * 1024;
const PIECE_BYTES = 200;

function readBytes(request: IncomingMessage, { maxBytes, budget }: BodyLimits): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = [];
    let length = 0;
    let taken = 0;
    const stop = (): void => {
      budget.give(taken);
      request.off('data', onData).off('end', onEnd).off('close', onClose);
    };
    const onData = (chunk: Buffer): void => {
      length += chunk.length;
      chunks.push(chunk);
      try {
        if (length > maxBytes) throw tooLarge(maxBytes);
        const held = length + chunks.length * PIECE_BYTES - FREE_BYTES;
        if (held > taken) {
          budget.take(held - taken);
          taken = held;
        }
      } catch (refusal) {
        stop();
        // What still comes is thrown away, so that the client gets to read the answer.
        request.resume();
        reject(refusal);
      }
    };
    const onEnd = (): void => {
      stop();
      resolve(chunks.length === 1 ? chunks[0]! : Buffer.concat(chunks, length));
    };
    const onClose = (): void => {
      stop();
      reject(new ClientGone());
    };
    request
      .on('data', onData)
      .on('end', onEnd)
      .on('close', onClose)
      .on('error', () => undefined); // `close` follows
    if (request.destroyed && !request.readableEnded) onClose();
  });
}

const utf8 = new TextDecoder('utf-8', { fatal: true }); // takes off a byte order mark, too

/** Looks at the text only, so that no depth can exhaust a stack. Strings are skipped. */
function isDeeperThan(text: string, maxDepth: number): boolean {
  // Each level needs a bracket.
  if (text.length <= maxDepth) return false;
  let depth = 0;
  let inString = false;
  for (let i = 0; i < text.length; i++) {
    const char = text.charCodeAt(i);
    if (inString) {
      if (char === 0x5c /* \ */) i++;
      else if (char === 0x22 /* " */) inString = false;
    } else if (char === 0x22) {
      inString = true;
    } else if (char === 0x7b /* { */ || char === 0x5b /* [ */) {
      if (++depth > maxDepth) return true;
    } else if (char === 0x7d /* } */ || char === 0x5d /* ] */) {
      depth--;
    }
  }
  return false;
}

/**
 * The body as it came in.
 * @throws Refusal PAYLOAD_TOO_LARGE, UNSUPPORTED_MEDIA_TYPE or SERVICE_UNAVAILABLE; ClientGone
 */
export async function readBody(
  request: IncomingMessage,
  limits: BodyLimits,
  takesForms = false,
): Promise<Buffer> {
  checkHeaders(request, limits.maxBytes, takesForms);
  return readBytes(request, limits);
}

/**
 * The body as parsed JSON; `{}` for an empty one.
 * @throws Refusal VALIDATION_ERROR
 */
export function parseJson(bytes: Buffer, { maxDepth }: Pick<BodyLimits, 'maxDepth'>): unknown {
  if (bytes.length === 0) return {};
  let text: string;
  try {
    text = utf8.decode(bytes);
  } catch {
    throw invalid('is not valid UTF-8');
  }
  if (isDeeperThan(text, maxDepth)) {
    throw invalid(`is nested deeper than ${maxDepth} levels`);
  }
  try {
    return JSON.parse(text);
  } catch (error) {
    throw invalid(error instanceof Error ? error.message : String(error));
  }
}
