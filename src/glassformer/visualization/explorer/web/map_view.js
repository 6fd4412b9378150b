// One head as a heat map, with tokens along both sides; rollouts are drawn in the same way.

import { formatNumber, isolate, truncate } from "./text.js";
import { Matrix } from "./data.js";
import { colorIndex, textColorOn, toBitmap } from "./colors.js";
import { textWidth } from "./painter.js";
import { drawColorScale, drawHeading } from "./heading.js";
import { LINE, SIZE, cellRect, mapLayout, range } from "./map_layout.js";
import { drawProfiles } from "./profiles.js";

/**
 * Make a view of a matrix. options: transform(scene), the scene to draw instead; matrix(scene);
 * titleAndNote(scene), the heading; select(scene, cell), the change of state when a cell is clicked.
 */
export function makeMapView({ transform = (scene) => scene, select = (scene, cell) => cell, ...options }) {
  const matrixOf = (scene) => (scene.state.firstToken ? options.matrix(scene) : withoutFirstKey(options.matrix(scene)));
  const layout = (scene, box) => mapLayout(scene, matrixOf(scene), box, options.titleAndNote(scene));
  return {
    ...options,
    matrix: matrixOf,
    transform,
    layout: (scene, box) => layout(transform(scene), box),
    height: (scene, box) => box.height,

    /** The height of the whole map if it is as wide as possible. */
    naturalHeight(scene, box) {
      const shown = transform(scene);
      const { plot, cell, under } = layout(shown, { ...box, height: Infinity });
      return plot.y + (cell.height / shown.state.zoom) * matrixOf(shown).queries + under;
    },

    /** The width at which every column is labeled. */
    exportWidth: (scene) => matrixOf(transform(scene)).keys * LINE + 340,

    draw(painter, scene, box) {
      const shown = transform(scene);
      const matrix = matrixOf(shown);
      const geometry = layout(shown, box);
      drawHeading(painter, shown.palette, box, geometry.heading);
      drawCells(painter, shown, geometry, matrix);
      drawLabels(painter, shown, geometry, "query");
      drawLabels(painter, shown, geometry, "key");
      drawAxes(painter, shown, geometry);
      if (geometry.profile) drawProfiles(painter, shown, box, geometry, matrix);
      drawChosen(painter, shown, geometry);
      drawLegend(painter, shown, box, matrix, geometry);
    },

    hitTest(scene, box, x, y) {
      const shown = transform(scene);
      const { cell, plot, heading } = layout(shown, box);
      const inside = (value, start, length) => value >= start && value < start + length;
      const across = inside(x, plot.x, plot.width);
      const down = inside(y, plot.y, plot.height);
      if ((!across && !down) || y < heading.height) return null;
      const key = across ? Math.floor((x - plot.x - plot.dx) / cell.width) : shown.state.key;
      const query = down ? Math.floor((y - plot.y - plot.dy) / cell.height) : shown.state.query;
      return select(scene, { query, key });
    },

    cellRect(scene, box, query, key) {
      return cellRect(layout(transform(scene), box), query, key);
    },

    move(app, across, down) {
      app.set({ key: app.state.key + across, query: app.state.query + down }, { follow: true });
    },

    describe: (scene) => `${options.titleAndNote(transform(scene))[0]}. ${scene.describeCell()}`,
    ...(options.move ? { move: options.move } : {}),
  };
}

const cutMatrices = new WeakMap();

/** A copy of a matrix in which the first key is left out: its weights are NaN, and the colors those of the others. */
function withoutFirstKey(matrix) {
  if (!cutMatrices.has(matrix)) {
    const weights = matrix.weights.slice();
    for (let query = 0; query < matrix.queries; query++) weights[query * matrix.keys] = NaN;
    cutMatrices.set(matrix, new Matrix(matrix.queries, matrix.keys, weights));
  }
  return cutMatrices.get(matrix);
}

const LOW = 0.25; // heads without a larger weight are shown on a scale up to their largest one

/** The weight at the end of the color scale. */
export function colorMaxOf({ state }, matrix) {
  if (state.colorMax === "one" || (state.colorMax === "auto" && matrix.largest >= LOW)) return 1;
  return matrix.largest || 1;
}

function drawCells(painter, scene, { cell, plot }, matrix) {
  const { palette } = scene;
  const max = colorMaxOf(scene, matrix);
  // If cells are smaller than pixels, the bitmap has the size in pixels, and each shows the maximum.
  const pixels = (length, count) => (length * painter.ratio < 1 ? length * painter.ratio * count : count);
  const bitmap = cachedBitmap(scene, matrix, max, {
    across: pixels(cell.width, matrix.keys),
    down: pixels(cell.height, matrix.queries),
  });
  painter.clip(plot.x, plot.y, plot.width, plot.height, () => {
    const [x, y] = [plot.x + plot.dx, plot.y + plot.dy];
    if (matrix.masked) painter.hatch(plot.x, plot.y, plot.width, plot.height, palette);
    painter.image(bitmap, x, y, cell.width * matrix.keys, cell.height * matrix.queries);
    if (cell.width >= 24 && cell.height >= 15) drawNumbers(painter, palette, { cell, plot }, matrix, max);
  });
  painter.rect(plot.x - 0.5, plot.y - 0.5, plot.width + 1, plot.height + 1, null, { stroke: palette.line });
}

