/** Sections of the README that are written by programs: each between `<!-- name -->` and `<!-- /name -->`. */
import { readFileSync, writeFileSync } from 'node:fs';

export const README = 'README.md';

/** @throws Error when the text has no such marks */
export function sectionOf(readme: string, name: string): string {
  const [begin, end] = marks(readme, name);
  return readme.slice(begin, end).trim();
}

/** @throws Error when the text has no such marks */
export function withSection(readme: string, name: string, section: string): string {
  const [begin, end] = marks(readme, name);
  return `${readme.slice(0, begin)}\n\n${section}\n\n${readme.slice(end)}`;
}

export function writeSection(name: string, section: string): void {
  writeFileSync(README, withSection(readFileSync(README, 'utf8'), name, section));
}

function marks(readme: string, name: string): [number, number] {
  const [begin, end] = [`<!-- ${name} -->`, `<!-- /${name} -->`];
  const [from, to] = [readme.indexOf(begin), readme.indexOf(end)];
  if (from < 0 || to < from) throw new Error(`The README has no place between ${begin} and ${end}`);
  return [from + begin.length, to];
}
