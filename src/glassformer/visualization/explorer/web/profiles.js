// Profiles of a heat map: the chosen row and column as bars.

import { formatNumber, isolate, truncate } from "./text.js";
import { textWidth } from "./painter.js";
import { range } from "./map_layout.js";

/** Draw the chosen row below the map and the chosen column beside it, each scaled to its own largest weight. */
export function drawProfiles(painter, scene, box, geometry, matrix) {
  const { state, palette, attention, words } = scene;
  const { plot, profile, heading } = geometry;
  const [row, column] = [matrix.row(state.query), matrix.column(state.key)];
  const [right, below] = [plot.x + plot.width + 8, plot.y + plot.height + 8];
  const space = profile - 34;
  const style = { size: 10, color: palette.soft };
  const largestOf = (weights) => weights.reduce((max, weight) => (weight > max ? weight : max), 0);
  const [rowMax, columnMax] = [largestOf(row), largestOf(column)];
  painter.clip(plot.x, below, plot.width, space + 1, () =>
    drawBars(painter, scene, geometry, row, rowMax, (x, size, length, color) =>
      painter.rect(x, below, size, length * space, color),
    ),
  );
  painter.clip(right, plot.y, space + 1, plot.height, () =>
    drawBars(
      painter,
      scene,
      geometry,
      column,
      columnMax,
      (y, size, length, color) => painter.rect(right, y, length * space, size, color),
      "query",
    ),
  );
  const fit = (text, width) => truncate(text, width, (t) => textWidth(t, 10));
  const named = (label, rest, width) => fit(isolate(fit(label, 90)) + rest, width);
  const rowText = ` ${words.active}: up to ${formatNumber(rowMax)}`;
  const columnText = ` ${words.passive}: up to ${formatNumber(columnMax)}`;
  const rowName = named(attention.queries[state.query], rowText, box.width - plot.x - 12);
  const columnName = named(attention.keys[state.key], columnText, plot.y + plot.height - heading.height);
  painter.text(rowName, plot.x, below + space + 10, style);
  painter.text(columnName, right + space + 10, plot.y + plot.height, { ...style, vertical: true });
}

/** Bars of the visible weights; if they are narrower than pixels, one for each pixel with its largest weight. */
function drawBars(painter, scene, { cell, plot }, weights, max, draw, side = "key") {
  const [shift, start, length, size] =
    side === "key"
      ? [plot.dx, plot.x, plot.width, cell.width]
      : [plot.dy, plot.y, plot.height, cell.height];
  const [first, final] = range(shift, length, size, weights.length);
  const pixel = 1 / painter.ratio;
  const placeOf = (index) => shift + index * size;
  const bars = new Map(); // the largest weight at each place
  for (let index = first; index <= final; index++) {
    if (!(weights[index] > 0)) continue;
    const place = size < pixel ? Math.floor(placeOf(index) / pixel) * pixel : placeOf(index);
    bars.set(place, Math.max(bars.get(place) ?? 0, weights[index]));
  }
  const width = Math.max(pixel, size);
  // Bars without a gap overlap by a pixel: edges inside a pixel would let the background through.
  const drawn = size > 4 ? width - 1 : width + pixel;
  for (const [place, weight] of bars) draw(start + place, drawn, weight / max, scene.palette.accent);
  const chosen = scene.state[side];
  if (chosen >= first && chosen <= final && weights[chosen] > 0)
    draw(start + placeOf(chosen), size > 4 ? width - 1 : width, weights[chosen] / max, scene.palette.mark);
}
