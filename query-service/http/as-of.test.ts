import { expect } from 'chai';
import { readsAsOf } from './as-of.ts';

describe('asOf', () => {
  const reads = (asOf: string) =>
    readsAsOf(asOf, {
      store: { end: async () => '500', positionAt: async () => '400' },
      present: {} as never,
      history: (() => ({})) as never,
    });

  it('takes what X-Event-Position gave, though it lies after the last event', async () => {
    // The store's own record at 500 is no event; projections have seen it all the same.
    expect((await reads('500')).headers).to.deep.equal({ 'X-Event-Position': '500' });
  });

  it('refuses what lies beyond the log', async () => {
    const error = await reads('501').then(
      () => null,
      (reason: unknown) => reason,
    );
    expect(error).to.have.property('code', 'VALIDATION_ERROR');
  });
});
