// Packed data into numbers: each layer is inflated when it is first asked for.

const MASKED = 255;
const LEVELS = 254;
const WEIGHTS_KEPT = 12; // layers that stay unpacked

/** Reads the blocks of its own page. A page that is served can bring another source with the same methods. */
export class PageSource {
  constructor(page) {
    this.page = page;
  }

  contents() {
    return JSON.parse(this.page.getElementById("contents").textContent);
  }

  /** Packed data as text: it stands in the block of the page that it names. */
  text({ block }) {
    return this.page.getElementById(block).textContent;
  }

  async bytes(packed) {
    const deflated = new Blob([unprinted(this.text(packed))]).stream();
    const stream = deflated.pipeThrough(new DecompressionStream("deflate"));
    return new Uint8Array(await new Response(stream).arrayBuffer());
  }

  async json(packed) {
    return JSON.parse(new TextDecoder().decode(await this.bytes(packed)));
  }
}

const PLACES = new Uint8Array(128); // of the 91 characters that bytes are printed in
[...Array(127).keys()]
  .filter((code) => code >= 32 && !'"&<\\'.includes(String.fromCharCode(code)))
  .forEach((code, place) => (PLACES[code] = place));

/** Bytes of text: each pair of characters is a number of 13 bits; after the last bit there is a one. */
export function unprinted(text) {
  const bytes = new Uint8Array(Math.ceil((text.length / 2) * (13 / 8)));
  let [held, bits, end] = [0, 0, 0];
  for (let i = 0; i < text.length; i += 2) {
    held = (held << 13) | (PLACES[text.charCodeAt(i)] * 91 + PLACES[text.charCodeAt(i + 1)]);
    bits += 13;
    while (bits >= 8) bytes[end++] = held >> (bits -= 8);
    held &= (1 << bits) - 1;
  }
  if (bits) bytes[end] = held << (8 - bits);
  end = bytes.length - 1;
  while (!bytes[end]) end--;
  return bytes.subarray(0, end);
}

/** A map as numbers, row by row: weights[query * keys + key], NaN where the mask hides. */
export class Matrix {
  /** codes, where there are some: the same cells as bytes, and the weight that each byte stands for. */
  constructor(queries, keys, weights, codes = null, weightOf = null) {
    Object.assign(this, { queries, keys, weights, codes, weightOf, largest: 0, masked: false });
    for (let cell = 0; cell < weights.length; cell++) {
      const weight = weights[cell];
      if (weight > this.largest) this.largest = weight;
      else if (weight !== weight) this.masked = true;
    }
  }

  /** The least of the count largest weights, of all keys from the first on. */
  least(count, first = 0) {
    this.counted ??= [];
    const counts = (this.counted[first] ??= this.countsFrom(first));
    let [code, passed] = [LEVELS, counts[LEVELS]];
    while (code > 1 && passed + counts[code - 1] <= count) passed += counts[--code];
    while (code > 1 && !passed) passed += counts[--code];
    return ((code - 0.5) / LEVELS) ** 2; // where weights begin that are rounded to this code
  }

  countsFrom(first) {
    const counts = new Uint32Array(LEVELS + 1);
    for (let cell = 0; cell < this.weights.length; cell++) {
      const weight = this.weights[cell];
      if (weight >= 0 && cell % this.keys >= first) counts[Math.round(LEVELS * Math.sqrt(weight))]++;
    }
    return counts;
  }

  /** How much each key is looked at by all queries together. */
  get received() {
    if (this.sums) return this.sums;
    this.sums = new Float32Array(this.keys);
    for (let cell = 0, key = 0; cell < this.weights.length; cell++) {
      const weight = this.weights[cell];
      if (weight === weight) this.sums[key] += weight;
      if (++key === this.keys) key = 0;
    }
    return this.sums;
  }

  /** The keys, those that are looked at most first. */
  get heaviest() {
    const { received } = this;
    this.order ??= [...received.keys()].sort((a, b) => received[b] - received[a] || a - b);
    return this.order;
  }

  at(query, key) {
    return this.weights[query * this.keys + key];
  }

  row(query) {
    return this.weights.subarray(query * this.keys, (query + 1) * this.keys);
  }

  column(key) {
    const column = new Float32Array(this.queries);
    for (let query = 0; query < this.queries; query++) column[query] = this.weights[query * this.keys + key];
    return column;
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
    const { weightOf } = this;
    const size = this.codes.length / this.count;
    const codes = new Uint8Array(queries * keys).fill(MASKED);
    this.spread(this.codes.subarray(map * size, (map + 1) * size), codes);
    const weights = new Float32Array(codes.length);
    for (let i = 0; i < codes.length; i++) weights[i] = weightOf[codes[i]];
    return new Matrix(queries, keys, weights, codes, weightOf);
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

/** The parts of a layer's scores, of those cells that are in the file. */
export class Scores {
  /** rows: of all heads together, head by head. */
  constructor({ cells, step }, bytes, rows) {
    const half = bytes.length / 2;
    const number = (place) => bytes[place] | (bytes[half + place] << 8);
    this.starts = new Uint32Array(rows + 1);
    this.keys = new Uint16Array(cells);
    for (let row = 0; row < rows; row++) {
      this.starts[row + 1] = this.starts[row] + number(row);
      for (let cell = this.starts[row], key = 0; cell < this.starts[row + 1]; cell++)
        this.keys[cell] = key += number(rows + cell);
    }
    const count = (half - rows) / Math.max(1, cells) - 1;
    this.parts = Array.from({ length: count }, (_, part) =>
      Float32Array.from({ length: cells }, (_, cell) => {
        const steps = number(rows + (part + 1) * cells + cell);
        return (steps > 32767 ? steps - 65536 : steps) * step;
      }),
    );
  }

  /** The cells of a row, ``{key, parts}``, in the order of their keys. */
  row(row) {
    const cells = [];
    for (let cell = this.starts[row]; cell < this.starts[row + 1]; cell++)
      cells.push({ key: this.keys[cell], parts: this.parts.map((part) => part[cell]) });
    return cells;
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

  async scores(packed, rows) {
    if (!this.ready.has(packed)) {
      const bytes = await this.source.bytes(packed);
      this.ready.set(packed, new Scores(packed, bytes, rows));
    }
    return this.ready.get(packed);
  }

  keep(packed, maps) {
    this.ready.set(packed, maps);
    const layers = [...this.ready.keys()].filter((other) => other.maps && other.queries * other.keys > 1600);
    if (layers.length > WEIGHTS_KEPT) this.ready.delete(layers[0]); // asked for longest ago
  }
}
