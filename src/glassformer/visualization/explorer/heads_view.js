// All heads: a row a layer, a column a head, and the mean of each layer at the end.

import { fitted, percent } from "./labels.js";
import { bitmapOf } from "./colours.js";
import { measured } from "./painter.js";
import { drawHeading, drawScale, headingOf, wrapped } from "./heading.js";
import { MEAN } from "./state.js";

const NAME = 10; // size of the names under the maps
const LINE = 12;
const LARGEST = 320; // pixels of a small map, which shows no more then
const USUAL = 150;
const OVERVIEW = 48;

const labelOf = (layer, compact) => (compact ? String(layer) : `layer ${layer}`);
const leftOf = ({ attention, compact }) =>
  Math.max(...attention.layers.map((layer) => measured(labelOf(layer, compact), compact ? 10 : 11, 700))) +
  16;
const columnsOf = ({ attention }) => Math.max(...attention.heads.map((heads) => heads.length)) + 1;

/** Where everything is. Cells fill the width, and grow beyond their usual size where the height allows it. */
function layout(scene, box) {
  const { attention, compact } = scene;
  const [columns, left] = [columnsOf(scene), leftOf(scene)];
  const gap = compact || box.width < 560 ? 3 : 6;
  const across = (box.width - left - 8) / columns - gap;
  const high = (box.height || 0) / attention.layers.length - 40;
  const most = compact ? OVERVIEW : Math.min(LARGEST, Math.max(USUAL, high, box.width / 10));
  const cell = Math.max(compact ? 14 : 20, Math.min(most, Math.floor(across)));
  const ratio = Math.min(1.6, Math.max(0.4, attention.queries.length / attention.keys.length));
  const tall = attention.queries.length === attention.keys.length ? cell : Math.round(cell * ratio);
  const names = compact ? null : namesIn(scene, cell);
  const heading = compact ? null : headingOf(box, words(scene, names));
  const top = compact ? 22 : heading.height + 52;
  const line = tall + gap + (names ? names.height : 0);
  const height = top + attention.layers.length * line + 12;
  return { columns, left, gap, cell, tall, top, line, names, heading, height };
}

/** What stands under the small maps: names in words where all fit, else numbers that the heading explains. */
function namesIn(scene, cell) {
  const known = [...new Set(scene.names.map(({ name }) => name))];
  if (!known.length) return null;
  const lines = known.map((name) => wrapped(name, cell, NAME, 3));
  const whole = lines.every((parts, index) => parts.join(" ") === known[index] && parts.length < 3);
  const shown = new Map(known.map((name, index) => [name, whole ? lines[index] : [String(index + 1)]]));
  const high = Math.max(...[...shown.values()].map((parts) => parts.length));
  return {
    shown,
    key: whole ? "" : known.map((name, index) => `${index + 1} = ${name}`).join(", "),
    height: 9 + high * LINE,
  };
}

function words({ attention }, names) {
  const pooled = attention.queries.length > 40 || attention.keys.length > 40;
  const pixel = pooled ? "each pixel is the largest weight of its block" : "each pixel is a weight";
  const note = [`rows look at columns; ${pixel}, on a square-root scale from 0 to 1`];
  if (names)
    note.push("under a map the head's strongest name, a bar for its strength and a mark at its control's");
  if (names?.key) note.push(names.key);
  return [`All heads: ${attention.title}`, note.join("; ")];
}

const spot = (place, layerIndex, column) => ({
  x: place.left + column * (place.cell + place.gap),
  y: place.top + layerIndex * place.line,
});

const leastOf = (scene) => leftOf(scene) + columnsOf(scene) * (scene.compact ? 17 : 23) + 8;

/** How wide the overview has to be, and how wide it may usefully be. */
export const overviewWidths = (scene) => [
  leastOf(scene),
  leftOf(scene) + columnsOf(scene) * (OVERVIEW + 3) + 8,
];

