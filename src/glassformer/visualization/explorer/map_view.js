// One head as a heat map, with tokens along both sides. Flows through all layers are drawn the same way.

import { fitted, isolated, numeral } from "./labels.js";
import { bitmapOf, inkOn, shade } from "./colours.js";
import { measured } from "./painter.js";
import { drawHeading, drawScale } from "./heading.js";
import { LINE, SIZE, cellRect, mapLayout, range } from "./map_layout.js";
import { drawProfiles } from "./profiles.js";

export function makeMapView(options) {
  const layout = (scene, box) => mapLayout(scene, options.matrix(scene), box, options.words(scene));
  return {
    ...options,
    layout,
    height: (scene, box) => box.height,

    /** How high the whole map is where its width decides. */
    natural(scene, box) {
      const { plot, cell, under } = layout(scene, { ...box, height: Infinity });
      return plot.y + (cell / scene.state.zoom) * options.matrix(scene).queries + under;
    },

    draw(painter, scene, box) {
      const matrix = options.matrix(scene);
      const place = layout(scene, box);
      drawHeading(painter, scene.palette, box, place.heading);
      drawCells(painter, scene, place, matrix);
      drawLabels(painter, scene, place, "query");
      drawLabels(painter, scene, place, "key");
      drawAxes(painter, scene, place);
      if (place.profile) drawProfiles(painter, scene, box, place, matrix);
      drawChosen(painter, scene, place);
      drawLegend(painter, scene, box, matrix, place);
    },

    hit(scene, box, x, y) {
      const { cell, plot, heading } = layout(scene, box);
      const inside = (value, start, length) => value >= start && value < start + length;
      const across = inside(x, plot.x, plot.width);
      const down = inside(y, plot.y, plot.height);
      const key = across ? Math.floor((x - plot.x - plot.dx) / cell) : scene.state.key;
      const query = down ? Math.floor((y - plot.y - plot.dy) / cell) : scene.state.query;
      if ((!across && !down) || y < heading.height) return null;
      return { query, key };
    },

    cellRect: (scene, box, query, key) => cellRect(layout(scene, box), query, key),

    move(app, across, down) {
      app.set({ key: app.state.key + across, query: app.state.query + down }, { follow: true });
    },

    describe: (scene) => `${options.words(scene)[0]}. ${scene.cellInWords()}`,
  };
}

const topOf = (scene, matrix) => (scene.state.top === "one" ? 1 : matrix.largest || 1);

function drawCells(painter, scene, { cell, plot }, matrix) {
  const { palette } = scene;
  const top = topOf(scene, matrix);
  const longest = Math.max(matrix.keys, matrix.queries);
  // Cells smaller than pixels: a bitmap of one pixel each, so that what is drawn is always the largest.
  const pixels = cell * painter.ratio < 1 ? cell * painter.ratio * longest : Infinity;
  const picture = kept(scene, matrix, top, pixels);
  painter.clip(plot.x, plot.y, plot.width, plot.height, () => {
    painter.image(picture, plot.x + plot.dx, plot.y + plot.dy, cell * matrix.keys, cell * matrix.queries);
    if (cell >= 36) drawNumbers(painter, palette, { cell, plot }, matrix, top);
  });
  painter.rect(plot.x - 0.5, plot.y - 0.5, plot.width + 1, plot.height + 1, null, { stroke: palette.line });
}

let last = {};
function kept(scene, matrix, top, pixels) {
  const theme = scene.palette.theme;
  if (last.matrix !== matrix || last.top !== top || last.theme !== theme || last.pixels !== pixels) {
    last = { matrix, top, theme, pixels, picture: bitmapOf(matrix, top, scene.palette, pixels) };
  }
  return last.picture;
}

function drawNumbers(painter, palette, { cell, plot }, matrix, top) {
  const [firstKey, lastKey] = range(plot.dx, plot.width, cell, matrix.keys);
  const [firstQuery, lastQuery] = range(plot.dy, plot.height, cell, matrix.queries);
  for (let query = firstQuery; query <= lastQuery; query++) {
    for (let key = firstKey; key <= lastKey; key++) {
      const weight = matrix.at(query, key);
      if (!(weight >= 0.005)) continue; // masked, or next to nothing
      const x = plot.x + plot.dx + (key + 0.5) * cell;
      const y = plot.y + plot.dy + (query + 0.5) * cell;
      const colour = inkOn(palette, shade(weight, top));
      painter.text(twoDigits(weight), x, y, { size: 11, align: "center", colour });
    }
  }
}

