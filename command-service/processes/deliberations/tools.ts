/** The tools of a deliberation: only those that change nothing, and what they find as material. */
import type { Material } from '../../../contracts/events/deliberation.ts';
import type { Tool } from '../turns/tool.ts';
import type { Course, Sought } from './record.ts';

/** So often the same may be asked; who asks for it again goes round in circles. */
export const IDENTICAL_USES = 2;
/** Of what a tool found, in UTF-16 code units: what is longer is cut, and says so. */
const MAX_FOUND = 16_000;

export const readOnly = (tools: readonly Tool[]): readonly Tool[] => tools.filter((tool) => tool.readOnly);

/** The same for the same use, however its arguments are ordered. */
export const keyOf = ({ tool, arguments: given }: Sought): string => `${tool} ${canonical(given)}`;

const canonical = (value: unknown): string => {
  if (Array.isArray(value)) return `[${value.map(canonical).join(',')}]`;
  if (typeof value !== 'object' || value === null) return JSON.stringify(value) ?? 'null';
  const entries = Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1));
  return `{${entries.map(([key, one]) => `${JSON.stringify(key)}:${canonical(one)}`).join(',')}}`;
};

export const usesOf = (course: Course, sought: Sought): number =>
  course.sought.filter((one) => keyOf(one) === keyOf(sought)).length;

/** What was found by the last use, as members are shown it. */
export function materialOf(course: Course, { tool, arguments: given }: Sought, result: unknown): Material {
  const taken = new Set(course.material.map(({ id }) => id));
  let id = `found-${course.sought.length}`;
  while (taken.has(id)) id += '+';
  const values = typeof given === 'object' && given !== null ? Object.values(given) : [given];
  const about = values
    .filter((value) => typeof value === 'string')
    .join(', ')
    .slice(0, 300);
  const text = textOf(tool, result);
  return {
    id,
    title: (about === '' ? tool : `${tool}: ${about}`).toWellFormed(),
    text: (text.length > MAX_FOUND ? `${text.slice(0, MAX_FOUND)}\n[cut]` : text).toWellFormed(),
    tool,
  };
}

interface Facts {
  readonly facts: readonly { category: string; key: string; value: string }[];
}
interface Messages {
  readonly results: readonly { title: string | null; role: string; content: string }[];
}
const line = (text: string): string => text.replace(/\s+/g, ' ').trim().slice(0, 500);

/** In lines of text where the tool is known; else as JSON. */
function textOf(tool: string, result: unknown): string {
  if (typeof result === 'object' && result !== null) {
    if ('error' in result && typeof result.error === 'string') return result.error;
    if (tool === 'calculate' && 'expression' in result && 'result' in result) {
      return `${result.expression} = ${result.result}`;
    }
    if (tool === 'recall_facts' && 'facts' in result) {
      const { facts } = result as Facts;
      return listed(facts.map(({ category, key, value }) => `${key}: ${value} (${category})`));
    }
    if (tool === 'search_conversations' && 'results' in result) {
      const { results } = result as Messages;
      return listed(
        results.map(({ title, role, content }) => `${role} in “${title ?? 'untitled'}”: ${content}`),
      );
    }
  }
  return JSON.stringify(result);
}

const listed = (lines: readonly string[]): string =>
  lines.length === 0 ? 'Nothing was found.' : lines.map((one) => `- ${line(one)}`).join('\n');
