// One head as a heat map, with tokens along both sides. Flows through all layers are drawn the same way.

import { fitted, isolated, numeral } from "./labels.js";
import { bitmapOf, inkOn, shade } from "./colours.js";
import { measured } from "./painter.js";
import { drawHeading, drawScale } from "./heading.js";
import { LINE, SIZE, cellRect, mapLayout, range } from "./map_layout.js";
import { drawProfiles } from "./profiles.js";

/**
 * A view of a matrix. options: of(scene), what is drawn instead of the scene's own; matrix(scene); words(scene);
 * chosen(hit), what a click on a cell chooses.
 */
export function makeMapView({ of = (scene) => scene, chosen = (scene, cell) => cell, ...options }) {
  const layout = (scene, box) => mapLayout(scene, options.matrix(scene), box, options.words(scene));
  return {
    of,
    layout: (scene, box) => layout(of(scene), box),
    height: (scene, box) => box.height,

    /** How high the whole map is where its width decides. */
    natural(scene, box) {
      const shown = of(scene);
      const { plot, cell, under } = layout(shown, { ...box, height: Infinity });
      return plot.y + (cell.height / shown.state.zoom) * options.matrix(shown).queries + under;
    },

    /** How wide a picture has to be for every column to be named. */
    wide: (scene) => options.matrix(of(scene)).keys * LINE + 340,

    draw(painter, scene, box) {
      const shown = of(scene);
      const matrix = options.matrix(shown);
      const place = layout(shown, box);
      drawHeading(painter, shown.palette, box, place.heading);
      drawCells(painter, shown, place, matrix);
      drawLabels(painter, shown, place, "query");
      drawLabels(painter, shown, place, "key");
      drawAxes(painter, shown, place);
      if (place.profile) drawProfiles(painter, shown, box, place, matrix);
      drawChosen(painter, shown, place);
      drawLegend(painter, shown, box, matrix, place);
    },

    hit(scene, box, x, y) {
      const shown = of(scene);
      const { cell, plot, heading } = layout(shown, box);
      const inside = (value, start, length) => value >= start && value < start + length;
      const across = inside(x, plot.x, plot.width);
      const down = inside(y, plot.y, plot.height);
      if ((!across && !down) || y < heading.height) return null;
      const key = across ? Math.floor((x - plot.x - plot.dx) / cell.width) : shown.state.key;
      const query = down ? Math.floor((y - plot.y - plot.dy) / cell.height) : shown.state.query;
      return chosen(scene, { query, key });
    },

    cellRect(scene, box, query, key) {
      return cellRect(layout(of(scene), box), query, key);
    },

    move(app, across, down) {
      app.set({ key: app.state.key + across, query: app.state.query + down }, { follow: true });
    },

    describe: (scene) => `${options.words(of(scene))[0]}. ${scene.cellInWords()}`,
    ...options,
  };
}

const LOW = 0.25; // of a head without a larger weight, colours show more when they go up to its largest

/** The weight that has the darkest colour. */
export function topOf({ state }, matrix) {
  if (state.top === "one" || (state.top === "auto" && matrix.largest >= LOW)) return 1;
  return matrix.largest || 1;
}

function drawCells(painter, scene, { cell, plot }, matrix) {
  const { palette } = scene;
  const top = topOf(scene, matrix);
  // Cells smaller than pixels: a bitmap of one pixel each, so that what is drawn is always the largest.
  const pixels = (length, count) => (length * painter.ratio < 1 ? length * painter.ratio * count : count);
  const picture = kept(scene, matrix, top, {
    across: pixels(cell.width, matrix.keys),
    down: pixels(cell.height, matrix.queries),
  });
  painter.clip(plot.x, plot.y, plot.width, plot.height, () => {
    const [x, y] = [plot.x + plot.dx, plot.y + plot.dy];
    if (matrix.masked) painter.hatch(plot.x, plot.y, plot.width, plot.height, palette);
    painter.image(picture, x, y, cell.width * matrix.keys, cell.height * matrix.queries);
    if (cell.width >= 24 && cell.height >= 15) drawNumbers(painter, palette, { cell, plot }, matrix, top);
  });
  painter.rect(plot.x - 0.5, plot.y - 0.5, plot.width + 1, plot.height + 1, null, { stroke: palette.line });
}

