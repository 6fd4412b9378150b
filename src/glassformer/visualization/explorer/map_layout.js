// Where the cells of a heat map are, and the tokens along its sides.

import { measured } from "./painter.js";
import { headingOf } from "./heading.js";

export const SIZE = 11.5;
export const LINE = 13.2;
const LARGEST = 96; // pixels of a cell that nobody zoomed
const PROFILE = 92; // beside and below the map, where there is room

/** As large as fits, times the zoom, moved so that the point (x, y) of the map is central. */
export function mapLayout(scene, matrix, box, words) {
  const { attention, state } = scene;
  const narrow = box.width < 560;
  const longest = (labels, most) =>
    Math.min(most, Math.max(24, ...labels.map((label) => measured(label.slice(0, 40), SIZE, 700))) + 2);
  const heading = headingOf(box, words);
  const margin = {
    query: longest(attention.queries, narrow ? 66 : 142),
    key: longest(attention.keys, narrow ? 62 : 102),
  };
  const [left, top] = [margin.query + 28, heading.height + margin.key + 32];
  const bottom = narrow ? 58 : 44;
  const profile = box.width >= 580 && box.height >= 460 ? PROFILE : 0;
  const room = { width: box.width - left - 12 - profile, height: box.height - top - bottom - profile };
  const fit = Math.max(0.1, Math.min(room.width / matrix.keys, room.height / matrix.queries, LARGEST));
  const cell = fit * state.zoom;
  const plot = {
    x: left,
    y: top,
    width: Math.min(room.width, cell * matrix.keys),
    height: Math.min(room.height, cell * matrix.queries),
  };
  const shift = (middle, count, length) =>
    Math.min(0, Math.max(length - cell * count, length / 2 - middle * cell * count));
  plot.x += Math.max(0, (room.width - plot.width) / 2);
  plot.dx = shift(state.x, matrix.keys, plot.width);
  plot.dy = shift(state.y, matrix.queries, plot.height);
  return { cell, plot, profile, heading, margin, under: bottom + profile, axis: `← ${scene.verbs.down}` };
}

export const cellRect = ({ cell, plot }, query, key) => ({
  x: plot.x + plot.dx + key * cell,
  y: plot.y + plot.dy + query * cell,
  size: cell,
});

/** The first and the last of so many cells that can be seen. */
export const range = (shift, length, cell, count) => [
  Math.max(0, Math.floor(-shift / cell)),
  Math.min(count - 1, Math.floor((length - shift) / cell)),
];
