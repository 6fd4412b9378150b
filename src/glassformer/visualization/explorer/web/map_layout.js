// Layout of a heat map: the position of its cells, and the tokens that are labeled along its sides.

import { withoutOverlap } from "./text.js";
import { textWidth } from "./painter.js";
import { layoutHeading } from "./heading.js";

export const SIZE = 11.5;
export const LINE = 13.2;
const MAX_CELL = 96; // pixels, without zoom
const MAX_RATIO = 6; // of the sides of a cell, if rows and columns differ
const AXIS = 18; // height of an axis title

/** The map as large as it fits, times the zoom, with the point (x, y) of the state at the center. */
export function mapLayout(scene, matrix, box, titleAndNote) {
  const narrow = box.width < 560;
  const maxMargin = narrow ? { query: 66, key: 62 } : { query: 142, key: 102 };
  const heading = layoutHeading(box, titleAndNote);
  const marginsOf = (labels) =>
    Object.fromEntries(["query", "key"].map((side) => [side, labelWidth(scene, side, labels?.[side], maxMargin[side])]));
  let margin = marginsOf(null);
  // Without zoom, the margins are as narrow as the labels that are drawn allow; these depend on the margins.
  for (let round = 0; round < 2 && scene.state.zoom === 1; round++)
    margin = marginsOf(labeledTokens(scene, matrix, arrange(scene, matrix, box, heading, margin)));
  const geometry = arrange(scene, matrix, box, heading, margin);
  return { ...geometry, labels: labeledTokens(scene, matrix, geometry) };
}

const tokensOf = ({ attention }, side) => (side === "query" ? attention.queries : attention.keys);

function labelWidth(scene, side, indices, max) {
  const tokens = tokensOf(scene, side);
  const labeled = indices ? indices.map((index) => tokens[index]) : tokens;
  const width = (token) => textWidth(token.slice(0, 40), SIZE, 700);
  return Math.min(max, labeled.reduce((longest, token) => Math.max(longest, width(token)), 16) + 2);
}

function arrange(scene, matrix, box, heading, margin) {
  const { state, plain } = scene;
  const small = box.width < 580 || box.height < 460;
  const profile = small || plain ? 0 : Math.min(92, Math.max(60, 0.12 * Math.min(box.width, box.height)));
  const [left, top] = [margin.query + 12 + AXIS, heading.height + margin.key + 12 + AXIS];
  const under = 44 + profile; // the color scale, and the profile above it
  const space = { width: box.width - left - 12 - profile, height: box.height - top - under };
  const fit = cellSize(matrix, space);
  const cell = { width: fit.width * state.zoom, height: fit.height * state.zoom };
  const [width, height] = [cell.width * matrix.keys, cell.height * matrix.queries];
  const plot = { x: left, y: top, width: Math.min(space.width, width), height: Math.min(space.height, height) };
  const shift = (center, size, length) => Math.min(0, Math.max(length - size, length / 2 - center * size));
  plot.x += Math.max(0, (space.width - plot.width) / 2);
  plot.dx = shift(state.x, width, plot.width);
  plot.dy = shift(state.y, height, plot.height);
  return { cell, plot, profile, heading, margin, under };
}

/** Squares if there are as many rows as columns; otherwise cells that fill the space. */
function cellSize({ queries, keys }, space) {
  const width = Math.max(0.1, Math.min(MAX_CELL, space.width / keys));
  const available = Number.isFinite(space.height) ? space.height / queries : Math.max(width, LINE + 2);
  const height = Math.max(0.1, Math.min(MAX_CELL, available));
  if (queries === keys) return { width: Math.min(width, height), height: Math.min(width, height) };
  return { width: Math.min(width, MAX_RATIO * height), height: Math.min(height, Math.max(LINE + 2, MAX_RATIO * width)) };
}

/** The tokens that are labeled on both sides; if not all fit, the chosen one takes precedence. */
function labeledTokens(scene, matrix, { cell, plot }) {
  const { query, key } = scene.state;
  const [down, across] = [
    range(plot.dy, plot.height, cell.height, matrix.queries),
    range(plot.dx, plot.width, cell.width, matrix.keys),
  ];
  const every = Math.max(1, Math.ceil(LINE / cell.height));
  const evenly = (index) => (index % every ? 1 : 0);
  const all = ([first, final]) => Array.from({ length: final - first + 1 }, (_, index) => first + index);
  return {
    query: withoutOverlap([query, ...all(down).sort((a, b) => evenly(a) - evenly(b) || a - b)], LINE / cell.height, down),
    key: withoutOverlap([key, ...matrix.keysByWeight], LINE / cell.width, across),
  };
}

export const cellRect = ({ cell, plot }, query, key) => ({
  x: plot.x + plot.dx + key * cell.width,
  y: plot.y + plot.dy + query * cell.height,
  ...cell,
});

/** The first and the last visible cell. */
export const range = (shift, length, cell, count) => [
  Math.max(0, Math.floor(-shift / cell)),
  Math.min(count - 1, Math.floor((length - shift) / cell - 1e-6)),
];
