// All heads as small maps: a row for each layer, or for each kind of head, and the mean of each layer at the end.

import { countOf, formatPercent, truncate } from "./text.js";
import { toBitmap } from "./colors.js";
import { textWidth } from "./painter.js";
import { drawColorScale, drawHeading, layoutHeading, wrapText } from "./heading.js";
import { rowsOf } from "./head_rows.js";
import { MEAN } from "./state.js";

const LABEL_SIZE = 10;
const LABEL_LINE = 12;
const MAX_CELL = 320; // sizes of a small map, in pixels
const LEGIBLE_CELL = 44;
const DEFAULT_CELL = 66; // if not all maps fit at a legible size
const MIN_CELL = 20;
const OVERVIEW_CELL = [14, 64];
const OVERVIEW_TOP = 53; // what a map is, the names of the axes and of the columns
const MAX_ASPECT = 2; // of the width of a map to its height in the overview
const MAX_GROUPS = 6; // of layers, side by side
const MAX_LEFT = 130; // of the names of kinds
const MIN_NAME_SIZE = 7.5; // of the name of the last column

const sizeOf = ({ compact }) => (compact ? 10 : 11);
const leftOf = (scene) =>
  Math.min(MAX_LEFT, Math.max(scene.compact ? textWidth("layer", 10) : 0, ...rowsOf(scene).rows.map(({ label }) => textWidth(label, sizeOf(scene), 700)))) + 16;
const columnsOf = (scene) => rowsOf(scene).columns;
const gapOf = ({ compact }, box) => (compact || box.width < 560 ? 3 : 6);

/** The height of a row of the overview, such that all of them fit if they can. */
const overviewRow = (scene) =>
  Math.max(OVERVIEW_CELL[0], Math.floor((scene.overviewHeight() - OVERVIEW_TOP - 14) / scene.attention.layers.length) - 3);

/** The layout: layers from top to bottom, in groups side by side if more fits then. */
function layout(scene, box) {
  const { state, compact } = scene;
  if (compact) return arrange(scene, box, 1, Math.min(OVERVIEW_CELL[1], MAX_ASPECT * overviewRow(scene)));
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
  const { columns, rows: lines } = rowsOf(scene);
  const [left, gap] = [leftOf(scene), gapOf(scene, box)];
  const across = ((box.width - 8) / groups - left) / columns - gap;
  const cell = Math.max(compact ? OVERVIEW_CELL[0] : MIN_CELL, Math.floor(Math.min(MAX_CELL, maxCell, across)));
  const ratio = Math.min(1.6, Math.max(0.4, attention.queries.length / attention.keys.length));
  const square = attention.queries.length === attention.keys.length ? cell : Math.round(cell * ratio);
  const cellHeight = compact ? Math.min(square, overviewRow(scene)) : square;
  const labels = compact ? null : arrangeLabels(scene, cell);
  const heading = compact ? null : layoutHeading(box, titleAndNote(scene, labels));
  const top = compact ? OVERVIEW_TOP : heading.height + 52;
  const line = cellHeight + gap + (labels ? labels.height : 0);
  const rows = Math.ceil(lines.length / groups);
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
  const shown = rowsOf(scene);
  const isPooled = attention.queries.length > 40 || attention.keys.length > 40;
  const pixel = isPooled ? "each pixel is the largest weight of its block" : "each pixel is a weight";
  const note = [`rows are queries, columns are keys; ${pixel}, on a square-root scale from 0 to 1`];
  if (shown.names.length && shown.rows.some(({ cells }) => cells.includes(null)))
    note.push("heads without a map were pruned");
  if (labels)
    note.push("under each map the head's best label, a bar for its score and a mark at its baseline's score");
  if (labels?.key) note.push(labels.key);
  return [`All heads: ${attention.title}`, note.join("; ")];
}

const cellOrigin = (geometry, row, column) => ({
  x: Math.floor(row / geometry.rows) * geometry.group + geometry.left + column * (geometry.cell + geometry.gap),
  y: geometry.top + (row % geometry.rows) * geometry.line,
});

const minWidthOf = (scene) => leftOf(scene) + columnsOf(scene) * (scene.compact ? 17 : 23) + 8;

/** The minimum and the maximum useful width of the overview. */
export function overviewWidths(scene) {
  const { cell } = layout(scene, { width: 1e4, height: 0 });
  return [minWidthOf(scene), leftOf(scene) + columnsOf(scene) * (cell + 3) + 8];
}

const isChosen = ({ state }, cell) => cell !== null && cell.layer === state.layer && cell.head === state.head;

