// All heads as small maps: a row for each layer, a column for each number of a head, and the mean at the end.

import { countOf, formatPercent, truncate } from "./text.js";
import { toBitmap } from "./colors.js";
import { textWidth } from "./painter.js";
import { drawColorScale, drawHeading, layoutHeading, wrapText } from "./heading.js";
import { MEAN } from "./state.js";

const LABEL_SIZE = 10;
const LABEL_LINE = 12;
const MAX_CELL = 320; // sizes of a small map, in pixels
const LEGIBLE_CELL = 44;
const DEFAULT_CELL = 66; // if not all maps fit at a legible size
const MIN_CELL = 20;
const OVERVIEW_CELL = [14, 48];
const MAX_GROUPS = 6; // of layers, side by side

const layerLabel = (layer, compact) => (compact ? String(layer) : `layer ${layer}`);
const leftOf = ({ attention, compact }) =>
  Math.max(...attention.layers.map((layer) => textWidth(layerLabel(layer, compact), compact ? 10 : 11, 700))) +
  16;
const headNumbers = ({ attention }) => [...new Set(attention.heads.flat())].sort((a, b) => a - b);
const columnsOf = (scene) => headNumbers(scene).length + 1; // pruned heads leave a gap in their layer
const gapOf = ({ compact }, box) => (compact || box.width < 560 ? 3 : 6);

/** The layout: layers from top to bottom, in groups side by side if more fits then. */
function layout(scene, box) {
  const { state, compact } = scene;
  if (compact) {
    const space = (scene.overviewHeight() - 34) / scene.attention.layers.length - 3;
    const [min, max] = OVERVIEW_CELL;
    return arrange(scene, box, 1, Math.max(min, Math.min(max, Math.floor(space))));
  }
  const height = box.height || 0;
  const tries = Array.from({ length: MAX_GROUPS }, (_, count) => largestFit(scene, box, count + 1, height));
  const best = tries.reduce((best, other) => (other.cell > best.cell ? other : best));
  if (best.height <= height && best.cell >= LEGIBLE_CELL && state.size === 1) return best;
  const wanted = Math.max(best.cell, DEFAULT_CELL) * state.size; // in as many groups as fit then
  const group = leftOf(scene) + columnsOf(scene) * (wanted + gapOf(scene, box));
  return arrange(scene, box, Math.max(1, Math.floor((box.width - 8) / group)), MAX_CELL);
}

/** The largest maps that fit in a number of groups. */
function largestFit(scene, box, groups, height) {
  let cell = MAX_CELL;
  let geometry = arrange(scene, box, groups, cell);
  while (geometry.height > height && geometry.cell > MIN_CELL) geometry = arrange(scene, box, groups, (cell = geometry.cell - 2));
  return geometry;
}

/** The layout for a size of the maps, or less if the width is too small. */
function arrange(scene, box, groups, maxCell) {
  const { attention, compact } = scene;
  const [columns, left, gap] = [columnsOf(scene), leftOf(scene), gapOf(scene, box)];
  const across = ((box.width - 8) / groups - left) / columns - gap;
  const cell = Math.max(compact ? OVERVIEW_CELL[0] : MIN_CELL, Math.floor(Math.min(MAX_CELL, maxCell, across)));
  const ratio = Math.min(1.6, Math.max(0.4, attention.queries.length / attention.keys.length));
  const cellHeight = attention.queries.length === attention.keys.length ? cell : Math.round(cell * ratio);
  const labels = compact ? null : arrangeLabels(scene, cell);
  const heading = compact ? null : layoutHeading(box, titleAndNote(scene, labels));
  const top = compact ? 22 : heading.height + 52;
  const line = cellHeight + gap + (labels ? labels.height : 0);
  const rows = Math.ceil(attention.layers.length / groups);
  const group = left + columns * (cell + gap) + 12;
  const height = top + rows * line + 12;
  return { groups, rows, group, columns, left, gap, cell, cellHeight, top, line, labels, heading, height };
}

/** The labels under the maps: those that do not fit are replaced by numbers, which the heading explains. */
function arrangeLabels(scene, cell) {
  const known = [...new Set(scene.headLabels.map(({ name }) => name))];
  if (!known.length) return null;
  const lines = new Map(known.map((name) => [name, wrapText(name, cell, LABEL_SIZE, 3)]));
  const fits = (name) => lines.get(name).join(" ") === name && lines.get(name).length < 3;
  const numbered = known.filter((name) => !fits(name));
  const number = (name) => numbered.indexOf(name) + 1;
  const shown = new Map(known.map((name) => [name, fits(name) ? lines.get(name) : [`(${number(name)})`]]));
  const maxLines = Math.max(...[...shown.values()].map((parts) => parts.length));
  return {
    shown,
    key: numbered.map((name) => `(${number(name)}) ${name}`).join(", "),
    height: 9 + maxLines * LABEL_LINE,
  };
}

