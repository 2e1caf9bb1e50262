import { expect } from 'chai';
import { buildSchema, getIntrospectionQuery, parse, validate } from 'graphql';
import { checkLimits, checkSize, limits } from './limits.ts';
import { typeDefs } from './schema.ts';

const complaints = (
  document: string,
  variables: Record<string, unknown> = {},
  operation?: string,
): string[] => checkLimits(parse(document), operation, variables).map(({ message }) => message);
const times = (number: number, text: (i: number) => string): string =>
  Array.from({ length: number }, (_, i) => text(i)).join(' ');

describe('the limits of an operation', () => {
  it('let through what people ask for', () => {
    expect(
      complaints('{ conversations(limit: 100) { id title messages { id usage { totalTokens } } } }'),
    ).to.deep.equal([]);
    expect(
      complaints('{ __schema { types { fields { type { ofType { ofType { name } } } } } } }'),
    ).to.deep.equal([]);
  });

  it('count the aliases, through fragments, too', () => {
    const fields = times(limits.aliases + 1, (i) => `a${i}: title`);
    expect(complaints(`{ conversation(id: 1) { ${fields} } }`)).to.have.length(1);
    expect(
      complaints(`{ conversation(id: 1) { ...F } } fragment F on Conversation { ${fields} }`)[0],
    ).to.include('aliases');
  });

  it('count the fields of the operation itself', () => {
    const fields = times(limits.rootFields + 1, (i) => `a${i}: __typename`);
    expect(complaints(`{ ${fields} }`)[0]).to.include('fields of the operation');
  });

  it('multiply lists in lists, by the variables, their defaults and those of the schema', () => {
    const query = 'query Q($n: Int = 100) { conversations(limit: $n) { messages(limit: 100) { id } } }';
    expect(complaints(query)[0]).to.include('objects');
    expect(complaints(query, { n: 5 })).to.deep.equal([]);
    expect(complaints('{ conversations(limit: 1000000) { messages(limit: 1000000) { id } } }')[0]).to.include(
      '10100',
    );
    expect(complaints('{ conversations { messages { id } } }')).to.deep.equal([]);
  });

  it('look at the operation that is to be carried out', () => {
    const document =
      'query A { conversations { id } } query B { conversations(limit: 100) { messages(limit: 100) { id } } }';
    expect(complaints(document, {}, 'A')).to.deep.equal([]);
    expect(complaints(document, {}, 'B')).to.have.length(1);
  });

  it('end soon, whatever fragments hold each other', () => {
    const levels = times(30, (i) => `fragment F${i} on Conversation { ...F${i + 1} ...F${i + 1} }`);
    const document = `{ conversations { ...F0 } } ${levels} fragment F30 on Conversation { id }`;
    const began = performance.now();
    expect(complaints(document)[0]).to.include('selections');
    expect(performance.now() - began).to.be.below(1_000);
  });

  it('bound the depth', () => {
    const deep = `${'a { '.repeat(limits.depth)}a${' }'.repeat(limits.depth)}`;
    expect(complaints(`{ ${deep} }`)[0]).to.include('levels');
  });

  it('are looked at before GraphQL compares each selection with each, in fragments that nobody spreads, too', () => {
    const started = performance.now();
    const sizeOf = (document: string) => checkSize(parse(document)).map(({ message }) => message);
    const many = times(limits.selections / 2 + 1, () => 'messages { id }');
    expect(sizeOf(`{ conversations { ${many} } }`)[0]).to.include('selections');
    expect(sizeOf(`{ agents { id } } fragment F on Conversation { ${many} }`)[0]).to.include('selections');
    expect(sizeOf('{ ...A } fragment A on Query { ...B } fragment B on Query { ...A }')).to.have.length(1);
    expect(sizeOf(getIntrospectionQuery({ inputValueDeprecation: true, oneOf: true }))).to.deep.equal([]);
    const most = parse(`{ conversations { ${times(limits.selections / 2 - 1, () => 'messages { id }')} } }`);
    expect(checkSize(most)).to.deep.equal([]);
    expect(validate(buildSchema(typeDefs), most)).to.deep.equal([]);
    expect(performance.now() - started).to.be.lessThan(1_500);
  });
});
