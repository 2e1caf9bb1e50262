/** The steps of an orchestration, from what was asked for. Pure. */
import { z } from 'zod';
import { PLAN_ONLY, TOOLS_LATER } from '../../../contracts/commands/orchestration.ts';
import type { Run } from '../../../contracts/events/conversation.ts';
import type { OrchestrationStep } from '../../../contracts/events/orchestration.ts';
import type { AgentDocument } from '../../../contracts/read-models/documents.ts';

/** An agent as it was called, and what a run of it is allowed. */
export interface Member {
  readonly calledAs: string;
  readonly agent: AgentDocument;
  readonly run: Run;
}
export interface Assignment {
  readonly member: Member;
  readonly task: string;
  /** What is added to the agent's instructions. */
  readonly instructions: string | null;
}

function runStep(id: string, { member, task, instructions }: Assignment, after: readonly string[]) {
  const { calledAs, agent, run } = member;
  const { trigger: _trigger, parent: _parent, orchestrationId: _id, sourceAgent: _source, ...allowed } = run;
  const step = { kind: 'run' as const, id, calledAs, run: allowed, model: agent.model, task, instructions };
  return { ...step, after: [...after] };
}

/** `agent_1`, `agent_2`, …: at once, or each after all before it. */
export function teamSteps(team: readonly Assignment[], parallel: boolean): OrchestrationStep[] {
  const idOf = (index: number) => `agent_${index + 1}`;
  return team.map((assignment, index) =>
    runStep(idOf(index), assignment, parallel ? [] : team.slice(0, index).map((_, before) => idOf(before))),
  );
}

/** Everybody is given the whole task, and told who else works on it. */
export const sharedTask = (task: string, members: readonly Member[]): Assignment[] =>
  members.map((member, index) => ({ member, task, instructions: withOthers(members, index) }));

function withOthers(members: readonly Member[], index: number): string | null {
  if (members.length === 1) return null;
  const others = members.filter((_, other) => other !== index).map(({ agent }) => agent.name);
  return `You work on this task with others: ${others.join(', ')}. Do the part of it that is yours as ${members[index]!.agent.name}.`;
}

const planningWith = (
  tools: readonly string[],
) => `${PLAN_ONLY} The Council judges the plan before you may act.
${TOOLS_LATER} ${tools.length === 0 ? 'none' : tools.join(', ')}
Say what you will do, in which order and with which tools, what could go wrong, and how it will be seen that the task is done.`;
const WORKING = 'Carry out your plan, which the Council has approved, and heed what the Council says of it.';

/**
 * Plan, judgement, work, judgement.
 * @param planner the agent, allowed no tools: it only writes its plan
 * @param toolNames all tools that there are
 */
export function delegationSteps(
  task: string,
  planner: Member,
  worker: Member,
  toolNames: readonly string[],
): OrchestrationStep[] {
  const { name } = worker.agent;
  const allowed = worker.run.tools;
  const tools = toolNames.filter((tool) => allowed === null || allowed.includes(tool));
  return [
    runStep('plan', { member: planner, task, instructions: planningWith(tools) }, []),
    {
      kind: 'judgement',
      id: 'plan_judgement',
      purpose: 'plan',
      judges: 'plan',
      question: `May ${name} act on this plan? It is to serve the task, to be feasible, and to do no harm.`,
      after: ['plan'],
    },
    runStep('work', { member: worker, task, instructions: WORKING }, ['plan', 'plan_judgement']),
    {
      kind: 'judgement',
      id: 'result_judgement',
      purpose: 'result',
      judges: 'work',
      question: `May the result of ${name} be handed over? It is to do what the task asks for, and to be true.`,
      after: ['work'],
    },
  ];
}

// ── who does what, where nobody said so ───────────────────────────────────
/** So many agents at most are chosen for a task. */
const MAX_CHOSEN = 4;
/** Of so many a planner is told, and so much of each, that its instructions are not too long. */
const MAX_KNOWN = 100;
const LONGEST_DESCRIPTION = 200;

