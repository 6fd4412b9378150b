// Token to token: on the left what looks, on the right what is looked at, a line for each weight above a threshold.

import { fitted, isolated, numeral, placed } from "./labels.js";
import { measured } from "./painter.js";
import { drawHeading, headingOf } from "./heading.js";

const SIZE = 13;
const APART = 16; // pixels between two labels
const PITCH = 21; // from token to token where there is room, ...
const LEAST = 1.5; // ... and where there is none
const SPAN = 1800;
const DRAWN_AT_MOST = 6000;
const LINES = 3; // a token, where nobody has chosen a threshold

function layout(scene, box) {
  const { attention } = scene;
  const rows = Math.max(attention.queries.length, attention.keys.length);
  const span = Math.min(box.width, SPAN);
  const side = (box.width - span) / 2;
  const longest = (labels) =>
    Math.min(
      span * 0.3,
      Math.max(72, ...labels.map((label) => measured(label.slice(0, 60), SIZE, 700))) + 14,
    );
  const heading = headingOf(box, words(scene));
  const top = heading.height + 26;
  const line = Math.min(PITCH, Math.max(LEAST, (box.height - top - 14) / rows));
  return {
    line,
    side,
    heading,
    top,
    left: side + 12 + longest(attention.queries),
    right: box.width - side - 12 - longest(attention.keys),
    height: top + rows * line + 14,
    middle: (index) => top + (index + 0.5) * line,
  };
}

function words(scene) {
  const { state, headTitle, matrix, attention } = scene;
  const { least, all, lines } = passing(scene);
  const cut = lines.length > DRAWN_AT_MOST ? `, of which the ${DRAWN_AT_MOST} heaviest are drawn` : "";
  const from = state.only ? ` of “${attention.queries[state.query]}”` : "";
  const without = state.first ? "" : ", those at the first token left out";
  const count = `${lines.length.toLocaleString("en")} of ${all.toLocaleString("en")} weights${from}${without}`;
  const said = `are at least ${numeral(least)}; the head's largest is ${numeral(matrix.largest)}${cut}`;
  return [headTitle, `${count} ${said}. Thicker is more; in orange what the chosen token looks at`];
}

/** The threshold, or where it is left to the page, one that some lines a token pass. */
export function thresholdOf({ state, matrix }) {
  return state.threshold < 0 ? matrix.least(LINES * matrix.queries, state.first ? 0 : 1) : state.threshold;
}

const known = new WeakMap(); // by matrix, what passed last

/** The weights that pass, of the chosen token only, or of all; at the first token, or not: the heaviest last. */
function passing(scene) {
  const { matrix, state } = scene;
  const { threshold, first, only, query: chosen } = state;
  const key = [threshold, first, only && chosen, only].join();
  if (known.get(matrix)?.key === key) return known.get(matrix);
  const least = thresholdOf(scene);
  const [from, to] = only ? [chosen, chosen + 1] : [0, matrix.queries];
  const lines = [];
  let all = 0;
  for (let query = from; query < to; query++) {
    for (let key = first ? 0 : 1; key < matrix.keys; key++) {
      const weight = matrix.at(query, key);
      if (weight >= 0) all++;
      if (weight >= least && weight > 0) lines.push({ query, key, weight });
    }
  }
  lines.sort((a, b) => a.weight - b.weight);
  known.set(matrix, { key, least, all, lines });
  return known.get(matrix);
}

/** The lines of which a part is in sight. */
function linesIn(scene, box, place) {
  const first = Math.max(0, Math.floor((box.top - place.top) / place.line) - 2);
  const final = Math.ceil((box.bottom - place.top) / place.line) + 2;
  const seen = (index) => index >= first && index <= final;
  return passing(scene)
    .lines.slice(-DRAWN_AT_MOST)
    .filter(({ query, key }) => seen(query) || seen(key) || query < first !== key < first);
}

