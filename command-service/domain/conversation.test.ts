import { expect } from 'chai';
import fc from 'fast-check';
import type { Caller } from '../../contracts/caller.ts';
import type { DecidedEvent } from '../../contracts/events/catalogue.ts';
import type { ClientPrompt } from '../../contracts/events/conversation.ts';
import { type Permission, rolePermissions } from '../../contracts/http/route.ts';
import { given as givenOf, OWNER } from '../testing.ts';
import {
  answerIdFor,
  type ConversationEventType,
  changeConversation,
  claimTurn,
  conversation,
  conversationIdFor,
  deleteConversation,
  endConversation,
  messageIdFor,
  recordSteps,
  requestInterrupt,
  sendMessage,
  startConversation,
  type TurnStep,
  turnIdFor,
} from './conversation.ts';

type Decided = DecidedEvent<ConversationEventType>;
const given = (...events: Decided[]) => givenOf(conversation, ...events);

const conversationId = conversationIdFor('start');
const beginning = {
  title: 'Plans',
  mode: 'assistant',
  model: null,
  kind: 'chat',
  agent: null,
  linkId: null,
} as const;
const started: Decided = {
  type: 'ConversationStarted',
  data: beginning,
};
const message = (name: string) => ({
  messageId: messageIdFor(name),
  turnId: turnIdFor(name),
  content: `message ${name}`,
  model: null,
  instructions: null,
  run: null,
  prompt: null,
});
const sent = (name: string): Decided => ({ type: 'MessageSent', data: message(name) });
const begun = (name: string, worker = 'w1', attempt = 1): Decided => ({
  type: 'TurnStarted',
  data: { turnId: turnIdFor(name), attempt, worker },
});
const released = (name: string): Decided => ({
  type: 'TurnReleased',
  data: { turnId: turnIdFor(name), worker: 'w1' },
});
const interruptRequested = (name: string): Decided => ({
  type: 'InterruptRequested',
  data: { turnId: turnIdFor(name) },
});
const outcome = (name: string) => ({
  turnId: turnIdFor(name),
  messageId: answerIdFor(turnIdFor(name)),
  content: '',
  provider: null,
  model: null,
  requestedModel: null,
  decision: null,
  tried: [],
  toolsUsed: [],
  usage: { promptTokens: 0, completionTokens: 0, cachedTokens: 0 },
  costUsd: 0,
  durationMs: 0,
  finishReason: null,
  toolRequests: [],
});
const completed = (name: string): TurnStep => ({
  type: 'TurnCompleted',
  data: { ...outcome(name), finishReason: 'stop' },
});
const cancelled = (name: string): TurnStep => ({ type: 'TurnInterrupted', data: outcome(name) });
const ended: Decided = { type: 'ConversationEnded', data: {} };
const deleted: Decided = { type: 'ConversationDeleted', data: {} };

const caller = (userId: string, permissions: readonly Permission[]): Caller => ({
  userId,
  email: `${userId}@example.org`,
  displayName: userId,
  role: 'user',
  actor: { kind: 'user', id: userId },
  permissions: new Set(permissions),
  sessionId: null,
  expiresAtMs: null,
});
const owner = caller(OWNER, rolePermissions.user);
const stranger = caller('stranger', rolePermissions.user);
const admin = caller('admin', rolePermissions.admin);

describe('starting a conversation', () => {
  const input = { conversationId, owner: OWNER, ...beginning };
  it('records how it begins', () => given().when(startConversation, input).then(started));
  it('is refused under an id that is taken', () =>
    given(started).when(startConversation, input).refused('CONFLICT'));
  it('is refused under the id of a deleted one', () =>
    given(started, deleted).when(startConversation, input).refused('CONFLICT'));
});

describe('sending a message with a prompt', () => {
  const prompt = {
    system: null,
    messages: [{ role: 'user' as const, content: 'hi' }],
    afresh: false,
    tools: [{ name: 'look', description: 'Looks.', parameters: {} }],
    toolChoice: 'auto' as const,
    settings: {
      temperature: null,
      topP: null,
      maxTokens: null,
      stop: [],
      seed: null,
      presencePenalty: null,
      frequencyPenalty: null,
    },
  };
  const sending = (changes: Partial<ClientPrompt>) =>
    given(started).when(sendMessage, {
      conversationId,
      ...message('one'),
      prompt: { ...prompt, ...changes },
    });
  it('records it', () =>
    sending({ toolChoice: { tool: 'look' } }).then({
      type: 'MessageSent',
      data: { ...message('one'), prompt: { ...prompt, toolChoice: { tool: 'look' } } },
    }));
  it('is refused without messages', () => sending({ messages: [] }).refused('VALIDATION_ERROR'));
  it('is refused when it asks for a tool that is not there', () => {
    sending({ toolChoice: { tool: 'see' } }).refused('VALIDATION_ERROR');
    sending({ toolChoice: 'required', tools: [] }).refused('VALIDATION_ERROR');
  });
});

