// One head as a heat map, with tokens along both sides. Flows through all layers are drawn the same way.

import { fitted, isolated, numeral, visible } from "./labels.js";
import { bitmapOf, inkOn, shade } from "./colours.js";
import { heading, measured } from "./painter.js";

const SIZE = 11.5;
const LINE = 13.2;
const PROFILE = 92; // beside and below the map, where there is room
const HEAD = 80; // the heading, and what columns are

/** Where the cells are: as large as fits, times the zoom, moved so that the point (x, y) of the map is central. */
export function mapLayout(scene, matrix, box) {
  const { attention, state } = scene;
  const narrow = box.width < 560;
  const longest = (labels, most) =>
    Math.min(
      most,
      Math.max(24, ...labels.map((label) => measured(visible(label).slice(0, 40), SIZE, 700))) + 10,
    );
  const left = longest(attention.queries, narrow ? 74 : 150) + 20;
  const top = HEAD + longest(attention.keys, narrow ? 70 : 110);
  const bottom = narrow ? 58 : 44;
  const profile = box.width >= 620 && box.height >= 480 ? PROFILE : 0;
  const room = { width: box.width - left - 12 - profile, height: box.height - top - bottom - profile };
  const fit = Math.max(0.1, Math.min(room.width / matrix.keys, room.height / matrix.queries, 64));
  const cell = fit * state.zoom;
  const plot = {
    x: left,
    y: top,
    width: Math.min(room.width, cell * matrix.keys),
    height: Math.min(room.height, cell * matrix.queries),
  };
  const shift = (middle, count, length) =>
    Math.min(0, Math.max(length - cell * count, length / 2 - middle * cell * count));
  plot.x += Math.max(0, (room.width - plot.width) / 2);
  plot.dx = shift(state.x, matrix.keys, plot.width);
  plot.dy = shift(state.y, matrix.queries, plot.height);
  return { cell, plot, profile };
}

const cellRect = ({ cell, plot }, query, key) => ({
  x: plot.x + plot.dx + key * cell,
  y: plot.y + plot.dy + query * cell,
  size: cell,
});

function makeMapView(options) {
  return {
    scrolls: false,
    keepsCell: true,
    ...options,
    height: (scene, width, available) => available,

    /** How high the whole map is where its width decides. */
    natural(scene, width) {
      const { plot, cell } = mapLayout(scene, options.matrix(scene), { width, height: Infinity });
      return plot.y + (cell / scene.state.zoom) * options.matrix(scene).queries + (width < 560 ? 64 : 144);
    },

    draw(painter, scene, box) {
      const matrix = options.matrix(scene);
      const place = mapLayout(scene, matrix, box);
      heading(painter, scene.palette, box, ...options.words(scene));
      drawCells(painter, scene, place, matrix);
      drawLabels(painter, scene, place, "query");
      drawLabels(painter, scene, place, "key");
      drawAxes(painter, scene, place);
      if (place.profile) drawProfiles(painter, scene, place, matrix);
      drawChosen(painter, scene, place);
      drawLegend(painter, scene, box, matrix, place);
    },

    hit(scene, box, x, y) {
      const matrix = options.matrix(scene);
      const { cell, plot } = mapLayout(scene, matrix, box);
      const inside = (value, start, length) => value >= start && value < start + length;
      const across = inside(x, plot.x, plot.width);
      const down = inside(y, plot.y, plot.height);
      const key = across ? Math.floor((x - plot.x - plot.dx) / cell) : scene.state.key;
      const query = down ? Math.floor((y - plot.y - plot.dy) / cell) : scene.state.query;
      if ((!across && !down) || x < 0 || y < 40) return null;
      return { query, key };
    },

    cellRect: (scene, box, query, key) => cellRect(mapLayout(scene, options.matrix(scene), box), query, key),
    layout: (scene, box) => mapLayout(scene, options.matrix(scene), box),
    top: (scene) => topOf(scene, options.matrix(scene)),

    move(app, across, down) {
      app.set({ key: app.state.key + across, query: app.state.query + down }, { follow: true });
    },

    describe: (scene) => `${options.words(scene)[0]}. ${scene.cellInWords(options.matrix(scene))}`,
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
      if (weight !== weight) continue;
      const x = plot.x + plot.dx + (key + 0.5) * cell;
      const y = plot.y + plot.dy + (query + 0.5) * cell;
      const colour = inkOn(palette, shade(weight, top));
      painter.text(weight.toFixed(2).replace(/^0/, ""), x, y, { size: 11, align: "center", colour });
    }
  }
}

const range = (shift, length, cell, count) => [
  Math.max(0, Math.floor(-shift / cell)),
  Math.min(count - 1, Math.floor((length - shift) / cell)),
];

/** As many labels as can be read, and always that of the chosen token, which pushes its neighbours away. */
function drawLabels(painter, scene, { cell, plot }, side) {
  const { attention, palette, state } = scene;
  const isQuery = side === "query";
  const labels = isQuery ? attention.queries : attention.keys;
  const chosen = state[side];
  const start = isQuery ? plot.y + plot.dy : plot.x + plot.dx;
  const [first, final] = isQuery
    ? range(plot.dy, plot.height, cell, labels.length)
    : range(plot.dx, plot.width, cell, labels.length);
  const step = Math.max(1, Math.ceil(LINE / cell));
  const width = (isQuery ? plot.x - 20 : plot.y - HEAD) - 8;
  for (let index = first; index <= final; index++) {
    const near = Math.abs(index - chosen) * cell < LINE;
    if (index !== chosen && (near || index % step)) continue;
    const middle = start + (index + 0.5) * cell;
    const [low, length] = isQuery ? [plot.y, plot.height] : [plot.x, plot.width];
    if (middle < low - 1 || middle > low + length + 1) continue;
    const weight = index === chosen ? 700 : 400;
    const text = isolated(fitted(visible(labels[index]), width, (t) => measured(t, SIZE, weight)));
    const colour = index === chosen ? palette.mark : palette.ink;
    if (isQuery) painter.text(text, plot.x - 7, middle, { size: SIZE, align: "right", colour, weight });
    else painter.text(text, middle, plot.y - 7, { size: SIZE, colour, weight, turned: true });
  }
}

