import { expect } from 'chai';
import type { EventEnvelope, NewEvent } from '../contracts/envelope.ts';
import { fold } from './fold.ts';
import { accounts, audited, closed, journal, paid } from './runtime/ledger.fixture.ts';

const inLog = (events: readonly NewEvent[]): EventEnvelope[] =>
  events.map((event, at) => ({
    ...event,
    stream: 'ledger-1',
    revision: at,
    position: String(at + 1),
    time: '2026-01-01T00:00:00.000Z',
  }));

describe('folding events into documents', () => {
  it('gives the documents by id; deleted ones are gone, other types are skipped', () => {
    const documents = fold(
      accounts(),
      inLog([paid('a', 1), audited(), paid('b', 2), paid('a', 3), closed('b'), paid(null, 9)]),
    );
    expect([...documents.keys()]).to.deep.equal(['a']);
    expect(documents.get('a')).to.include({ balance: 4, payments: 2 });
  });

  it('leaves an event that fails out, and those of its document after it', () => {
    const failing = accounts({ fails: (event) => event.data.amount === 13 });
    const documents = fold(failing, inLog([paid('a', 1), paid('a', 13), paid('b', 2), paid('a', 2)]));
    expect(documents.get('a')).to.include({ balance: 1 });
    expect(documents.get('b')).to.include({ balance: 2 });
  });

  it('takes nothing for a type that only looks like one', () => {
    const strange = { ...paid('a', 1), type: 'constructor' };
    expect(fold(journal, inLog([strange, { ...strange, type: '__proto__' }])).size).to.equal(0);
  });
});