describe('changing a conversation', () => {
  it('records what is different', () =>
    given(started)
      .when(changeConversation, { conversationId, title: 'New', mode: 'assistant', archived: true })
      .then(
        { type: 'ConversationRenamed', data: { title: 'New' } },
        { type: 'ConversationArchived', data: {} },
      ));
  it('records nothing when it is already so', () =>
    given(started).when(changeConversation, { conversationId, title: 'Plans', archived: false }).then());
});

describe('sending a message', () => {
  const send = { conversationId, ...message('a') };
  it('asks for a turn', () => given(started).when(sendMessage, send, owner).then(sent('a')));
  it('waits behind a running turn', () =>
    given(started, sent('b'), begun('b')).when(sendMessage, send, owner).then(sent('a')));
  it('is refused once the conversation has ended', () =>
    given(started, ended).when(sendMessage, send, owner).refused('CONFLICT'));
  it('is refused when too many wait', () =>
    given(started, ...Array.from({ length: 100 }, (_, index) => sent(String(index))))
      .when(sendMessage, send, owner)
      .refused('RATE_LIMIT_EXCEEDED'));
  it('by a stranger looks as if there were no conversation', () =>
    given(started).when(sendMessage, send, stranger).refused('NOT_FOUND'));
  it('to a deleted conversation looks the same', () =>
    given(started, deleted).when(sendMessage, send, owner).refused('NOT_FOUND'));
  it('is open to an admin', () => given(started).when(sendMessage, send, admin).then(sent('a')));
});

describe('claiming a turn', () => {
  const claim = (name: string, worker = 'w1', takeOverFrom: string | null = null) => ({
    conversationId,
    turnId: turnIdFor(name),
    worker,
    takeOverFrom,
  });
  it('takes the one that waits longest', () =>
    given(started, sent('a'), sent('b')).when(claimTurn, claim('a')).then(begun('a')));
  it('is refused out of order', () =>
    given(started, sent('a'), sent('b')).when(claimTurn, claim('b')).refused('CONFLICT'));
  it('is refused while another worker holds the turn', () =>
    given(started, sent('a'), begun('a')).when(claimTurn, claim('a', 'w2')).refused('CONFLICT'));
  it('is refused while another turn runs', () =>
    given(started, sent('a'), sent('b'), begun('a'))
      .when(claimTurn, claim('b', 'w2', 'w1'))
      .refused('CONFLICT'));
  it('counts an attempt when it is taken over', () =>
    given(started, sent('a'), begun('a'))
      .when(claimTurn, claim('a', 'w2', 'w1'))
      .then(begun('a', 'w2', 2)));
  it('counts none when it was given back', () =>
    given(started, sent('a'), begun('a'), released('a'))
      .when(claimTurn, claim('a', 'w2'))
      .then(begun('a', 'w2', 1)));
  it('is refused when it was taken over from somebody else meanwhile', () =>
    given(started, sent('a'), begun('a'), begun('a', 'w2', 2))
      .when(claimTurn, claim('a', 'w3', 'w1'))
      .refused('CONFLICT'));
});

describe('recording steps of a turn', () => {
  const record = (worker: string, attempt: number) => ({
    conversationId,
    turnId: turnIdFor('a'),
    worker,
    attempt,
    steps: [completed('a')],
  });
  it('is for the worker that holds it', () =>
    given(started, sent('a'), begun('a')).when(recordSteps, record('w1', 1)).then(completed('a')));
  it('is refused to a worker that was taken over', () =>
    given(started, sent('a'), begun('a'), begun('a', 'w2', 2))
      .when(recordSteps, record('w1', 1))
      .refused('CONFLICT'));
  it('is refused under an older attempt of the same worker', () =>
    given(started, sent('a'), begun('a'), begun('a', 'w1', 2))
      .when(recordSteps, record('w1', 1))
      .refused('CONFLICT'));
  it('is refused once the turn has ended', () =>
    given(started, sent('a'), begun('a'), completed('a'))
      .when(recordSteps, record('w1', 1))
      .refused('CONFLICT'));
  it('goes on after the conversation was deleted, so that the turn ends', () =>
    given(started, sent('a'), begun('a'), interruptRequested('a'), deleted)
      .when(recordSteps, record('w1', 1))
      .then(completed('a')));
});

