/** The registry: every tool that a turn may use. */
import { z } from 'zod';
import type { Agents } from '../../../../contracts/read-models/agents.ts';
import type { Models } from '../../../../infra/models/port.ts';
import { type Tool, tool } from '../tool.ts';
import { explainSetupTool, listAbilitiesTool } from './abilities.ts';
import { calculate } from './calculate.ts';
import { searchConversationsTool } from './conversations.ts';
import { delegateTool } from './delegate.ts';
import { forgetFactTool, recallFactsTool, rememberFactTool } from './facts.ts';
import { currentTimeTool } from './time.ts';

const calculateTool = tool({
  name: 'calculate',
  description:
    'Arithmetic with exact decimals: + - * / ^ %, parentheses, sqrt. E.g. "12.5% of 80", "(1+2)*3".',
  input: z.object({ expression: z.string().min(1).max(1_000) }),
  readOnly: true,
  forVisitors: true,
  run: ({ expression }) => ({ expression, result: calculate(expression) }),
});

export function createTools(models: Models, agents: Agents): readonly Tool[] {
  const tools: readonly Tool[] = [
    calculateTool,
    currentTimeTool,
    rememberFactTool,
    recallFactsTool,
    forgetFactTool,
    searchConversationsTool,
    listAbilitiesTool(() => tools),
    explainSetupTool(models),
    delegateTool(agents),
  ];
  return tools;
}
