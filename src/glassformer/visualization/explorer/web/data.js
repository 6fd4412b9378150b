// Decoding of the page's data: maps and scores are decompressed when first needed.

import { LayerVectors } from "./vectors.js";

const MASKED = 255;
const LEVELS = 254;
const MAX_CACHED_LAYERS = 12; // layers of large maps that stay decoded

/** Reads the data blocks of the page itself. Other sources need the same methods. */
export class PageSource {
  constructor(page) {
    this.page = page;
  }

  contents() {
    return JSON.parse(this.page.getElementById("contents").textContent);
  }

  /** Encoded data as text, from the block of the page that it refers to. */
  text({ block }) {
    return this.page.getElementById(block).textContent;
  }

  async bytes(packed) {
    const deflated = new Blob([decodeBase91(this.text(packed))]).stream();
    const stream = deflated.pipeThrough(new DecompressionStream("deflate"));
    return new Uint8Array(await new Response(stream).arrayBuffer());
  }

  async json(packed) {
    return JSON.parse(new TextDecoder().decode(await this.bytes(packed)));
  }
}

/** Contents that have the data itself in place of the id of its block. */
export class ContentsSource extends PageSource {
  constructor(contents) {
    super(null);
    this.blocks = new Map();
    this.value = this.moveDataToBlocks(contents);
  }

  contents() {
    return this.value;
  }

  text({ block }) {
    return this.blocks.get(block);
  }

  moveDataToBlocks(value) {
    if (Array.isArray(value)) return value.map((item) => this.moveDataToBlocks(item));
    if (value === null || typeof value !== "object") return value;
    const { data, ...rest } = value;
    const copy = Object.fromEntries(Object.entries(rest).map(([name, part]) => [name, this.moveDataToBlocks(part)]));
    if (data === undefined) return copy;
    const block = `block-${this.blocks.size}`;
    this.blocks.set(block, data);
    return { ...copy, block };
  }
}

const DIGITS = new Uint8Array(128); // the value of each of the 91 characters
[...Array(127).keys()]
  .filter((code) => code >= 32 && !'"&<\\'.includes(String.fromCharCode(code)))
  .forEach((code, digit) => (DIGITS[code] = digit));

/** Decode base 91: each pair of characters is a number of 13 bits; a one follows the last bit. */
export function decodeBase91(text) {
  const bytes = new Uint8Array(Math.ceil((text.length / 2) * (13 / 8)));
  let [held, bits, end] = [0, 0, 0];
  for (let i = 0; i < text.length; i += 2) {
    held = (held << 13) | (DIGITS[text.charCodeAt(i)] * 91 + DIGITS[text.charCodeAt(i + 1)]);
    bits += 13;
    while (bits >= 8) bytes[end++] = held >> (bits -= 8);
    held &= (1 << bits) - 1;
  }
  if (bits) bytes[end] = held << (8 - bits);
  end = bytes.length - 1;
  while (!bytes[end]) end--;
  return bytes.subarray(0, end);
}

/** The largest weight that is stored as 0. */
export const ZERO = (0.5 / LEVELS) ** 2;

/** Bound of the error of a weight: that of its code, and as much again for the sum of its row. */
export const errorOf = (weight) => (2 * Math.sqrt(weight)) / LEVELS + 4 * ZERO;

/** A matrix of weights, row by row: weights[query * keys + key]; NaN where masked. */
export class Matrix {
  constructor(queries, keys, weights) {
    Object.assign(this, { queries, keys, weights, largest: 0, masked: false });
    for (let cell = 0; cell < weights.length; cell++) {
      const weight = weights[cell];
      if (weight > this.largest) this.largest = weight;
      else if (weight !== weight) this.masked = true;
    }
  }

  /** The smallest of the `count` largest weights, leaving out keys before `first`. */
  threshold(count, first = 0) {
    this.histograms ??= [];
    const counts = (this.histograms[first] ??= this.histogram(first));
    let [code, passed] = [LEVELS, counts[LEVELS]];
    while (code > 1 && passed + counts[code - 1] <= count) passed += counts[--code];
    while (code > 1 && !passed) passed += counts[--code];
    return ((code - 0.5) / LEVELS) ** 2; // the smallest weight that is rounded to this code
  }

  histogram(first) {
    const counts = new Uint32Array(LEVELS + 1);
    for (let cell = 0; cell < this.weights.length; cell++) {
      const weight = this.weights[cell];
      if (weight >= 0 && cell % this.keys >= first) counts[Math.round(LEVELS * Math.sqrt(weight))]++;
    }
    return counts;
  }

  /** The sum of each column: how much attention each key receives. */
  get columnSums() {
    if (this.sums) return this.sums;
    this.sums = new Float32Array(this.keys);
    for (let cell = 0, key = 0; cell < this.weights.length; cell++) {
      const weight = this.weights[cell];
      if (weight === weight) this.sums[key] += weight;
      if (++key === this.keys) key = 0;
    }
    return this.sums;
  }

