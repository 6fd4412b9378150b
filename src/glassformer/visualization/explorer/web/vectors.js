// Queries, keys and values of a layer, and the output of a head for one query.

const LARGEST = 127; // the code of the largest number of a vector

export class LayerVectors {
  /** packed: sizes; bytes: as written by the page's maker; queries, keys: numbers of tokens. */
  constructor(packed, bytes, queries, keys) {
    const { num_heads: heads, num_kv_heads: kvHeads, d_head: size } = packed;
    Object.assign(this, { size, group: heads / kvHeads });
    const counts = [heads * queries, kvHeads * keys, kvHeads * keys]; // vectors of each tensor
    const floats = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    let [scale, codes] = [0, 4 * counts.reduce((sum, count) => sum + count, 0)];
    const tensor = (count, tokens) => {
      const start = scale;
      scale += 4 * count;
      const numbers = new Int8Array(bytes.buffer, bytes.byteOffset + codes, count * size);
      codes += count * size;
      return { tokens, numbers, largest: (vector) => floats.getFloat32(start + 4 * vector, true) };
    };
    [this.queries, this.keys, this.values] = [tensor(counts[0], queries), tensor(counts[1], keys), tensor(counts[2], keys)];
  }

  /** The vector of a token; head is the place of a query head in its layer. */
  vector(name, head, token) {
    const { tokens, numbers, largest } = this[name];
    const row = (name === "queries" ? head : Math.floor(head / this.group)) * tokens + token;
    const scale = largest(row) / LARGEST;
    return Float32Array.from(numbers.subarray(row * this.size, (row + 1) * this.size), (code) => code * scale);
  }
}

export const dot = (a, b) => a.reduce((sum, value, index) => sum + value * b[index], 0);

/** The sum of vectors, each times its weight. */
export function weightedSum(vectors, weights) {
  const sum = new Float32Array(vectors[0].length);
  vectors.forEach((vector, row) => vector.forEach((value, index) => (sum[index] += weights[row] * value)));
  return sum;
}
