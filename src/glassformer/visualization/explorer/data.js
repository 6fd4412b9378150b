// Packed data into numbers: each layer is inflated when it is first asked for.

const MASKED = 255;
const WEIGHTS_KEPT = 12; // layers that stay unpacked

/** Reads the blocks of its own page. A page that is served can bring another source with the same methods. */
export class PageSource {
  constructor(page) {
    this.page = page;
  }

  contents() {
    return JSON.parse(this.page.getElementById("contents").textContent);
  }

  /** Base64 of packed data: the text itself, what holds it, or the block of the page that it names. */
  base64(packed) {
    if (typeof packed === "string") return packed;
    return packed.block ? this.page.getElementById(packed.block).textContent : packed.data;
  }

  async bytes(packed) {
    return inflated(this.base64(packed));
  }

  async json(packed) {
    return JSON.parse(new TextDecoder().decode(await this.bytes(packed)));
  }
}

async function inflated(base64) {
  const stream = new Blob([fromBase64(base64)]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

function fromBase64(text) {
  if (Uint8Array.fromBase64) return Uint8Array.fromBase64(text);
  const binary = atob(text);
  const bytes = new Uint8Array(binary.length);
  for (let i = 0; i < binary.length; i++) bytes[i] = binary.charCodeAt(i);
  return bytes;
}

/** A map as numbers, row by row: weights[query * keys + key], NaN where the mask hides. */
export class Matrix {
  /** codes, where there are some: the same cells as bytes, and the weight that each byte stands for. */
  constructor(queries, keys, weights, codes = null, weightOf = null) {
    Object.assign(this, { queries, keys, weights, codes, weightOf, largest: 0 });
    for (const weight of weights) if (weight > this.largest) this.largest = weight;
  }

  at(query, key) {
    return this.weights[query * this.keys + key];
  }

  row(query) {
    return this.weights.subarray(query * this.keys, (query + 1) * this.keys);
  }

  column(key) {
    return Float32Array.from({ length: this.queries }, (_, query) => this.at(query, key));
  }
}

/** The maps of one layer, of which each becomes numbers when it is looked at. */
export class Maps {
  constructor(packed, codes, levels) {
    Object.assign(this, { packed, codes, known: new Map() });
    this.weightOf = Float32Array.from({ length: 256 }, (_, code) =>
      code > levels ? NaN : (code / levels) ** 2,
    );
  }

  get count() {
    return this.packed.maps;
  }

  matrix(map) {
    if (!this.known.has(map)) this.known.set(map, this.unpacked(map));
    return this.known.get(map);
  }

  /** Of all heads; what the mask hides from one it hides from all. */
  mean() {
    if (!this.known.has("mean")) {
      const { queries, keys } = this.packed;
      const size = this.codes.length / this.count;
      const sums = new Float32Array(size);
      for (let i = 0; i < this.codes.length; i++) sums[i % size] += this.weightOf[this.codes[i]];
      const weights = this.spread(sums, new Float32Array(queries * keys).fill(NaN));
      this.known.set(
        "mean",
        new Matrix(
          queries,
          keys,
          weights.map((sum) => sum / this.count),
        ),
      );
    }
    return this.known.get("mean");
  }

  unpacked(map) {
    const { queries, keys } = this.packed;
    const size = this.codes.length / this.count;
    const codes = new Uint8Array(queries * keys).fill(MASKED);
    this.spread(this.codes.subarray(map * size, (map + 1) * size), codes);
    const weights = new Float32Array(codes.length);
    for (let i = 0; i < codes.length; i++) weights[i] = this.weightOf[codes[i]];
    return new Matrix(queries, keys, weights, codes, this.weightOf);
  }

  /** What is laid out key by key, put into rows; of a triangle the rest stays as it was. */
  spread(packed, rows) {
    const { queries, keys, triangle } = this.packed;
    let place = 0;
    for (let key = 0; key < keys; key++) {
      for (let query = triangle ? key : 0; query < queries; query++)
        rows[query * keys + key] = packed[place++];
    }
    return rows;
  }
}

/** Everything that was asked for so far; the layers asked for last are kept. */
export class Store {
  constructor(source, contents) {
    Object.assign(this, { source, contents, ready: new Map() });
  }

  /** What was unpacked before, or undefined; what is asked for stays longest. */
  known(packed) {
    const found = this.ready.get(packed);
    if (found) this.ready.delete(packed) && this.ready.set(packed, found);
    return found;
  }

  async maps(packed) {
    if (!this.ready.has(packed)) {
      const codes = await this.source.bytes(packed);
      this.keep(packed, new Maps(packed, codes, this.contents.levels));
    }
    return this.ready.get(packed);
  }

  async json(packed) {
    if (!this.ready.has(packed)) this.ready.set(packed, await this.source.json(packed));
    return this.ready.get(packed);
  }

  keep(packed, maps) {
    this.ready.set(packed, maps);
    const layers = [...this.ready.keys()].filter((other) => other.maps && other.queries * other.keys > 1600);
    if (layers.length > WEIGHTS_KEPT) this.ready.delete(layers[0]); // asked for longest ago
  }
}