/** The row of the chosen head; if the mean is not on the map, the first one of its layer. */
function chosenRow(scene) {
  const { rows } = rowsOf(scene);
  const found = rows.findIndex(({ cells }) => cells.some((cell) => isChosen(scene, cell)));
  return Math.max(found, 0);
}

export const headsView = {
  name: "heads",
  panel: ["head"],
  intro: "Each small map is one head: its rows look at its columns, darker is more. Click one to open it.",
  title: "All heads",
  description: "Every head of every layer as a small map; the last column is the mean of the heads.",
  zoomKey: "size",
  fitsPage: true,
  available: () => true,
  height: (scene, box) => layout(scene, box).height,
  minWidth: minWidthOf,
  headerHeight: (scene, box) => layout(scene, box).top,

  draw(painter, scene, box) {
    const { palette, state } = scene;
    const geometry = layout(scene, box);
    const size = sizeOf(scene);
    rowsOf(scene).rows.forEach((row, number) => {
      const { x, y } = cellOrigin(geometry, number, 0);
      if (y + geometry.line < box.top || y > box.bottom) return;
      const chosen = row.layer === state.layer;
      const [color, weight] = chosen ? [palette.ink, 700] : [palette.soft, 400];
      const label = truncate(row.label, geometry.left - 12, (text) => textWidth(text, size, weight));
      painter.text(label, x - 8, y + geometry.cellHeight / 2, { size, align: "right", color, weight });
      drawRow(painter, scene, geometry, row, number);
    });
    drawTop(painter, scene, box, geometry);
  },

  hitTest(scene, box, x, y) {
    const geometry = layout(scene, box);
    if (y < box.top + geometry.top) return null;
    const group = Math.floor(x / geometry.group);
    const row = group * geometry.rows + Math.floor((y - geometry.top) / geometry.line);
    const column = Math.floor((x - group * geometry.group - geometry.left) / (geometry.cell + geometry.gap));
    const cell = group < geometry.groups && rowsOf(scene).rows[row]?.cells[column];
    return cell ? { layer: cell.layer, head: cell.head } : null;
  },

  /** A click opens the head; see `Explorer.toggles` for clicks with a modifier key. */
  select: (app, hit) => app.set({ ...hit, view: "map" }),

  /** The row of the chosen head. */
  chosenBounds(scene, box) {
    const geometry = layout(scene, box);
    return { y: cellOrigin(geometry, chosenRow(scene), 0).y, height: geometry.line };
  },

  move(app, across, down) {
    const scene = app.scene();
    const { rows } = rowsOf(scene);
    const from = chosenRow(scene);
    const to = Math.min(rows.length - 1, Math.max(0, from + down));
    const column = rows[from].cells.findIndex((cell) => isChosen(scene, cell));
    const cells = rows[to].cells.map((cell, place) => ({ cell, place })).filter(({ cell }) => cell);
    const wanted = nearestPlace(cells, Math.max(0, column)) + across;
    const { layer, head } = cells[Math.min(cells.length - 1, Math.max(0, wanted))].cell;
    app.set({ layer, head });
  },

  describe: (scene) => `${scene.headTitle}. ${countOf(scene.attention.layers.length, "layer")} of heads.`,
};

/** The index of the cell that is nearest to a column. */
const nearestPlace = (cells, column) =>
  cells.reduce(
    (best, { place }, index) => (Math.abs(place - column) < Math.abs(cells[best].place - column) ? index : best),
    0,
  );

