import { readFile } from 'node:fs/promises';
import { expect } from 'chai';
import type { EventDefinition } from './catalogue.ts';
import { identityEvents } from './identity.ts';

describe('stored identity events', () => {
  for (const [type, definition] of Object.entries<EventDefinition>(identityEvents)) {
    for (let version = 1; version <= definition.version; version++) {
      it(`of type ${type}, version ${version}, are still read`, async () => {
        const fixture = new URL(`fixtures/${type}.v${version}.json`, import.meta.url);
        let data: unknown = JSON.parse(await readFile(fixture, 'utf8'));
        for (let from = version; from < definition.version; from++) data = definition.upcasters[from]!(data);
        expect(definition.schema.parse(data)).to.deep.equal(data);
      });
    }
  }
});
