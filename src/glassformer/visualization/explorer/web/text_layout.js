// Layout of words in lines, from left to right or from right to left.

import { truncate } from "./text.js";
import { textWidth } from "./painter.js";

const RIGHT_TO_LEFT = /[\p{Script=Hebrew}\p{Script=Arabic}\p{Script=Syriac}\p{Script=Thaana}\p{Script=Nko}]/u;
const LETTER = /\p{L}/u;
const PADDING = 2; // pixels on both sides of a word

/** The direction of a word: that of its first letter, or null if it has none. */
function directionOf(text) {
  const letter = text.match(LETTER)?.[0];
  return letter === undefined ? null : RIGHT_TO_LEFT.test(letter) ? "rtl" : "ltr";
}

/** Arrange words from (x, y) on: { boxes: [{ index, x, y, width, text }], height }, in the order of the words. */
export function layoutWords(words, { x, y, width, size, line, tokens }) {
  const space = Math.round(size * 0.28);
  const measured = words.map((word, index) => {
    const text = truncate(word.text, width - 2 * PADDING, (t) => textWidth(t, size));
    const gap = word.space ? space : tokens ? 1 : 0;
    return { index, text, gap, breaks: word.breaks, width: textWidth(text, size) + 2 * PADDING, direction: directionOf(text) };
  });
  const base = measured.find(({ direction }) => direction)?.direction ?? "ltr";
  const boxes = [];
  let top = y;
  for (const row of breakLines(measured, width)) {
    let left = x;
    const placed = inVisualOrder(row, base).map((word, number) => {
      const gap = number ? word.gapBefore : 0;
      const box = { index: word.index, text: word.text, x: left + gap, y: top, width: word.width };
      left = box.x + word.width;
      return box;
    });
    const shift = base === "rtl" ? x + width - left : 0;
    boxes.push(...placed.map((box) => ({ ...box, x: box.x + shift })));
    top += line;
  }
  return { boxes: boxes.sort((a, b) => a.index - b.index), height: top - y };
}

/** Rows of words that fit into the width; a line break of the text begins a row, several leave one empty. */
function breakLines(words, width) {
  const rows = [[]];
  let used = 0;
  for (const word of words) {
    const needed = word.width + (rows.at(-1).length ? word.gap : 0);
    if (word.breaks && word.index) rows.push(...Array.from({ length: Math.min(2, word.breaks) }, () => []));
    else if (used + needed > width && rows.at(-1).length) rows.push([]);
    used = rows.at(-1).length ? used + needed : word.width;
    rows.at(-1).push(word);
  }
  return rows;
}

/** The words of a row from left to right, each with the space to the one at its left. */
function inVisualOrder(row, base) {
  const runs = [];
  row.forEach((word, number) => {
    // Words without letters take the direction of their neighbors if these agree, or else that of the text.
    const before = row.slice(0, number).findLast(({ direction }) => direction)?.direction ?? base;
    const after = row.slice(number).find(({ direction }) => direction)?.direction ?? base;
    const direction = word.direction ?? (before === after ? before : base);
    if (runs.at(-1)?.direction === direction) runs.at(-1).words.push(word);
    else runs.push({ direction, words: [word] });
  });
  const ordered = (base === "rtl" ? runs.reverse() : runs).flatMap(({ direction, words }) =>
    direction === "rtl" ? words.reverse() : words,
  );
  return ordered.map((word, number) => {
    const left = ordered[number - 1];
    const later = left && left.index > word.index ? left : word; // the space is before the later of both
    return { ...word, gapBefore: later.gap };
  });
}
