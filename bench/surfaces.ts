/** `npm run bench -- surfaces`: what the surfaces for chat and agents add to the bare libraries beneath them. */
export { benchSearch } from './surfaces/search.ts';
