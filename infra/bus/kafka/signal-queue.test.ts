import { expect } from 'chai';
import type { Signal } from '../../../contracts/live/signals.ts';
import { createSignalQueue, type SignalQueue } from './signal-queue.ts';

const text = (offset: number, length = 1_000): Signal => ({
  kind: 'text',
  owner: 'ada',
  conversationId: 'c',
  turnId: 't',
  call: '7',
  offset,
  text: 'x'.repeat(length),
});
const beat = (worker: string, alive = true): Signal => ({ kind: 'worker', worker, alive });
const progress = (partition: number, position: string): Signal => ({
  kind: 'progress',
  partition,
  position,
  problems: {},
});
const interrupt: Signal = { kind: 'interrupt', stream: 'conversation-c', workId: 't' };

describe('the queue of signals', () => {
  let dropped: number[];
  let queue: SignalQueue;
  beforeEach(() => {
    dropped = [];
    queue = createSignalQueue({ maxBytes: 20_000, onDropped: (signals) => dropped.push(signals) });
  });
  const waiting = () => queue.next(Number.POSITIVE_INFINITY).map(({ value }) => JSON.parse(String(value)));
  const offsets = () => waiting().map(({ offset, kind }) => offset ?? kind);

  it('keeps what it gave until that is done', () => {
    for (const offset of [0, 1, 2]) queue.push(text(offset));
    const first = queue.next(3_000);
    expect(first.map(({ number, key }) => [number, key])).to.deep.equal([
      [0, 'conversation-c'],
      [1, 'conversation-c'],
    ]);
    expect(queue.next(3_000)).to.deep.equal(first);
    queue.done(first);
    queue.done(first);
    expect(offsets()).to.deep.equal([2]);
    queue.done(queue.next(1));
    expect([queue.size, queue.bytes]).to.deep.equal([0, 0]);
  });

  it('gives one at least, however large', () => {
    queue.push(text(0, 10_000));
    expect(queue.next(1)).to.have.length(1);
  });

  it('keeps the last of the beats of a worker, and of the progress of a partition', () => {
    queue.push(beat('a'));
    queue.push(beat('b'));
    queue.push(progress(1, '5'));
    queue.push(progress(2, '5'));
    queue.push(progress(1, '6'));
    queue.push(beat('a', false));
    expect(waiting()).to.deep.equal([beat('b'), progress(2, '5'), progress(1, '6'), beat('a', false)]);
  });

  it('keeps what stops an answer in order with its words', () => {
    queue.push(text(0));
    queue.push(interrupt);
    const [words, stop] = queue.next(3_000);
    expect(stop!.key).to.equal(words!.key);
  });

  it('replaces a beat that is being sent', () => {
    queue.push(beat('a'));
    const sent = queue.next(1);
    queue.push(beat('a', false));
    queue.done(sent);
    queue.push(beat('a'));
    expect(waiting()).to.deep.equal([beat('a')]);
  });

  it('drops the oldest words when there is too much, and nothing else', () => {
    queue.push(interrupt);
    for (let offset = 0; offset < 100; offset++) {
      queue.push(text(offset));
      expect(queue.bytes).to.be.at.most(20_000);
    }
    const [first, ...rest] = offsets();
    expect(first).to.equal('interrupt');
    expect(rest).to.deep.equal(Array.from({ length: rest.length }, (_, i) => 100 - rest.length + i));
    expect(rest.length).to.be.within(10, 20);
    expect(dropped.reduce((sum, count) => sum + count, 0)).to.equal(100 - rest.length);
  });

  it('drops the oldest of the others when no words are left', () => {
    for (let i = 0; i < 200; i++) queue.push({ ...interrupt, turnId: `${i}` } as Signal);
    expect(queue.bytes).to.be.at.most(20_000);
    expect(waiting().at(-1)?.turnId).to.equal('199');
    expect(dropped).to.not.be.empty;
  });
});
