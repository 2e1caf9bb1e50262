import { expect } from 'chai';
import fc from 'fast-check';
import { share } from './group.ts';

type Claims = Map<string, { generation: number; holds: number[] }>;
const numbers = (count: number) => Array.from({ length: count }, (_, number) => number);
const claims = (holds: Record<string, number[]>, generation = 1): Claims =>
  new Map(Object.entries(holds).map(([member, held]) => [member, { generation, holds: held }]));

describe('the shares of the members of a group', () => {
  it('are everything for one, and even for more', () => {
    expect([...share(numbers(3), claims({ a: [] }))]).to.deep.equal([['a', [0, 1, 2]]]);
    const shares = share(numbers(5), claims({ a: [], b: [] }));
    expect([...shares.values()].map(({ length }) => length).sort()).to.deep.equal([2, 3]);
  });

  it('leave out what another still holds, until it is let go', () => {
    expect(share(numbers(4), claims({ a: [0, 1, 2, 3], b: [] }))).to.deep.equal(
      new Map([
        ['a', [0, 1]],
        ['b', []],
      ]),
    );
    expect(share(numbers(4), claims({ a: [0, 1], b: [] })).get('b')).to.deep.equal([2, 3]);
  });

  it('go by who joined last, of two that claim the same', () => {
    const two: Claims = new Map([
      ['a', { generation: 4, holds: [0] }],
      ['b', { generation: 7, holds: [0] }],
    ]);
    expect(share([0], two).get('b')).to.deep.equal([0]);
    expect(share([0], two).get('a')).to.deep.equal([]);
  });

  it('settle after one exchange: even, complete, and nothing ever in two hands', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 24 }),
        fc.array(fc.tuple(fc.integer({ min: 0, max: 9 }), fc.array(fc.nat(23))), {
          minLength: 1,
          maxLength: 9,
        }),
        (count, members) => {
          const before: Claims = new Map(
            members.map(([generation, holds], at) => [`m${at}`, { generation, holds }]),
          );
          const first = share(numbers(count), before);
          const second = share(
            numbers(count),
            new Map([...first].map(([member, holds]) => [member, { generation: 10, holds }])),
          );
          for (const shares of [first, second]) {
            const given = [...shares.values()].flat();
            expect(new Set(given).size).to.equal(given.length);
          }
          for (const [member, { generation, holds }] of before) {
            for (const number of holds.filter((held) => held < count)) {
              const other = [...first].find(([name, given]) => name !== member && given.includes(number));
              // Nobody is given what another holds, unless it claims it too.
              if (other !== undefined) {
                expect(before.get(other[0])!.holds).to.include(number);
                expect(before.get(other[0])!.generation).to.be.at.least(generation);
              }
            }
          }
          const sizes = [...second.values()].map(({ length }) => length);
          expect([...second.values()].flat().sort((a, b) => a - b)).to.deep.equal(numbers(count));
          expect(Math.max(...sizes) - Math.min(...sizes)).to.be.at.most(1);
          for (const [member, holds] of first) expect(second.get(member)).to.include.members([...holds]);
        },
      ),
    );
  });
});
