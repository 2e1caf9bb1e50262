import { expect } from 'chai';
import fc from 'fast-check';
import { positionWaiters } from './position-waiters.ts';

const LONG_MS = 60_000;

describe('waiting for positions', () => {
  it('settles those who are reached, in whatever order they came, and keeps nothing of them', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.integer({ min: 1, max: 120 }), { maxLength: 30 }),
        fc.integer({ min: 0, max: 120 }),
        async (positions, reached) => {
          const waiters = positionWaiters();
          const waits = positions.map((position) => waiters.wait(String(position), LONG_MS));
          waiters.reached(String(reached));
          expect(waiters.size).to.equal(positions.filter((position) => position > reached).length);
          waiters.end();
          expect(waiters.size).to.equal(0);
          expect(await Promise.all(waits)).to.deep.equal(positions.map((position) => position <= reached));
        },
      ),
    );
  });

  it('forgets those whose time is over', async () => {
    const waiters = positionWaiters();
    const waits = ['5', '9', '7'].map((position) => waiters.wait(position, position === '7' ? LONG_MS : 1));
    expect(await Promise.all(waits.slice(0, 2))).to.deep.equal([false, false]);
    expect(waiters.size).to.equal(1);
    waiters.reached('10');
    expect(await waits[2]).to.equal(true);
  });

  it('takes many at once', async () => {
    const waiters = positionWaiters();
    const waits = Array.from({ length: 100_000 }, (_, at) => waiters.wait(String(1_000 + at), LONG_MS));
    for (let at = 0; at < waits.length; at++) waiters.reached(String(1_000 + at));
    expect((await Promise.all(waits)).every((reached) => reached)).to.equal(true);
  });
});
