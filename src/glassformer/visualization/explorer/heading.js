// Every picture's title, and under it what it shows. It stays in sight while the picture below it scrolls.

import { fitted, isolated } from "./labels.js";
import { measured } from "./painter.js";

const TITLE = { size: 15, weight: 650, line: 19, most: 3 };
const NOTE = { size: 11.5, weight: 400, line: 14, most: 9 };

/** A text as lines that fit; the last one is cut where there are too many words. */
export function wrapped(text, width, size, most, weight = 400) {
  const lines = [""];
  for (const word of text.split(" ")) {
    const longer = lines.at(-1) ? `${lines.at(-1)} ${word}` : word;
    if (lines.at(-1) && lines.length < most && measured(longer, size, weight) > width) lines.push(word);
    else lines[lines.length - 1] = longer;
  }
  return lines.map((line) => fitted(line, width, (part) => measured(part, size, weight)));
}

/** Lines of a title and its note, and how high they are together. */
export function headingOf(box, [title, note]) {
  const width = Math.min(box.width, box.seen ?? Infinity) - 24;
  const lines = [
    [title, TITLE],
    [note, NOTE],
  ].flatMap(([text, style]) =>
    wrapped(text, width, style.size, style.most, style.weight).map((line) => ({ line, style })),
  );
  return { lines, height: 12 + lines.reduce((sum, { style }) => sum + style.line, 0) };
}

/** Draws a heading at the top of what is seen, over what has been drawn; ``height`` is all that stays there. */
export function drawHeading(painter, palette, box, heading, height = heading.height) {
  const left = box.left ?? 0;
  painter.rect(left, box.top, box.seen ?? box.width, height, palette.card);
  let y = box.top + 10;
  for (const { line, style } of heading.lines) {
    const colour = style === TITLE ? palette.ink : palette.soft;
    painter.text(isolated(line), left + 12, y + style.line / 2, { ...style, colour });
    y += style.line;
  }
}

/** The scale of colours with its numbers; returns where what follows it can stand. hides: what hatched cells are. */
export function drawScale(painter, palette, x, y, wide, labels, hides) {
  for (let i = 0; i < 128; i++)
    painter.rect(x + (i * wide) / 128, y, wide / 128 + 0.6, 9, palette.css[i * 2 + 1]);
  painter.rect(x, y, wide, 9, null, { stroke: palette.line });
  labels.forEach((label, index) => {
    const share = index / (labels.length - 1);
    const align = share === 0 ? "left" : share === 1 ? "right" : "center";
    painter.text(label, x + wide * share, y + 18, { size: 10, align, colour: palette.soft });
  });
  if (!hides) return x + wide + 16;
  painter.hatch(x + wide + 14, y - 2, 13, 13, palette);
  painter.rect(x + wide + 14, y - 2, 13, 13, null, { stroke: palette.line });
  painter.text(hides, x + wide + 32, y + 5, { size: 10.5, colour: palette.soft });
  return x + wide + 48 + measured(hides, 10.5);
}
