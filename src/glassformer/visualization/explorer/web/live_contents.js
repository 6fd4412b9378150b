// What the page shows of a typed text.

import { compressJson, meanOf, packMaps, quantize, thumbnailsOf } from "./live_encoding.js";

const TOP_K = 10; // predictions of each position
const MAX_QUOTE = 300; // characters of the text that the page quotes

/**
 * The contents for a text. original: those of the page's own text; encoded: by the tokenizer; labels: of all tokens;
 * the last argument: the result of the forward pass.
 */
export async function liveContents(original, text, { ids, pieces }, labels, { attention, logits }) {
  const { architecture } = original.live;
  const [shown] = original.attention; // GPT and BERT have one kind of attention
  const [maps, thumbnails] = [[], []];
  for (const layer of shown.layers) {
    const packed = await packLayer(attention[layer], ids.length, architecture);
    maps.push(packed.maps);
    thumbnails.push(packed.thumbnails);
  }
  const tokens = ids.map((id) => labels[id]);
  const sides = { queries: tokens, keys: tokens, query_pieces: pieces, key_pieces: pieces };
  return {
    ...original,
    text: `“${startOf(text)}”, with 8-bit weights`,
    notes: [],
    attention: [{ ...shown, ...sides, maps, thumbnails, peaks: [] }],
    predictions: logits ? [await predictionsOf(logits, ids, labels, architecture, shown.kind)] : [],
    decompositions: [],
    vectors: [],
    rollouts: [],
    live: null,
  };
}

const startOf = (text) => (text.length > MAX_QUOTE ? `${Array.from(text).slice(0, MAX_QUOTE - 1).join("")}…` : text);

async function packLayer(weights, tokens, { is_causal: isCausal, window }) {
  const isAllowed = (query, key) => !isCausal || (key <= query && (!window || key > query - window));
  const codes = quantize(weights, tokens, isAllowed);
  const mean = quantize(meanOf(weights, tokens), tokens, isAllowed);
  const [small, ofMean] = [codes, mean].map((maps) => thumbnailsOf(maps, tokens));
  const all = new Uint8Array(small.codes.length + ofMean.codes.length);
  all.set(small.codes);
  all.set(ofMean.codes, small.codes.length);
  return {
    maps: await packMaps(codes, tokens, isCausal),
    thumbnails: await packMaps(all, small.size, false),
  };
}

/** The most probable tokens at each position, and the rank of the token that follows, or of a BERT that stands there. */
async function predictionsOf(logits, ids, labels, { is_causal: isCausal }, kind) {
  const size = logits.length / ids.length;
  const indices = new Map(); // of the labels that occur
  const indexOf = (token) => indices.set(token, indices.get(token) ?? indices.size).get(token);
  const rows = [];
  const targets = [];
  ids.forEach((_, position) => {
    const probabilities = softmax(logits.subarray(position * size, (position + 1) * size));
    rows.push([mostProbable(probabilities).flatMap((token) => [indexOf(token), rounded(probabilities[token])])]);
    const target = ids[position + (isCausal ? 1 : 0)];
    if (target === undefined) targets.push(null);
    else {
      const rank = 1 + probabilities.reduce((count, share) => count + (share > probabilities[target]), 0);
      targets.push([indexOf(target), rounded(probabilities[target]), rank]);
    }
  });
  return {
    title: isCausal ? "the next token" : "the token here",
    kinds: [kind],
    rows: ["the model"],
    tokens: [...indices.keys()].map((token) => labels[token]),
    data: await compressJson(rows),
    targets: { data: await compressJson(targets) },
    note: "",
  };
}

const rounded = (share) => Number(share.toFixed(5));

function softmax(row) {
  const largest = row.reduce((max, logit) => Math.max(max, logit), -Infinity);
  const exponentials = row.map((logit) => Math.exp(logit - largest));
  const sum = exponentials.reduce((total, value) => total + value, 0);
  return exponentials.map((value) => value / sum);
}

/** The tokens of the largest probabilities, sorted. */
function mostProbable(probabilities) {
  const best = [];
  probabilities.forEach((share, token) => {
    if (best.length === TOP_K && share <= probabilities[best.at(-1)]) return;
    const place = best.findIndex((other) => probabilities[other] < share);
    best.splice(place < 0 ? best.length : place, 0, token);
    if (best.length > TOP_K) best.pop();
  });
  return best;
}
