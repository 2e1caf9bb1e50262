import { expect } from 'chai';
import { withoutCredentials } from './engines.ts';

describe('the address of an engine', () => {
  for (const password of ['secret', 'se%2Fcret', 'se/cret', 'se?cret', 'se#cret', 'se@cret', 's@e/c?r@et']) {
    it(`is shown without the password ${password}`, () => {
      const shown = withoutCredentials(`mongodb://ann:${password}@a:27017,b:27017/odeon?replicaSet=rs`);
      expect(shown).to.equal('mongodb://a:27017,b:27017/odeon');
    });
  }

  it('is shown as it is where nobody logs in', () => {
    expect(withoutCredentials('esdb://localhost:2113?tls=false')).to.equal('esdb://localhost:2113');
  });
});
