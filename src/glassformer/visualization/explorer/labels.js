// Tokens for the eye: whatever a tokenizer gives is shown as text, and nothing in it is invisible.

const SIGNS = new Map([
  [0x0a, "↵"],
  [0x0d, "␍"],
  [0x09, "⇥"],
  [0x7f, "␡"],
  [0xa0, "⍽"],
]);

// Characters that draw nothing, or turn the text around them: they are named by their number.
const HIDDEN =
  /^[\u0080-\u009f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]$/;
const JOINERS = /[\u200c\u200d]/;

/** A label in which spaces at its ends, control characters and lone surrogates can be seen. */
export function visible(label) {
  const text = label.replace(/^ +| +$/g, (spaces) => "·".repeat(spaces.length));
  const joins = /[\p{Extended_Pictographic}\p{L}]/u.test(text);
  let shown = "";
  for (const character of text) {
    const code = character.codePointAt(0);
    const harmless = joins && JOINERS.test(character); // inside an emoji or a word they do their work
    if (SIGNS.has(code)) shown += SIGNS.get(code);
    else if (code < 0x20) shown += String.fromCharCode(0x2400 + code);
    else if ((code >= 0xd800 && code <= 0xdfff) || (HIDDEN.test(character) && !harmless)) {
      shown += `⟨U+${code.toString(16).toUpperCase().padStart(4, "0")}⟩`;
    } else shown += character;
  }
  if (/^\p{M}/u.test(shown)) shown = `◌${shown}`; // a mark that combines needs something to stand on
  return shown || "∅";
}

/** Text that keeps its own direction, whatever stands beside it. */
export const isolated = (text) => `\u2068${text}\u2069`;

const segmenter = globalThis.Intl?.Segmenter
  ? new Intl.Segmenter(undefined, { granularity: "grapheme" })
  : null;
const graphemes = (text) =>
  segmenter ? Array.from(segmenter.segment(text), (part) => part.segment) : Array.from(text);

/** The text, or as much of its beginning as fits, cut between whole characters as people see them. */
export function fitted(text, width, measure) {
  if (measure(text) <= width) return text;
  const parts = graphemes(text.length > 400 ? text.slice(0, 400) : text);
  let low = 0;
  let high = parts.length;
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (measure(`${parts.slice(0, middle).join("")}…`) <= width) low = middle;
    else high = middle - 1;
  }
  return `${parts.slice(0, low).join("")}…`;
}

/** A weight as people read it: three digits that matter, at most five after the point. */
export function numeral(weight) {
  if (weight === 0) return "0";
  if (Math.abs(weight) < 0.00001) return "<0.00001";
  const digits = Math.min(5, Math.max(1, 2 - Math.floor(Math.log10(Math.abs(weight)))));
  return weight
    .toFixed(digits)
    .replace(/(\.\d*?)0+$/, "$1")
    .replace(/\.$/, "");
}

export const percent = (share) =>
  share === 0 ? "0 %" : `${share >= 0.0995 ? (100 * share).toFixed(0) : (100 * share).toPrecision(2)} %`;