function titleAndNote(scene, labels) {
  const { attention } = scene;
  const isPooled = attention.queries.length > 40 || attention.keys.length > 40;
  const pixel = isPooled ? "each pixel is the largest weight of its block" : "each pixel is a weight";
  const note = [`rows are queries, columns are keys; ${pixel}, on a square-root scale from 0 to 1`];
  if (attention.heads.some((heads) => heads.length < headNumbers(scene).length))
    note.push("heads without a map were pruned");
  if (labels)
    note.push("under each map the head's best label, a bar for its score and a mark at its baseline's score");
  if (labels?.key) note.push(labels.key);
  return [`All heads: ${attention.title}`, note.join("; ")];
}

const cellOrigin = (geometry, layerIndex, column) => ({
  x: Math.floor(layerIndex / geometry.rows) * geometry.group + geometry.left + column * (geometry.cell + geometry.gap),
  y: geometry.top + (layerIndex % geometry.rows) * geometry.line,
});

const minWidthOf = (scene) => leftOf(scene) + columnsOf(scene) * (scene.compact ? 17 : 23) + 8;

/** The minimum and the maximum useful width of the overview. */
export function overviewWidths(scene) {
  const { cell } = layout(scene, { width: 1e4, height: 0 });
  return [minWidthOf(scene), leftOf(scene) + columnsOf(scene) * (cell + 3) + 8];
}

export const headsView = {
  name: "heads",
  panel: ["head"],
  intro: "Each small map is one head: its rows look at its columns, darker is more. Click one to choose it, and again to open it.",
  title: "All heads",
  description: "Every head of every layer as a small map; the last column is the mean of the heads.",
  zoomKey: "size",
  fitsPage: true,
  available: () => true,
  height: (scene, box) => layout(scene, box).height,
  minWidth: minWidthOf,
  headerHeight: (scene, box) => layout(scene, box).top,

  draw(painter, scene, box) {
    const { attention, palette, state, compact } = scene;
    const geometry = layout(scene, box);
    const size = compact ? 10 : 11;
    attention.layers.forEach((layer, index) => {
      const { y } = cellOrigin(geometry, index, 0);
      if (y + geometry.line < box.top || y > box.bottom) return;
      const chosen = layer === state.layer;
      painter.text(layerLabel(layer, compact), cellOrigin(geometry, index, 0).x - 8, y + geometry.cellHeight / 2, {
        size,
        align: "right",
        color: chosen ? palette.ink : palette.soft,
        weight: chosen ? 700 : 400,
      });
      drawLayer(painter, scene, geometry, index);
    });
    drawTop(painter, scene, box, geometry);
  },

  hitTest(scene, box, x, y) {
    const geometry = layout(scene, box);
    if (y < box.top + geometry.top) return null;
    const group = Math.floor(x / geometry.group);
    const index = group * geometry.rows + Math.floor((y - geometry.top) / geometry.line);
    const column = Math.floor((x - group * geometry.group - geometry.left) / (geometry.cell + geometry.gap));
    const heads = scene.attention.heads[index];
    if (group >= geometry.groups || !heads || column < 0 || column >= geometry.columns) return null;
    const head = column === geometry.columns - 1 ? MEAN : headNumbers(scene)[column];
    return head === MEAN || heads.includes(head) ? { layer: scene.attention.layers[index], head } : null;
  },

  /** The row of the chosen layer. */
  chosenBounds(scene, box) {
    const geometry = layout(scene, box);
    const index = scene.attention.layers.indexOf(scene.state.layer);
    return { y: cellOrigin(geometry, index, 0).y, height: geometry.line };
  },

  move(app, across, down) {
    const { attention } = app.scene();
    const { layers, heads } = attention;
    const index = Math.min(layers.length - 1, Math.max(0, layers.indexOf(app.state.layer) + down));
    const columns = [...heads[layers.indexOf(app.state.layer)], MEAN];
    const column = Math.min(columns.length - 1, Math.max(0, columns.indexOf(app.state.head) + across));
    app.set({ layer: layers[index], head: columns[column] }); // the nearest one if that layer lacks the head
  },

  describe: (scene) => `${scene.headTitle}. ${countOf(scene.attention.layers.length, "layer")} of heads.`,
};

