import { expect } from 'chai';
import { catalogue, type EventData, type EventType } from '../contracts/events/catalogue.ts';
import type { Run } from '../contracts/events/conversation.ts';
import { activityDocument } from '../contracts/read-models/documents.ts';
import { answered, createLog, decision, outcome } from '../test/log.ts';
import { activity, activityRow, activityTypes } from './activity.ts';
import { fold } from './fold.ts';

/** What must not be seen in a row: what was said, remembered or returned, and everything secret. */
const HIDDEN = 'classified';
const turnId = 't1';
const call = { turnId, callId: 'a', provider: 'openai', model: 'gpt-5' };

const agent = { id: 'a1', name: 'scout' };
const definition: EventData<'AgentChanged'> = {
  ...{ description: HIDDEN, instructions: HIDDEN, model: null, tools: ['calculate'] },
  budget: { tokens: null, cost: null, turns: 4 },
  policy: { timeoutMs: 60_000, maxAttempts: 2, concurrency: 3, queueLength: 20 },
  ...{ shared: false, aliases: [] },
};
const allowed = {
  agent,
  tools: null,
  budget: definition.budget,
  timeoutMs: 60_000,
  maxAttempts: 2,
  concurrency: 3,
};
const verdict: EventData<'StepEnded'>['verdict'] = {
  ...{ outcome: 'approved', decisionId: 'e1', dissent: [{ member: 'vega', reason: HIDDEN }] },
};
const used = { reason: null, tokens: 120, costUsd: 0.002, durationMs: 9 };
const member: EventData<'CouncilMemberChanged'> = {
  ...{ name: 'vega', displayName: 'Vega', role: 'Analyst', personality: HIDDEN, instructions: HIDDEN },
  ...{ avatarEmoji: '*', color: '#36c', order: 1, active: true },
};
const material = { id: 'm1', title: HIDDEN, text: HIDDEN, tool: 'calculate' };
const voice = {
  model: 'openai/gpt-5',
  usage: { promptTokens: 100, completionTokens: 20, cachedTokens: 0 },
  costUsd: 0.002,
  durationMs: 9,
};

