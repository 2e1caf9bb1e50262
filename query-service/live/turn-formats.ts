/** The formats in which a turn can be shown to who asked for it: the surfaces name them, and need not know them. */
import type { TurnFormat } from '../../contracts/live/feeds.ts';
import { type AnswerFormat, conversationFeed, type Feed, sse, type Transport } from './feed.ts';
import { lunaTurn } from './luna.ts';

interface Shown {
  // Only the feed itself looks into what its frames need of earlier events.
  readonly format: AnswerFormat<never>;
  readonly transport: Transport;
}

const formats: {
  readonly [Name in TurnFormat['name']]: (options: Extract<TurnFormat, { name: Name }>) => Shown;
} = {
  luna: () => ({ format: lunaTurn as unknown as AnswerFormat<never>, transport: sse }),
};

/** The feed that shows one turn in the format that was asked for. */
export function turnFeed(
  options: TurnFormat,
  { conversationId, turnId }: { readonly conversationId: string; readonly turnId: string },
): Feed {
  const { format, transport } = formats[options.name](options);
  return conversationFeed(format, transport, conversationId, { turnId });
}
