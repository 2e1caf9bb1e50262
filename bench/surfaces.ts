/** `npm run bench -- surfaces`: what the surfaces for chat and agents add to the bare libraries beneath them. */
import { benchTokens, surfaces } from './surfaces/tokens.ts';

export { benchFirstToken } from './surfaces/first-token.ts';
export { benchSearch } from './surfaces/search.ts';

export const benchTokensOverSse = () => benchTokens(surfaces.luna);
export const benchTokensOverWebSocket = () => benchTokens(surfaces.zerg);
export const benchTokensOverSocketIo = () => benchTokens(surfaces.socketIo);
export const benchTokensOverGraphql = () => benchTokens(surfaces.graphql);
export const benchTokensOverOpenAi = () => benchTokens(surfaces.openAi);