const one: { readonly [Type in EventType]: EventData<Type> } = {
  ConversationStarted: {
    title: HIDDEN,
    mode: 'build',
    model: 'openai/gpt-5',
    kind: 'chat',
    agent: null,
    linkId: null,
  },
  ConversationRenamed: { title: HIDDEN },
  ConversationModeChanged: { mode: 'voice' },
  ConversationArchived: {},
  ConversationUnarchived: {},
  ConversationEnded: {},
  ConversationDeleted: {},
  MessageSent: {
    messageId: 'm1',
    turnId,
    content: HIDDEN,
    model: null,
    instructions: HIDDEN,
    run: null,
    prompt: null,
  },
  TurnStarted: { turnId, attempt: 1, worker: 'w' },
  TurnReleased: { turnId, worker: 'w' },
  MessageRouted: { turnId, decision },
  ContextPrepared: { turnId, system: HIDDEN, tools: ['calculate'] },
  ContextCompacted: {
    ...{ turnId, summary: HIDDEN, fromRevision: 0, toRevision: 9 },
    ...{ tokensBefore: 900, tokensAfter: 90, provider: 'openai', model: 'gpt-5' },
  },
  ModelCalled: { ...call, step: 1, promptDigest: 'abc', promptTokens: 12, tools: [] },
  ModelAnswered: answered(turnId, { text: HIDDEN, reasoning: HIDDEN }),
  ModelFailed: { ...call, reason: '503 from the provider', text: HIDDEN, durationMs: 5 },
  CheckpointTaken: { turnId, toolCallId: 'k', revision: 4 },
  ToolCalled: {
    ...{ turnId, callId: 'a', toolCallId: 'k', tool: 'calculate' },
    ...{ arguments: { secret: HIDDEN }, readOnly: true },
  },
  ToolReturned: { turnId, toolCallId: 'k', tool: 'calculate', result: HIDDEN, isError: false, durationMs: 3 },
  InterruptRequested: { turnId },
  TurnCompleted: outcome(turnId, { content: HIDDEN }),
  TurnInterrupted: outcome(turnId, { content: HIDDEN }),
  TurnFailed: { ...outcome(turnId, { content: HIDDEN }), reason: 'nobody answered' },
  AgentCreated: { name: 'scout', ...definition },
  AgentChanged: definition,
  AgentDeleted: {},
  OrchestrationRequested: {
    ...{ kind: 'delegation', task: HIDDEN, context: { secret: HIDDEN }, parallel: false },
    ...{ timeoutMs: 60_000, parent: { conversationId: 'c1', turnId } },
    steps: [
      {
        kind: 'run',
        id: 's1',
        calledAs: 'scout',
        run: allowed,
        model: null,
        task: HIDDEN,
        instructions: HIDDEN,
        after: [],
      },
      { kind: 'judgement', id: 's2', purpose: 'result', judges: 's1', question: HIDDEN, after: ['s1'] },
    ],
  },
  OrchestrationStarted: { attempt: 1, worker: 'w' },
  OrchestrationReleased: { worker: 'w' },
  StepStarted: { kind: 'run', stepId: 's1', conversationId: 'c1', turnId },
  StepEnded: { stepId: 's1', outcome: 'completed', result: HIDDEN, verdict, ...used },
  OrchestrationCancelRequested: {},
  OrchestrationEnded: { outcome: 'completed', result: HIDDEN, ...used },
  CouncilMemberChanged: member,
  CouncilMemberRemoved: { name: 'vega' },
  AutonomousSessionStarted: { sessionId: 's', deliberationId: 'd', task: HIDDEN, mode: 'research' },
  AutonomousSessionStopRequested: { sessionId: 's' },
  AutonomousSessionEnded: { sessionId: 's', outcome: 'completed' },
  DeliberationOpened: {
    ...{ topic: HIDDEN, purpose: 'autonomous', material: [material], members: [member] },
    ...{ maxLoops: 3, maxToolUses: 6, sessionId: 's', mode: 'standard' },
  },
  DeliberationStarted: { attempt: 1, worker: 'w' },
  DeliberationReleased: { worker: 'w' },
  PhaseStarted: { phase: 'votes', loop: 1 },
  MaterialSought: { phase: 'research', loop: 1, tool: 'calculate', arguments: { secret: HIDDEN } },
  MaterialGathered: {
    ...{ phase: 'research', loop: 1, tool: 'calculate', arguments: { secret: HIDDEN }, material },
    ...{ isError: false, durationMs: 3 },
  },
  DeliberationLimited: { limit: 'tools', phase: 'research', loop: 1, message: HIDDEN },
  VoiceFailed: { phase: 'statements', loop: 1, member: 'vega', reason: '503 from the provider' },
  MemberSpoke: {
    ...{ phase: 'statements', loop: 1, member: 'vega', kind: 'objection' },
    ...{ text: HIDDEN, cites: ['m1'], voice },
  },
  VoteCast: { loop: 1, member: 'vega', vote: 'against', reason: HIDDEN, voice },
  PhaseEnded: { phase: 'votes', loop: 1 },
  DecisionReached: {
    ...{ loop: 2, outcome: 'approved', decision: HIDDEN, by: 'majority' },
    tally: { for: 4, against: 1, abstain: 0 },
    dissent: [{ member: 'vega', reason: HIDDEN }],
    voice: null,
  },
  ActionTaken: { action: 'delegation started', detail: HIDDEN, decisionId: 'e1' },
  DeliberationStopRequested: {},
  DeliberationEnded: {
    ...{ outcome: 'decided', reason: null, usage: voice.usage, costUsd: voice.costUsd },
    durationMs: 9,
  },
  PublicLinkCreated: { agent, name: HIDDEN, tokenHash: HIDDEN, expiresAt: null },
  PublicLinkChanged: { name: HIDDEN, expiresAt: null, enabled: true },
  PublicLinkDeleted: {},
  FactRemembered: {
    ...{ factId: 'f', category: 'work', key: HIDDEN, value: HIDDEN, confidence: 1 },
    ...{ conversationId: 'c1', turnId },
  },
  FactForgotten: { factId: 'f', reason: HIDDEN },
  UserRegistered: { email: HIDDEN, displayName: HIDDEN, role: 'auditor', passwordHash: HIDDEN },
  UserRoleChanged: { role: 'admin' },
  UserDisabled: {},
  UserEnabled: {},
  UserPasswordChanged: { passwordHash: HIDDEN },
  SessionStarted: {
    ...{ userId: 'ada', refreshHash: HIDDEN, expiresAt: '2026-04-01T00:00:00.000Z' },
    ...{ address: '192.0.2.7', userAgent: HIDDEN },
  },
  SessionRefreshed: { refreshHash: HIDDEN, expiresAt: '2026-04-01T00:00:00.000Z' },
  SessionEnded: { reason: 'logout' },
  LoginFailed: { userId: null, address: '192.0.2.7', reason: 'unknown account' },
  ApiKeyCreated: {
    name: HIDDEN,
    permissions: ['chat:read'],
    keyHash: HIDDEN,
    prefix: HIDDEN,
    expiresAt: null,
  },
  ApiKeyRevoked: {},
  SigningKeyRotated: { kid: 'k2', previousKid: 'k1' },
  ServicesStartRequested: { process: 'here:3080', services: ['turns'] },
  ServicesStopRequested: { process: 'here:3080', services: ['turns'] },
  ProjectionRebuildRequested: { projection: 'usage' },
  ProjectionRetryRequested: { projection: 'usage' },
  RequestAccepted: { fingerprint: HIDDEN },
  RequestAnswered: { status: 200, body: HIDDEN },
};

