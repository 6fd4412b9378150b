// Words of a text, merged from its tokens, and the attention between them.

import { visibleText } from "./text.js";

const segmenter = globalThis.Intl?.Segmenter ? new Intl.Segmenter(undefined, { granularity: "word" }) : null;
const PARTS = /[\p{L}\p{M}\p{N}_]+(?:['’]\p{L}+)*|\s+|\S/gu; // for browsers without a segmenter

/** Where the words, spaces and signs of a text begin: [0, ...]. Words are those of Unicode (UAX 29). */
const boundaries = (text) =>
  segmenter
    ? Array.from(segmenter.segment(text), ({ index }) => index)
    : Array.from(text.matchAll(PARTS), ({ index }) => index);

/** The number of the segment at each place of a text. */
function segmentNumbers(text) {
  const starts = new Set(boundaries(text));
  const numbers = new Uint32Array(text.length);
  for (let at = 0, segment = 0; at < text.length; at++) {
    if (starts.has(at)) segment++;
    numbers[at] = segment;
  }
  return numbers;
}

/** For each token whether it belongs to the word of the token before it: both share a segment, or a character. */
function joinsBefore(pieces) {
  const segments = segmentNumbers(pieces.map((piece) => piece ?? "\n").join(""));
  let place = 0;
  let last = 0; // the segment in which the token before ends; 0 after a space or a special token
  return pieces.map((piece) => {
    const start = place;
    place += piece === null ? 1 : piece.length;
    if (piece === "") return last > 0;
    if (piece === null || !piece.trim()) {
      last = 0;
      return false;
    }
    const first = segments[start + piece.length - piece.trimStart().length];
    const joins = last > 0 && first === last;
    last = segments[start + piece.trimEnd().length - 1];
    return joins;
  });
}

const cache = new WeakMap(); // of the words of each list of labels

/**
 * The words of one side of an attention: [{ first, last, text, space, breaks }] with the first and last token, and
 * whether a space or how many line breaks come before. Without merging, each token is a word.
 */
export function wordsOf(attention, side, merged) {
  const labels = side === "query" ? attention.queries : attention.keys;
  const pieces = side === "query" ? attention.query_pieces : attention.key_pieces;
  if (!cache.has(labels)) cache.set(labels, {});
  return (cache.get(labels)[merged] ??= mergeTokens(labels, pieces?.length ? pieces : labels.map(() => null), merged));
}

function mergeTokens(labels, pieces, merged) {
  const joins = merged ? joinsBefore(pieces) : pieces.map(() => false);
  const words = [];
  let breaks = 0; // line breaks in the tokens of spaces before
  pieces.forEach((piece, index) => {
    const text = piece ?? "";
    if (joins[index]) {
      const word = words.at(-1);
      Object.assign(word, { last: index, raw: word.raw + text });
      return;
    }
    const isText = text.trim() !== "";
    const spaces = text.slice(0, text.length - text.trimStart().length);
    breaks += spaces.split("\n").length - 1;
    words.push({
      first: index,
      last: index,
      raw: text,
      breaks: isText || piece === null ? breaks : 0,
      space: piece === null || pieces[index - 1] === null || (isText && spaces !== ""),
      isSpecial: piece === null,
    });
    if (isText || piece === null) breaks = 0;
  });
  return words.map(({ raw, ...word }) => ({
    ...word,
    text: raw.trim() ? visibleText(raw.trim().replace(/\s+/g, " ")) : labels[word.first],
  }));
}

/** The index of the word that a token belongs to. */
export function wordAt(words, token) {
  let [low, high] = [0, words.length - 1];
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (words[middle].first <= token) low = middle;
    else high = middle - 1;
  }
  return low;
}

/**
 * Attention of a word to each word of the other side, or from each: the sum over the tokens that are looked at, and
 * the mean over those that look (Clark et al. 2019, section 4.1). NaN where all of it is masked.
 */
export function wordWeights(matrix, word, side, others) {
  return Float32Array.from(others, (other) => {
    const [looking, seen] = side === "query" ? [word, other] : [other, word];
    let [sum, visible] = [0, false];
    for (let query = looking.first; query <= looking.last; query++) {
      for (let key = seen.first; key <= seen.last; key++) {
        const weight = matrix.at(query, key);
        if (weight === weight) [(sum += weight), (visible = true)];
      }
    }
    return visible ? sum / (looking.last - looking.first + 1) : NaN;
  });
}