describe('interrupting', () => {
  const interrupt = (name: string | null) => ({
    conversationId,
    turnId: name === null ? null : turnIdFor(name),
  });
  it('asks the running turn to stop', () =>
    given(started, sent('a'), begun('a'))
      .when(requestInterrupt, interrupt(null))
      .then(interruptRequested('a')));
  it('is recorded once, however often it is asked', () =>
    given(started, sent('a'), begun('a'), interruptRequested('a'))
      .when(requestInterrupt, interrupt('a'))
      .then());
  it('cancels a turn that has not begun', () =>
    given(started, sent('a'), sent('b'), begun('a'))
      .when(requestInterrupt, interrupt('b'))
      .then(cancelled('b')));
  it('changes nothing when nothing runs', () =>
    given(started, sent('a'), begun('a'), completed('a')).when(requestInterrupt, interrupt(null)).then());
  it('changes nothing for a turn that has ended', () =>
    given(started, sent('a'), begun('a'), completed('a'), sent('b'), begun('b'))
      .when(requestInterrupt, interrupt('a'))
      .then());
});

describe('ending and deleting', () => {
  it('stops what runs and cancels what waits', () =>
    given(started, sent('a'), sent('b'), begun('a'))
      .when(endConversation, { conversationId })
      .then(interruptRequested('a'), cancelled('b'), ended));
  it('is recorded once', () => given(started, ended).when(endConversation, { conversationId }).then());
  it('deletes one that has ended', () =>
    given(started, ended).when(deleteConversation, { conversationId }, owner).then(deleted));
  it('looks absent when it is deleted again', () =>
    given(started, deleted).when(deleteConversation, { conversationId }, owner).refused('NOT_FOUND'));
});

describe('whatever is decided', () => {
  /** Applies commands as the bus would; what is refused changes nothing. */
  it('at most one turn runs, in the order of the messages, and each ends once', () => {
    const names = ['a', 'b', 'c', 'd'];
    const step = fc.oneof(
      fc.constantFrom(...names).map((name) => [sendMessage, { conversationId, ...message(name) }] as const),
      fc
        .tuple(fc.constantFrom(...names), fc.constantFrom('w1', 'w2'), fc.constantFrom(null, 'w1', 'w2'))
        .map(([name, worker, takeOverFrom]) => {
          return [claimTurn, { conversationId, turnId: turnIdFor(name), worker, takeOverFrom }] as const;
        }),
      fc
        .tuple(fc.constantFrom(...names), fc.constantFrom('w1', 'w2'), fc.integer({ min: 1, max: 3 }))
        .map(([name, worker, attempt]) => {
          const turnId = turnIdFor(name);
          return [
            recordSteps,
            { conversationId, turnId, worker, attempt, steps: [completed(name)] },
          ] as const;
        }),
      fc
        .constantFrom(null, ...names)
        .map(
          (name) =>
            [requestInterrupt, { conversationId, turnId: name === null ? null : turnIdFor(name) }] as const,
        ),
    );
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
        let log: Decided[] = [started];
        const asked = new Set<string>();
        for (const [command, input] of steps) {
          // An id is used once: the bus knows the event ids of the same command.
          if (command === sendMessage) {
            const { turnId } = input as { turnId: string };
            if (asked.has(turnId)) continue;
            asked.add(turnId);
          }
          try {
            log = [...log, ...(command.decide(input as never, given(...log).state) as Decided[])];
          } catch {
            // refused
          }
        }
        const turns = (type: string) =>
          log
            .filter((event) => event.type === type)
            .map((event) => (event.data as { turnId: string }).turnId);
        const ends = log.filter(
          (event) => event.type === 'TurnCompleted' || event.type === 'TurnInterrupted',
        );
        const endedTurns = ends.map((event) => (event.data as { turnId: string }).turnId);
        expect(new Set(endedTurns).size).to.equal(endedTurns.length);
        const firstStarts = [...new Set(turns('TurnStarted'))];
        const order = turns('MessageSent').filter((turn) => firstStarts.includes(turn));
        expect(firstStarts).to.deep.equal(order);
        const { running, waiting } = given(...log).state;
        const open = turns('MessageSent').filter((turn) => !endedTurns.includes(turn));
        expect([running?.turnId, ...waiting.map((turn) => turn.turnId)].filter(Boolean)).to.have.members(
          open,
        );
      }),
      { numRuns: 300 },
    );
  });
});
