// WordPiece: the words of a text, split into the longest pieces of a vocabulary.

// Chinese characters as BERT's published code lists them; each is a word.
const CHINESE =
  /[\u4e00-\u9fff\u3400-\u4dbf\u{20000}-\u{2a6df}\u{2a700}-\u{2b81f}\u{2b920}-\u{2ceaf}\uf900-\ufaff\u{2f800}-\u{2fa1f}]/gu;
const SPACE = /\p{White_Space}/u;

const classOf = (ranges) =>
  new RegExp(`[${ranges.map((range) => range.map((code) => `\\u{${code.toString(16)}}`).join("-")).join("")}]`, "gu");

export class WordPiece {
  /** description: as made by live_word_piece.py. */
  constructor(description) {
    this.description = description;
    this.ids = new Map(description.vocabulary);
    for (const name of ["control", "accents", "punctuation"]) this[name] = classOf(description[name]);
  }

  /** The ids of a text, without special tokens. */
  encode(text) {
    return this.words(this.normalize(text)).flatMap((word) => this.pieces(Array.from(word)));
  }

  normalize(text) {
    const { clean_text: clean, handle_chinese_chars: chinese, strip_accents: strip, lowercase } = this.description;
    if (clean) text = text.replace(this.control, (sign) => ("\t\n\r".includes(sign) ? " " : "")).replace(/\p{White_Space}/gu, " ");
    if (chinese) text = text.replace(CHINESE, " $& ");
    if (strip) text = text.normalize("NFD").replace(this.accents, "");
    if (lowercase) text = Array.from(text, (character) => character.toLowerCase()).join("");
    return text;
  }

  /** Split at white space; punctuation characters are words. */
  words(text) {
    const spaced = text.replace(this.punctuation, " $& ");
    return spaced.split(SPACE).filter(Boolean);
  }

  /** The pieces of a word, the longest first; the unknown token if a part of it is no piece. */
  pieces(characters) {
    const { prefix, unknown, max_characters: most } = this.description;
    const ids = [];
    for (let start = 0, end; start < characters.length && characters.length <= most; start = end) {
      for (end = characters.length; end > start; end--) {
        const piece = (start ? prefix : "") + characters.slice(start, end).join("");
        if (this.ids.has(piece)) break;
      }
      if (end === start) return [unknown];
      ids.push(this.ids.get((start ? prefix : "") + characters.slice(start, end).join("")));
    }
    return ids.length ? ids : [unknown];
  }
}
