/**
 * Connection strings of EventStoreDB and KurrentDB, read here and not by the client: it knows only the old schemes,
 * cuts passwords at a colon, prints whole strings (with the password) when it warns, and ignores what it does not
 * know. What its documentation names is taken, and everything else refused.
 */

export interface ServerAddress {
  /** One: that node. More: any of a cluster, asked which node leads. */
  readonly hosts: readonly { readonly address: string; readonly port: number }[];
  /** The only host is a DNS name that stands for all nodes of a cluster. */
  readonly discover: boolean;
  readonly tls: boolean;
  readonly tlsCAFile?: string;
  readonly userCertFile?: string;
  readonly userKeyFile?: string;
  readonly credentials?: { readonly username: string; readonly password: string };
  readonly connectionName?: string;
  /** Milliseconds, as the next three. */
  readonly defaultDeadline?: number;
  readonly keepAliveInterval?: number;
  readonly keepAliveTimeout?: number;
  readonly discoveryInterval?: number;
  /** Seconds. */
  readonly gossipTimeout?: number;
  readonly maxDiscoverAttempts?: number;
  /** For people: scheme and hosts, never the password. */
  readonly shown: string;
}

const DEFAULT_PORT = 2113;
const FORM = /^(?<scheme>[a-z+]+):\/\/(?:(?<login>[^/?]*)@)?(?<hosts>[^/?@]*)\/?(?:\?(?<options>.*))?$/is;

const texts = { tlscafile: 'tlsCAFile', usercertfile: 'userCertFile', userkeyfile: 'userKeyFile' } as const;
const numbers = {
  defaultdeadline: 'defaultDeadline',
  keepaliveinterval: 'keepAliveInterval',
  keepalivetimeout: 'keepAliveTimeout',
  discoveryinterval: 'discoveryInterval',
  gossiptimeout: 'gossipTimeout',
  maxdiscoverattempts: 'maxDiscoverAttempts',
} as const;

/**
 * @param url `esdb://`, `esdb+discover://`, `kurrentdb://` or `kurrentdb+discover://`, then
 * `[user:password@]host[:port][,…][?option=value&…]`
 * @throws Error that says what is wrong, without showing the password
 */
export function parseServerAddress(url: string): ServerAddress {
  const parts = FORM.exec(url.trim())?.groups;
  const scheme = parts?.scheme?.toLowerCase();
  if (parts === undefined || !/^(esdb|kurrentdb|kurrent|kdb)(\+discover)?$/.test(scheme!)) {
    throw new Error('must look like esdb://[user:password@]host[:port][?tls=false], or kurrentdb://…');
  }
  const discover = scheme!.endsWith('+discover');
  // A ? in a password that is not percent-encoded makes options of its rest, and a host of its beginning.
  if (parts.login === undefined && /^[^=&]*@/.test(parts.options ?? '')) {
    throw new Error('the password is not percent-encoded: write %3F for a question mark');
  }
  const hosts = parts.hosts!.split(',').map(parseHost);
  if (discover && hosts.length > 1) throw new Error(`${scheme}:// takes one host: the name of the cluster`);

  const address: { -readonly [Key in keyof ServerAddress]: ServerAddress[Key] } = {
    hosts,
    discover,
    tls: true,
    shown: `${scheme}://${hosts.map((host) => `${host.address}:${host.port}`).join(',')}`,
  };
  if (parts.login !== undefined) address.credentials = parseLogin(parts.login);
  for (const option of parts.options?.split('&') ?? []) {
    if (option !== '') takeOption(address, option);
  }
  if ((address.userCertFile === undefined) !== (address.userKeyFile === undefined)) {
    throw new Error('userCertFile and userKeyFile need each other');
  }
  if (!address.tls && (address.tlsCAFile !== undefined || address.userCertFile !== undefined)) {
    throw new Error('certificates are of no use with tls=false');
  }
  return address;
}

function parseHost(host: string): { address: string; port: number } {
  const { address, port = String(DEFAULT_PORT) } =
    /^(?<address>\[[\da-f:.]+\]|[^:[\]\s]+)(?::(?<port>\d+))?$/i.exec(host.trim())?.groups ?? {};
  if (address === undefined || Number(port) < 1 || Number(port) > 65_535) {
    throw new Error(`${JSON.stringify(host)} is not a host, or a host and port`);
  }
  return { address, port: Number(port) };
}

function parseLogin(login: string): { username: string; password: string } {
  const colon = login.indexOf(':');
  if (colon < 1) throw new Error('a user needs a password: user:password@host');
  return {
    username: decoded('the user', login.slice(0, colon)),
    password: decoded('the password', login.slice(colon + 1)),
  };
}

function takeOption(
  address: { -readonly [Key in keyof ServerAddress]: ServerAddress[Key] },
  option: string,
): void {
  const [name = '', ...rest] = option.split('=');
  const value = decoded(name, rest.join('='));
  const key = name.toLowerCase().replace(/[_-]/g, '');
  const refuse = (expected: string): never => {
    throw new Error(`option ${name} must be ${expected}, not ${JSON.stringify(value)}`);
  };
  if (Object.hasOwn(texts, key) || key === 'connectionname') {
    if (value === '') refuse('a text');
    address[key === 'connectionname' ? 'connectionName' : texts[key as keyof typeof texts]] = value;
  } else if (Object.hasOwn(numbers, key)) {
    const off = key.startsWith('keepalive') && value === '-1';
    if (!off && !/^[1-9]\d{0,8}$/.test(value)) refuse('a whole number above 0');
    address[numbers[key as keyof typeof numbers]] = Number(value);
  } else if (key === 'tls') {
    if (value !== 'true' && value !== 'false') refuse('true or false');
    address.tls = value === 'true';
  } else if (key === 'tlsverifycert') {
    // Node's gRPC checks certificates always; to trust one's own authority there is tlsCAFile.
    if (value !== 'true') refuse('true (name your authority with tlsCAFile)');
  } else if (key === 'nodepreference') {
    // Followers lag behind: a position that was given out could not be read from them yet.
    if (value.toLowerCase() !== 'leader') refuse('leader');
  } else if (key === 'throwonappendfailure') {
    if (value !== 'true') refuse('true');
  } else {
    throw new Error(`unknown option ${name}`);
  }
}

function decoded(what: string, text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    throw new Error(`${what} is not percent-encoded correctly`);
  }
}