let last = {};
function cachedBitmap(scene, matrix, max, { across, down }) {
  const { theme } = scene.palette;
  const wanted = { matrix, max, theme, across, down };
  if (Object.entries(wanted).some(([name, value]) => last[name] !== value))
    last = { ...wanted, bitmap: toBitmap(matrix, max, scene.palette, across, down) };
  return last.bitmap;
}

function drawNumbers(painter, palette, { cell, plot }, matrix, max) {
  const [firstKey, lastKey] = range(plot.dx, plot.width, cell.width, matrix.keys);
  const [firstQuery, lastQuery] = range(plot.dy, plot.height, cell.height, matrix.queries);
  const size = Math.min(11, cell.width / 2.8);
  const least = cell.width < 36 ? 0.01 : 0.005; // smaller ones are not written
  for (let query = firstQuery; query <= lastQuery; query++) {
    for (let key = firstKey; key <= lastKey; key++) {
      const weight = matrix.at(query, key);
      if (!(weight >= least)) continue; // true for NaN, too
      const x = plot.x + plot.dx + (key + 0.5) * cell.width;
      const y = plot.y + plot.dy + (query + 0.5) * cell.height;
      const color = textColorOn(palette, colorIndex(weight, max));
      painter.text(formatTwoDigits(weight), x, y, { size, align: "center", color });
    }
  }
}

/** Two significant digits: .012, .34, 1. */
const formatTwoDigits = (weight) => (weight >= 0.995 ? "1" : weight.toPrecision(2).replace(/^0/, ""));

/** The labels along a side, with the chosen one highlighted. */
function drawLabels(painter, scene, { cell, plot, margin, labels }, side) {
  const { attention, palette, state } = scene;
  const isQuery = side === "query";
  const tokens = isQuery ? attention.queries : attention.keys;
  const [start, size] = isQuery ? [plot.y + plot.dy, cell.height] : [plot.x + plot.dx, cell.width];
  const [low, length] = isQuery ? [plot.y, plot.height] : [plot.x, plot.width];
  for (const index of labels[side]) {
    const middle = start + (index + 0.5) * size;
    if (middle < low - 1 || middle > low + length + 1) continue;
    const chosen = index === state[side];
    const weight = chosen ? 700 : 400;
    const text = isolate(truncate(tokens[index], margin[side], (t) => textWidth(t, SIZE, weight)));
    const color = chosen ? palette.mark : palette.ink;
    if (isQuery) painter.text(text, plot.x - 7, middle, { size: SIZE, align: "right", color, weight });
    else painter.text(text, middle, plot.y - 7, { size: SIZE, color, weight, vertical: true });
  }
}

/** The titles of the axes. */
function drawAxes(painter, scene, { plot, margin, heading }) {
  const style = { size: 11, color: scene.palette.soft };
  painter.text(scene.words.keyAxis, plot.x, plot.y - margin.key - 18, style);
  const axis = `← ${scene.words.queryAxis}`;
  const length = textWidth(axis, 11);
  const y = Math.max(heading.height + length + 4, plot.y + Math.min(plot.height, length));
  painter.text(axis, plot.x - margin.query - 17, y, { ...style, vertical: true });
}

/** The chosen row and column, as outlines, or if cells are too small for these, as marks outside the map. */
function drawChosen(painter, scene, geometry) {
  const { palette, state } = scene;
  const { plot, cell } = geometry;
  const { x, y, width, height } = cellRect(geometry, state.query, state.key);
  const outlines = Math.min(width, height) >= 7;
  painter.clip(plot.x - 6, plot.y - 6, plot.width + 12, plot.height + 12, () => {
    const thin = { stroke: palette.mark, lineWidth: 1 };
    if (outlines) {
      painter.rect(plot.x, y, plot.width, height, null, thin);
      painter.rect(x, plot.y, width, plot.height, null, thin);
    } else {
      for (const end of [plot.x - 6, plot.x + plot.width + 1])
        painter.rect(end, y + cell.height / 2 - 1.5, 5, 3, palette.mark);
      for (const end of [plot.y - 6, plot.y + plot.height + 1])
        painter.rect(x + cell.width / 2 - 1.5, end, 3, 5, palette.mark);
    }
    const around = outlines ? 1 : 3;
    painter.rect(x - around, y - around, width + 2 * around, height + 2 * around, null, {
      stroke: palette.mark,
      lineWidth: outlines ? 2.5 : 1.5,
    });
  });
}

/** The color scale. */
function drawLegend(painter, scene, box, matrix, { plot, profile }) {
  const { palette } = scene;
  const max = colorMaxOf(scene, matrix);
  const y = Math.min(box.height - 30, plot.y + plot.height + profile + 14);
  const shares = [0, 0.25, 0.5, 0.75, 1].map((share) => formatNumber(max * share * share));
  const width = Math.min(260, box.width - 220);
  const x = Math.max(12, Math.min(plot.x, box.width - width - 210));
  const stripesLabel = matrix.masked && `${scene.stripesLabel ?? "masked"}${scene.state.firstToken ? "" : ", or the first token"}`;
  drawColorScale(painter, palette, x, y, width, shares, stripesLabel);
}

export const mapView = makeMapView({
  name: "map",
  panel: ["cell", "row", "column", "head"],
  intro: "Each row is a token; darker cells are where it looks. Click a cell.",
  title: "Heat map",
  description: "One head: how much each query (row) attends to each key (column).",
  available: () => true,
  matrix: (scene) => scene.matrix,
  titleAndNote: (scene) => [scene.headTitle, scene.headNote],
});
