import { expect } from 'chai';
import fc from 'fast-check';
import { routerDecision } from '../../../contracts/events/conversation.ts';
import { type RouterInput, type Routing, routeMessage } from './router.ts';

const TOOLS = [
  'calculate',
  'current_time',
  'remember_fact',
  'recall_facts',
  'search_conversations',
  'list_abilities',
  'explain_setup',
];
const route = (content: string, more: Partial<RouterInput> = {}): Routing =>
  routeMessage({ content, requestedModel: null, requestedRoute: null, toolsOffered: TOOLS, ...more });

describe('the router', () => {
  const cases: readonly (readonly [string, Partial<Routing>])[] = [
    [
      'hello',
      { class: 'chat', route: 'nano', decisionSource: 'regex', riskIfWrong: 'low', needsTools: false },
    ],
    [
      'I had a long walk',
      { class: 'chat', route: 'nano', decisionSource: 'classifier', confidence: 'estimate' },
    ],
    ['Translate "good morning" into French', { class: 'transform', route: 'nano', decisionSource: 'regex' }],
    ['count to 500', { class: 'transform', route: 'nano' }],
    [
      'what is 12.5% of 80',
      { class: 'factual', route: 'tools', needsTools: true, decisionSource: 'regex', confidence: 'verified' },
    ],
    ['2+2*3', { class: 'factual', route: 'tools' }],
    ['What time is it in Tokyo?', { class: 'factual', route: 'tools', needsFreshData: true }],
    ['Remember that my dog is Rex', { class: 'actionable', route: 'tools' }],
    ['My name is Ada', { class: 'actionable', route: 'tools' }],
    ['what is my name?', { class: 'factual', route: 'tools' }],
    ['What did I say about Rome?', { class: 'factual', route: 'tools' }],
    ['Who wrote Faust?', { class: 'factual', route: 'pro', needsTools: false, decisionSource: 'classifier' }],
    ['Explain the tides', { class: 'factual', route: 'pro', decisionSource: 'keyword' }],
    [
      'Buy 2 shares of ACME',
      { class: 'actionable', route: 'tools', riskIfWrong: 'high', needsFreshData: true },
    ],
    [
      'Please send it to Bob',
      { class: 'actionable', route: 'tools', riskIfWrong: 'medium', decisionSource: 'keyword' },
    ],
    ['the latest on the election', { class: 'factual', needsFreshData: true, decisionSource: 'keyword' }],
    ['is this dosage safe', { class: 'factual', route: 'pro', riskIfWrong: 'high' }],
    ['```js\nlet a\n```', { class: 'transform', route: 'pro' }],
    ['lorem ipsum '.repeat(300), { class: 'transform', route: 'pro', decisionSource: 'classifier' }],
    ['', { class: 'chat', route: 'nano', decisionSource: 'classifier' }],
  ];
  for (const [content, expected] of cases) {
    it(`sends “${content.slice(0, 40)}” to ${expected.route ?? 'where it belongs'}`, () =>
      expect(route(content)).to.include(expected));
  }

  it('needs no tools where none that help are offered', () => {
    expect(route('what is 2+2', { toolsOffered: [] })).to.include({ needsTools: false, route: 'pro' });
    expect(route('what is 2+2', { toolsOffered: ['current_time'] })).to.include({
      needsTools: false,
      route: 'pro',
    });
  });

  it('obeys a route that was asked for, and still says what the message is', () => {
    const decision = route('what is 2+2', { requestedRoute: 'nano' });
    expect(decision).to.include({
      route: 'nano',
      class: 'factual',
      decisionSource: 'hard_rule',
      confidence: 'verified',
    });
    expect(decision.matchedPatterns).to.deep.equal(['requested route nano', 'arithmetic']);
  });

  it('names a model that was asked for', () => {
    const decision = route('hello', { requestedModel: 'openai/gpt-4o' });
    expect(decision).to.include({ decisionSource: 'hard_rule', route: 'nano' });
    expect(decision.matchedPatterns).to.include('requested model openai/gpt-4o');
  });

  it('takes the highest risk of all that matches', () => {
    expect(route('hello, is this medication legal')).to.include({ riskIfWrong: 'high' });
  });

  it('gives a sound decision for anything, always the same, and at once', () => {
    const content = fc.oneof(
      fc.string({ unit: 'binary', maxLength: 300 }),
      fc.string({ maxLength: 50 }).map((s) => s.repeat(600)),
    );
    fc.assert(
      fc.property(content, (text) => {
        const began = performance.now();
        const decision = route(text);
        expect(performance.now() - began).to.be.lessThan(200);
        routerDecision.parse({ ...decision, decisionTimeMs: 0 });
        expect(route(text)).to.deep.equal(decision);
      }),
    );
  });

  it('is not slowed down by text made to slow it down', () => {
    for (const text of [
      'buy '.repeat(8_000),
      'search '.repeat(4_000),
      'my favourite '.repeat(2_500),
      '1 '.repeat(16_000),
      ' '.repeat(32_000),
    ]) {
      const began = performance.now();
      route(text);
      expect(performance.now() - began, text.slice(0, 10)).to.be.lessThan(200);
    }
  });
});
