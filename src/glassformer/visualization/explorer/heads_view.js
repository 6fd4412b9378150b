// All heads: a row a layer, a column a head, and the mean of each layer at the end.

import { fitted, percent } from "./labels.js";
import { bitmapOf } from "./colours.js";
import { measured } from "./painter.js";
import { drawHeading, drawScale, headingOf, wrapped } from "./heading.js";
import { MEAN } from "./state.js";

const NAME = 10; // size of the names under the maps
const LINE = 12;
const LARGEST = 320; // pixels of a small map, which shows no more then
const LEGIBLE = 44; // of one that shows what a head does
const USUAL = 66; // where not all are in sight at once
const LEAST = 20;
const OVERVIEW = [14, 48];
const GROUPS = 6; // columns of layers, at most

const labelOf = (layer, compact) => (compact ? String(layer) : `layer ${layer}`);
const leftOf = ({ attention, compact }) =>
  Math.max(...attention.layers.map((layer) => measured(labelOf(layer, compact), compact ? 10 : 11, 700))) +
  16;
const columnsOf = ({ attention }) => Math.max(...attention.heads.map((heads) => heads.length)) + 1;
const gapOf = ({ compact }, box) => (compact || box.width < 560 ? 3 : 6);

/** Where everything is: layers from top to bottom, in several groups side by side where so more is in sight. */
function layout(scene, box) {
  const { state, compact } = scene;
  if (compact) {
    const room = (scene.roomHeight() - 34) / scene.attention.layers.length - 3;
    const [least, most] = OVERVIEW;
    return arranged(scene, box, 1, Math.max(least, Math.min(most, Math.floor(room))));
  }
  const height = box.height || 0;
  const tries = Array.from({ length: GROUPS }, (_, count) => largest(scene, box, count + 1, height));
  const best = tries.reduce((best, place) => (place.cell > best.cell ? place : best));
  if (best.height <= height && best.cell >= LEGIBLE && state.size === 1) return best;
  const wanted = Math.max(best.cell, USUAL) * state.size; // and so many groups as this leaves room for
  const group = leftOf(scene) + columnsOf(scene) * (wanted + gapOf(scene, box));
  return arranged(scene, box, Math.max(1, Math.floor((box.width - 8) / group)), LARGEST);
}

/** So many groups with maps as large as lets them fit, though never smaller than can be seen. */
function largest(scene, box, groups, height) {
  let cell = LARGEST;
  let place = arranged(scene, box, groups, cell);
  while (place.height > height && place.cell > LEAST) place = arranged(scene, box, groups, (cell = place.cell - 2));
  return place;
}

/** Maps of a size, or smaller where the width does not allow it. */
function arranged(scene, box, groups, most) {
  const { attention, compact } = scene;
  const [columns, left, gap] = [columnsOf(scene), leftOf(scene), gapOf(scene, box)];
  const across = ((box.width - 8) / groups - left) / columns - gap;
  const cell = Math.max(compact ? OVERVIEW[0] : LEAST, Math.floor(Math.min(LARGEST, most, across)));
  const ratio = Math.min(1.6, Math.max(0.4, attention.queries.length / attention.keys.length));
  const tall = attention.queries.length === attention.keys.length ? cell : Math.round(cell * ratio);
  const names = compact ? null : namesIn(scene, cell);
  const heading = compact ? null : headingOf(box, words(scene, names));
  const top = compact ? 22 : heading.height + 52;
  const line = tall + gap + (names ? names.height : 0);
  const rows = Math.ceil(attention.layers.length / groups);
  const group = left + columns * (cell + gap) + 12;
  const height = top + rows * line + 12;
  return { groups, rows, group, columns, left, gap, cell, tall, top, line, names, heading, height };
}

/** What stands under the small maps: names that fit in words, the others as numbers that the heading explains. */
function namesIn(scene, cell) {
  const known = [...new Set(scene.names.map(({ name }) => name))];
  if (!known.length) return null;
  const inWords = new Map(known.map((name) => [name, wrapped(name, cell, NAME, 3)]));
  const whole = (name) => inWords.get(name).join(" ") === name && inWords.get(name).length < 3;
  const numbered = known.filter((name) => !whole(name));
  const number = (name) => numbered.indexOf(name) + 1;
  const shown = new Map(known.map((name) => [name, whole(name) ? inWords.get(name) : [`(${number(name)})`]]));
  const high = Math.max(...[...shown.values()].map((parts) => parts.length));
  return {
    shown,
    key: numbered.map((name) => `(${number(name)}) ${name}`).join(", "),
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
  x: Math.floor(layerIndex / place.rows) * place.group + place.left + column * (place.cell + place.gap),
  y: place.top + (layerIndex % place.rows) * place.line,
});

const leastOf = (scene) => leftOf(scene) + columnsOf(scene) * (scene.compact ? 17 : 23) + 8;

/** How wide the overview has to be, and how wide it may usefully be. */
export function overviewWidths(scene) {
  const { cell } = layout(scene, { width: 1e4, height: 0 });
  return [leastOf(scene), leftOf(scene) + columnsOf(scene) * (cell + 3) + 8];
}

export const headsView = {
  name: "heads",
  title: "All heads",
  about: "Every head of every layer as a small map; the last column is the mean of the layer's heads.",
  zoomed: "size",
  fits: true, // to a page
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
      painter.text(labelOf(layer, compact), spot(place, index, 0).x - 8, y + place.tall / 2, {
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
    const group = Math.floor(x / place.group);
    const index = group * place.rows + Math.floor((y - place.top) / place.line);
    const column = Math.floor((x - group * place.group - place.left) / (place.cell + place.gap));
    const heads = scene.attention.heads[index];
    if (group >= place.groups || !heads || column < 0 || column >= place.columns) return null;
    if (column === place.columns - 1) return { layer: scene.attention.layers[index], head: MEAN };
    return column < heads.length ? { layer: scene.attention.layers[index], head: heads[column] } : null;
  },

  /** Where a head's thumbnail is, to be scrolled to. */
  spotOf(scene, box) {
    const place = layout(scene, box);
    const index = scene.attention.layers.indexOf(scene.state.layer);
    return { y: spot(place, index, 0).y, height: place.line };
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
    const hides = scene.thumbnails.some((maps) => maps?.matrix(0).masked) && "masked";
    const y = box.top + place.heading.height + 4;
    drawScale(painter, palette, (box.left ?? 0) + 12, y, wide, ["0", "0.25", "1"], hides);
  }
  for (let column = 0; column < place.columns * place.groups; column++) {
    const [group, number] = [Math.floor(column / place.columns), column % place.columns];
    const mean = number === place.columns - 1;
    if (compact && place.cell < 22 && number % 2 && !mean) continue;
    const text = mean ? (compact ? "μ" : "mean") : String(number);
    const { x } = spot(place, group * place.rows, number);
    painter.text(text, x + place.cell / 2, box.top + place.top - 11, {
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
    if (maps?.matrix(number).masked) painter.hatch(x, y, place.cell, place.tall, palette);
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
