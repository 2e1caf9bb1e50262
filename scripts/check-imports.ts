/** Fails when an import breaks the rules of `import-rules.ts`. */
import { globSync, readFileSync } from 'node:fs';
import { checkImports } from './import-rules.ts';

const files = globSync('**/*.ts', { exclude: ['node_modules', 'data'] });
const violations = checkImports(new Map(files.map((file) => [file, readFileSync(file, 'utf8')])));
for (const { file, line, message } of violations) console.error(`${file}:${line} ${message}`);
console.log(`${files.length} files, ${violations.length} imports that break the rules`);
process.exitCode = violations.length === 0 ? 0 : 1;
