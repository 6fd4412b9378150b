// Queries on the left, keys on the right, and a line for each weight above a threshold.

import { countOf, formatNumber, isolate, truncate, withoutOverlap } from "./text.js";
import { ZERO } from "./data.js";
import { textWidth } from "./painter.js";
import { drawHeading, layoutHeading } from "./heading.js";

const SIZE = 13;
const LABEL_SPACING = 16; // pixels between two labels, at least
const MAX_PITCH = 21; // pixels between two tokens
const MIN_PITCH = 1.5;
const MAX_WIDTH = 1800;
const MAX_LINES = 6000;
const LINES_PER_TOKEN = 3; // with the automatic threshold
const LINES_OF_CHOSEN = 10; // if only those of the chosen token are drawn

function layout(scene, box) {
  const { attention } = scene;
  const rows = Math.max(attention.queries.length, attention.keys.length);
  const span = Math.min(box.width, MAX_WIDTH);
  const side = (box.width - span) / 2;
  const labelWidth = (labels) =>
    Math.min(
      span * 0.3,
      Math.max(72, ...labels.map((label) => textWidth(label.slice(0, 60), SIZE, 700))) + 14,
    );
  const heading = layoutHeading(box, titleAndNote(scene));
  const top = heading.height + 26;
  const line = Math.min(MAX_PITCH, Math.max(MIN_PITCH, (box.height - top - 14) / rows));
  return {
    line,
    side,
    heading,
    top,
    left: side + 12 + labelWidth(attention.queries),
    right: box.width - side - 12 - labelWidth(attention.keys),
    height: top + rows * line + 14,
    middle: (index) => top + (index + 0.5) * line,
  };
}

function titleAndNote(scene) {
  const { state, headTitle, matrix, attention } = scene;
  const { least, all, lines } = aboveThreshold(scene);
  const cut = lines.length > MAX_LINES ? `; the ${MAX_LINES} largest are drawn` : "";
  const from = state.onlyChosen ? ` of “${attention.queries[state.query]}”` : "";
  const without = state.firstToken ? "" : ", those at the first token left out";
  const count = `${lines.length.toLocaleString("en")} of ${countOf(all, "weight")}${from}${without}`;
  const limits = `${lines.length === 1 ? "is" : "are"} at least ${formatNumber(least)}; the head's largest is ${formatNumber(matrix.largest)}${cut}`;
  return [headTitle, `${count} ${limits}. Thicker lines are larger weights; those of the chosen token are orange`];
}

/** The threshold, or if it is automatic, one that leaves a few lines per token, or ten of the chosen one. */
export function thresholdOf({ state, matrix }) {
  if (state.threshold >= 0) return state.threshold;
  const first = state.firstToken ? 0 : 1;
  if (!state.onlyChosen) return matrix.threshold(LINES_PER_TOKEN * matrix.queries, first);
  const weights = matrix.row(state.query).slice(first).filter((weight) => weight > 0).sort();
  return weights.at(-Math.min(LINES_OF_CHOSEN, weights.length)) ?? 0;
}

const cache = new WeakMap(); // the last result for each matrix

/** The weights above the threshold that the state asks for, sorted in ascending order. */
function aboveThreshold(scene) {
  const { matrix, state } = scene;
  const { threshold, firstToken, onlyChosen, query: chosen } = state;
  const key = [threshold, firstToken, onlyChosen && chosen, onlyChosen].join();
  if (cache.get(matrix)?.key === key) return cache.get(matrix);
  const least = thresholdOf(scene);
  const [from, to] = onlyChosen ? [chosen, chosen + 1] : [0, matrix.queries];
  const lines = [];
  let all = 0;
  for (let query = from; query < to; query++) {
    for (let key = firstToken ? 0 : 1; key < matrix.keys; key++) {
      const weight = matrix.at(query, key);
      if (weight >= 0) all++;
      if (weight >= Math.max(least, ZERO)) lines.push({ query, key, weight });
    }
  }
  lines.sort((a, b) => a.weight - b.weight);
  cache.set(matrix, { key, least, all, lines });
  return cache.get(matrix);
}

/** The lines of which a part is visible. */
function visibleLines(scene, box, geometry) {
  const first = Math.max(0, Math.floor((box.top - geometry.top) / geometry.line) - 2);
  const final = Math.ceil((box.bottom - geometry.top) / geometry.line) + 2;
  const isVisible = (index) => index >= first && index <= final;
  return aboveThreshold(scene)
    .lines.slice(-MAX_LINES)
    .filter(({ query, key }) => isVisible(query) || isVisible(key) || query < first !== key < first);
}

