import { readdir, readFile } from 'node:fs/promises';
import { expect } from 'chai';
import { catalogue, type EventDefinition } from './catalogue.ts';

const fixtures = new URL('fixtures/', import.meta.url);
const definitions = Object.entries<EventDefinition>(catalogue);
const versions = (definition: EventDefinition) =>
  Array.from({ length: definition.version }, (_, index) => index + 1);

/** The values that a path of the catalogue (`a.*.b`) leads to. */
function valuesAt(data: unknown, path: readonly string[]): unknown[] {
  const [first, ...rest] = path;
  if (first === undefined) return [data];
  if (first === '*') {
    const elements = data as object[];
    // Where elements are of several kinds, a path is one of some of them.
    const having = elements.filter((element) => rest[0] === undefined || Object.hasOwn(element, rest[0]));
    if (elements.length > 0) expect(having, `elements with ${rest.join('.')}`).not.to.deep.equal([]);
    return having.flatMap((element) => valuesAt(element, rest));
  }
  expect(data).to.have.property(first);
  return valuesAt((data as Record<string, unknown>)[first], rest);
}

describe('the catalogue of events', () => {
  for (const [type, definition] of definitions) {
    for (const version of versions(definition)) {
      it(`still reads version ${version} of ${type}`, async () => {
        let data: unknown = JSON.parse(await readFile(new URL(`${type}.v${version}.json`, fixtures), 'utf8'));
        for (let from = version; from < definition.version; from++) data = definition.upcasters[from]!(data);
        expect(definition.schema.parse(data)).to.deep.equal(data);
        for (const path of definition.personal) valuesAt(data, path.split('.'));
      });
    }
    it(`lets nothing into ${type} that its schema does not name`, async () => {
      const fixture = new URL(`${type}.v${definition.version}.json`, fixtures);
      const data = { ...JSON.parse(await readFile(fixture, 'utf8')), surplus: true };
      expect(definition.schema.safeParse(data).success).to.equal(false);
    });
  }

  it('has no fixture without an event type', async () => {
    const expected = definitions.flatMap(([type, definition]) =>
      versions(definition).map((version) => `${type}.v${version}.json`),
    );
    expect((await readdir(fixtures)).sort()).to.deep.equal(expected.sort());
  });
});
