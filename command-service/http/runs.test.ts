/** The queues of agents, with read models that answer when the test says so. */
import { expect } from 'chai';
import { defaultPolicy } from '../../contracts/commands/agent.ts';
import type { AgentDocument } from '../../contracts/read-models/documents.ts';
import { createAgentRuns } from './runs.ts';

describe('a place among the runs of an agent', () => {
  const agent = {
    ...{ id: 'a', name: 'clerk' },
    policy: { ...defaultPolicy, concurrency: 1, queueLength: 0 },
  } as AgentDocument;

  it('is not given away while one who leaves it is not yet seen', async () => {
    const answers: (() => void)[] = [];
    const { admit } = createAgentRuns({
      ...{ agents: {} as never, commands: {} as never, store: {} as never, serves: () => false },
      readModels: {
        get: async () => null,
        find: () =>
          new Promise((resolve) => answers.push(() => resolve({ documents: [], next: null } as never))),
      },
    });
    const answer = async () => {
      while (answers.length === 0) await new Promise(setImmediate);
      answers.shift()?.();
    };
    const first = admit(agent, 'turn_1');
    const second = admit(agent, 'turn_2');
    await answer();
    const place = await first;
    // The second is looked at: what it is told was read before the first had been seen and left.
    while (answers.length === 0) await new Promise(setImmediate);
    place.leave();
    await answer();
    const refused = await second.then(
      () => null,
      (error) => error.code,
    );
    expect(refused).to.equal('RATE_LIMIT_EXCEEDED');
    // Later there is room again.
    const third = admit(agent, 'turn_3');
    await answer();
    expect((await third).queued).to.equal(false);
  });
});
