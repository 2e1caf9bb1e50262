/**
 * The import rules of DESIGN.md as data, and the check that holds the sources to them. Pure: sources in,
 * violations out. Type-only imports count too: they tie files together just as well.
 */
import { dirname, join, matchesGlob } from 'node:path/posix';
import { parseSync, Visitor } from 'oxc-parser';

interface FolderRule {
  /** The rule for files that match; the first one that does, counts. */
  readonly files: string;
  /** The files of the project that they may import. */
  readonly project: readonly string[];
  /** The third-party packages that they may import. */
  readonly packages: 'any' | readonly string[];
  /** Whether they may import Node's own modules, or only types of them. */
  readonly node: 'any' | 'types' | readonly string[];
}

const anything = { project: ['**'], packages: 'any', node: 'any' } as const;
const ports = 'infra/*/port.ts';
/** Tests and what they share; nothing else imports them. */
const tests = '{**/*.test.ts,**/*.fixture.ts,**/{testing,fixture,conformance}.ts,test/**}';

const folderRules: readonly FolderRule[] = [
  { files: tests, ...anything },
  { files: 'contracts/**', project: ['contracts/**'], packages: ['zod'], node: 'types' },
  {
    // Deciders: no clock, no random, no I/O. Hashing is none of these.
    files: 'command-service/domain/**',
    project: ['command-service/domain/**', 'command-service/command.ts', 'contracts/**'],
    packages: ['zod', 'decimal.js'],
    node: ['node:crypto'],
  },
  {
    files: 'command-service/**',
    project: ['command-service/**', 'contracts/**', ports],
    packages: ['zod', 'decimal.js', 'lru-cache', 'uuid'],
    node: 'any',
  },
  {
    files: 'projections/**',
    project: ['projections/**', 'contracts/**', ports],
    packages: ['zod', 'decimal.js'],
    node: 'any',
  },
  {
    files: 'query-service/**',
    project: ['query-service/**', 'contracts/**', ports],
    packages: [
      'zod',
      'ws',
      'lru-cache',
      'socket.io',
      'engine.io',
      'graphql',
      'graphql-yoga',
      'graphql-ws',
      'dataloader',
      '@graphql-yoga/render-graphiql',
      'zod-openapi',
    ],
    node: 'any',
  },
  // An adapter sees its own folder and the ports of the others.
  { files: 'infra/**', project: ['{own folder}/**', 'contracts/**', ports], packages: 'any', node: 'any' },
  { files: '{bench,scripts}/**', ...anything },
  { files: '*.ts', ...anything },
];

/** Packages that stay behind one port, so that they can be replaced there: the files that may import them. */
const packageHomes: Readonly<Record<string, string>> = {
  'better-sqlite3': 'infra/{event-store,read-models,search}/**',
  'sqlite-vec': 'infra/search/**',
  '@energetic-ai/*': 'infra/search/**',
  '@eventstore/db-client': 'infra/event-store/event-store-db.ts',
  kafkajs: 'infra/bus/kafka/client.ts',
  mongodb: 'infra/read-models/mongodb/**',
  '@ai-sdk/*': 'infra/models/**',
  ai: 'infra/models/**',
  '@node-rs/argon2': 'infra/auth/**',
  jsonwebtoken: 'infra/auth/**',
  express: 'infra/http/**',
  pino: 'infra/telemetry/**',
  'prom-client': 'infra/telemetry/**',
};
/** Tests and benchmarks hold our code against the bare package. */
const mayUseAnyPackage = [tests, '{bench,scripts}/**'];

export interface Violation {
  readonly file: string;
  /** Counted from 1. */
  readonly line: number;
  readonly message: string;
}

interface Import {
  /** As it is written. */
  readonly specifier: string;
  readonly typeOnly: boolean;
  readonly line: number;
}

/**
 * @param sources every TypeScript file of the project: its path from the root, with `/`, and its text
 * @returns what breaks the rules, by file and line
 */
export function checkImports(sources: ReadonlyMap<string, string>): Violation[] {
  const violations: Violation[] = [];
  const graph = new Map<string, Map<string, number>>();
  for (const [file, source] of sources) {
    const targets = new Map<string, number>();
    graph.set(file, targets);
    for (const found of importsOf(file, source)) {
      const target = found.specifier.startsWith('.') ? join(dirname(file), found.specifier) : null;
      if (target !== null && sources.has(target)) targets.set(target, found.line);
      const message = target === null ? checkExternal(file, found) : checkProject(file, target);
      if (message !== null) violations.push({ file, line: found.line, message });
    }
  }
  return [...violations, ...findCycles(graph)].sort((a, b) =>
    a.file < b.file ? -1 : a.file > b.file ? 1 : a.line - b.line,
  );
}

