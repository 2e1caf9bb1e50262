import { expect } from 'chai';
import { createRoom, type Limit, type Place } from './room.ts';

const never = new AbortController().signal;
const all: Limit = { key: 'all', atOnce: 3 };
const of = (agent: string, atOnce = 1): Limit[] => [all, { key: agent, atOnce }];

describe('the room to work in', () => {
  /** Enters, and says in `entered` when. */
  function entering() {
    const room = createRoom();
    const entered: string[] = [];
    const enter = async (name: string, limits: Limit[], signal = never): Promise<Place> => {
      const place = await room.enter(limits, signal);
      entered.push(place === null ? `not ${name}` : name);
      return place!;
    };
    return { enter, entered };
  }
  const othersRan = () => new Promise((resolve) => setImmediate(resolve));

  it('is entered first come, first served, past those whose own limit is reached', async () => {
    const { enter, entered } = entering();
    const a = await enter('a1', of('a'));
    void enter('a2', of('a'));
    await enter('b1', of('b'));
    const c = await enter('c1', of('c'));
    void enter('d1', of('d'));
    await othersRan();
    expect(entered).to.deep.equal(['a1', 'b1', 'c1']);
    c.leave();
    await othersRan();
    expect(entered).to.deep.equal(['a1', 'b1', 'c1', 'd1']);
    a.leave();
    await othersRan();
    expect(entered.at(-1)).to.equal('a2');
  });

  it('is not waited for when the signal is aborted, before or meanwhile', async () => {
    const { enter, entered } = entering();
    const a = await enter('a1', of('a'));
    const stop = new AbortController();
    const second = enter('a2', of('a'), stop.signal);
    stop.abort();
    await second;
    await enter('a3', of('a'), stop.signal);
    a.leave();
    await enter('a4', of('a'));
    expect(entered).to.deep.equal(['a1', 'not a2', 'not a3', 'a4']);
  });

  it('lends a place, so that what waits for a child keeps the child from nothing', async () => {
    const { enter, entered } = entering();
    const parent = await enter('parent', of('a'));
    const answer = await parent.lend(async () => {
      const child = await enter('child', of('a'));
      void enter('late', of('a'));
      entered.push('child done');
      setImmediate(() => child.leave());
      return 42;
    }, never);
    expect(answer).to.equal(42);
    // Whoever takes a place back comes before those who only begin, whenever they came.
    entered.push('parent goes on');
    parent.leave();
    await othersRan();
    expect(entered).to.deep.equal(['parent', 'child', 'child done', 'parent goes on', 'late']);
  });

  it('is taken back at once by what is stopped', async () => {
    const { enter, entered } = entering();
    const parent = await enter('parent', of('a'));
    let child: Place | undefined;
    await parent.lend(async () => {
      child = await enter('child', of('a'));
    }, AbortSignal.abort());
    parent.leave();
    void enter('next', of('a'));
    await othersRan();
    expect(entered).to.deep.equal(['parent', 'child']);
    child!.leave();
    await othersRan();
    expect(entered.at(-1)).to.equal('next');
  });
});
