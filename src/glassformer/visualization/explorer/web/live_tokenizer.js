// Encoding of a typed text into token ids, as the model's tokenizer in Python does it.

import { WordPiece } from "./live_word_piece.js";

/** Lone surrogates, which UTF-8 cannot encode, written as escapes such as \ud800. */
const escapeSurrogates = (text) =>
  text.replace(/\p{Surrogate}/gu, (unit) => `\\u${unit.charCodeAt(0).toString(16)}`);

export class LiveTokenizer {
  /** description: as made by live_tokenizer.py. */
  constructor(description) {
    this.description = description;
    this.model = new MODELS[description.kind](description);
    this.masks = Object.keys(description.masks).sort((a, b) => b.length - a.length);
  }

  /** The ids of a text with the special tokens around it, and the piece of the text of each; null for special tokens. */
  encode(text) {
    const { before, after, masks } = this.description;
    const special = (ids) => ids.map((id) => [id, null]);
    const tokens = this.splitAtMasks(escapeSurrogates(text)).flatMap((part) =>
      Object.hasOwn(masks, part) ? special([masks[part]]) : this.model.encode(part),
    );
    const all = [...special(before), ...tokens, ...special(after)];
    return { ids: all.map(([id]) => id), pieces: all.map(([, piece]) => piece), isEmpty: !tokens.length };
  }

  splitAtMasks(text) {
    let parts = [text];
    for (const mask of this.masks)
      parts = parts.flatMap((part) =>
        this.masks.includes(part) ? [part] : part.split(mask).flatMap((piece, index) => (index ? [mask, piece] : [piece])),
      );
    return parts;
  }
}

/** A token for each byte. */
class Bytes {
  encode(text) {
    return Array.from(text).flatMap((character) => bytesOf(character).map((byte, index) => [byte, index ? "" : character]));
  }
}

/** A token for each character. Throws an Error with a message for the reader if one is unknown. */
class Characters {
  constructor({ characters }) {
    this.ids = new Map(Array.from(characters, (character, id) => [character, id]));
  }

  encode(text) {
    return Array.from(text, (character) => {
      if (!this.ids.has(character)) throw new Error(`The model does not know the character “${character}”.`);
      return [this.ids.get(character), character];
    });
  }
}

/** Byte-level BPE. */
class BytePairs {
  constructor(description) {
    this.description = description;
    const { bytes, merges } = description;
    this.lengths = new Map(bytes.map((id) => [id, 1])); // bytes of each token
    this.merges = new Map();
    for (let i = 0; i < merges.length; i += 3) {
      const [first, second, merged] = merges.slice(i, i + 3);
      this.merges.set(pair(first, second), { rank: i, merged });
      this.lengths.set(merged, this.lengths.get(first) + this.lengths.get(second));
    }
  }

  encode(text) {
    const { normalizer, patterns } = this.description;
    let words = [normalizer ? text.normalize(normalizer) : text];
    for (const pattern of patterns) words = words.flatMap((word) => split(word, new RegExp(pattern, "gu")));
    return words.flatMap((word) => this.encodeWord(word));
  }

  /** A token has the characters whose first byte it has. */
  encodeWord(word) {
    const pieces = Array.from(word).flatMap((character) => bytesOf(character).map((_, index) => (index ? "" : character)));
    let start = 0;
    return this.merge(bytesOf(word).map((byte) => this.description.bytes[byte])).map((id) => {
      const end = start + this.lengths.get(id);
      const piece = pieces.slice(start, end).join("");
      start = end;
      return [id, piece];
    });
  }

  /** Merge neighbors of a word until none is left: first the pair of the lowest rank, of these the leftmost. */
  merge(ids) {
    for (;;) {
      let [best, place] = [null, -1];
      for (let i = 0; i + 1 < ids.length; i++) {
        const found = this.merges.get(pair(ids[i], ids[i + 1]));
        if (found && (!best || found.rank < best.rank)) [best, place] = [found, i];
      }
      if (!best) return ids;
      ids.splice(place, 2, best.merged);
    }
  }
}

const MODELS = { byte: Bytes, character: Characters, bpe: BytePairs, word_piece: WordPiece };

/** A number for a pair of ids. */
const pair = (first, second) => first * 2 ** 26 + second;

const bytesOf = (text) => Array.from(new TextEncoder().encode(text));

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
