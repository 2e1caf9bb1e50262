/**
 * Holds an event store to the catalogue of event types: what does not fit its schema cannot be appended, and
 * what was stored in an older version is read in the current one.
 */
import type { EventEnvelope, NewEvent } from '../../contracts/envelope.ts';
import { catalogue, type EventDefinition } from '../../contracts/events/catalogue.ts';
import type { EventPage, EventStore } from './port.ts';

/** An event that the catalogue does not allow; the message names its type and field. */
export class InvalidEvent extends Error {
  constructor(message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = 'InvalidEvent';
  }
}

type Definitions = Readonly<Record<string, EventDefinition>>;

/**
 * An event as it was stored or relayed, in the version of its schema that this program knows.
 * @throws InvalidEvent when it is in a version that cannot be read as that
 */
export function currentEvent(event: EventEnvelope, definitions: Definitions = catalogue): EventEnvelope {
  const definition = Object.hasOwn(definitions, event.type) ? definitions[event.type] : undefined;
  if (definition === undefined || definition.version === event.schemaVersion) return event;
  let { data } = event;
  for (let version = event.schemaVersion; version !== definition.version; version += 1) {
    const next = version < definition.version ? definition.upcasters[version] : undefined;
    if (next === undefined) {
      throw new InvalidEvent(
        `${event.type} at position ${event.position} has schemaVersion ${event.schemaVersion}, ` +
          `which cannot be read as ${definition.version}`,
      );
    }
    data = next(data);
  }
  return { ...event, schemaVersion: definition.version, data };
}

/**
 * @returns the same store; `append` throws InvalidEvent for events that the catalogue does not allow, and
 * reads throw it for an event in a version that this program does not know. Types that it does not know at
 * all are read as they are.
 */
export function withCatalogue(store: EventStore, definitions: Definitions = catalogue): EventStore {
  const definitionsByType = new Map(Object.entries(definitions));

  function checked(event: NewEvent): NewEvent {
    const definition = definitionsByType.get(event.type);
    if (definition === undefined) throw new InvalidEvent(`${event.type} is not in the catalogue of events`);
    if (event.schemaVersion !== definition.version) {
      throw new InvalidEvent(
        `${event.type}: schemaVersion must be ${definition.version}, not ${event.schemaVersion}`,
      );
    }
    const parsed = definition.schema.safeParse(event.data);
    if (!parsed.success) {
      const faults = parsed.error.issues.map(
        ({ path, message }) => `${['data', ...path].join('.')}: ${message}`,
      );
      throw new InvalidEvent(`${event.type}: ${faults.join('; ')}`, { cause: parsed.error });
    }
    return { ...event, data: parsed.data };
  }

  const isCurrent = (event: EventEnvelope): boolean => {
    const definition = definitionsByType.get(event.type);
    return definition === undefined || definition.version === event.schemaVersion;
  };

  /** The same array when all are current already, as nearly always. */
  const current = (events: readonly EventEnvelope[]): readonly EventEnvelope[] =>
    events.every(isCurrent) ? events : events.map((event) => currentEvent(event, definitions));

  async function* currentPages(pages: AsyncIterable<EventPage>): AsyncGenerator<EventPage> {
    for await (const page of pages) {
      const events = current(page.events);
      yield events === page.events ? page : { ...page, events };
    }
  }

  return {
    async append(stream, events, options) {
      const result = await store.append(stream, events.map(checked), options);
      const appended = current(result.events);
      return appended === result.events ? result : { ...result, events: appended };
    },
    async *readStream(stream, options) {
      for await (const page of store.readStream(stream, options)) yield current(page);
    },
    readAll: (options) => currentPages(store.readAll(options)),
    subscribe: (options) => currentPages(store.subscribe(options)),
    head: () => store.head(),
    end: () => store.end(),
    count: (options) => store.count(options),
    positionAt: (time) => store.positionAt(time),
    close: () => store.close(),
  };
}
