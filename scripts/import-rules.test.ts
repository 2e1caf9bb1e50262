import { expect } from 'chai';
import { checkImports } from './import-rules.ts';

/** Checks a project of these files. */
const check = (files: Record<string, string>) => checkImports(new Map(Object.entries(files)));

const contract = { 'contracts/envelope.ts': `import { z } from 'zod'; export const position = z.string();` };

describe('the import rules', () => {
  it('let each folder import what the design allows', () => {
    const violations = check({
      ...contract,
      'contracts/feeds.ts': `import type { ServerResponse } from 'node:http'; export type R = ServerResponse;`,
      'infra/event-store/port.ts': `import type { position } from '../../contracts/envelope.ts';`,
      'infra/event-store/sqlite/store.ts': `import Database from 'better-sqlite3'; import '../port.ts'; import './worker.ts';`,
      'infra/event-store/sqlite/worker.ts': `import { createHash } from 'node:crypto';`,
      'infra/telemetry/metrics.ts': `import { Counter } from 'prom-client'; import type {} from '../event-store/port.ts';`,
      'command-service/bus.ts': `import type {} from '../infra/event-store/port.ts'; import '../contracts/envelope.ts';`,
      'command-service/domain/fact.ts': `import { createHash } from 'node:crypto'; import '../../contracts/envelope.ts';`,
      'projections/facts.ts': `import { z } from 'zod'; import '../contracts/envelope.ts';`,
      'query-service/live/socket.ts': `import { WebSocketServer } from 'ws'; import '../../contracts/envelope.ts';`,
      'query-service/live/socket.test.ts': `import '../../infra/event-store/sqlite/store.ts'; import Database from 'better-sqlite3';`,
      'infra/event-store/conformance.ts': `import { expect } from 'chai'; import '../../command-service/testing.ts';`,
      'infra/event-store/sqlite/store.test.ts': `import '../conformance.ts';`,
      'bench/store.ts': `import '../infra/event-store/sqlite/store.ts'; import Database from 'better-sqlite3';`,
      'main.ts': `import './command-service/bus.ts'; import './query-service/live/socket.ts';`,
    });
    expect(violations).to.deep.equal([]);
  });

  const breaches: [string, file: string, source: string][] = [
    ['a contract uses another package', 'contracts/a.ts', `import express from 'express';`],
    ['a contract uses a function of Node', 'contracts/a.ts', `import { createHash } from 'node:crypto';`],
    ['a contract uses a port', 'contracts/a.ts', `import type { S } from '../infra/event-store/port.ts';`],
    ['the write side reads a projection', 'command-service/a.ts', `import '../projections/facts.ts';`],
    ['the read side uses the write side', 'query-service/a.ts', `import '../command-service/bus.ts';`],
    [
      'the write side uses an adapter',
      'command-service/a.ts',
      `import '../infra/event-store/sqlite/store.ts';`,
    ],
    [
      'a projection uses the read side',
      'projections/a.ts',
      `import type { Q } from '../query-service/a.ts';`,
    ],
    ['a decider does I/O', 'command-service/domain/a.ts', `import { readFile } from 'node:fs/promises';`],
    [
      'a decider uses a port',
      'command-service/domain/a.ts',
      `import type {} from '../../infra/bus/port.ts';`,
    ],
    ['a package leaves its port', 'infra/http/a.ts', `import Database from 'better-sqlite3';`],
    [
      'a package of a scope leaves its port',
      'infra/http/a.ts',
      `import { x } from '@ai-sdk/openai/internal';`,
    ],
    ['an adapter uses another adapter', 'infra/http/a.ts', `import '../event-store/sqlite/store.ts';`],
    ['anything imports the composition root', 'test/a.ts', `import '../main.ts';`],
    ['the program uses what is for tests', 'infra/http/a.ts', `import './fixture.ts';`],
    ['a file has no rule', 'elsewhere/a.ts', `import 'zod';`],
  ];
  for (const [breach, file, source] of breaches) {
    it(`report it when ${breach}`, () => {
      const violations = check({ [file]: `// first line\n${source}` });
      expect(violations.map((violation) => [violation.file, violation.line])).to.deep.equal([[file, 2]]);
    });
  }

  const forms = [
    `import '../main.ts';`,
    `import type { A } from '../main.ts';`,
    `import { type A } from '../main.ts';`,
    `export { a } from '../main.ts';`,
    `export type { A } from '../main.ts';`,
    `export * from '../main.ts';`,
    `await import('../main.ts');`,
    `let a: import('../main.ts').A;`,
  ];
  for (const form of forms) {
    it(`see through ${form}`, () => expect(check({ 'test/a.ts': form })).to.have.length(1));
  }

  it('report files that import each other in a circle, once, with the way round', () => {
    const violations = check({
      'projections/a.ts': `import './b.ts';`,
      'projections/b.ts': `\nimport './c.ts';`,
      'projections/c.ts': `\n\nimport type { A } from './a.ts';`,
      'projections/d.ts': `import './a.ts'; import './c.ts';`,
    });
    expect(violations).to.have.length(1);
    expect(violations[0]).to.include({ file: 'projections/c.ts', line: 3 });
    expect(violations[0]?.message).to.contain(
      'projections/a.ts → projections/b.ts → projections/c.ts → projections/a.ts',
    );
  });

  it('refuse a file that they cannot read', () => {
    expect(() => check({ 'test/a.ts': 'import {' })).to.throw(SyntaxError, 'test/a.ts');
  });
});
