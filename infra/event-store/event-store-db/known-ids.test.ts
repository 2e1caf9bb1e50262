import { expect } from 'chai';
import { createKnownIds } from './known-ids.ts';

describe('the ids known of a stream', () => {
  const events = (from: number, count: number, name = 'e') =>
    Array.from({ length: count }, (_, i) => ({ id: `${name}${from + i}`, revision: from + i }));

  it('are those that were read from its beginning on, without a gap', () => {
    const ids = createKnownIds(100);
    ids.extend('a', 3, events(3, 2));
    expect(ids.get('a')).to.equal(undefined);
    ids.extend('a', 0, events(0, 2));
    ids.extend('a', 3, events(3, 2));
    expect(ids.get('a')!.last).to.deep.equal({ id: 'e1', revision: 1 });
    ids.extend('a', 1, events(1, 4));
    expect(ids.get('a')!.last).to.deep.equal({ id: 'e4', revision: 4 });
    expect([...ids.get('a')!.revisions]).to.deep.equal(
      events(0, 5).map(({ id, revision }) => [id, revision]),
    );
    ids.forget('a');
    expect(ids.get('a')).to.equal(undefined);
  });

  it('may begin later, where the stream was cut', () => {
    const ids = createKnownIds(100);
    ids.extend('a', 0, events(7, 2));
    expect(ids.get('a')!.last).to.deep.equal({ id: 'e8', revision: 8 });
  });

  it('are dropped for the streams that were used longest ago', () => {
    const ids = createKnownIds(12);
    for (const stream of ['a', 'b', 'c']) ids.extend(stream, 0, events(0, 3));
    ids.get('a');
    ids.extend('d', 0, events(0, 3));
    expect(['a', 'b', 'c', 'd'].filter((stream) => ids.get(stream) !== undefined)).to.deep.equal([
      'a',
      'c',
      'd',
    ]);
    ids.extend('e', 0, events(0, 50));
    expect(['a', 'c', 'd', 'e'].filter((stream) => ids.get(stream) !== undefined)).to.deep.equal(['e']);
    ids.extend('f', 0, []);
    expect(ids.get('e')).to.equal(undefined);
  });
});
