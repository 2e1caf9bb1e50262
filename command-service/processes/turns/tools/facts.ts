/** Remembering, recalling and forgetting what is known about the user. */
import { z } from 'zod';
import { factCategory } from '../../../../contracts/events/memory.ts';
import type { FactDocument } from '../../../../contracts/read-models/documents.ts';
import { factIdFor, forgetFact, rememberFact } from '../../../domain/fact.ts';
import { tool } from '../tool.ts';

export const rememberFactTool = tool({
  name: 'remember_fact',
  description: 'Remember a fact about the user for later conversations. The same key replaces the value.',
  input: z.object({
    category: factCategory.default('personal'),
    key: z.string().min(1).max(200).describe('What it is about, e.g. "favourite colour"'),
    value: z.string().min(1).max(2_000),
  }),
  readOnly: false,
  async run({ category, key, value }, { owner, conversationId, turnId, bus, meta }) {
    const input = { owner, category, key, value, confidence: 1, conversationId, turnId };
    await bus.dispatch(rememberFact, input, meta);
    return { factId: factIdFor(owner, category, key), category, key, value };
  },
});

export const recallFactsTool = tool({
  name: 'recall_facts',
  description: 'What is known about the user, all of it or what matches a word or a category.',
  input: z.object({ query: z.string().max(200).optional(), category: factCategory.optional() }),
  readOnly: true,
  async run({ query, category }, { owner, readModels, settled }) {
    await settled();
    const { documents } = await readModels.find<FactDocument>('facts', {
      where: { owner, ...(category && { category }) },
      limit: 500,
    });
    const words = (query ?? '').toLowerCase().split(/\s+/).filter(Boolean);
    const facts = documents
      .map(({ body }) => ({ factId: body.id, category: body.category, key: body.key, value: body.value }))
      .filter((fact) => {
        const text = `${fact.category} ${fact.key} ${fact.value}`.toLowerCase();
        return words.every((word) => text.includes(word));
      });
    return { facts };
  },
});

export const forgetFactTool = tool({
  name: 'forget_fact',
  description: 'Forget a fact about the user. Takes the factId that recall_facts gives.',
  input: z.object({
    factId: z.string(),
    reason: z.string().min(1).max(500).default('the user asked for it'),
  }),
  readOnly: false,
  async run({ factId, reason }, { owner, bus, meta }) {
    await bus.dispatch(forgetFact, { owner, factId, reason }, meta);
    return { factId, forgotten: true };
  },
});
