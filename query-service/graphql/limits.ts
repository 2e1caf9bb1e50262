/** What one operation may ask for: how deep, under how many names, and how many objects it may bring at most. */
import {
  type DocumentNode,
  type FieldNode,
  type FragmentDefinitionNode,
  GraphQLError,
  Kind,
  type OperationDefinitionNode,
  type SelectionSetNode,
} from 'graphql';
import { LONGEST_LIST, MESSAGES_BY_DEFAULT } from './schema.ts';

export const limits = {
  /** Characters and tokens of the document. */
  characters: 20_000,
  tokens: 2_000,
  depth: 10,
  aliases: 20,
  /** Fields of the operation itself: each may be a command. */
  rootFields: 10,
  /** Objects that lists and commands may bring. */
  cost: 6_000,
  /** Selections, with fragments as often as they are spread. GraphQL's rules compare each with each. */
  selections: 500,
} as const;

/** How many a list brings that is asked for no number. */
const listsByDefault: Readonly<Record<string, number>> = {
  conversations: 20,
  searchConversations: 10,
  agents: 20,
  executions: 20,
  messages: MESSAGES_BY_DEFAULT,
};
/** What is read for each of them, beside the object. */
const COSTLY: Readonly<Record<string, number>> = {
  agentHealth: 100,
  sendMessage: 50,
  searchConversations: 50,
};

const tooMuch = (message: string): GraphQLError =>
  new GraphQLError(message, { extensions: { code: 'QUERY_TOO_COMPLEX', http: { status: 400 } } });

/**
 * Looks at all operations and fragments, before GraphQL's own rules do: those take a time that grows with the square
 * of the selections. Fragments may still spread each other in a circle.
 * @returns what is wrong with it; nothing when it may be validated. Pure.
 */
export function checkSize({ definitions }: DocumentNode): GraphQLError[] {
  const fragments = new Map<string, SelectionSetNode>();
  for (const definition of definitions) {
    if (definition.kind !== Kind.FRAGMENT_DEFINITION) continue;
    fragments.set(definition.name.value, definition.selectionSet);
  }
  let selections = 0;
  function count(set: SelectionSetNode | undefined): void {
    for (const selection of set?.selections ?? []) {
      if (++selections > limits.selections) return;
      count(
        selection.kind === Kind.FRAGMENT_SPREAD
          ? fragments.get(selection.name.value)
          : selection.selectionSet,
      );
    }
  }
  for (const definition of definitions) {
    selections = 0;
    if ('selectionSet' in definition) count(definition.selectionSet);
    if (selections > limits.selections) {
      return [tooMuch(`The document asks for more than ${limits.selections} selections.`)];
    }
  }
  return [];
}

/** @returns what is wrong with it; nothing when it may be carried out. Pure. */
export function checkLimits(
  document: DocumentNode,
  operationName: string | null | undefined,
  variables: Readonly<Record<string, unknown>>,
): GraphQLError[] {
  const fragments = new Map<string, FragmentDefinitionNode>();
  const operations: OperationDefinitionNode[] = [];
  for (const definition of document.definitions) {
    if (definition.kind === Kind.FRAGMENT_DEFINITION) fragments.set(definition.name.value, definition);
    if (definition.kind === Kind.OPERATION_DEFINITION) operations.push(definition);
  }
  const operation =
    operations.length === 1 ? operations[0] : operations.find(({ name }) => name?.value === operationName);
  // What there is not, is said when it is to be executed.
  if (operation === undefined) return [];

  let depth = 0;
  let aliases = 0;
  let selections = 0;
  let rootFields = 0;
  let cost = 0;

  const numberOf = ({ name, arguments: given = [] }: FieldNode): number => {
    const byDefault = listsByDefault[name.value];
    if (byDefault === undefined) return 1;
    const value = given.find((argument) => argument.name.value === 'limit')?.value;
    const limit =
      value?.kind === Kind.INT
        ? Number(value.value)
        : value?.kind === Kind.VARIABLE
          ? (variables[value.name.value] ?? defaultOf(operation, value.name.value))
          : undefined;
    const number = typeof limit === 'number' ? limit : byDefault;
    return Math.min(Math.max(number, 1), LONGEST_LIST);
  };

  function walk(set: SelectionSetNode, level: number, times: number): void {
    for (const selection of set.selections) {
      if (++selections > limits.selections) return;
      if (selection.kind === Kind.FRAGMENT_SPREAD) {
        const fragment = fragments.get(selection.name.value);
        if (fragment !== undefined) walk(fragment.selectionSet, level, times);
        continue;
      }
      if (selection.kind === Kind.INLINE_FRAGMENT) {
        walk(selection.selectionSet, level, times);
        continue;
      }
      const name = selection.name.value;
      if (level === 1) rootFields++;
      if (selection.alias !== undefined) aliases++;
      depth = Math.max(depth, level);
      // GraphQL's own rule bounds how deep a question about the schema may go.
      if (name === '__schema' || name === '__type') continue;
      if (selection.selectionSet === undefined && COSTLY[name] === undefined) continue;
      const number = times * numberOf(selection);
      // What is one object's is read with it.
      cost += (level === 1 || listsByDefault[name] !== undefined ? number : 0) + times * (COSTLY[name] ?? 0);
      if (selection.selectionSet !== undefined) walk(selection.selectionSet, level + 1, number);
    }
  }
  walk(operation.selectionSet, 1, 1);

  return (
    [
      [selections, limits.selections, 'selections'],
      [depth, limits.depth, 'levels'],
      [aliases, limits.aliases, 'aliases'],
      [rootFields, limits.rootFields, 'fields of the operation itself'],
      [cost, limits.cost, 'objects: ask for shorter lists'],
    ] as const
  )
    .filter(([asked, most]) => asked > most)
    .map(([asked, most, what]) => tooMuch(`The operation asks for ${asked} of at most ${most} ${what}.`));
}

function defaultOf({ variableDefinitions = [] }: OperationDefinitionNode, name: string): number | undefined {
  const value = variableDefinitions.find(({ variable }) => variable.name.value === name)?.defaultValue;
  return value?.kind === Kind.INT ? Number(value.value) : undefined;
}
