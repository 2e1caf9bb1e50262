import { expect } from 'chai';
import { createLinkTokens } from './link-tokens.ts';

const tokens = createLinkTokens({ secret: Buffer.alloc(32, 1) });
const others = createLinkTokens({ secret: Buffer.alloc(32, 2) });
const conversation = '0123456789ab';

describe('tokens of public links', () => {
  it('are 192 bits, the same for a link however often it is shown, and of this deployment only', () => {
    const token = tokens.token('l1');
    expect(token).to.match(/^[\w-]{32}$/);
    expect(tokens.token('l1')).to.equal(token);
    expect([tokens.token('l2'), others.token('l1')]).to.not.include(token);
    expect(tokens.hash(token)).to.match(/^[0-9a-f]{64}$/);
    expect(others.hash(token)).to.not.equal(tokens.hash(token));
  });

  it("know a visitor's session, and nothing that was changed or belongs to another link", () => {
    const session = tokens.session('l1', conversation);
    expect(tokens.conversationOf('l1', session)).to.equal(conversation);
    const [id, seal = ''] = session.split('.');
    for (const forged of [
      '',
      conversation,
      `${conversation}.`,
      `ba9876543210.${seal}`,
      `${id}.${seal.startsWith('A') ? 'B' : 'A'}${seal.slice(1)}`,
      `${id}.${seal}A`,
      others.session('l1', conversation),
      tokens.session('l2', conversation),
    ]) {
      expect(tokens.conversationOf('l1', forged), forged).to.equal(null);
    }
  });
});