function drawAxes(painter, scene, { plot }) {
  const { palette } = scene;
  const style = { size: 11, colour: palette.soft };
  painter.text("looks at →", plot.x, HEAD - 8, style);
  const y = plot.y + Math.min(plot.height, 120);
  painter.text(`← this ${scene.attention.row}`, 12, y, { ...style, turned: true });
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

/** The chosen row below the map and the chosen column beside it, each as bars up to its own largest weight. */
function drawProfiles(painter, scene, place, matrix) {
  const { state, palette, attention } = scene;
  const { plot, profile } = place;
  const [row, column] = [matrix.row(state.query), matrix.column(state.key)];
  const [right, under] = [plot.x + plot.width + 8, plot.y + plot.height + 8];
  const room = profile - 34;
  const small = { size: 10, colour: palette.soft };
  const largestOf = (weights) => weights.reduce((most, weight) => (weight > most ? weight : most), 0);
  const [most, mostDown] = [largestOf(row), largestOf(column)];
  painter.clip(plot.x, under, plot.width, room + 1, () =>
    drawBarsOf(painter, scene, place, row, most, (x, size, length, colour) =>
      painter.rect(x, under, size, length * room, colour),
    ),
  );
  painter.clip(right, plot.y, room + 1, plot.height, () =>
    drawBarsOf(
      painter,
      scene,
      place,
      column,
      mostDown,
      (y, size, length, colour) => painter.rect(right, y, length * room, size, colour),
      "query",
    ),
  );
  const named = (label, words) =>
    fitted(isolated(fitted(visible(label), 90, (t) => measured(t, 10))) + words, plot.width, (t) =>
      measured(t, 10),
    );
  painter.text(
    named(attention.queries[state.query], ` looks at: up to ${numeral(most)}`),
    plot.x,
    under + room + 10,
    small,
  );
  painter.text(
    named(attention.keys[state.key], ` is looked at by: up to ${numeral(mostDown)}`),
    right + room + 10,
    plot.y + plot.height,
    { ...small, turned: true },
  );
}

function drawBarsOf(painter, scene, { cell, plot }, weights, most, draw, side = "key") {
  const [shift, start, length] =
    side === "key" ? [plot.dx, plot.x, plot.width] : [plot.dy, plot.y, plot.height];
  const [first, final] = range(shift, length, cell, weights.length);
  for (let index = first; index <= final; index++) {
    if (!(weights[index] > 0)) continue;
    const colour = index === scene.state[side] ? scene.palette.mark : scene.palette.accent;
    draw(
      start + shift + index * cell,
      Math.max(0.5, cell - (cell > 4 ? 1 : 0)),
      weights[index] / most,
      colour,
    );
  }
}

/** What the colours mean, and how exact the numbers are. */
function drawLegend(painter, scene, box, matrix, { plot, profile }) {
  const { palette } = scene;
  const top = topOf(scene, matrix);
  const y = Math.min(box.height - (box.width < 560 ? 44 : 30), plot.y + plot.height + profile + 14);
  const wide = Math.min(260, box.width - 130);
  const x = 12;
  for (let i = 0; i < 128; i++)
    painter.rect(x + (i * wide) / 128, y, wide / 128 + 0.6, 9, palette.css[i * 2 + 1]);
  painter.rect(x, y, wide, 9, null, { stroke: palette.line });
  for (const share of [0, 0.25, 0.5, 0.75, 1]) {
    const align = share === 0 ? "left" : share === 1 ? "right" : "center";
    painter.text(numeral(top * share * share), x + wide * share, y + 18, {
      size: 10,
      align,
      colour: palette.soft,
    });
  }
  painter.rect(x + wide + 14, y - 1, 11, 11, palette.masked, { stroke: palette.line });
  painter.text("masked", x + wide + 30, y + 5, { size: 10.5, colour: palette.soft });
  const exact = `8 bits a weight: within √w / ${scene.contents.levels}`;
  const below = box.width < 560;
  painter.text(exact, below ? x : x + wide + 92, below ? y + 34 : y + 5, {
    size: 10.5,
    colour: palette.soft,
  });
}

export const mapView = makeMapView({
  name: "map",
  title: "Heat map",
  about: "One head: how much each token (row) looks at each other (column).",
  available: () => true,
  matrix: (scene) => scene.matrix,
  words: (scene) => [scene.headTitle, scene.headNote],
});

export const flowView = makeMapView({
  name: "flow",
  title: "Rollout",
  about: "Attention followed through all layers: what each output takes from each input.",
  available: (contents) => contents.flows.length > 0,
  matrix: (scene) => scene.flowMatrix,
  words: (scene) => {
    const { flow } = scene;
    const within = flow.low == null ? "" : `, ${numeral(flow.low)} to ${numeral(flow.high)}`;
    const score =
      flow.faithfulness == null
        ? "faithfulness not measured"
        : `faithfulness ${numeral(flow.faithfulness)}${within} (deletion test; 0 is a random order)`;
    const note = [score, flow.note].filter(Boolean).join("; ");
    return [`Through all layers: ${flow.name}`, note];
  },
});