/** The part that does not scroll: the heading, the color scale, and the numbers of the heads. */
function drawTop(painter, scene, box, geometry) {
  const { palette, compact } = scene;
  const left = box.left ?? 0;
  const style = { size: sizeOf(scene), color: palette.soft };
  if (compact) {
    painter.rect(left, box.top, box.width, geometry.top - 4, palette.card);
    const title = `head → (${countOf(scene.attention.heads.flat().length, "small map")}: click one)`;
    const masked = scene.thumbnails.some((maps) => maps?.matrix(0).masked);
    const what = `rows look at columns${masked ? "; striped: hidden" : ""}`;
    [title, what].forEach((line, index) =>
      painter.text(truncate(line, box.width - geometry.left - 4, (t) => textWidth(t, style.size)), left + geometry.left, box.top + 12 + 13 * index, style),
    );
    painter.text("layer", left + geometry.left - 8, box.top + geometry.top - 11, { ...style, align: "right" });
  } else {
    drawHeading(painter, palette, box, geometry.heading, geometry.top - 2);
    const width = Math.min(220, (box.visibleWidth ?? box.width) - 110);
    const stripesLabel = scene.thumbnails.some((maps) => maps?.matrix(0).masked) && "masked";
    const y = box.top + geometry.heading.height + 4;
    drawColorScale(painter, palette, left + 12, y, width, ["0", "0.25", "1"], stripesLabel);
  }
  const { names, columns } = rowsOf(scene);
  for (let column = 0; column < columns * geometry.groups && names.length; column++) {
    const [group, number] = [Math.floor(column / columns), column % columns];
    const isLast = number === columns - 1;
    const size = Math.min(style.size, (style.size * geometry.cell) / textWidth(names.at(-1), style.size)); // of the last name
    const isNarrow = size < MIN_NAME_SIZE; // it covers the one before
    if (compact && !isLast && ((geometry.cell < 22 && number % 2) || (isNarrow && number === columns - 2))) continue;
    const { x } = cellOrigin(geometry, group * geometry.rows, number);
    const narrow = isLast && isNarrow;
    painter.text(names[number], narrow ? x + geometry.cell : x + geometry.cell / 2, box.top + geometry.top - 11, {
      ...style,
      size: isLast ? Math.max(MIN_NAME_SIZE, size) : style.size,
      align: narrow ? "right" : "center",
    });
  }
}

function drawRow(painter, scene, geometry, row, number) {
  const { palette, thumbnails } = scene;
  row.cells.forEach((cell, column) => {
    if (!cell) return;
    const { x, y } = cellOrigin(geometry, number, column);
    const maps = thumbnails[cell.row];
    if (maps?.matrix(cell.index).masked) painter.hatch(x, y, geometry.cell, geometry.cellHeight, palette);
    if (maps) painter.image(thumbnailOf(painter, maps, cell.index, palette, geometry), x, y, geometry.cell, geometry.cellHeight);
    const edge = isChosen(scene, cell)
      ? { stroke: palette.mark, lineWidth: scene.compact ? 2 : 3 }
      : { stroke: palette.line };
    painter.rect(x - 0.5, y - 0.5, geometry.cell + 1, geometry.cellHeight + 1, null, edge);
    if (scene.isOff(cell.layer, cell.head)) crossOut(painter, palette, x, y, geometry.cell, geometry.cellHeight);
    if (geometry.labels && cell.head !== MEAN) drawLabel(painter, scene, cell, x, y, geometry, row.layer === undefined);
  });
}

/** Mark a head that is turned off. */
function crossOut(painter, palette, x, y, width, height) {
  painter.rect(x, y, width, height, palette.card, { alpha: 0.72 });
  painter.line(x, y, x + width, y + height, palette.mark, 1.5);
  painter.line(x, y + height, x + width, y, palette.mark, 1.5);
}

/** The head's best label, or its number, under a bar for its score with a mark at its baseline's. */
function drawLabel(painter, { headLabelsOf, palette }, { layer, head }, x, y, { labels, cell, cellHeight }, numbered) {
  const [label] = headLabelsOf(layer, head);
  if (!label && !numbered) return;
  const top = y + cellHeight + 3;
  if (label) {
    painter.rect(x, top + 1, cell, 2, palette.line);
    painter.rect(x, top + 1, cell * Math.min(1, label.score), 2, palette.accent);
  }
  if (label?.control_score != null)
    painter.rect(x + (cell - 2) * Math.min(1, label.control_score), top - 1, 2, 6, palette.mark);
  const lines = numbered ? [`${layer}.${head}`] : labels.shown.get(label.name);
  lines.forEach((line, index) => {
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

const PREVIEW = 150; // pixels of the longer side

/** A larger map of a head, or null if it is not loaded. */
export function previewOf({ attention, thumbnails, palette }, { layer, head }) {
  const row = attention.layers.indexOf(layer);
  const matrix = thumbnails[row]?.matrix(head === MEAN ? attention.heads[row].length : attention.heads[row].indexOf(head));
  if (!matrix) return null;
  const canvas = document.createElement("canvas");
  const longer = Math.max(matrix.queries, matrix.keys);
  const [width, height] = [matrix.keys, matrix.queries].map((count) => Math.ceil((PREVIEW * count) / longer));
  Object.assign(canvas, { width, height });
  const context = canvas.getContext("2d");
  context.fillStyle = palette.masked;
  context.fillRect(0, 0, width, height);
  context.imageSmoothingEnabled = false;
  context.drawImage(toBitmap(matrix, 1, palette), 0, 0, width, height);
  return canvas;
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