export const headsView = {
  name: "heads",
  title: "All heads",
  about: "Every head of every layer as a small map; the last column is the mean of the layer's heads.",
  available: () => true,
  height: (scene, box) => layout(scene, box).height,
  leastWidth: leastOf,
  sticky: (scene, box) => layout(scene, box).top,

  draw(painter, scene, box) {
    const { attention, palette, state, compact } = scene;
    const place = layout(scene, box);
    const size = compact ? 10 : 11;
    attention.layers.forEach((layer, index) => {
      const { y } = spot(place, index, 0);
      if (y + place.line < box.top || y > box.bottom) return;
      const chosen = layer === state.layer;
      painter.text(labelOf(layer, compact), place.left - 8, y + place.tall / 2, {
        size,
        align: "right",
        colour: chosen ? palette.ink : palette.soft,
        weight: chosen ? 700 : 400,
      });
      drawLayer(painter, scene, place, index);
    });
    drawTop(painter, scene, box, place);
  },

  hit(scene, box, x, y) {
    const place = layout(scene, box);
    if (y < box.top + place.top) return null;
    const index = Math.floor((y - place.top) / place.line);
    const column = Math.floor((x - place.left) / (place.cell + place.gap));
    const heads = scene.attention.heads[index];
    if (!heads || column < 0 || column >= place.columns) return null;
    if (column === place.columns - 1) return { layer: scene.attention.layers[index], head: MEAN };
    return column < heads.length ? { layer: scene.attention.layers[index], head: heads[column] } : null;
  },

  /** Where a head's thumbnail is, to be scrolled to. */
  spotOf(scene, box) {
    const place = layout(scene, box);
    const index = scene.attention.layers.indexOf(scene.state.layer);
    return { y: place.top + index * place.line, height: place.line };
  },

  move(app, across, down) {
    const { attention } = app.scene();
    const { layers, heads } = attention;
    const index = Math.min(layers.length - 1, Math.max(0, layers.indexOf(app.state.layer) + down));
    const columns = [...heads[index], MEAN];
    const from = app.state.head === MEAN ? columns.length - 1 : columns.indexOf(app.state.head);
    const column = Math.min(columns.length - 1, Math.max(0, from + across));
    app.set({ layer: layers[index], head: columns[column] });
  },

  describe: (scene) => `${scene.headTitle}. ${scene.attention.layers.length} layers of heads.`,
};

/** What stays in sight: the heading, the scale, and the heads' numbers. */
function drawTop(painter, scene, box, place) {
  const { palette, compact } = scene;
  if (compact) painter.rect(box.left ?? 0, box.top, box.width, place.top - 4, palette.card);
  else {
    drawHeading(painter, palette, box, place.heading, place.top - 2);
    const wide = Math.min(220, (box.seen ?? box.width) - 110);
    drawScale(painter, palette, (box.left ?? 0) + 12, box.top + place.heading.height + 4, wide, [
      "0",
      "0.25",
      "1",
    ]);
  }
  for (let column = 0; column < place.columns; column++) {
    const mean = column === place.columns - 1;
    if (compact && place.cell < 22 && column % 2 && !mean) continue;
    const text = mean ? (compact ? "μ" : "mean") : String(column);
    painter.text(text, spot(place, 0, column).x + place.cell / 2, box.top + place.top - 11, {
      size: compact ? 10 : 11,
      align: "center",
      colour: palette.soft,
    });
  }
}

function drawLayer(painter, scene, place, index) {
  const { attention, palette, state, thumbnails } = scene;
  const heads = attention.heads[index];
  const maps = thumbnails[index];
  const columns = [...heads, MEAN];
  columns.forEach((head, number) => {
    const { x, y } = spot(place, index, head === MEAN ? place.columns - 1 : number);
    if (maps) painter.image(thumbnailOf(maps, number, palette), x, y, place.cell, place.tall);
    const chosen = attention.layers[index] === state.layer && head === state.head;
    const edge = chosen
      ? { stroke: palette.mark, lineWidth: scene.compact ? 2 : 3 }
      : { stroke: palette.line };
    painter.rect(x - 0.5, y - 0.5, place.cell + 1, place.tall + 1, null, edge);
    if (place.names && head !== MEAN) drawName(painter, scene, attention.layers[index], head, x, y, place);
  });
}

/** The head's strongest name, under a bar as long as its strength, with a mark where its control is. */
function drawName(painter, { namesOf, palette }, layer, head, x, y, { names, cell, tall }) {
  const [name] = namesOf(layer, head);
  if (!name) return;
  const at = y + tall + 3;
  painter.rect(x, at + 1, cell, 2, palette.line);
  painter.rect(x, at + 1, cell * Math.min(1, name.score), 2, palette.accent);
  if (name.control_score != null)
    painter.rect(x + (cell - 2) * Math.min(1, name.control_score), at - 1, 2, 6, palette.mark);
  names.shown.get(name.name).forEach((line, index) => {
    const text = fitted(line, cell, (t) => measured(t, NAME));
    painter.text(text, x, at + 6 + LINE * (index + 0.5), { size: NAME, colour: palette.ink });
  });
}

const drawn = new WeakMap(); // pictures of thumbnails, by layer and theme

function thumbnailOf(maps, number, palette) {
  const kept =
    drawn.get(maps)?.theme === palette.theme ? drawn.get(maps) : { theme: palette.theme, pictures: [] };
  drawn.set(maps, kept);
  kept.pictures[number] ??= bitmapOf(maps.matrix(number), 1, palette);
  return kept.pictures[number];
}

/** What is said of a name: how strong, and what it was held against. */
export function nameInWords(name) {
  const interval = name.low == null ? "" : ` (${percent(name.low)} to ${percent(name.high)})`;
  const control =
    name.control_score == null
      ? ""
      : `; its control, ${name.control || "by chance"}: ${percent(name.control_score)}`;
  return `${name.name}: ${percent(name.score)}${interval}${control}`;
}
