import { expect } from 'chai';
import fc from 'fast-check';
import { comparePositions, position, START } from '../../../contracts/envelope.ts';
import { type LogPosition, logPositionOf, tokenOf } from './log-position.ts';

describe("a position of EventStoreDB's log", () => {
  const offset = fc.bigInt({ min: 1n, max: 2n ** 63n - 1n });
  const logPosition = fc.oneof(
    offset.map((commit) => ({ commit, prepare: commit })),
    fc
      .tuple(offset, fc.bigInt({ min: 0n, max: 2n ** 63n }))
      .map(([commit, n]) => ({ commit, prepare: n % commit })),
    // Close to each other, so that orders are decided by the second number.
    fc
      .tuple(fc.bigInt({ min: 1n, max: 4n }), fc.nat(3))
      .map(([commit, n]) => ({ commit, prepare: BigInt(n) % commit })),
  );
  const sign = (difference: number | bigint) => Number(difference > 0) - Number(difference < 0);

  it('survives the way to a token and back, exactly', () => {
    fc.assert(
      fc.property(logPosition, (at) => {
        const token = tokenOf(at);
        expect(position.safeParse(token).success).to.equal(true);
        expect(logPositionOf(token)).to.deep.equal(at);
      }),
    );
    expect(logPositionOf(START)).to.equal('start');
    expect(tokenOf({ commit: 0n, prepare: 0n })).to.equal(START);
    expect(tokenOf({ commit: 9_007_199_254_740_993n, prepare: 9_007_199_254_740_993n })).to.equal(
      '9007199254740993',
    );
    expect(tokenOf({ commit: 10n, prepare: 4n })).to.equal('9-4');
  });

  it('has a token that is ordered as it is', () => {
    const compare = (a: LogPosition, b: LogPosition) =>
      sign(a.commit - b.commit) || sign(a.prepare - b.prepare);
    fc.assert(
      fc.property(logPosition, logPosition, (a, b) => {
        expect(sign(comparePositions(tokenOf(a), tokenOf(b)))).to.equal(compare(a, b));
        expect(comparePositions(tokenOf(a), START)).to.be.above(0);
      }),
      { numRuns: 1_000 },
    );
  });

  it('cannot be where no log reaches, and is somewhere for the tokens of other stores', () => {
    expect(logPositionOf('99999999999999999999')).to.equal('beyond');
    expect(logPositionOf(String(2n ** 63n))).to.equal('beyond');
    expect(logPositionOf('5-9')).to.deep.equal({ commit: 6n, prepare: 6n });
  });
});
