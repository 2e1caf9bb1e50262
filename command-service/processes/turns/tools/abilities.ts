/** What the assistant can do here, and how to give it a language model. */
import { z } from 'zod';
import type { Models } from '../../../../infra/models/port.ts';
import { type Tool, tool } from '../tool.ts';

export const listAbilitiesTool = (tools: () => readonly Tool[]): Tool =>
  tool({
    name: 'list_abilities',
    description: 'The tools that can be used in this conversation.',
    input: z.object({}),
    readOnly: true,
    run: () => ({
      tools: tools().map(({ name, description, readOnly }) => ({ name, description, readOnly })),
    }),
  });

export const explainSetupTool = (models: Models): Tool =>
  tool({
    name: 'explain_setup',
    description: 'Which models are connected, and how to connect another.',
    input: z.object({}),
    readOnly: true,
    run: () => ({
      connected: models.list().map(({ provider, model }) => `${provider}/${model}`),
      steps: [
        'Set one of these environment variables (or put it into a .env file) and start Odeon again:',
        'ANTHROPIC_API_KEY=… for Anthropic',
        'OPENAI_API_KEY=… for OpenAI; OPENAI_BASE_URL=http://127.0.0.1:8080/v1 for llama.cpp, vLLM or LM Studio',
        'ZAI_API_KEY=… for z.ai',
        'OLLAMA_BASE_URL=http://127.0.0.1:11434 for Ollama',
        'MODELS_NANO, MODELS_PRO and MODELS_TOOLS choose who answers what, e.g. MODELS_PRO=anthropic/MODEL,openai/MODEL',
      ],
    }),
  });
