// Display of texts and numbers: invisible characters made visible, texts cut to fit, numbers rounded.

const SYMBOLS = new Map([
  ["\n", "↵"],
  ["\t", "⇥"],
]);
const PLAIN = /^[!-~]+$/;

// Characters without a glyph, and those that change the direction of text: shown as their code point.
const HIDDEN =
  /^[\p{Cc}\p{Cs}\p{Cn}\p{Co}\p{Zs}\p{Zl}\p{Zp}\p{Default_Ignorable_Code_Point}\u2800\ufff9-\ufffb]$/u;
const JOINED = /^[\p{L}\p{M}\p{N}\p{Emoji}\ufe0f\u{e0020}-\u{e007f}]$/u;

/** Whether a hidden character joins its neighbors, as in an emoji of several parts, or in a word. */
function isJoiner(character, before, after) {
  if (!JOINED.test(before)) return false;
  return /[\u200c\u200d]/.test(character)
    ? after !== ""
    : /[\ufe0e\ufe0f\u{e0020}-\u{e007f}]/u.test(character);
}

/** A label with visible signs for leading and trailing spaces, line breaks and hidden characters. */
export function visibleText(label) {
  if (PLAIN.test(label)) return label;
  const characters = Array.from(label.replace(/^ +| +$/g, (spaces) => "·".repeat(spaces.length)));
  const shown = characters.map((character, index) => {
    if (SYMBOLS.has(character)) return SYMBOLS.get(character);
    if (character === " " || !HIDDEN.test(character)) return character;
    if (isJoiner(character, characters[index - 1] ?? "", characters[index + 1] ?? "")) return character;
    return `⟨U+${character.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}⟩`;
  });
  const text = shown.join("");
  if (/^\p{M}/u.test(text)) return `◌${text}`; // a combining mark needs a base character
  return text || "∅";
}

/** A copy of a page's contents with `visibleText` applied to every text. */
export function withVisibleText(value) {
  if (typeof value === "string") return value && visibleText(value);
  if (Array.isArray(value)) return value.map(withVisibleText);
  if (value === null || typeof value !== "object") return value;
  const parts = Object.entries(value).map(([name, part]) => [
    name,
    PIECES.includes(name) ? part : LABELS.includes(name) && Array.isArray(part) ? part.map(visibleText) : withVisibleText(part),
  ]);
  return Object.fromEntries(parts);
}

const LABELS = ["queries", "keys", "tokens"]; // an empty text in these is a token, too
const PIECES = ["query_pieces", "key_pieces"]; // these become words, which are made visible

/** Text in Unicode isolates, so that its direction does not affect its surroundings. */
export const isolate = (text) => `\u2068${text}\u2069`;

const segmenter = globalThis.Intl?.Segmenter
  ? new Intl.Segmenter(undefined, { granularity: "grapheme" })
  : null;
const graphemes = (text) =>
  segmenter ? Array.from(segmenter.segment(text), (part) => part.segment) : Array.from(text);

/** The text, or its beginning and … if it is too wide, cut between graphemes. measure: gives the width of a text. */
export function truncate(text, width, measure) {
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

/** The positions that can be labeled without overlap; the first ones take precedence. spacing: between two labels. */
export function withoutOverlap(order, spacing, [first, final] = [0, Infinity]) {
  const least = Math.ceil(spacing - 1e-6);
  const taken = new Set();
  return order.filter((position) => {
    if (position < first || position > final || taken.has(position)) return false;
    for (let near = position - least + 1; near < position + least; near++) taken.add(near);
    return true;
  });
}

/** A number with its noun, in the plural unless it is one. */
export const countOf = (number, noun) => `${number.toLocaleString("en")} ${noun}${number === 1 ? "" : "s"}`;

/** Three significant digits, at most five after the point. */
export function formatNumber(weight) {
  if (weight === 0) return "0";
  if (Math.abs(weight) < 0.00001) return "<0.00001";
  const digits = Math.min(5, Math.max(1, 2 - Math.floor(Math.log10(Math.abs(weight)))));
  return weight
    .toFixed(digits)
    .replace(/(\.\d*?)0+$/, "$1")
    .replace(/\.$/, "");
}

export const formatPercent = (share) =>
  share === 0 ? "0 %" : `${share >= 0.0995 ? (100 * share).toFixed(0) : (100 * share).toPrecision(2)} %`;

/** A probability in percent; never 0, since it was rounded. */
export const formatProbability = (share) => (share < 0.00001 ? "<0.001 %" : formatPercent(share));
