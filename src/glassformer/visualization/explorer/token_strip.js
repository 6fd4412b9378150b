// The text as tokens to be chosen: as many lines as are shown at once, around the chosen one.

import { fitted, isolated } from "./labels.js";
import { measured } from "./painter.js";

const SIZE = 12.5;
const LINE = 24;
const SHOWN = 3;
const LONGEST = 180;

/** Places of the tokens, ``{index, x, y, width, text}``, from (x, y) on, and how high they are together. */
export function stripOf(labels, chosen, x, y, width) {
  const lines = [[]];
  let at = 0;
  labels.forEach((label, index) => {
    const text = fitted(label, LONGEST, (t) => measured(t, SIZE, 700));
    const wide = Math.min(width, measured(text, SIZE, 700) + 10);
    if (at + wide > width && lines.at(-1).length) [lines.push([]), (at = 0)];
    lines.at(-1).push({ index, x: x + at, width: wide, text });
    at += wide + 2;
  });
  const here = lines.findIndex((line) => line.some(({ index }) => index === chosen));
  const first = Math.max(0, Math.min(lines.length - SHOWN, here - 1));
  const seen = lines.slice(first, first + SHOWN);
  const tokens = seen.flatMap((line, number) => line.map((token) => ({ ...token, y: y + number * LINE })));
  const said = tokens.length < labels.length && inWords(tokens, labels.length);
  return { tokens, said, x, below: y + seen.length * LINE, height: (seen.length + (said ? 0.75 : 0)) * LINE };
}

const inWords = (tokens, count) =>
  `tokens ${tokens[0].index} to ${tokens.at(-1).index} of ${count}; ← and → lead to the others`;

export function drawStrip(painter, palette, { tokens, said, x: left, below }, chosen) {
  if (said) painter.text(said, left, below + 6, { size: 11, colour: palette.soft });
  for (const { index, x, y, width, text } of tokens) {
    const here = index === chosen;
    const edge = { radius: 4, stroke: here ? palette.mark : null, lineWidth: 2 };
    painter.rect(x, y, width, LINE - 4, palette.wash, edge);
    painter.text(isolated(text), x + 5, y + LINE / 2 - 2, {
      size: SIZE,
      colour: here ? palette.mark : palette.ink,
      weight: here ? 700 : 400,
    });
  }
}

/** The token at a point; null beside all of them. */
export const tokenAt = ({ tokens }, x, y) =>
  tokens.find((token) => x >= token.x && x < token.x + token.width && y >= token.y && y < token.y + LINE - 4)
    ?.index ?? null;