export const linesView = {
  name: "lines",
  panel: ["cell", "row", "column", "head"],
  intro: "Each line runs from a token on the left to one that it looks at on the right; thicker is more. Click a token.",
  title: "Lines",
  description: "One line for each weight above the threshold; thicker lines are larger weights.",
  highlightsHover: true,
  available: () => true,
  height: (scene, box) => layout(scene, box).height,
  naturalHeight: (scene, box) => layout(scene, { ...box, height: Infinity }).height,
  headerHeight: (scene, box) => layout(scene, box).top,

  draw(painter, scene, box) {
    const { palette, state } = scene;
    const geometry = layout(scene, box);
    const hovered = scene.hovered;
    const highlighted = (line) => !hovered?.side || line[hovered.side] === hovered[hovered.side];
    const drawn = visibleLines(scene, box, geometry);
    const faint = Math.min(1, 10 / Math.sqrt(drawn.length)); // the more lines, the more transparent
    for (const { query, key, weight } of drawn) {
      const chosen = query === state.query;
      const strength = Math.sqrt(weight) * (highlighted({ query, key }) ? 1 : 0.25);
      painter.curve(
        geometry.left,
        geometry.middle(query),
        geometry.right,
        geometry.middle(key),
        chosen ? palette.mark : palette.accent,
        0.6 + Math.min(3.4, 0.4 * geometry.line) * strength,
        highlighted({ query, key }) ? (chosen ? 0.35 + 0.6 * strength : (0.15 + 0.6 * strength) * faint) : 0.06,
      );
    }
    drawTokens(painter, scene, box, geometry, "query");
    drawTokens(painter, scene, box, geometry, "key");
    drawTop(painter, scene, box, geometry);
  },

  hitTest(scene, box, x, y) {
    const geometry = layout(scene, box);
    const index = Math.floor((y - geometry.top) / geometry.line);
    const { queries, keys } = scene.attention;
    if (y < box.top + geometry.top) return null;
    if (x > (geometry.left + geometry.right) / 2)
      return index < keys.length ? { key: index, query: scene.state.query, side: "key" } : null;
    return index < queries.length ? { query: index, key: scene.state.key, side: "query" } : null;
  },

  /** Both ends of the chosen line, or if they are too far apart, its query. */
  chosenBounds(scene, box) {
    const { state } = scene;
    const geometry = layout(scene, box);
    const [first, last] = [Math.min(state.query, state.key), Math.max(state.query, state.key)];
    const both = { y: geometry.middle(first) - geometry.line, height: (last - first + 2) * geometry.line };
    return both.height < box.height - geometry.top
      ? both
      : { y: geometry.middle(state.query) - geometry.line, height: 2 * geometry.line };
  },

  move(app, across, down) {
    app.set({ query: app.state.query + down, key: app.state.key + across });
  },

  describe: (scene) => `${scene.headTitle}, as lines. ${scene.describeCell()}`,
};

function drawTop(painter, scene, box, geometry) {
  const { palette, attention } = scene;
  drawHeading(painter, palette, box, geometry.heading, geometry.top - 4);
  const [y, style] = [box.top + geometry.heading.height + 12, { size: 11, color: palette.soft }];
  const left = attention.query_axis;
  painter.text(left, Math.max(geometry.side + 12, geometry.left - 8 - textWidth(left, 11)), y, style);
  const right = "key";
  painter.text(right, Math.min(geometry.right + 8, box.width - 12 - textWidth(right, 11)), y, style);
}

/** The tokens of one side, each with a bar: its weight with the chosen token of the other side. */
function drawTokens(painter, scene, box, geometry, side) {
  const { attention, palette, state } = scene;
  const isQuery = side === "query";
  const labels = isQuery ? attention.queries : attention.keys;
  const width = isQuery ? geometry.left - geometry.side - 20 : box.width - geometry.side - geometry.right - 20;
  const weights = isQuery ? scene.matrix.column(state.key) : scene.matrix.row(state.query);
  const max = weights.reduce((largest, weight) => (weight > largest ? weight : largest), 0);
  const height = Math.min(18, geometry.line);
  const isVisible = (index) => geometry.middle(index) >= box.top && geometry.middle(index) <= box.bottom + geometry.line;
  for (const index of weights.keys()) {
    const bar = Math.max(0, width) * (weights[index] / max);
    if (!(bar > 1) || !isVisible(index)) continue;
    const x = isQuery ? geometry.left - 4 - bar : geometry.right + 4;
    painter.rect(x, geometry.middle(index) - height / 2, bar, height, palette.wash, {
      radius: Math.min(3, height / 3),
    });
  }
  for (const index of labeledTokens(weights, state[side], geometry.line).filter(isVisible)) {
    const chosen = index === state[side];
    const weight = chosen ? 700 : 400;
    const text = isolate(truncate(labels[index], width, (t) => textWidth(t, SIZE, weight)));
    const masked = weights[index] !== weights[index];
    painter.text(text, isQuery ? geometry.left - 8 : geometry.right + 8, geometry.middle(index), {
      size: SIZE,
      align: isQuery ? "right" : "left",
      color: chosen ? palette.mark : masked ? palette.soft : palette.ink,
      weight,
    });
  }
}

/** The tokens that are labeled: the chosen one, then those with the largest weights, without overlap. */
function labeledTokens(weights, chosen, line) {
  const order = [...weights.keys()].sort((a, b) => (weights[b] || 0) - (weights[a] || 0) || a - b);
  return withoutOverlap([chosen, ...order], LABEL_SPACING / line);
}