const rowOf = <Type extends EventType>(
  type: Type,
  changes: Partial<EventData<Type>> = {},
  stream = 'any-1',
) => activityRow(createLog().add(stream, type, { ...one[type], ...changes } as EventData<Type>));

describe('the activity projection', () => {
  it('has a row for everything but refreshed logins and the records of idempotency keys', () => {
    const without = (Object.keys(catalogue) as EventType[]).filter((type) => rowOf(type) === null);
    expect(without).to.have.members(['SessionRefreshed', 'RequestAccepted', 'RequestAnswered']);
    expect(Object.keys(activity.on)).to.have.members(activityTypes());
  });

  for (const type of activityTypes()) {
    it(`shows ${type} as a small row that hides what is not for everyone`, () => {
      const row = rowOf(type);
      expect(activityDocument.parse(row)).to.deep.equal(row);
      const text = JSON.stringify(row);
      expect(text).to.not.include(HIDDEN);
      expect(text.length).to.be.lessThan(1_500);
      expect(row?.title)
        .to.match(/^[A-Z].*\S$/)
        .and.not.include('undefined');
    });
  }

  it('is found by conversation and turn, also what was remembered in one', () => {
    expect(rowOf('ModelCalled', {}, 'conversation-c9')).to.include({ conversationId: 'c9', turnId });
    expect(rowOf('FactRemembered', {}, 'fact-f')).to.include({ conversationId: 'c1', turnId });
    expect(rowOf('UserDisabled', {}, 'user-ada')).to.include({ conversationId: null, turnId: null });
  });

  it('says who answered, with tokens and cost', () => {
    expect(rowOf('ModelAnswered')).to.include({
      category: 'llm_call',
      level: 'success',
      title: 'Model answered: openai/gpt-5',
      message: '100 tokens in, 20 out, $0.002',
      durationMs: 1_500,
    });
    expect(rowOf('ModelAnswered', { costUsd: null })?.message).to.equal(
      '100 tokens in, 20 out, cost unknown',
    );
  });

  it('says which agent a message is for', () => {
    const run: Run = {
      ...{ agent, trigger: 'manual', parent: null, orchestrationId: null, tools: null },
      ...{ budget: definition.budget, timeoutMs: 60_000, maxAttempts: 1, concurrency: 1 },
    };
    expect(rowOf('MessageSent')?.title).to.equal('Message sent');
    expect(rowOf('MessageSent', { run })?.title).to.equal('Message sent to scout');
    expect(rowOf('ConversationStarted', { agent })?.title).to.equal('Conversation with scout started');
  });

  it('says how work over several agents and a deliberation ended', () => {
    expect(rowOf('OrchestrationEnded')).to.include({ level: 'success', message: '120 tokens, $0.002' });
    expect(rowOf('OrchestrationEnded', { outcome: 'partial', reason: 'one failed' })).to.include({
      ...{ level: 'warn', title: 'Orchestration completed in part', message: 'one failed' },
    });
    expect(rowOf('StepEnded', { outcome: 'failed', reason: 'x'.repeat(5_000) })).to.include({
      level: 'error',
    });
    expect(rowOf('StepEnded', { outcome: 'failed', reason: 'x'.repeat(5_000) })?.message).to.have.length(301);
    expect(rowOf('DecisionReached')).to.include({
      ...{ level: 'success', title: 'Decision reached by the majority: approved' },
      message: '4 for, 1 against, 0 abstained',
    });
    expect(rowOf('VoteCast')?.title).to.equal('Vote cast by vega: against');
  });

  it('says what failed and why, shortened', () => {
    expect(rowOf('ModelFailed')).to.include({ level: 'error', message: '503 from the provider' });
    expect(rowOf('TurnFailed')).to.include({ category: 'error', level: 'error', message: 'nobody answered' });
    expect(rowOf('ToolReturned', { isError: true })).to.include({
      level: 'error',
      title: 'Tool failed: calculate',
    });
    expect(rowOf('TurnFailed', { reason: 'x'.repeat(5_000) })?.message).to.have.length(301);
  });

  it('warns of a turn that is taken up again, and of a login that was not ended by its user', () => {
    expect(rowOf('TurnStarted', { attempt: 2 })).to.include({ level: 'warn' });
    expect(rowOf('SessionEnded')).to.include({ level: 'info', title: 'Logged out' });
    expect(rowOf('SessionEnded', { reason: 'refresh token reused' })).to.include({ level: 'warn' });
  });

  it('makes one document an event, by its id', () => {
    const log = createLog();
    const event = log.add('conversation-c1', 'ConversationEnded', {});
    expect([...fold(activity, log.events)]).to.deep.equal([[event.id, activityRow(event)]]);
  });
});
