// Tokens for the eye: whatever a tokenizer gives is shown as text, and nothing in it is invisible.

const SIGNS = new Map([
  ["\n", "↵"],
  ["\t", "⇥"],
]);
const PLAIN = /^[!-~]+$/;

// Characters that draw nothing or an empty box, or turn the text around them: they are named by their number.
const HIDDEN =
  /^[\p{Cc}\p{Cs}\p{Cn}\p{Co}\p{Zs}\p{Zl}\p{Zp}\p{Default_Ignorable_Code_Point}\u2800\ufff9-\ufffb]$/u;
const JOINED = /^[\p{L}\p{M}\p{N}\p{Emoji}\ufe0f\u{e0020}-\u{e007f}]$/u;

/** Whether a hidden character does its work between those around it, as in an emoji of several, or in a word. */
function joins(character, before, after) {
  if (!JOINED.test(before)) return false;
  return /[\u200c\u200d]/.test(character)
    ? after !== ""
    : /[\ufe0e\ufe0f\u{e0020}-\u{e007f}]/u.test(character);
}

/** A label in which spaces at its ends, and everything else that would not be seen, can be seen. */
export function visible(label) {
  if (PLAIN.test(label)) return label;
  const characters = Array.from(label.replace(/^ +| +$/g, (spaces) => "·".repeat(spaces.length)));
  const shown = characters.map((character, place) => {
    if (SIGNS.has(character)) return SIGNS.get(character);
    if (character === " " || !HIDDEN.test(character)) return character;
    if (joins(character, characters[place - 1] ?? "", characters[place + 1] ?? "")) return character;
    return `⟨U+${character.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}⟩`;
  });
  const text = shown.join("");
  if (/^\p{M}/u.test(text)) return `◌${text}`; // a mark that combines needs something to stand on
  return text || "∅";
}

/** The contents of a page with every text in them visible, once and for all who draw. */
export function readable(value) {
  if (typeof value === "string") return value && visible(value);
  if (Array.isArray(value)) return value.map(readable);
  if (value === null || typeof value !== "object") return value;
  const parts = Object.entries(value).map(([name, part]) => [
    name,
    LABELS.includes(name) && Array.isArray(part) ? part.map(visible) : readable(part),
  ]);
  return Object.fromEntries(parts);
}

const LABELS = ["queries", "keys", "tokens"]; // in which an empty text is a token, too

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

/** Of places in a row, those that can be marked without touching: the first of the order come first. */
export function placed(order, apart, [first, final] = [0, Infinity]) {
  const least = Math.ceil(apart - 1e-6);
  const taken = new Set();
  return order.filter((place) => {
    if (place < first || place > final || taken.has(place)) return false;
    for (let near = place - least + 1; near < place + least; near++) taken.add(near);
    return true;
  });
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

/** A likelihood, which is never nothing, however far it was rounded. */
export const likelihood = (share) => (share < 0.00001 ? "<0.001 %" : percent(share));
