// Encoding of a typed text into token ids, as the model's tokenizer in Python does it.

import { WordPiece } from "./live_word_piece.js";

/** Lone surrogates, which UTF-8 cannot encode, written as escapes such as \ud800. */
const escapeSurrogates = (text) =>
  text.replace(/\p{Surrogate}/gu, (unit) => `\\u${unit.charCodeAt(0).toString(16)}`);

export class LiveTokenizer {
  /** description: as made by live_tokenizer.py. */
  constructor(description) {
    this.description = description;
    const { kind, merges = [], characters = "", masks } = description;
    this.encodePart = {
      byte: encodeBytes,
      character: this.encodeCharacters,
      bpe: this.encodeWords,
      word_piece: (text) => this.wordPiece.encode(text),
    }[kind];
    if (kind === "word_piece") this.wordPiece = new WordPiece(description);
    this.characters = new Map(Array.from(characters, (character, id) => [character, id]));
    this.merges = new Map();
    for (let i = 0; i < merges.length; i += 3)
      this.merges.set(this.pair(merges[i], merges[i + 1]), { rank: i, merged: merges[i + 2] });
    this.masks = Object.keys(masks).sort((a, b) => b.length - a.length);
  }

  /** The ids of a text with the special tokens around it. Throws an Error with a message for the reader. */
  encode(text) {
    const { before, after, masks } = this.description;
    const ids = this.splitAtMasks(escapeSurrogates(text)).flatMap((part) =>
      Object.hasOwn(masks, part) ? [masks[part]] : this.encodePart(part),
    );
    return [...before, ...ids, ...after];
  }

  /** The number of special tokens around each text. */
  get numSpecial() {
    return this.description.before.length + this.description.after.length;
  }

  splitAtMasks(text) {
    let parts = [text];
    for (const mask of this.masks)
      parts = parts.flatMap((part) =>
        this.masks.includes(part) ? [part] : part.split(mask).flatMap((piece, index) => (index ? [mask, piece] : [piece])),
      );
    return parts;
  }

  encodeCharacters(text) {
    return Array.from(text, (character) => {
      const id = this.characters.get(character);
      if (id === undefined) throw new Error(`The model does not know the character “${character}”.`);
      return id;
    });
  }

  /** Byte-level BPE. */
  encodeWords(text) {
    const { normalizer, patterns, bytes } = this.description;
    let words = [normalizer ? text.normalize(normalizer) : text];
    for (const pattern of patterns) words = words.flatMap((word) => split(word, new RegExp(pattern, "gu")));
    return words.flatMap((word) => this.merge(encodeBytes(word).map((byte) => bytes[byte])));
  }

  /** Merge neighbors of a word until none is left: first the pair of the lowest rank, of these the leftmost. */
  merge(ids) {
    for (;;) {
      let [best, place] = [null, -1];
      for (let i = 0; i + 1 < ids.length; i++) {
        const found = this.merges.get(this.pair(ids[i], ids[i + 1]));
        if (found && (!best || found.rank < best.rank)) [best, place] = [found, i];
      }
      if (!best) return ids;
      ids.splice(place, 2, best.merged);
    }
  }

  /** A number for a pair of ids. */
  pair(first, second) {
    return first * 2 ** 26 + second;
  }
}

const encodeBytes = (text) => Array.from(new TextEncoder().encode(text));

/** The matches of a regular expression, and what lies between them. */
function split(text, pattern) {
  const parts = [];
  let end = 0;
  for (const match of text.matchAll(pattern)) {
    if (match.index > end) parts.push(text.slice(end, match.index));
    if (match[0]) parts.push(match[0]);
    end = match.index + match[0].length;
  }
  if (end < text.length) parts.push(text.slice(end));
  return parts;
}
