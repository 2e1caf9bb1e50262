import { expect } from 'chai';
import { partsOf, planText, reportText, type ToolCall } from './tasks.ts';

const tools = new Set(['calculate', 'current_time', 'search_conversations', 'recall_facts']);
const plan = (task: string, offered = tools) => planText(task, partsOf(task), offered).split('\n');
const callsFor = (task: string): readonly ToolCall[] => partsOf(task).flatMap(({ calls }) => calls);

describe('a task of the built-in assistant', () => {
  it('is planned from its own words, with the tools that there are', () => {
    expect(plan('Compute 17*23 and tell whether it is above 400').slice(1, 4)).to.deep.equal([
      '1. Calculate 17*23 with calculate.',
      '2. Compare 17*23 with 400, by their difference, with calculate.',
      '3. Report 17*23 and how 17*23 stands to 400.',
    ]);
    expect(
      plan('Search my conversations for Lisbon and summarise what was decided').slice(1, 3),
    ).to.deep.equal([
      '1. Search the conversations for “Lisbon” with search_conversations.',
      '2. “summarise what was decided”: this part needs a language model, for no tool that I have does it.',
    ]);
    expect(plan('What is 6 * 7?', new Set())[1]).to.include('would take the tool calculate');
  });

  it('is taken apart into the calls that it takes', () => {
    const expressions = (task: string) => callsFor(task).map((call) => call.arguments.expression);
    expect(expressions('Add 15 and 27, then multiply the result by 3 and report it')).to.deep.equal([
      '15 + 27',
      '(15 + 27) * 3',
    ]);
    expect(expressions('What is the average of 10, 20 and 33?')).to.deep.equal(['(10 + 20 + 33) / 3']);
    expect(callsFor('Recall my facts about tea')).to.deep.equal([
      { tool: 'recall_facts', arguments: { query: 'tea' } },
    ]);
    expect(callsFor('Days left until 2026-12-24?').map(({ tool }) => tool)).to.deep.equal(['current_time']);
  });

  it('is reported part by part, and says what was not done', () => {
    const report = (task: string, offered = tools) =>
      reportText(partsOf(task), () => ({ result: { result: '5' }, isError: false }), offered);
    expect(report('Days between 2026-01-01 and 2026-03-01')).to.equal(
      'From 2026-01-01 to 2026-03-01 it is 59 days.',
    );
    expect(report('Calculate 2 + 3 and write a poem about it')).to.equal(
      '2 + 3 = 5\nNot done: “write a poem about it”. That needs a language model.',
    );
    const none = reportText(partsOf('Calculate 2 + 3'), () => undefined, new Set());
    expect(none).to.equal('Not done: “Calculate 2 + 3”. The tool calculate is not offered to me here.');
  });
});
