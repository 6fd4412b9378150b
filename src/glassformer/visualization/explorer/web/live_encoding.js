// Encoding of computed attention maps and JSON values, as encoding.py does it for the page's own text.

const LEVELS = 254;
const MASKED = 255;
const THUMBNAIL_SIZE = 40; // rows and columns of a thumbnail, at most
const ALPHABET = [...Array(127).keys()].filter((code) => code >= 32 && !'"&<\\'.includes(String.fromCharCode(code)));

/** Bytes compressed with zlib, in base 91. */
export async function compress(bytes) {
  const stream = new Blob([bytes]).stream().pipeThrough(new CompressionStream("deflate"));
  return encodeBase91(new Uint8Array(await new Response(stream).arrayBuffer()));
}

export const compressJson = (value) => compress(new TextEncoder().encode(JSON.stringify(value)));

/** Every 13 bits as two of 91 characters; a one follows the last bit. */
function encodeBase91(bytes) {
  const codes = new Uint8Array(2 * Math.ceil((8 * bytes.length + 1) / 13));
  let [held, bits, end] = [0, 0, 0];
  const write = (value) => {
    codes[end++] = ALPHABET[Math.floor(value / 91)];
    codes[end++] = ALPHABET[value % 91];
  };
  for (const byte of bytes) {
    held = (held << 8) | byte;
    bits += 8;
    if (bits < 13) continue;
    write(held >> (bits -= 13));
    held &= (1 << bits) - 1;
  }
  held = (held << 1) | 1;
  write(held << (13 - bits - 1));
  return new TextDecoder().decode(codes);
}

/** The codes of maps, (map, query, key): weights in 8 bits. isAllowed: whether a query may attend to a key. */
export function quantize(weights, tokens, isAllowed) {
  const codes = new Uint8Array(weights.length);
  for (let cell = 0; cell < codes.length; cell++) {
    const [query, key] = [Math.floor(cell / tokens) % tokens, cell % tokens];
    codes[cell] = isAllowed(query, key) ? Math.round(LEVELS * Math.sqrt(weights[cell])) : MASKED;
  }
  return codes;
}

/** The mean of maps, (query, key). */
export function meanOf(weights, tokens) {
  const mean = new Float32Array(tokens * tokens);
  const heads = weights.length / mean.length;
  for (let i = 0; i < weights.length; i++) mean[i % mean.length] += weights[i] / heads;
  return mean;
}

/** A packed map, with its data compressed; lower: whether only the keys up to each query are stored. */
export async function packMaps(codes, size, lower) {
  const count = codes.length / size ** 2;
  const bytes = [];
  for (let map = 0; map < count; map++)
    for (let key = 0; key < size; key++)
      for (let query = lower ? key : 0; query < size; query++) bytes.push(codes[(map * size + query) * size + key]);
  const data = await compress(Uint8Array.from(bytes));
  return { num_maps: count, queries: size, keys: size, lower_triangular: lower, data };
}

/** Maps with the maximum of each block of cells; a block is masked where all its cells are. */
export function thumbnailsOf(codes, tokens) {
  const size = Math.min(tokens, THUMBNAIL_SIZE);
  const blockOf = new Uint8Array(tokens);
  for (let block = 0; block < size; block++) blockOf.fill(block, Math.floor((block * tokens) / size));
  const small = new Uint8Array((codes.length / tokens ** 2) * size ** 2).fill(MASKED);
  for (let cell = 0; cell < codes.length; cell++) {
    if (codes[cell] === MASKED) continue;
    const [map, query, key] = [Math.floor(cell / tokens ** 2), Math.floor(cell / tokens) % tokens, cell % tokens];
    const place = (map * size + blockOf[query]) * size + blockOf[key];
    if (small[place] === MASKED || codes[cell] > small[place]) small[place] = codes[cell];
  }
  return { codes: small, size };
}
