/** Holds answers that tests see to the API document: every status is declared, and every body fits its schema. */
import { Ajv2020, type ValidateFunction } from 'ajv/dist/2020.js';
import formats from 'ajv-formats';
import createRouter from 'find-my-way';
import { routes } from '../contracts/http/all.ts';
import { openApiDocument } from '../query-service/http/openapi.ts';

interface Operation {
  readonly responses: Readonly<Record<string, { readonly content?: Readonly<Record<string, unknown>> }>>;
}
const METHODS = ['GET', 'POST', 'PUT', 'PATCH', 'DELETE'] as const;
type Method = (typeof METHODS)[number];

const document = openApiDocument(routes, 'test') as {
  readonly paths: Readonly<Record<string, Readonly<Record<string, Operation>>>>;
};
const ajv = new Ajv2020({ strict: false, allErrors: false });
// ajv-formats is CommonJS: its default export is the function, whatever its types say.
(formats as unknown as (to: Ajv2020) => void)(ajv);
ajv.addSchema(document, 'document');

const router = createRouter({ ignoreTrailingSlash: true, maxParamLength: 512 });
for (const [path, operations] of Object.entries(document.paths)) {
  for (const method of Object.keys(operations)) {
    router.on(method.toUpperCase() as Method, path.replace(/\{(\w+)\}/g, ':$1'), () => undefined, path);
  }
}

const compiled = new Map<string, ValidateFunction>();
const pointer = (...parts: string[]): string =>
  parts.map((part) => `/${encodeURIComponent(part.replaceAll('~', '~0').replaceAll('/', '~1'))}`).join('');

export interface SeenAnswer {
  readonly status: number;
  /** As the header says. */
  readonly contentType: string | null;
  readonly body: unknown;
}

/** @throws Error when the route is in the document and the answer is not as that says */
export function holdToDocument(method: string, url: string, { status, contentType, body }: SeenAnswer): void {
  const found = (METHODS as readonly string[]).includes(method)
    ? router.find(method as Method, url.split('?')[0]!)
    : null;
  if (found === null) return;
  const path = found.store as unknown as string;
  const operation = document.paths[path]![method.toLowerCase()]!;
  const what = `${method} ${path} answered ${status}`;
  const response = operation.responses[status];
  if (response === undefined) throw new Error(`${what}, which the API document does not declare.`);
  const mediaType = contentType?.split(';')[0]?.trim() ?? null;
  const types = Object.keys(response.content ?? {});
  if (mediaType === null ? types.length > 0 : !types.includes(mediaType)) {
    throw new Error(`${what} as ${mediaType}; the API document says ${types.join(', ') || 'no body'}.`);
  }
  if (mediaType !== 'application/json') return;
  const name = `${method} ${path} ${status}`;
  let validate = compiled.get(name);
  if (validate === undefined) {
    const content = ['paths', path, method.toLowerCase(), 'responses', String(status), 'content'];
    validate = ajv.compile({ $ref: `document#${pointer(...content, mediaType, 'schema')}` });
    compiled.set(name, validate);
  }
  if (!validate(body)) {
    const [error] = validate.errors!;
    throw new Error(
      `${what}, and its body does not fit the API document: ${error!.instancePath || 'it'} ${error!.message} ` +
        `(${JSON.stringify(error!.params)}): ${JSON.stringify(body).slice(0, 500)}`,
    );
  }
}
