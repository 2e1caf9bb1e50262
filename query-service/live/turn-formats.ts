/** The formats in which a turn can be shown to who asked for it: the surfaces name them, and need not know them. */
import type { TurnFormat } from '../../contracts/live/feeds.ts';
import { executionEntries } from './executions.ts';
import { type AnswerFormat, conversationFeed, type Feed, ndjson, sse, type Transport } from './feed.ts';
import { isTurnEnd, lunaTurn } from './luna.ts';
import { openAiTurn } from './openai.ts';

interface Turn {
  readonly conversationId: string;
  readonly turnId: string;
}

interface Shown {
  // Only the feed itself looks into what its frames need of earlier events.
  readonly format: AnswerFormat<never>;
  readonly transport: Transport;
}

/** What comes last, who asks for the stream knows. */
const chatEntries = {
  ...executionEntries,
  name: 'trinity-chat',
  end: (event) => (isTurnEnd(event) ? [] : null),
} satisfies typeof executionEntries;

const formats: {
  readonly [Name in TurnFormat['name']]: (options: Extract<TurnFormat, { name: Name }>, turn: Turn) => Shown;
} = {
  luna: () => ({ format: lunaTurn as unknown as AnswerFormat<never>, transport: sse }),
  openai: (options, turn) => ({
    format: openAiTurn(options, turn) as unknown as AnswerFormat<never>,
    transport: sse,
  }),
  trinity: ({ transport }) => ({
    format: chatEntries as unknown as AnswerFormat<never>,
    transport: transport === 'sse' ? sse : ndjson,
  }),
};

// Each name's own options go with it.
const shownIn = (options: TurnFormat, turn: Turn): Shown =>
  (formats[options.name] as (options: TurnFormat, turn: Turn) => Shown)(options, turn);

/** The feed that shows one turn in the format that was asked for. */
export function turnFeed(options: TurnFormat, turn: Turn): Feed {
  const { conversationId, turnId } = turn;
  const { format, transport } = shownIn(options, turn);
  return conversationFeed(format, transport, conversationId, { turnId });
}
