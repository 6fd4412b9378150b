// The model of a live page: decoded when it is first used, it computes the attention of any text.

import { LiveTokenizer } from "./live_tokenizer.js";
import { startForwardPass } from "./live_worker.js";

export class LiveModel {
  /** source: of the page's data; description: the "live" part of its contents. */
  constructor(source, description) {
    Object.assign(this, { source, description });
  }

  /** Decode the tokenizer, the labels and the weights; once. */
  load() {
    this.loaded ??= this.decode();
    return this.loaded;
  }

  async decode() {
    const { source, description } = this;
    this.tokenizer = new LiveTokenizer(await source.json(description.tokenizer));
    this.labels = await source.json(description.labels);
    const tensors = {};
    for (const [name, packed] of Object.entries(description.tensors))
      tensors[name] = toTensor(packed, await source.bytes(packed), name !== "position_bias");
    this.run = await startForwardPass(description.architecture, tensors);
  }

  /** { ids, pieces } of a text. Throws an Error with a message for the reader if it is empty or too long. */
  async encode(text) {
    await this.load();
    const { max_tokens: most } = this.description;
    const encoded = this.tokenizer.encode(text);
    const { length } = encoded.ids;
    if (encoded.isEmpty) throw new Error("The text is empty: type at least one word.");
    if (length > most)
      throw new Error(`The text has ${length.toLocaleString("en")} tokens; at most ${most.toLocaleString("en")} are possible here.`);
    return encoded;
  }

  /** { attention: the weights of each layer, (head, query, key); logits: (token, token of the vocabulary), or null }. */
  async forward(ids) {
    await this.load();
    return this.run(ids);
  }
}

/** { shape, values } of a tensor that live_weights.py packed: of matrices, the integers of a row times its factor. */
function toTensor({ shape }, bytes, isQuantized) {
  const [rows, columns] = shape;
  const floats = new Float32Array(bytes.slice(0, isQuantized && columns ? 4 * rows : bytes.length).buffer);
  if (!isQuantized || !columns) return { shape, values: floats };
  const integers = new Int8Array(bytes.buffer, bytes.byteOffset + 4 * rows, rows * columns);
  const values = new Float32Array(rows * columns);
  for (let row = 0; row < rows; row++)
    for (let i = row * columns; i < (row + 1) * columns; i++) values[i] = integers[i] * floats[row];
  return { shape, values };
}