function checkProject(file: string, target: string): string | null {
  if (target === 'main.ts') return 'nothing imports main.ts';
  if (matchesGlob(target, tests) && ![tests, 'bench/**'].some((glob) => matchesGlob(file, glob))) {
    return `${target} is for tests`;
  }
  const rule = ruleFor(file);
  if (rule === undefined) return 'no rule in scripts/import-rules.ts covers this file';
  const ownFolder = file.split('/').slice(0, 2).join('/');
  const allowed = rule.project.map((glob) => glob.replace('{own folder}', ownFolder));
  if (allowed.some((glob) => matchesGlob(target, glob))) return null;
  return `${rule.files} may not import ${target}; of the project, only ${allowed.join(', ')}`;
}

function checkExternal(file: string, { specifier, typeOnly }: Import): string | null {
  const rule = ruleFor(file);
  if (rule === undefined) return 'no rule in scripts/import-rules.ts covers this file';
  if (specifier.startsWith('node:')) {
    if (rule.node === 'any' || (rule.node === 'types' ? typeOnly : rule.node.includes(specifier)))
      return null;
    const allowed = rule.node === 'types' ? 'types of it' : rule.node.join(', ');
    return `${rule.files} may not import ${specifier}; of Node, only ${allowed}`;
  }
  const name = specifier.split('/', specifier.startsWith('@') ? 2 : 1).join('/');
  if (rule.packages !== 'any' && !rule.packages.includes(name)) {
    return `${rule.files} may not import ${name}; of packages, only ${rule.packages.join(', ')}`;
  }
  const home = Object.entries(packageHomes).find(([pattern]) => matchesGlob(name, pattern))?.[1];
  if (
    home === undefined ||
    matchesGlob(file, home) ||
    mayUseAnyPackage.some((glob) => matchesGlob(file, glob))
  ) {
    return null;
  }
  return `${name} stays in ${home}`;
}

const ruleFor = (file: string): FolderRule | undefined =>
  folderRules.find((rule) => matchesGlob(file, rule.files));

/** Every import, re-export, `import()` of a literal and `import('…')` type of a file. */
function importsOf(file: string, source: string): Import[] {
  const { program, errors } = parseSync(file, source);
  if (errors.length > 0) throw new SyntaxError(`${file}: ${errors[0]?.message}`);
  const found: Import[] = [];
  const add = (node: { start: number }, specifier: string, typeOnly: boolean): void => {
    found.push({ specifier, typeOnly, line: source.slice(0, node.start).split('\n').length });
  };
  new Visitor({
    ImportDeclaration(node) {
      const named = node.specifiers;
      const eachIsType =
        named.length > 0 && named.every((one) => one.type === 'ImportSpecifier' && one.importKind === 'type');
      add(node, node.source.value, node.importKind === 'type' || eachIsType);
    },
    ExportNamedDeclaration(node) {
      if (node.source !== null) add(node, node.source.value, node.exportKind === 'type');
    },
    ExportAllDeclaration(node) {
      add(node, node.source.value, node.exportKind === 'type');
    },
    ImportExpression(node) {
      if (node.source.type === 'Literal' && typeof node.source.value === 'string') {
        add(node, node.source.value, false);
      }
    },
    TSImportType(node) {
      add(node, node.source.value, true);
    },
  }).visit(program);
  return found;
}

/** Each file that can be reached from itself, reported once, at the import that closes the circle. */
function findCycles(graph: ReadonlyMap<string, ReadonlyMap<string, number>>): Violation[] {
  const violations: Violation[] = [];
  const done = new Set<string>();
  const path: string[] = [];
  const visit = (file: string): void => {
    path.push(file);
    for (const [target, line] of graph.get(file) ?? []) {
      const start = path.indexOf(target);
      if (start >= 0) {
        const circle = [...path.slice(start), target].join(' → ');
        violations.push({ file, line, message: `files must not import each other in a circle: ${circle}` });
      } else if (!done.has(target)) visit(target);
    }
    path.pop();
    done.add(file);
  };
  for (const file of graph.keys()) if (!done.has(file)) visit(file);
  return violations;
}
