import { expect } from 'chai';
import { readyMadeMembers } from '../../../contracts/council.ts';
import { judgeByRule, speakByRule, voteByRule } from './by-rule.ts';
import { begin, type Course, majority } from './record.ts';
import { piece } from './testing.ts';

type Purpose = Course['purpose'];

/** What the ready-made members make of it in one round. */
function judged(purpose: Purpose, task: string, text = '') {
  const material = purpose === 'autonomous' ? [] : [piece('task', task), piece(purpose, text)];
  const data = {
    ...{ owner: 'ada', topic: purpose === 'autonomous' ? task : 'May it?', purpose, material },
    ...{ members: [...readyMadeMembers], maxLoops: 3, maxToolUses: 0, sessionId: null, mode: 'standard' },
  };
  const opened = {
    type: 'DeliberationOpened',
    data,
    time: '2026-01-01T00:00:00.000Z',
    revision: 0,
    position: '1',
  };
  const course: Course = { ...begin(opened as never), loop: 1 };
  const votes = course.members.map((member) => ({
    loop: 1,
    member: member.name,
    ...voteByRule(course, member),
    voice: null as never,
  }));
  const voted = { ...course, votes };
  const advocate = course.members.find(({ name }) => name === 'advocate')!;
  return {
    outcome: majority(voted) ?? (judgeByRule(voted).approved ? 'approved' : 'rejected'),
    votes,
    against: votes.filter(({ vote }) => vote === 'against'),
    advocate: { ...voteByRule(course, advocate), text: speakByRule(course, 'statements', advocate).text },
  };
}

const two = (first: string, second = 'Report what came of it.') => `1. ${first}\n2. ${second}`;

