import { expect } from 'chai';
import { defaultBudget, defaultPolicy } from '../../../contracts/commands/agent.ts';
import type { AgentDocument } from '../../../contracts/read-models/documents.ts';
import { chooseByRule } from './plans.ts';

const agent = (name: string, description: string): AgentDocument => ({
  ...{ id: name, owner: 'somebody', name, description, instructions: 'Do it.', model: null, tools: null },
  ...{ budget: defaultBudget, policy: defaultPolicy, shared: true, aliases: [] },
  ...{ createdAt: '2026-01-01T00:00:00.000Z', updatedAt: '2026-01-01T00:00:00.000Z' },
});

describe('agents that are chosen by rule', () => {
  it('are those whose words the task uses, in its order; else the assistant', () => {
    const agents = [
      agent('assistant', 'Helps with whatever comes up.'),
      agent('coder', 'Writes and debugs programs.'),
      agent('analyst', 'Computes figures.'),
    ];
    const chosen = (task: string) => chooseByRule(task, agents).map(({ name }) => name);
    expect(chosen('Analyse the sales, then have the programs debugged')).to.deep.equal(['analyst', 'coder']);
    expect(chosen('Hm?')).to.deep.equal(['assistant']);
  });

  it('are chosen soon, however often a long task says a word of many long descriptions', () => {
    const agents = Array.from({ length: 50 }, (_, at) => agent(`coder-${at}`, 'code the world '.repeat(130)));
    const started = performance.now();
    expect(chooseByRule('code '.repeat(4_000), agents)).to.have.length(4);
    expect(performance.now() - started).to.be.lessThan(1_000);
  });
});
