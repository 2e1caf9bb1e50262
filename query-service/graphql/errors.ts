/** Errors as GraphQL's clients read them: a code in `extensions`, beside what Agent Chat says of an error. */
import { randomUUID } from 'node:crypto';
import { GraphQLError } from 'graphql';
import type { Logger } from '../../infra/telemetry/port.ts';

export type Describe = (
  error: unknown,
  correlationId: string,
) => {
  readonly message: string;
  readonly extensions: { readonly code: string } & Readonly<Record<string, unknown>>;
};

/** What a resolver threw, with its place in the answer. A bug is logged, and told by its correlation id only. */
export function createErrorMask(describe: Describe, logger: Logger): (error: unknown) => GraphQLError {
  return (error) => {
    const outer = error instanceof GraphQLError ? error : null;
    const original = originalOf(error);
    // Its own: of a document that is not valid, of limits, of arguments, of what a variable holds (which is told in
    // an error around the one that says why).
    if (outer !== null && original instanceof GraphQLError) return coded(outer);
    const correlationId = randomUUID();
    const { message, extensions } = describe(original, correlationId);
    if (extensions.code === 'INTERNAL') {
      logger.error({ err: original, correlationId }, 'A resolver failed.');
    }
    return new GraphQLError(message, {
      nodes: outer?.nodes ?? null,
      source: outer?.source ?? null,
      positions: outer?.positions ?? null,
      path: outer?.path ?? null,
      extensions,
    });
  };
}

function originalOf(error: unknown): unknown {
  let original = error;
  while (original instanceof GraphQLError && original.originalError !== undefined)
    original = original.originalError;
  return original;
}

const coded = (error: GraphQLError): GraphQLError => {
  if (error.extensions.code !== undefined) return error;
  return new GraphQLError(error.message, {
    nodes: error.nodes ?? null,
    source: error.source ?? null,
    positions: error.positions ?? null,
    path: error.path ?? null,
    extensions: { ...error.extensions, code: 'BAD_USER_INPUT' },
  });
};
