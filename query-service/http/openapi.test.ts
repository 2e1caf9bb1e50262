import { Validator } from '@seriousme/openapi-schema-validator';
import { expect } from 'chai';
import { z } from 'zod';
import { routes } from '../../contracts/http/all.ts';
import { route } from '../../contracts/http/route.ts';
import { openApiDocument } from './openapi.ts';

interface Operation {
  readonly operationId: string;
  readonly security?: readonly object[];
  readonly responses: Readonly<Record<string, unknown>>;
}
const document = openApiDocument(routes, '1.2.3') as {
  readonly openapi: string;
  readonly paths: Readonly<Record<string, Readonly<Record<string, Operation>>>>;
};
const shown = routes.filter(({ access }) => access !== 'service');

describe('the API document', () => {
  it('is sound OpenAPI 3.1', async () => {
    expect(document.openapi).to.equal('3.1.0');
    const { valid, errors } = await new Validator().validate(structuredClone(document));
    expect(valid, JSON.stringify(errors)).to.equal(true);
  });

  it('has every route that anybody but services may call, and nothing else', () => {
    const inDocument = Object.entries(document.paths).flatMap(([path, operations]) =>
      Object.keys(operations).map((method) => `${method.toUpperCase()} ${path}`),
    );
    const inTable = shown.map(({ method, path }) => `${method} ${path.replace(/:(\w+)/g, '{$1}')}`);
    expect(inDocument.sort()).to.deep.equal(inTable.sort());
  });

  it('names each operation once', () => {
    const names = Object.values(document.paths).flatMap((operations) =>
      Object.values(operations).map(({ operationId }) => operationId),
    );
    expect(new Set(names).size).to.equal(names.length);
  });

  it('says of what is public, and of nothing else, that it needs no credential', () => {
    for (const { method, path, access } of shown) {
      const { security } = document.paths[path.replace(/:(\w+)/g, '{$1}')]![method.toLowerCase()]!;
      expect(security, path).to.deep.equal(access === 'public' ? [] : undefined);
    }
  });

  it('refuses an example of a parameter that there is not', () => {
    const wrong = route({
      surface: 'luna',
      method: 'GET',
      path: '/api/things/:id',
      summary: 'A thing.',
      access: 'public',
      example: { params: { name: 'x' } },
      answers: { 200: z.object({}) },
    });
    expect(() => openApiDocument([wrong], '1')).to.throw('no parameter name');
  });

  for (const { method, path, params, query, body, answers, example } of shown) {
    if (body !== undefined) {
      it(`has an example of a body for ${method} ${path}, which the route takes`, () => {
        expect(example?.body, 'an example').not.to.equal(undefined);
        body.parse(example!.body);
      });
    }
    if (example === undefined) continue;
    it(`gives examples for ${method} ${path} that are sound`, () => {
      if (example.params) params?.parse(example.params);
      if (example.query) query?.parse(example.query);
      const first = Object.entries(answers).find(([status]) => status.startsWith('2'))?.[1];
      if (example.answer !== undefined && typeof first === 'object') first.parse(example.answer);
    });
  }
});