/** Which agents fit the task, by the words of both, in the order in which their words come in the task. */
export function chooseByRule(task: string, agents: readonly AgentDocument[]): readonly AgentDocument[] {
  const words = wordsOf(task);
  const scored = agents
    .map((agent) => {
      const names = [agent.name, ...agent.aliases].flatMap((name) => wordsOf(name.replace(/[-_]/g, ' ')));
      const description = wordsOf(agent.description);
      const named = new Set(words.filter((word) => names.some((name) => akin(word, name))));
      const described = new Set(words.filter((word) => description.some((other) => akin(word, other))));
      const first = words.findIndex((word) => named.has(word) || described.has(word));
      return { agent, first, score: 3 * named.size + described.size };
    })
    .filter(({ score }) => score > 0)
    .sort((a, b) => b.score - a.score)
    .slice(0, MAX_CHOSEN)
    .sort((a, b) => a.first - b.first);
  if (scored.length > 0) return scored.map(({ agent }) => agent);
  const assistant = agents.find(({ name }) => name === 'assistant') ?? agents[0];
  return assistant === undefined ? [] : [assistant];
}

/** Words that say nothing of what a task is about. */
const COMMON = new Set(
  'about after again agents another anything before could does done each every first from have into just like make more most much need only other over please shall should some something such task than that their them then there these they thing things this those what when where which while will with work would your'.split(
    ' ',
  ),
);
/** So many words of a text are compared, each with each of the other text: both come from outside. */
const MAX_WORDS = 300;
/** Different ones, in the order in which they come first. */
const wordsOf = (text: string): string[] =>
  [...new Set(text.toLowerCase().match(/\p{L}{4,}/gu))]
    .filter((word) => !COMMON.has(word))
    .slice(0, MAX_WORDS);
/** Words with the same beginning: `analyse`, `analysis`, `analyst`. */
const akin = (a: string, b: string): boolean => {
  const length = Math.max(4, Math.min(a.length, b.length) - 2);
  return a.slice(0, length) === b.slice(0, length);
};

/** What is added to a planner's instructions. */
export const planning = (agents: readonly AgentDocument[]): string =>
  `Do not carry the task out: divide it among agents. Answer with JSON alone, in this form:
{"steps": [{"agent": "<name>", "task": "<what it is to do, complete in itself>"}]}
Name 1 to ${MAX_CHOSEN} steps, in the order in which they are to be done: each agent sees the results of those before it. The agents:
${agents
  .slice(0, MAX_KNOWN)
  .map(({ name, description }) => `- ${name}: ${description.slice(0, LONGEST_DESCRIPTION)}`)
  .join('\n')}`;

const plan = z.object({
  steps: z
    .array(z.object({ agent: z.string(), task: z.string().min(1).max(16_000) }))
    .min(1)
    .max(2 * MAX_CHOSEN),
});

/** The plan in a planner's answer; or why it cannot be used. */
export function planOf(
  answer: string,
  agents: readonly AgentDocument[],
): { readonly steps: readonly { agent: AgentDocument; task: string }[] } | { readonly unusable: string } {
  const json = answer.slice(answer.indexOf('{'), answer.lastIndexOf('}') + 1);
  let parsed: z.infer<typeof plan>;
  try {
    parsed = plan.parse(JSON.parse(json));
  } catch {
    return { unusable: 'it is not of the form that was asked for' };
  }
  const steps: { agent: AgentDocument; task: string }[] = [];
  for (const { agent: name, task } of parsed.steps) {
    const agent = agents.find((known) => known.name === name || known.aliases.includes(name));
    if (agent === undefined) return { unusable: `it names an agent that there is not: ${name}` };
    steps.push({ agent, task: task.toWellFormed() });
  }
  return { steps };
}
