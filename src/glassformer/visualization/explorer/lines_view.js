// Token to token: on the left what looks, on the right what is looked at, a line for each weight above a threshold.

import { fitted, isolated, numeral, visible } from "./labels.js";
import { heading, measured } from "./painter.js";

const SIZE = 13;
const TOP = 88;
const DRAWN_AT_MOST = 6000;

function layout(scene, width) {
  const { attention } = scene;
  const rows = Math.max(attention.queries.length, attention.keys.length);
  const line = 21;
  const span = Math.min(width, 1100);
  const side = (width - span) / 2;
  const longest = (labels) =>
    Math.min(
      span * 0.3,
      Math.max(72, ...labels.map((label) => measured(visible(label).slice(0, 60), SIZE))) + 14,
    );
  const left = side + 12 + longest(attention.queries);
  const right = width - side - 12 - longest(attention.keys);
  return {
    line,
    left,
    right,
    side,
    height: TOP + rows * line + 16,
    middle: (index) => TOP + (index + 0.5) * line,
  };
}

/** The cells above the threshold, the heaviest last so that they lie on top. */
function lines(scene, box, place) {
  const { matrix, state } = scene;
  const found = [];
  const first = Math.max(0, Math.floor((box.top - TOP) / place.line) - 2);
  const final = Math.ceil((box.bottom - TOP) / place.line) + 2;
  const seen = (index) => index >= first && index <= final;
  for (let query = 0; query < matrix.queries; query++) {
    if (state.only && query !== state.query) continue;
    for (let key = 0; key < matrix.keys; key++) {
      const weight = matrix.at(query, key);
      const crosses = seen(query) || seen(key) || query < first !== key < first;
      if (weight >= state.threshold && weight > 0 && crosses) found.push({ query, key, weight });
    }
  }
  return found.sort((a, b) => a.weight - b.weight).slice(-DRAWN_AT_MOST);
}

export const linesView = {
  name: "lines",
  title: "Lines",
  about: "A line for each weight above the threshold; thicker is more.",
  scrolls: true,
  keepsCell: true,
  available: () => true,
  height: (scene, width) => layout(scene, width).height,

  draw(painter, scene, box) {
    const { palette, state } = scene;
    const place = layout(scene, box.width);
    const found = lines(scene, box, place);
    drawWords(painter, scene, box, place, found.length);
    for (const { query, key, weight } of found) {
      const chosen = query === state.query;
      const strength = Math.sqrt(weight);
      painter.curve(
        place.left,
        place.middle(query),
        place.right,
        place.middle(key),
        chosen ? palette.mark : palette.accent,
        0.6 + 4 * strength,
        (chosen ? 0.35 : 0.12) + 0.6 * strength,
      );
    }
    drawTokens(painter, scene, box, place, "query");
    drawTokens(painter, scene, box, place, "key");
  },

  hit(scene, box, x, y) {
    const place = layout(scene, box.width);
    const index = Math.floor((y - TOP) / place.line);
    const { queries, keys } = scene.attention;
    if (index < 0) return null;
    if (x > (place.left + place.right) / 2)
      return index < keys.length ? { key: index, query: scene.state.query } : null;
    return index < queries.length ? { query: index, key: scene.state.key } : null;
  },

  spotOf(scene, box) {
    const place = layout(scene, box.width);
    return { y: place.middle(scene.state.query) - place.line, height: 2 * place.line };
  },

  move(app, across, down) {
    if (down) app.set({ query: app.state.query + down }, { follow: true });
    if (across) app.set({ key: app.state.key + across });
  },

  describe: (scene) => `${scene.headTitle}, as lines. ${scene.cellInWords(scene.matrix)}`,
};

function drawWords(painter, scene, box, place, count) {
  const { palette, state, attention } = scene;
  const from = state.only ? "the chosen token's weights" : "every weight";
  const many = count === DRAWN_AT_MOST ? `, the ${count} heaviest in view` : "";
  const note = `${from} of at least ${numeral(state.threshold)}${many}; thicker is more; in orange what the chosen token looks at`;
  heading(painter, palette, box, scene.headTitle, note);
  const looks = fitted(`this ${attention.row}`, place.left - place.side - 16, (t) => measured(t, 11));
  painter.text(looks, place.left - 8, 74, { size: 11, align: "right", colour: palette.soft });
  painter.text("at this", place.right + 8, 74, { size: 11, colour: palette.soft });
}

/** The tokens of one side; behind each a bar: how much it looks, or is looked at by, the chosen one. */
function drawTokens(painter, scene, box, place, side) {
  const { attention, matrix, palette, state } = scene;
  const isQuery = side === "query";
  const labels = isQuery ? attention.queries : attention.keys;
  const width = isQuery ? place.left - place.side - 20 : box.width - place.side - place.right - 20;
  labels.forEach((label, index) => {
    const y = place.middle(index);
    if (y < box.top - place.line || y > box.bottom + place.line) return;
    const chosen = index === state[side];
    const weight = isQuery ? matrix.at(index, state.key) : matrix.at(state.query, index);
    const hidden = weight !== weight;
    const bar = hidden ? 0 : Math.max(0, width) * Math.sqrt(weight);
    const x = isQuery ? place.left - 4 - bar : place.right + 4;
    if (bar > 1) painter.rect(x, y - 9, bar, 18, palette.wash, { radius: 3 });
    const text = isolated(fitted(visible(label), width, (t) => measured(t, SIZE, chosen ? 700 : 400)));
    const colour = chosen ? palette.mark : hidden ? palette.soft : palette.ink;
    painter.text(text, isQuery ? place.left - 8 : place.right + 8, y, {
      size: SIZE,
      align: isQuery ? "right" : "left",
      colour,
      weight: chosen ? 700 : 400,
    });
  });
}
