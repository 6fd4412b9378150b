// WordPiece: the words of a text, split into the longest pieces of a vocabulary.

// Chinese characters as BERT's published code lists them; each is a word.
const CHINESE =
  /[\u4e00-\u9fff\u3400-\u4dbf\u{20000}-\u{2a6df}\u{2a700}-\u{2b81f}\u{2b920}-\u{2ceaf}\uf900-\ufaff\u{2f800}-\u{2fa1f}]/gu;
const APART = "\ud800"; // between words without a space; texts have no lone surrogates

const rangesOf = (ranges) =>
  ranges.map((range) => range.map((code) => `\\u{${code.toString(16)}}`).join("-")).join("");

export class WordPiece {
  /** description: as made by live_word_piece.py. */
  constructor(description) {
    this.description = description;
    this.ids = new Map(description.vocabulary);
    const [control, accents, punctuation] = ["control", "accents", "punctuation"].map((name) => rangesOf(description[name]));
    this.control = new RegExp(`[${control}]`, "gu");
    this.accents = new RegExp(`[${accents}]`, "gu");
    this.word = new RegExp(`[${punctuation}]|[^${punctuation}\\p{White_Space}\\u{d800}]+`, "gu");
  }

  /** [id, piece of the normalized text] of each token, without special tokens. */
  encode(text) {
    const normalized = this.normalize(text);
    let end = 0;
    return Array.from(normalized.matchAll(this.word)).flatMap(({ 0: word, index }) => {
      const space = normalized.slice(end, index).replaceAll(APART, "");
      end = index + word.length;
      return this.tokens(Array.from(word)).map(([id, piece], number) => [id, number ? piece : space + piece]);
    });
  }

  normalize(text) {
    const { clean_text: clean, handle_chinese_chars: chinese, strip_accents: strip, lowercase } = this.description;
    if (clean) text = text.replace(this.control, (sign) => ("\t\n\r".includes(sign) ? " " : "")).replace(/\p{White_Space}/gu, " ");
    if (chinese) text = text.replace(CHINESE, `${APART}$&${APART}`);
    if (strip) text = text.normalize("NFD").replace(this.accents, "");
    if (lowercase) text = Array.from(text, (character) => character.toLowerCase()).join("");
    return text;
  }

  /** The pieces of a word, the longest first; the unknown token if a part of it is no piece. */
  tokens(characters) {
    const { prefix, unknown, max_characters: most } = this.description;
    const tokens = [];
    for (let start = 0, end; start < characters.length && characters.length <= most; start = end) {
      let id;
      for (end = characters.length; end > start && id === undefined; end--)
        id = this.ids.get((start ? prefix : "") + characters.slice(start, end).join(""));
      if (id === undefined) return [[unknown, characters.join("")]];
      tokens.push([id, characters.slice(start, ++end).join("")]);
    }
    return tokens.length ? tokens : [[unknown, characters.join("")]];
  }
}
