import { expect } from 'chai';
import fc from 'fast-check';
import { plainJson } from './plain-json.ts';

describe('a value as JSON holds it', () => {
  it('is what comes back from being stored, and the same object when nothing is different', () => {
    const leaf = fc.oneof(fc.string(), fc.integer(), fc.boolean(), fc.constant(null));
    const { value } = fc.letrec((tie) => ({
      value: fc.oneof(
        { maxDepth: 4 },
        leaf,
        fc.array(tie('value')),
        fc.dictionary(fc.string(), tie('field')),
      ),
      field: fc.oneof(fc.constant(undefined), tie('value')),
    }));
    fc.assert(
      fc.property(value, (given) => {
        const before = JSON.stringify(given);
        const plain = plainJson(given);
        expect(plain).to.deep.equal(JSON.parse(before));
        expect(plainJson(plain)).to.equal(plain);
        expect(JSON.stringify(given)).to.equal(before);
      }),
    );
  });

  it('refuses what JSON cannot hold', () => {
    const cyclic: Record<string, unknown> = {};
    cyclic.self = cyclic;
    const nested = (depth: number): unknown =>
      Array.from({ length: depth }).reduce<unknown>((inner) => [inner], 1);
    expect(plainJson(nested(1_000))).to.be.an('array');
    expect(() => plainJson(nested(1_001))).to.throw(RangeError, 'nested');
    for (const value of [Number.NaN, 1n, () => 1, new Date(), new Map(), [undefined], undefined, cyclic]) {
      expect(() => plainJson({ inside: [value] })).to.throw();
    }
  });
});
