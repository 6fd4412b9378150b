// Beside a heat map, the chosen row and the chosen column as bars.

import { fitted, isolated, numeral } from "./labels.js";
import { measured } from "./painter.js";
import { range } from "./map_layout.js";

/** The chosen row below the map and the chosen column beside it, each as bars up to its own largest weight. */
export function drawProfiles(painter, scene, box, place, matrix) {
  const { state, palette, attention, verbs } = scene;
  const { plot, profile, heading } = place;
  const [row, column] = [matrix.row(state.query), matrix.column(state.key)];
  const [right, under] = [plot.x + plot.width + 8, plot.y + plot.height + 8];
  const room = profile - 34;
  const small = { size: 10, colour: palette.soft };
  const largestOf = (weights) => weights.reduce((most, weight) => (weight > most ? weight : most), 0);
  const [most, mostDown] = [largestOf(row), largestOf(column)];
  painter.clip(plot.x, under, plot.width, room + 1, () =>
    drawBarsOf(painter, scene, place, row, most, (x, size, length, colour) =>
      painter.rect(x, under, size, length * room, colour),
    ),
  );
  painter.clip(right, plot.y, room + 1, plot.height, () =>
    drawBarsOf(
      painter,
      scene,
      place,
      column,
      mostDown,
      (y, size, length, colour) => painter.rect(right, y, length * room, size, colour),
      "query",
    ),
  );
  const narrow = (text, width) => fitted(text, width, (t) => measured(t, 10));
  const named = (label, words, width) => narrow(isolated(narrow(label, 90)) + words, width);
  const rowWords = ` ${verbs.active}: up to ${numeral(most)}`;
  const columnWords = ` ${verbs.passive}: up to ${numeral(mostDown)}`;
  const rowName = named(attention.queries[state.query], rowWords, box.width - plot.x - 12);
  const columnName = named(attention.keys[state.key], columnWords, plot.y + plot.height - heading.height);
  painter.text(rowName, plot.x, under + room + 10, small);
  painter.text(columnName, right + room + 10, plot.y + plot.height, { ...small, turned: true });
}

function drawBarsOf(painter, scene, { cell, plot }, weights, most, draw, side = "key") {
  const [shift, start, length, size] =
    side === "key"
      ? [plot.dx, plot.x, plot.width, cell.width]
      : [plot.dy, plot.y, plot.height, cell.height];
  const [first, final] = range(shift, length, size, weights.length);
  for (let index = first; index <= final; index++) {
    if (!(weights[index] > 0)) continue;
    const colour = index === scene.state[side] ? scene.palette.mark : scene.palette.accent;
    draw(
      start + shift + index * size,
      Math.max(0.5, size - (size > 4 ? 1 : 0)),
      weights[index] / most,
      colour,
    );
  }
}
