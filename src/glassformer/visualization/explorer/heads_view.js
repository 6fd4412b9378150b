// All heads: a row a layer, a column a head, and the mean of each layer at the end.

import { fitted, percent } from "./labels.js";
import { bitmapOf } from "./colours.js";
import { heading, measured } from "./painter.js";
import { MEAN } from "./state.js";

const GAP = 6;

/** Where everything is. Cells grow with the width, up to a size at which a thumbnail shows all it has. */
function layout(scene, width) {
  const { attention, compact } = scene;
  const columns = Math.max(...attention.heads.map((heads) => heads.length)) + 1;
  const widest = Math.max(...attention.layers.map((layer) => measured(`layer ${layer}`, 11, 700)));
  const left = compact ? 30 : Math.ceil(widest) + 14;
  const gap = compact || width < 560 ? 3 : GAP;
  const named = !compact && scene.names.length > 0;
  const least = compact ? 14 : 20;
  const space = (width - left - 8) / columns - gap;
  const cell = Math.max(least, Math.min(compact ? 72 : 150, Math.floor(space)));
  const ratio = Math.min(1.6, Math.max(0.4, attention.queries.length / attention.keys.length));
  const tall = attention.queries.length === attention.keys.length ? cell : Math.round(cell * ratio);
  const top = compact ? 22 : 100;
  const line = tall + gap + (named ? 20 : 0);
  return {
    columns,
    left,
    gap,
    cell,
    tall,
    top,
    line,
    named,
    height: top + attention.layers.length * line + 12,
  };
}

const spot = (place, layerIndex, column) => ({
  x: place.left + column * (place.cell + place.gap),
  y: place.top + layerIndex * place.line,
});

export const headsView = {
  name: "heads",
  title: "All heads",
  about: "Every head of every layer as a small map; the last column is the mean of the layer's heads.",
  scrolls: true,
  available: () => true,

  height: (scene, width) => layout(scene, width).height,
  leastWidth: (scene) => layout(scene, 0).left + layout(scene, 0).columns * (scene.compact ? 17 : 23) + 8,

  draw(painter, scene, box) {
    const { attention, palette, state, compact } = scene;
    const place = layout(scene, box.width);
    if (!compact) drawHead(painter, scene, box);
    for (let column = 0; column < place.columns; column++) {
      const { x } = spot(place, 0, column);
      const mean = column === place.columns - 1;
      const every = compact && place.cell < 22 && column % 2 && !mean;
      const text = mean ? (compact ? "μ" : "mean") : String(column);
      const style = { size: compact ? 10 : 11, align: "center", colour: palette.soft };
      if (!every) painter.text(text, x + place.cell / 2, place.top - 10, style);
    }
    attention.layers.forEach((layer, index) => {
      const { y } = spot(place, index, 0);
      if (y + place.line < box.top || y > box.bottom) return;
      const label = compact ? String(layer) : `layer ${layer}`;
      const chosen = layer === state.layer;
      painter.text(label, place.left - 8, y + place.tall / 2, {
        size: compact ? 10 : 11,
        align: "right",
        colour: chosen ? palette.ink : palette.soft,
        weight: chosen ? 700 : 400,
      });
      drawLayer(painter, scene, place, index);
    });
  },

  hit(scene, box, x, y) {
    const place = layout(scene, box.width);
    const index = Math.floor((y - place.top) / place.line);
    const column = Math.floor((x - place.left) / (place.cell + place.gap));
    const heads = scene.attention.heads[index];
    if (!heads || column < 0 || column >= place.columns) return null;
    if (column === place.columns - 1) return { layer: scene.attention.layers[index], head: MEAN };
    return column < heads.length ? { layer: scene.attention.layers[index], head: heads[column] } : null;
  },

  /** Where a head's thumbnail is, to be scrolled to. */
  spotOf(scene, box) {
    const place = layout(scene, box.width);
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

function drawHead(painter, scene, box) {
  const { attention, palette } = scene;
  const all = attention.queries.length > 40 || attention.keys.length > 40;
  const pooled = all ? "each pixel is the largest weight of its block" : "each pixel is a weight";
  heading(
    painter,
    palette,
    box,
    `All heads: ${attention.title}`,
    `rows look at columns; ${pooled}, on a square-root scale from 0 to 1`,
  );
  const wide = Math.min(220, (box.seen ?? box.width) - 150);
  for (let i = 0; i < 64; i++)
    painter.rect(12 + (i * wide) / 64, 66, wide / 64 + 0.6, 8, palette.css[i * 4 + 3]);
  painter.text("0 – 1", 18 + wide, 70, { size: 10.5, colour: palette.soft });
  painter.rect(62 + wide, 65, 10, 10, palette.masked, { stroke: palette.line });
  painter.text("masked", 77 + wide, 70, { size: 10.5, colour: palette.soft });
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
    if (place.named && head !== MEAN) drawName(painter, scene, attention.layers[index], head, x, y, place);
  });
}

/** The head's strongest name, over a bar as long as its strength. */
function drawName(painter, scene, layer, head, x, y, place) {
  const name = scene.namesOf(layer, head)[0];
  if (!name) return;
  const text = fitted(name.name, place.cell, (t) => measured(t, 10));
  painter.text(text, x, y + place.tall + 8, { size: 10, colour: scene.palette.ink });
  painter.rect(x, y + place.tall + 15, place.cell, 2, scene.palette.line);
  painter.rect(x, y + place.tall + 15, place.cell * Math.min(1, name.score), 2, scene.palette.accent);
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
