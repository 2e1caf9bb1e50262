/** Holds a request's parameters, query and body against the schemas of its route. */
import type { z } from 'zod';
import { type Issue, Refusal } from '../../contracts/errors.ts';
import type { RouteContract } from '../../contracts/http/route.ts';

export interface RequestParts {
  readonly params: unknown;
  readonly query: unknown;
  readonly body: unknown;
}

type Part = keyof RequestParts;

/** Repeated parameters become arrays, which schemas for a single value refuse by name. */
export function parseQuery(search: string): Record<string, string | string[]> {
  const query: Record<string, string | string[]> = Object.create(null);
  if (search === '') return query;
  for (const [name, value] of new URLSearchParams(search)) {
    const before = query[name];
    if (Array.isArray(before)) before.push(value);
    else query[name] = before === undefined ? value : [before, value];
  }
  return query;
}

function nulIssues(params: Readonly<Record<string, string | undefined>>): Issue[] {
  return Object.entries(params)
    .filter(([, value]) => value?.includes('\0'))
    .map(([name]) => ({ path: ['params', name], message: 'holds a NUL character' }));
}

/** Returns the function that gives the parsed parts, or throws Refusal VALIDATION_ERROR with every issue. */
export function validatorOf(contract: RouteContract) {
  const schemas = (['params', 'query', 'body'] as const)
    .map((part) => [part, contract[part]] as const)
    .filter((entry): entry is [Part, z.ZodType] => entry[1] !== undefined);

  return (parts: RequestParts & { readonly params: Readonly<Record<string, string | undefined>> }) => {
    const parsed: Record<Part, unknown> = { params: parts.params, query: parts.query, body: parts.body };
    const issues = nulIssues(parts.params);
    for (const [part, schema] of schemas) {
      const result = schema.safeParse(parts[part]);
      if (result.success) {
        parsed[part] = result.data;
        continue;
      }
      for (const { path, message } of result.error.issues) {
        issues.push({
          path: [part, ...path.map((step) => (typeof step === 'symbol' ? String(step) : step))],
          message,
        });
      }
    }
    if (issues.length > 0) {
      throw new Refusal('VALIDATION_ERROR', 'The request is not valid.', { issues });
    }
    return parsed;
  };
}