  /** The keys, sorted by the attention they receive. */
  get keysByWeight() {
    const { columnSums } = this;
    this.order ??= [...columnSums.keys()].sort((a, b) => columnSums[b] - columnSums[a] || a - b);
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

/**
 * What to add to the codes of a row so that its weights sum to one, as before they were rounded: at most 0.5 in
 * size, since each code may stand for any number that is rounded to it. 0 for a row that is no distribution, such
 * as one of a pooled map.
 */
function shiftOf(row, levels) {
  let [cells, positive, sum, squares] = [0, 0, 0, 0];
  for (const code of row) {
    if (code > levels) continue;
    cells++;
    positive += code > 0;
    sum += code;
    squares += code * code;
  }
  const missing = levels * levels - squares;
  const count = missing > 0 ? cells : positive; // a code of 0 cannot become smaller
  const shift = missing / (sum + Math.sqrt(sum * sum + count * missing)); // of count x² + 2 sum x = missing
  return Math.abs(shift) <= 0.5 ? shift : 0;
}

/** The maps of one layer; each is decoded when it is first shown. */
export class Maps {
  constructor(packed, codes, levels) {
    Object.assign(this, { packed, codes, levels, decoded: new Map() });
  }

  get count() {
    return this.packed.num_maps;
  }

  matrix(map) {
    const { queries, keys } = this.packed;
    if (!this.decoded.has(map)) this.decoded.set(map, new Matrix(queries, keys, this.decode(map)));
    return this.decoded.get(map);
  }

  /** The mean of the heads, which share one mask. */
  mean() {
    if (!this.decoded.has("mean")) {
      const { queries, keys } = this.packed;
      const sums = new Float32Array(queries * keys);
      for (let map = 0; map < this.count; map++) this.decode(map).forEach((weight, cell) => (sums[cell] += weight));
      this.decoded.set("mean", new Matrix(queries, keys, sums.map((sum) => sum / this.count)));
    }
    return this.decoded.get("mean");
  }

  /** The weights of a map, row by row. */
  decode(map) {
    const { queries, keys } = this.packed;
    const size = this.codes.length / this.count;
    const codes = new Uint8Array(queries * keys).fill(MASKED);
    this.toRows(this.codes.subarray(map * size, (map + 1) * size), codes);
    const weights = new Float32Array(codes.length);
    const weightOf = new Float32Array(256).fill(NaN);
    for (let start = 0; start < codes.length; start += keys) {
      const row = codes.subarray(start, start + keys);
      const shift = shiftOf(row, this.levels);
      for (let code = 0; code <= this.levels; code++) weightOf[code] = (Math.max(0, code + shift) / this.levels) ** 2;
      for (let key = 0; key < keys; key++) weights[start + key] = weightOf[row[key]];
    }
    return weights;
  }

  /** Reorder values from by-key to by-query; cells above a stored triangle are left as they are. */
  toRows(values, rows) {
    const { queries, keys, lower_triangular } = this.packed;
    let index = 0;
    for (let key = 0; key < keys; key++) {
      for (let query = lower_triangular ? key : 0; query < queries; query++)
        rows[query * keys + key] = values[index++];
    }
    return rows;
  }
}

/** The parts of the scores of a layer, for the cells that are stored. */
export class Scores {
  /** rows: number of rows of all heads together, head by head. */
  constructor({ num_cells, step }, bytes, rows) {
    const half = bytes.length / 2;
    const number = (index) => bytes[index] | (bytes[half + index] << 8);
    this.starts = new Uint32Array(rows + 1);
    this.keys = new Uint16Array(num_cells);
    for (let row = 0; row < rows; row++) {
      this.starts[row + 1] = this.starts[row] + number(row);
      for (let cell = this.starts[row], key = 0; cell < this.starts[row + 1]; cell++)
        this.keys[cell] = key += number(rows + cell);
    }
    const count = (half - rows) / Math.max(1, num_cells) - 1;
    this.parts = Array.from({ length: count }, (_, part) =>
      Float32Array.from({ length: num_cells }, (_, cell) => {
        const steps = number(rows + (part + 1) * num_cells + cell);
        return (steps > 32767 ? steps - 65536 : steps) * step;
      }),
    );
  }

  /** The cells of a row, sorted by key: [{ key, parts }]. */
  row(row) {
    const cells = [];
    for (let cell = this.starts[row]; cell < this.starts[row + 1]; cell++)
      cells.push({ key: this.keys[cell], parts: this.parts.map((part) => part[cell]) });
    return cells;
  }
}

/** Decoded data; of large maps, the layers used last stay in memory. */
export class Store {
  constructor(source, contents) {
    Object.assign(this, { source, contents, cache: new Map() });
  }

  /** What has been decoded already, or undefined. */
  loaded(packed) {
    const found = this.cache.get(packed);
    if (found) this.cache.delete(packed) && this.cache.set(packed, found);
    return found;
  }

  async maps(packed) {
    if (!this.cache.has(packed)) {
      const codes = await this.source.bytes(packed);
      this.addMaps(packed, new Maps(packed, codes, this.contents.levels));
    }
    return this.cache.get(packed);
  }

  async json(packed) {
    if (!this.cache.has(packed)) this.cache.set(packed, await this.source.json(packed));
    return this.cache.get(packed);
  }

  async scores(packed, rows) {
    if (!this.cache.has(packed)) {
      const bytes = await this.source.bytes(packed);
      this.cache.set(packed, new Scores(packed, bytes, rows));
    }
    return this.cache.get(packed);
  }

  async vectors(packed, queries, keys) {
    if (!this.cache.has(packed)) {
      const bytes = await this.source.bytes(packed);
      this.cache.set(packed, new LayerVectors(packed, bytes, queries, keys));
    }
    return this.cache.get(packed);
  }

  addMaps(packed, maps) {
    this.cache.set(packed, maps);
    const layers = [...this.cache.keys()].filter((other) => other.num_maps && other.queries * other.keys > 1600);
    if (layers.length > MAX_CACHED_LAYERS) this.cache.delete(layers[0]); // used longest ago
  }
}
