import { readFileSync } from 'node:fs';
import { expect } from 'chai';
import { routes } from '../contracts/http/all.ts';
import { endpointTables } from './endpoint-table.ts';
import { README, sectionOf } from './readme.ts';

describe('the table of endpoints in the README', () => {
  it('is the one that `npm run endpoints` writes', () => {
    expect(sectionOf(readFileSync(README, 'utf8'), 'endpoints')).to.equal(endpointTables());
  });

  it('has a row for every route that anybody but services may call', () => {
    const rows = endpointTables()
      .split('\n')
      .filter((line) => line.startsWith('| `'));
    expect(rows).to.have.length(routes.filter((route) => route.access !== 'service').length);
  });
});
