// The tokens of the text, to choose from: up to three lines around the chosen one.

import { isolate, truncate } from "./text.js";
import { textWidth } from "./painter.js";

const SIZE = 12.5;
const LINE = 24;
const MAX_LINES = 3;
const MAX_TOKEN_WIDTH = 180;

/** Arrange the tokens, { index, x, y, width, text }, from (x, y) on; the result has their total height. */
export function layoutStrip(labels, chosen, x, y, width) {
  const lines = [[]];
  let offset = 0;
  labels.forEach((label, index) => {
    const text = truncate(label, MAX_TOKEN_WIDTH, (t) => textWidth(t, SIZE, 700));
    const tokenWidth = Math.min(width, textWidth(text, SIZE, 700) + 10);
    if (offset + tokenWidth > width && lines.at(-1).length) [lines.push([]), (offset = 0)];
    lines.at(-1).push({ index, x: x + offset, width: tokenWidth, text });
    offset += tokenWidth + 2;
  });
  const chosenLine = lines.findIndex((line) => line.some(({ index }) => index === chosen));
  const first = Math.max(0, Math.min(lines.length - MAX_LINES, chosenLine - 1));
  const shown = lines.slice(first, first + MAX_LINES);
  const tokens = shown.flatMap((line, number) => line.map((token) => ({ ...token, y: y + number * LINE })));
  const note = tokens.length < labels.length && rangeText(tokens, labels.length);
  return { tokens, note, x, below: y + shown.length * LINE, height: (shown.length + (note ? 0.75 : 0)) * LINE };
}

const rangeText = (tokens, count) =>
  `tokens ${tokens[0].index} to ${tokens.at(-1).index} of ${count}; ← and → show the others`;

export function drawStrip(painter, palette, { tokens, note, x: left, below }, chosen) {
  if (note) painter.text(note, left, below + 6, { size: 11, color: palette.soft });
  for (const { index, x, y, width, text } of tokens) {
    const isChosen = index === chosen;
    const edge = { radius: 4, stroke: isChosen ? palette.mark : null, lineWidth: 2 };
    painter.rect(x, y, width, LINE - 4, palette.wash, edge);
    painter.text(isolate(text), x + 5, y + LINE / 2 - 2, {
      size: SIZE,
      color: isChosen ? palette.mark : palette.ink,
      weight: isChosen ? 700 : 400,
    });
  }
}

/** The index of the token at a point, or null. */
export const tokenAt = ({ tokens }, x, y) =>
  tokens.find((token) => x >= token.x && x < token.x + token.width && y >= token.y && y < token.y + LINE - 4)
    ?.index ?? null;
