// Title and description at the top of every view, which stay in sight while it scrolls, and the color scale.

import { isolate, truncate } from "./text.js";
import { textWidth } from "./painter.js";

const TITLE = { size: 15, weight: 650, line: 19, maxLines: 3 };
const NOTE = { size: 11.5, weight: 400, line: 14, maxLines: 9 };

/** Break a text into at most maxLines lines of a width; the last one is truncated if it is too long. */
export function wrapText(text, width, size, maxLines, weight = 400) {
  const lines = [""];
  for (const word of text.split(" ")) {
    const longer = lines.at(-1) ? `${lines.at(-1)} ${word}` : word;
    if (lines.at(-1) && lines.length < maxLines && textWidth(longer, size, weight) > width) lines.push(word);
    else lines[lines.length - 1] = longer;
  }
  return lines.map((line) => truncate(line, width, (part) => textWidth(part, size, weight)));
}

/** The lines of a title and a note, and their total height. noteStyle: { size, weight, line, maxLines }. */
export function layoutHeading(box, [title, note], noteStyle = NOTE) {
  const width = Math.min(box.width, box.visibleWidth ?? Infinity) - 24;
  const lines = [
    [title, TITLE],
    [note, noteStyle],
  ].flatMap(([text, style]) =>
    wrapText(text, width, style.size, style.maxLines, style.weight).map((line) => ({ line, style })),
  );
  return { lines, height: 12 + lines.reduce((sum, { style }) => sum + style.line, 0) };
}

/** Draw a heading at the top of the visible part, over a background of some height. */
export function drawHeading(painter, palette, box, heading, height = heading.height) {
  const left = box.left ?? 0;
  painter.rect(left, box.top, box.visibleWidth ?? box.width, height, palette.card);
  let y = box.top + 10;
  for (const { line, style } of heading.lines) {
    const color = style === TITLE ? palette.ink : palette.soft;
    painter.text(isolate(line), left + 12, y + style.line / 2, { ...style, color });
    y += style.line;
  }
}

/** Draw the color scale with its numbers, and the meaning of stripes, if any; returns the x after them. */
export function drawColorScale(painter, palette, x, y, width, labels, stripesLabel) {
  for (let i = 0; i < 128; i++)
    painter.rect(x + (i * width) / 128, y, width / 128 + 0.6, 9, palette.css[i * 2 + 1]);
  painter.rect(x, y, width, 9, null, { stroke: palette.line });
  labels.forEach((label, index) => {
    const share = index / (labels.length - 1);
    const align = share === 0 ? "left" : share === 1 ? "right" : "center";
    painter.text(label, x + width * share, y + 18, { size: 10, align, color: palette.soft });
  });
  if (!stripesLabel) return x + width + 16;
  painter.hatch(x + width + 14, y - 2, 13, 13, palette);
  painter.rect(x + width + 14, y - 2, 13, 13, null, { stroke: palette.line });
  painter.text(stripesLabel, x + width + 32, y + 5, { size: 10.5, color: palette.soft });
  return x + width + 48 + textWidth(stripesLabel, 10.5);
}
