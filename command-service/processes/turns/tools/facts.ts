/** Remembering, recalling and forgetting what is known about the user. */
import { z } from 'zod';
import { Refusal } from '../../../../contracts/errors.ts';
import { type FactCategory, factCategory } from '../../../../contracts/events/memory.ts';
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
  description: 'Forget a fact about the user, by its key; without a category, whichever category it is in.',
  input: z.object({
    category: factCategory.optional(),
    key: z.string().min(1).max(200).describe('As remember_fact and recall_facts name it'),
    reason: z.string().min(1).max(500).default('the user asked for it'),
  }),
  readOnly: false,
  async run({ category, key, reason }, { owner, bus, meta }) {
    const forgotten: { category: FactCategory; key: string }[] = [];
    // Facts have their ids from category and key: trying them all needs no search, and can be repeated safely.
    for (const one of category === undefined ? factCategory.options : [category]) {
      const factId = factIdFor(owner, one, key);
      try {
        await bus.dispatch(forgetFact, { owner, factId, reason }, meta);
        forgotten.push({ category: one, key });
      } catch (error) {
        if (!(error instanceof Refusal && error.code === 'NOT_FOUND')) throw error;
      }
    }
    if (forgotten.length > 0) return { forgotten };
    const where = category === undefined ? '' : ` in the category ${category}`;
    throw new Error(`There is no fact named "${key}"${where}.`);
  },
});
