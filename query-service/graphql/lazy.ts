/** GraphQL for whoever starts the program: its engine, some 600 modules and 30 MB, is loaded when it is first asked for. */
import { getGraphql, postGraphql } from '../../contracts/http/graphql.ts';
import type { Endpoint } from '../../infra/http/port.ts';
import type { Graphql, GraphqlOptions } from './server.ts';

export function createLazyGraphql(options: GraphqlOptions): Graphql {
  let graphql: Graphql | null = null;
  let loading: Promise<Graphql> | null = null;
  let closed = false;

  function loaded(): Promise<Graphql> {
    loading ??= import('./server.ts').then(({ createGraphql }) => {
      graphql = createGraphql(options);
      if (closed) graphql.close();
      return graphql;
    });
    return loading;
  }

  const endpoints = [postGraphql, getGraphql].map(
    (contract): Endpoint => ({
      contract,
      async handle(input) {
        const { endpoints } = await loaded();
        return endpoints.find((one) => one.contract === contract)!.handle(input);
      },
    }),
  );

  return {
    endpoints,
    upgrade: {
      owns: (path) => /^\/graphql\/?$/.test(path),
      take(request, stream, head) {
        const gone = () => stream.destroy();
        stream.on('error', gone);
        loaded().then(({ upgrade }) => {
          stream.off('error', gone);
          upgrade.take(request, stream, head);
        }, gone);
      },
    },
    size: () => graphql?.size() ?? 0,
    close() {
      closed = true;
      graphql?.close();
    },
  };
}
