import { expect } from 'chai';
import { createLog, outcome } from './log.ts';
import { faultsOf, openTurns } from './log-invariants.ts';

const STREAM = 'conversation-aaaaaaaaaaaa';

/** A log with one message, answered with the help of a tool, up to the tool's result. */
function turn() {
  const log = createLog();
  const turnId = 'turn_1';
  const tool = { turnId, toolCallId: 'call_1', tool: 'calculate' };
  const called = { ...tool, callId: 'model_1', arguments: {}, readOnly: true };
  const result = { ...tool, result: 391, isError: false, durationMs: 1 };
  const start = (attempt: number) =>
    log.add(STREAM, 'TurnStarted', { turnId, attempt, worker: `w${attempt}` });
  log.add(STREAM, 'MessageSent', {
    messageId: 'msg_1',
    turnId,
    content: 'What is 17*23?',
    model: null,
    instructions: null,
    run: null,
    prompt: null,
  });
  start(1);
  log.add(STREAM, 'ToolCalled', called);
  log.add(STREAM, 'ToolReturned', result);
  return { log, called, result, start };
}

describe('the faults of a log', () => {
  it('are none when all is well', () => {
    const { log, start } = turn();
    start(2);
    expect(openTurns(log.events)).to.deep.equal(['turn_1']);
    log.add(STREAM, 'TurnCompleted', outcome('turn_1'));
    expect(faultsOf(log.events, [{ content: 'What is 17*23?', turnId: 'turn_1' }])).to.deep.equal([]);
    expect(openTurns(log.events)).to.deep.equal([]);
  });

  it('are a lost, a doubled and a shifted event', () => {
    const { events } = turn().log;
    expect(faultsOf(events.toSpliced(1, 1))).not.to.be.empty;
    expect(faultsOf([...events, events[0]!])).not.to.be.empty;
    expect(faultsOf(events.toSpliced(1, 1, { ...events[1]!, revision: 7 }))).not.to.be.empty;
    expect(faultsOf(events.toSpliced(1, 1, { ...events[1]!, id: events[0]!.id }))).not.to.be.empty;
    expect(faultsOf(events.toSpliced(1, 1, { ...events[1]!, time: '2020-01-01T00:00:00.000Z' }))).not.to.be
      .empty;
  });

  it('are an acknowledged message that is lost, doubled, or another', () => {
    const { log } = turn();
    expect(faultsOf(log.events, [{ content: 'Hello?', turnId: 'turn_9' }])).to.have.length(1);
    expect(faultsOf(log.events, [{ content: 'What is 17*23?', turnId: 'turn_9' }])).to.have.length(1);
    const again = {
      messageId: 'msg_2',
      turnId: 'turn_2',
      content: 'What is 17*23?',
      model: null,
      instructions: null,
      run: null,
      prompt: null,
    };
    log.add(STREAM, 'MessageSent', again);
    expect(faultsOf(log.events)).to.have.length(1);
  });

  it('are a tool that is run or returns again', () => {
    const { log, called, result } = turn();
    log.add(STREAM, 'ToolCalled', called);
    expect(faultsOf(log.events)).to.have.length(1);
    log.add(STREAM, 'ToolReturned', result);
    expect(faultsOf(log.events)).to.have.length(2);
  });

  it('are a turn that begins or ends after its end, or fails too early', () => {
    const { log, start } = turn();
    log.add(STREAM, 'TurnFailed', { ...outcome('turn_1'), reason: 'no more patience' });
    expect(faultsOf(log.events)).to.have.length(1);
    start(2);
    expect(faultsOf(log.events)).to.have.length(2);
    log.add(STREAM, 'TurnCompleted', outcome('turn_1'));
    expect(faultsOf(log.events)).to.have.length(3);
  });
});