/** The two digits of a weight that matter: .012, .34, 1. */
const twoDigits = (weight) => (weight >= 0.995 ? "1" : weight.toPrecision(2).replace(/^0/, ""));

/** As many labels as can be read, and always that of the chosen token, which pushes its neighbours away. */
function drawLabels(painter, scene, { cell, plot, margin }, side) {
  const { attention, palette, state } = scene;
  const isQuery = side === "query";
  const labels = isQuery ? attention.queries : attention.keys;
  const chosen = state[side];
  const start = isQuery ? plot.y + plot.dy : plot.x + plot.dx;
  const [first, final] = isQuery
    ? range(plot.dy, plot.height, cell, labels.length)
    : range(plot.dx, plot.width, cell, labels.length);
  const step = Math.max(1, Math.ceil(LINE / cell));
  const width = margin[side];
  for (let index = first; index <= final; index++) {
    const near = Math.abs(index - chosen) * cell < LINE;
    if (index !== chosen && (near || index % step)) continue;
    const middle = start + (index + 0.5) * cell;
    const [low, length] = isQuery ? [plot.y, plot.height] : [plot.x, plot.width];
    if (middle < low - 1 || middle > low + length + 1) continue;
    const weight = index === chosen ? 700 : 400;
    const text = isolated(fitted(labels[index], width, (t) => measured(t, SIZE, weight)));
    const colour = index === chosen ? palette.mark : palette.ink;
    if (isQuery) painter.text(text, plot.x - 7, middle, { size: SIZE, align: "right", colour, weight });
    else painter.text(text, middle, plot.y - 7, { size: SIZE, colour, weight, turned: true });
  }
}

function drawAxes(painter, scene, { plot, heading, axis }) {
  const style = { size: 11, colour: scene.palette.soft };
  painter.text(scene.verbs.across, plot.x, heading.height + 12, style);
  const wide = measured(axis, 11);
  const y = Math.max(heading.height + wide + 4, plot.y + Math.min(plot.height, wide));
  painter.text(axis, 12, y, { ...style, turned: true });
}

/** The chosen row and column as bands; where cells are small these would cover them, and marks outside do. */
function drawChosen(painter, scene, place) {
  const { palette, state } = scene;
  const { plot, cell } = place;
  const { x, y } = cellRect(place, state.query, state.key);
  const bands = cell >= 7;
  painter.clip(plot.x - 6, plot.y - 6, plot.width + 12, plot.height + 12, () => {
    const thin = { stroke: palette.mark, lineWidth: 1 };
    if (bands) {
      painter.rect(plot.x, y, plot.width, cell, null, thin);
      painter.rect(x, plot.y, cell, plot.height, null, thin);
    } else {
      for (const end of [plot.x - 6, plot.x + plot.width + 1])
        painter.rect(end, y + cell / 2 - 1.5, 5, 3, palette.mark);
      for (const end of [plot.y - 6, plot.y + plot.height + 1])
        painter.rect(x + cell / 2 - 1.5, end, 3, 5, palette.mark);
    }
    const around = bands ? 1 : 3;
    painter.rect(x - around, y - around, cell + 2 * around, cell + 2 * around, null, {
      stroke: palette.mark,
      lineWidth: bands ? 2.5 : 1.5,
    });
  });
}

/** What the colours mean, and how exact the numbers are. */
function drawLegend(painter, scene, box, matrix, { plot, profile }) {
  const { palette } = scene;
  const top = topOf(scene, matrix);
  const below = box.width < 560;
  const y = Math.min(box.height - (below ? 44 : 30), plot.y + plot.height + profile + 14);
  const shares = [0, 0.25, 0.5, 0.75, 1].map((share) => numeral(top * share * share));
  const after = drawScale(painter, palette, 12, y, Math.min(260, box.width - 130), shares);
  const exact = `8 bits a weight: within √w / ${scene.contents.levels}`;
  const style = { size: 10.5, colour: palette.soft };
  painter.text(exact, below ? 12 : after, below ? y + 34 : y + 5, style);
}

export const mapView = makeMapView({
  name: "map",
  title: "Heat map",
  about: "One head: how much each token (row) looks at each other (column).",
  available: () => true,
  matrix: (scene) => scene.matrix,
  words: (scene) => [scene.headTitle, scene.headNote],
});