/** The part that does not scroll: the heading, the color scale, and the numbers of the heads. */
function drawTop(painter, scene, box, geometry) {
  const { palette, compact } = scene;
  if (compact) painter.rect(box.left ?? 0, box.top, box.width, geometry.top - 4, palette.card);
  else {
    drawHeading(painter, palette, box, geometry.heading, geometry.top - 2);
    const width = Math.min(220, (box.visibleWidth ?? box.width) - 110);
    const stripesLabel = scene.thumbnails.some((maps) => maps?.matrix(0).masked) && "masked";
    const y = box.top + geometry.heading.height + 4;
    drawColorScale(painter, palette, (box.left ?? 0) + 12, y, width, ["0", "0.25", "1"], stripesLabel);
  }
  const numbers = headNumbers(scene);
  for (let column = 0; column < geometry.columns * geometry.groups; column++) {
    const [group, number] = [Math.floor(column / geometry.columns), column % geometry.columns];
    const isMean = number === geometry.columns - 1;
    if (compact && geometry.cell < 22 && number % 2 && !isMean) continue;
    const text = isMean ? (compact ? "μ" : "mean") : String(numbers[number]);
    const { x } = cellOrigin(geometry, group * geometry.rows, number);
    painter.text(text, x + geometry.cell / 2, box.top + geometry.top - 11, {
      size: compact ? 10 : 11,
      align: "center",
      color: palette.soft,
    });
  }
}

function drawLayer(painter, scene, geometry, index) {
  const { attention, palette, state, thumbnails } = scene;
  const heads = attention.heads[index];
  const maps = thumbnails[index];
  const numbers = headNumbers(scene);
  const columns = [...heads, MEAN];
  columns.forEach((head, number) => {
    const { x, y } = cellOrigin(geometry, index, head === MEAN ? geometry.columns - 1 : numbers.indexOf(head));
    if (maps?.matrix(number).masked) painter.hatch(x, y, geometry.cell, geometry.cellHeight, palette);
    if (maps) painter.image(thumbnailOf(painter, maps, number, palette, geometry), x, y, geometry.cell, geometry.cellHeight);
    const chosen = attention.layers[index] === state.layer && head === state.head;
    const edge = chosen
      ? { stroke: palette.mark, lineWidth: scene.compact ? 2 : 3 }
      : { stroke: palette.line };
    painter.rect(x - 0.5, y - 0.5, geometry.cell + 1, geometry.cellHeight + 1, null, edge);
    if (geometry.labels && head !== MEAN) drawLabel(painter, scene, attention.layers[index], head, x, y, geometry);
  });
}

/** The head's best label, under a bar for its score with a mark at its baseline's. */
function drawLabel(painter, { headLabelsOf, palette }, layer, head, x, y, { labels, cell, cellHeight }) {
  const [label] = headLabelsOf(layer, head);
  if (!label) return;
  const top = y + cellHeight + 3;
  painter.rect(x, top + 1, cell, 2, palette.line);
  painter.rect(x, top + 1, cell * Math.min(1, label.score), 2, palette.accent);
  if (label.control_score != null)
    painter.rect(x + (cell - 2) * Math.min(1, label.control_score), top - 1, 2, 6, palette.mark);
  labels.shown.get(label.name).forEach((line, index) => {
    const text = truncate(line, cell, (t) => textWidth(t, LABEL_SIZE));
    painter.text(text, x, top + 6 + LABEL_LINE * (index + 0.5), { size: LABEL_SIZE, color: palette.ink });
  });
}

const bitmaps = new WeakMap(); // of thumbnails, by layer, theme and size in pixels

/** The bitmap of a thumbnail, with fewer cells if they would be smaller than pixels. */
function thumbnailOf({ ratio }, maps, number, palette, { cell, cellHeight }) {
  const [across, down] = [cell * ratio, cellHeight * ratio];
  const key = [palette.theme, across, down].join();
  const cached = bitmaps.get(maps);
  const list = cached?.key === key ? cached.list : [];
  bitmaps.set(maps, { key, list });
  return (list[number] ??= toBitmap(maps.matrix(number), 1, palette, across, down));
}

/** A label with its score, and the score of its baseline. */
export function describeHeadLabel(label) {
  const interval = label.low == null ? "" : ` (${formatPercent(label.low)} to ${formatPercent(label.high)})`;
  const baseline =
    label.control_score == null
      ? ""
      : `; baseline (${label.control || "chance"}): ${formatPercent(label.control_score)}`;
  return `${label.name}: ${formatPercent(label.score)}${interval}${baseline}`;
}