let last = {};
function kept(scene, matrix, top, { across, down }) {
  const { theme } = scene.palette;
  const wanted = { matrix, top, theme, across, down };
  if (Object.entries(wanted).some(([name, value]) => last[name] !== value))
    last = { ...wanted, picture: bitmapOf(matrix, top, scene.palette, across, down) };
  return last.picture;
}

function drawNumbers(painter, palette, { cell, plot }, matrix, top) {
  const [firstKey, lastKey] = range(plot.dx, plot.width, cell.width, matrix.keys);
  const [firstQuery, lastQuery] = range(plot.dy, plot.height, cell.height, matrix.queries);
  const size = Math.min(11, cell.width / 2.8);
  const least = cell.width < 36 ? 0.01 : 0.005; // below it there is next to nothing, or too long a number
  for (let query = firstQuery; query <= lastQuery; query++) {
    for (let key = firstKey; key <= lastKey; key++) {
      const weight = matrix.at(query, key);
      if (!(weight >= least)) continue; // masked ones, too
      const x = plot.x + plot.dx + (key + 0.5) * cell.width;
      const y = plot.y + plot.dy + (query + 0.5) * cell.height;
      const colour = inkOn(palette, shade(weight, top));
      painter.text(twoDigits(weight), x, y, { size, align: "center", colour });
    }
  }
}

/** The two digits of a weight that matter: .012, .34, 1. */
const twoDigits = (weight) => (weight >= 0.995 ? "1" : weight.toPrecision(2).replace(/^0/, ""));

/** The tokens that are named; the chosen one stands out. */
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
    const text = isolated(fitted(tokens[index], margin[side], (t) => measured(t, SIZE, weight)));
    const colour = chosen ? palette.mark : palette.ink;
    if (isQuery) painter.text(text, plot.x - 7, middle, { size: SIZE, align: "right", colour, weight });
    else painter.text(text, middle, plot.y - 7, { size: SIZE, colour, weight, turned: true });
  }
}

/** What rows and columns are, beside their labels. */
function drawAxes(painter, scene, { plot, margin, heading }) {
  const style = { size: 11, colour: scene.palette.soft };
  painter.text(scene.verbs.across, plot.x, plot.y - margin.key - 18, style);
  const axis = `← ${scene.verbs.down}`;
  const wide = measured(axis, 11);
  const y = Math.max(heading.height + wide + 4, plot.y + Math.min(plot.height, wide));
  painter.text(axis, plot.x - margin.query - 17, y, { ...style, turned: true });
}

/** The chosen row and column as bands; where cells are small these would cover them, and marks outside do. */
function drawChosen(painter, scene, place) {
  const { palette, state } = scene;
  const { plot, cell } = place;
  const { x, y, width, height } = cellRect(place, state.query, state.key);
  const bands = Math.min(width, height) >= 7;
  painter.clip(plot.x - 6, plot.y - 6, plot.width + 12, plot.height + 12, () => {
    const thin = { stroke: palette.mark, lineWidth: 1 };
    if (bands) {
      painter.rect(plot.x, y, plot.width, height, null, thin);
      painter.rect(x, plot.y, width, plot.height, null, thin);
    } else {
      for (const end of [plot.x - 6, plot.x + plot.width + 1])
        painter.rect(end, y + cell.height / 2 - 1.5, 5, 3, palette.mark);
      for (const end of [plot.y - 6, plot.y + plot.height + 1])
        painter.rect(x + cell.width / 2 - 1.5, end, 3, 5, palette.mark);
    }
    const around = bands ? 1 : 3;
    painter.rect(x - around, y - around, width + 2 * around, height + 2 * around, null, {
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
  const wide = Math.min(260, box.width - 130);
  const x = below ? 12 : Math.max(12, Math.min(plot.x, box.width - wide - 330));
  const hides = matrix.masked && (scene.hides ?? "masked");
  const after = drawScale(painter, palette, x, y, wide, shares, hides);
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