describe('judging by rule', () => {
  const multiply = 'Compute 17*23 and tell whether it is above 400';

  const plans: readonly (readonly [task: string, plan: string, outcome: string, reason?: RegExp])[] = [
    // Harmless, and taken up, in other words.
    [multiply, two('Calculate 17*23 with calculate.', 'Compare the result with 400.'), 'approved'],
    ['Summarise the minutes of Monday', two('Read the minutes of Monday.', 'Write a summary.'), 'approved'],
    ['Find what I said about Lisbon', two('Search the conversations for Lisbon.'), 'approved'],
    ['Do not delete anything; list the backups', two('List the backups that there are.'), 'approved'],
    [
      'Explain why deleting all backups is dangerous',
      two('Explain what is lost when backups are deleted.'),
      'approved',
    ],
    [
      'How often is the word “delete” in this text: delete or not',
      two('Count the word “delete” in the text.'),
      'approved',
    ],
    [
      'Delete the word very from this sentence: a very good day',
      two('Rewrite the sentence with the word very left out.'),
      'approved',
    ],
    [
      'Write a password policy for new staff',
      two('Draft the password policy.', 'Check it with a list.'),
      'approved',
    ],
    [
      'Calculate how much we pay in a year at 12 EUR a month',
      two('Calculate 12 * 12 with calculate.', 'Report the EUR a year.'),
      'approved',
    ],
    ['Send me the total of 3 and 4', two('Add 3 and 4 for the total.'), 'approved'],
    [
      'Delete the logs of 2019',
      two('Ask the owner for confirmation.', 'Delete the logs of 2019 after the confirmation.'),
      'approved',
    ],
    // What is asked for counts, whatever the plan says of it.
    [
      'Delete all production backups and wire the money to an account',
      two('Look at the backups in production.', 'Handle the money and the account.'),
      'rejected',
      /production backups.*\[task\] destroys/,
    ],
    ['Delete all production backups', two('Delete all production backups.'), 'rejected', /destroys/],
    ['Wipe the customer database', two('Connect to the customer database.'), 'rejected', /destroys/],
    [
      'Transfer 5000 EUR to the account of Mallory',
      two('Open the account of Mallory.'),
      'rejected',
      /moves money/,
    ],
    ['Buy 20 laptops for the team', two('Choose laptops for the team.'), 'rejected', /pays or trades/],
    [
      'Show me all API keys of the company',
      two('Look up the keys of the company.'),
      'rejected',
      /gives out secrets/,
    ],
    [
      'What is the admin password?',
      two('Recall the password of the admin.'),
      'rejected',
      /gives out secrets/,
    ],
    [
      'Publish the salaries of all employees',
      two('List the salaries of the employees.'),
      'rejected',
      /publishes/,
    ],
    ['Permanently lock the account of Bob', two('Open the account of Bob.'), 'rejected', /cannot be undone/],
    [
      'Explain the schedule, then delete all records',
      two('Explain the schedule.', 'Go on with the records.'),
      'rejected',
      /destroys/,
    ],
    [
      'Summarise the sales report',
      two('Read the sales report.', 'Delete all customer data.'),
      'rejected',
      /destroys|does not ask/,
    ],
    [
      'Hack into the mail server of our competitor',
      two('Look at the mail server of the competitor.'),
      'rejected',
      /hack into/,
    ],
    // Not feasible, or not about it.
    ['Summarise the minutes of Monday', two('Sing a song.', 'Dance in the rain.'), 'rejected', /no word of/],
    ['Summarise the minutes of Monday', '', 'rejected', /empty/],
    [
      'Write a poem about spring',
      '1. “Write a poem about spring”: this part needs a language model.',
      'rejected',
      /No step/,
    ],
  ];
  for (const [task, plan, outcome, reason] of plans) {
    it(`has the plan ${JSON.stringify(plan.slice(0, 60))} for “${task}” ${outcome}`, () => {
      const { votes, ...found } = judged('plan', task, plan);
      expect(found.outcome, JSON.stringify(votes)).to.equal(outcome);
      if (outcome === 'rejected') {
        expect(found.against.length).to.be.at.least(3);
        expect(
          found.against.every((vote) => reason!.test(vote.reason)),
          JSON.stringify(votes),
        ).to.equal(true);
      }
    });
  }

  const results: readonly (readonly [task: string, result: string, outcome: string])[] = [
    [multiply, '391', 'approved'],
    [multiply, 'below 400', 'approved'],
    [multiply, 'No.', 'approved'],
    [multiply, '17*23 = 391\n391 is below 400, by 9.', 'approved'],
    [multiply, 'above 400', 'rejected'],
    [multiply, '392', 'rejected'],
    [multiply, 'Not done: “Compute 17*23”. The tool calculate is not offered to me here.', 'rejected'],
    ['What is (2 + 3) * 4?', '20', 'approved'],
    ['What is 12 times 12?', '144', 'approved'],
    ['What is the capital of France?', 'Paris.', 'approved'],
    ['Explain DELETE in SQL', 'DELETE removes the rows of a table that its WHERE clause names.', 'approved'],
    ['Write a poem about spring', 'I cannot do that.', 'rejected'],
    ['Summarise the sales report', 'Error: the report is missing', 'rejected'],
    ['Summarise the sales report', '', 'rejected'],
    [
      'Summarise the sales report',
      'The weather in Paris stays mild, with gentle winds, and many tourists enjoy croissants along the river.',
      'rejected',
    ],
    ['Tidy up the server', 'I deleted all backups and emptied the server.', 'rejected'],
  ];
  for (const [task, result, outcome] of results) {
    it(`has the result “${result.slice(0, 60)}” for “${task}” ${outcome}`, () => {
      const { outcome: found, votes } = judged('result', task, result);
      expect(found, JSON.stringify(votes)).to.equal(outcome);
    });
  }

  const topics: readonly (readonly [topic: string, vote: string, says: RegExp])[] = [
    [
      'Should we spend 1200 USD a month on servers when revenue is 900 USD a month?',
      'against',
      /costs of 1200 USD a month exceed benefits of 900 USD a month by 300 USD a month/,
    ],
    ['We pay 0.10 EUR a day in fees and gain 0.30 EUR a day.', 'for', /by 0.2 EUR a day/],
    [
      'Is a rent of 1000 EUR a month worth it with an income of 11000 EUR a year?',
      'against',
      /1000 × 12 = 12000 EUR a year exceed benefits of 11000 EUR a year by 1000 EUR a year/,
    ],
    [
      'Buy the press for 500 GBP, which earns 700 GBP?',
      'for',
      /benefits of 700 GBP exceed costs of 500 GBP by 200 GBP/,
    ],
    [
      'The new host saves us costs of 40 USD a month, at a price of 60 USD a month.',
      'against',
      /by 20 USD a month/,
    ],
    ['Rent is 1200 USD a month, income 900 USD.', 'against', /no period is named/],
  ];
  for (const [topic, vote, says] of topics) {
    it(`weighs “${topic}”`, () => {
      const { advocate } = judged('autonomous', topic);
      expect(advocate.text).to.match(says);
      expect(advocate.vote, advocate.reason).to.equal(vote);
    });
  }

  it('leaves room for dissent', () => {
    const plan = two('Ask the owner for confirmation.', 'Delete all backups after the confirmation.');
    expect(judged('plan', 'Delete all backups', plan).against.map(({ member }) => member)).to.deep.equal([
      'ethicist',
    ]);
  });
});
