import { expect } from 'chai';
import { createWriteBehind } from './sqlite-write-behind.ts';
import type { Run } from './sqlite-write-queue.ts';

const run: Run = ['UPDATE copies SET seen = ?', 1];

describe('writing behind', () => {
  /** However many turns of the microtask queue lie between a batch and the end of the one before it. */
  for (let turns = 0; turns <= 12; turns++) {
    it(`stores a batch that is taken ${turns} microtasks after the one before it`, async () => {
      let stored = 0;
      const behind = createWriteBehind(
        {
          write: async (runs) => {
            stored += runs.length;
          },
          close: async () => {},
        },
        () => {},
      );
      await behind.take([run], new Map());
      for (let turn = 0; turn < turns; turn++) await Promise.resolve();
      await behind.take([run], new Map());
      // Nothing here waits for anything but microtasks: they have all run before the next turn of the loop.
      await new Promise((resolve) => setImmediate(resolve));
      expect(stored).to.equal(2);
      await behind.close();
    });
  }
});