export const linesView = {
  name: "lines",
  title: "Lines",
  about: "A line for each weight above the threshold; thicker is more.",
  follows: true,
  available: () => true,
  height: (scene, box) => layout(scene, box).height,
  natural: (scene, box) => layout(scene, { ...box, height: Infinity }).height,
  sticky: (scene, box) => layout(scene, box).top,

  draw(painter, scene, box) {
    const { palette, state } = scene;
    const place = layout(scene, box);
    const under = scene.hovered;
    const apart = (line) => !under?.side || line[under.side] === under[under.side];
    const drawn = linesIn(scene, box, place);
    const faint = Math.min(1, 10 / Math.sqrt(drawn.length)); // so that many together do not hide each other
    for (const { query, key, weight } of drawn) {
      const chosen = query === state.query;
      const strength = Math.sqrt(weight) * (apart({ query, key }) ? 1 : 0.25);
      painter.curve(
        place.left,
        place.middle(query),
        place.right,
        place.middle(key),
        chosen ? palette.mark : palette.accent,
        0.6 + Math.min(3.4, 0.4 * place.line) * strength,
        apart({ query, key }) ? (chosen ? 0.35 + 0.6 * strength : (0.15 + 0.6 * strength) * faint) : 0.06,
      );
    }
    drawTokens(painter, scene, box, place, "query");
    drawTokens(painter, scene, box, place, "key");
    drawTop(painter, scene, box, place);
  },

  hit(scene, box, x, y) {
    const place = layout(scene, box);
    const index = Math.floor((y - place.top) / place.line);
    const { queries, keys } = scene.attention;
    if (y < box.top + place.top) return null;
    if (x > (place.left + place.right) / 2)
      return index < keys.length ? { key: index, query: scene.state.query, side: "key" } : null;
    return index < queries.length ? { query: index, key: scene.state.key, side: "query" } : null;
  },

  /** Both ends of the chosen cell, or where they are too far apart, what looks. */
  spotOf(scene, box) {
    const { state } = scene;
    const place = layout(scene, box);
    const [first, last] = [Math.min(state.query, state.key), Math.max(state.query, state.key)];
    const both = { y: place.middle(first) - place.line, height: (last - first + 2) * place.line };
    return both.height < box.height - place.top
      ? both
      : { y: place.middle(state.query) - place.line, height: 2 * place.line };
  },

  move(app, across, down) {
    app.set({ query: app.state.query + down, key: app.state.key + across });
  },

  describe: (scene) => `${scene.headTitle}, as lines. ${scene.cellInWords()}`,
};

function drawTop(painter, scene, box, place) {
  const { palette, attention } = scene;
  drawHeading(painter, palette, box, place.heading, place.top - 4);
  const [y, style] = [box.top + place.heading.height + 12, { size: 11, colour: palette.soft }];
  const looks = `this ${attention.row}`;
  painter.text(looks, Math.max(place.side + 12, place.left - 8 - measured(looks, 11)), y, style);
  const at = "at this";
  painter.text(at, Math.min(place.right + 8, box.width - 12 - measured(at, 11)), y, style);
}

/** The tokens of one side; behind each a bar: how much it looks at the chosen one, or is looked at. */
function drawTokens(painter, scene, box, place, side) {
  const { attention, palette, state } = scene;
  const isQuery = side === "query";
  const labels = isQuery ? attention.queries : attention.keys;
  const width = isQuery ? place.left - place.side - 20 : box.width - place.side - place.right - 20;
  const weights = isQuery ? scene.matrix.column(state.key) : scene.matrix.row(state.query);
  const most = weights.reduce((largest, weight) => (weight > largest ? weight : largest), 0);
  const high = Math.min(18, place.line);
  const seen = (index) => place.middle(index) >= box.top && place.middle(index) <= box.bottom + place.line;
  for (const index of weights.keys()) {
    const bar = Math.max(0, width) * (weights[index] / most);
    if (!(bar > 1) || !seen(index)) continue;
    const x = isQuery ? place.left - 4 - bar : place.right + 4;
    painter.rect(x, place.middle(index) - high / 2, bar, high, palette.wash, {
      radius: Math.min(3, high / 3),
    });
  }
  for (const index of labelled(weights, state[side], place.line).filter(seen)) {
    const chosen = index === state[side];
    const weight = chosen ? 700 : 400;
    const text = isolated(fitted(labels[index], width, (t) => measured(t, SIZE, weight)));
    const faint = weights[index] !== weights[index];
    painter.text(text, isQuery ? place.left - 8 : place.right + 8, place.middle(index), {
      size: SIZE,
      align: isQuery ? "right" : "left",
      colour: chosen ? palette.mark : faint ? palette.soft : palette.ink,
      weight,
    });
  }
}

/** As many tokens as can be named without touching: the chosen one, then those that weigh most with the other. */
function labelled(weights, chosen, line) {
  const order = [...weights.keys()].sort((a, b) => (weights[b] || 0) - (weights[a] || 0) || a - b);
  return placed([chosen, ...order], APART / line);
}
