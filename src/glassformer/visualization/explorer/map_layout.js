// Where the cells of a heat map are, and which of the tokens along its sides are named.

import { placed } from "./labels.js";
import { measured } from "./painter.js";
import { headingOf } from "./heading.js";

export const SIZE = 11.5;
export const LINE = 13.2;
const LARGEST = 96; // pixels of a cell that nobody zoomed
const LONGEST = 6; // times as long as wide, of a cell where rows are not columns
const AXIS = 18; // for the words along a side

/** As large as fits, times the zoom, moved so that the point (x, y) of the map is central. */
export function mapLayout(scene, matrix, box, words) {
  const narrow = box.width < 560;
  const most = narrow ? { query: 66, key: 62 } : { query: 142, key: 102 };
  const heading = headingOf(box, words);
  const marginsOf = (labels) =>
    Object.fromEntries(["query", "key"].map((side) => [side, widest(scene, side, labels?.[side], most[side])]));
  let margin = marginsOf(null);
  // Where all is in sight, there is only as much room for labels as those need that are drawn.
  for (let time = 0; time < 2 && scene.state.zoom === 1; time++)
    margin = marginsOf(labelsOf(scene, matrix, arranged(scene, matrix, box, heading, margin)));
  const place = arranged(scene, matrix, box, heading, margin);
  return { ...place, labels: labelsOf(scene, matrix, place) };
}

const tokensOf = ({ attention }, side) => (side === "query" ? attention.queries : attention.keys);

function widest(scene, side, indices, most) {
  const tokens = tokensOf(scene, side);
  const named = indices ? indices.map((index) => tokens[index]) : tokens;
  const width = (token) => measured(token.slice(0, 40), SIZE, 700);
  return Math.min(most, named.reduce((longest, token) => Math.max(longest, width(token)), 16) + 2);
}

function arranged(scene, matrix, box, heading, margin) {
  const { state, plain } = scene;
  const small = box.width < 580 || box.height < 460;
  const profile = small || plain ? 0 : Math.min(92, Math.max(60, 0.12 * Math.min(box.width, box.height)));
  const [left, top] = [margin.query + 12 + AXIS, heading.height + margin.key + 12 + AXIS];
  const under = (box.width < 560 ? 58 : 44) + profile;
  const room = { width: box.width - left - 12 - profile, height: box.height - top - under };
  const fit = fitting(matrix, room);
  const cell = { width: fit.width * state.zoom, height: fit.height * state.zoom };
  const [wide, high] = [cell.width * matrix.keys, cell.height * matrix.queries];
  const plot = { x: left, y: top, width: Math.min(room.width, wide), height: Math.min(room.height, high) };
  const shift = (middle, whole, length) => Math.min(0, Math.max(length - whole, length / 2 - middle * whole));
  plot.x += Math.max(0, (room.width - plot.width) / 2);
  plot.dx = shift(state.x, wide, plot.width);
  plot.dy = shift(state.y, high, plot.height);
  return { cell, plot, profile, heading, margin, under };
}

/** Squares where rows and columns are the same tokens; else cells that use the room. */
function fitting({ queries, keys }, room) {
  const width = Math.max(0.1, Math.min(LARGEST, room.width / keys));
  const tall = Number.isFinite(room.height) ? room.height / queries : Math.max(width, LINE + 2);
  const height = Math.max(0.1, Math.min(LARGEST, tall));
  if (queries === keys) return { width: Math.min(width, height), height: Math.min(width, height) };
  return { width: Math.min(width, LONGEST * height), height: Math.min(height, Math.max(LINE + 2, LONGEST * width)) };
}

/** Of both sides the tokens that are named: where not all fit, first of all the chosen one. */
function labelsOf(scene, matrix, { cell, plot }) {
  const { query, key } = scene.state;
  const [down, across] = [
    range(plot.dy, plot.height, cell.height, matrix.queries),
    range(plot.dx, plot.width, cell.width, matrix.keys),
  ];
  const every = Math.max(1, Math.ceil(LINE / cell.height));
  const evenly = (index) => (index % every ? 1 : 0);
  const seen = ([first, final]) => Array.from({ length: final - first + 1 }, (_, place) => first + place);
  return {
    query: placed([query, ...seen(down).sort((a, b) => evenly(a) - evenly(b) || a - b)], LINE / cell.height, down),
    key: placed([key, ...matrix.heaviest], LINE / cell.width, across),
  };
}

export const cellRect = ({ cell, plot }, query, key) => ({
  x: plot.x + plot.dx + key * cell.width,
  y: plot.y + plot.dy + query * cell.height,
  ...cell,
});

/** The first and the last of so many cells that can be seen. */
export const range = (shift, length, cell, count) => [
  Math.max(0, Math.floor(-shift / cell)),
  Math.min(count - 1, Math.floor((length - shift) / cell - 1e-6)),
];
