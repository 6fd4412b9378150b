// Attention of one token in one head, step by step: query, keys, scores, softmax, values, output.

import { formatNumber, formatProbability, isolate, truncate } from "./text.js";
import { PART_COLORS } from "./colors.js";
import { textWidth } from "./painter.js";
import { drawHeading, layoutHeading } from "./heading.js";
import { predictionList } from "./predictions_view.js";
import { MEAN } from "./state.js";
import { dot, weightedSum } from "./vectors.js";

const ROW = 26;
const VECTOR = 40; // height of the query and the output, whose numbers are bars
const MAX_KEYS = 12; // rows, those with the largest weights
const NARROW = 700; // pixels of width below which keys and values are not drawn
const UNSCALED = "softmax(scores) v";
const FORMULA = "softmax(q k / √d) v";

/** The numbers of the chosen row, or null for the mean of the heads. */
function stepsOf({ attention, state, matrix, layerVectors, vectors, scoresOf }) {
  if (state.head === MEAN) return null;
  const head = attention.heads[attention.layers.indexOf(state.layer)].indexOf(state.head);
  const weights = matrix.row(state.query);
  const order = [...weights.keys()].filter((key) => weights[key] === weights[key]);
  order.sort((a, b) => weights[b] - weights[a] || a - b);
  const shown = order.slice(0, MAX_KEYS).sort((a, b) => a - b);
  if (state.key < weights.length && order.includes(state.key) && !shown.includes(state.key)) shown.splice(-1, 1, state.key);
  const stored = new Map(scoresOf(state.query).map(({ key, parts }) => [key, parts.reduce((sum, part) => sum + part, 0)]));
  const query = layerVectors?.vector("queries", head, state.query);
  const rowOf = (key) => {
    const k = layerVectors?.vector("keys", head, key);
    const product = k && vectors.scale * dot(query, k);
    return { key, k, v: layerVectors?.vector("values", head, key), score: stored.get(key) ?? product, weight: weights[key] };
  };
  const all = layerVectors ? order.map((key) => layerVectors.vector("values", head, key)) : [];
  const output = all.length ? weightedSum(all, order.map((key) => weights[key])) : null;
  return { query, rows: shown.map(rowOf), rest: order.length - shown.length, output };
}

/** Whether scores are divided by the square root of the number of dimensions, and nothing is added. */
const isUsual = ({ scale, has_bias: hasBias, layers }) => !hasBias && Math.abs(scale - layers[0].d_head ** -0.5) < 1e-6;

function titleAndNote({ attention, state, headTitle, vectors, noVectors }, steps) {
  const title = `How “${attention.queries[state.query]}” looks, step by step: ${headTitle}`;
  if (!steps) return [title, "The mean of the heads is not computed from one query: choose a head."];
  const rest = steps.rest ? ` The ${steps.rest} other keys have smaller weights.` : "";
  const missing = steps.query ? "" : ` ${noVectors}`;
  return [title, `${vectors && isUsual(vectors) ? FORMULA : UNSCALED}: from left to right, each column is computed from those before it.${rest}${missing}`];
}

/** Columns: the key's token, k, score, weight and v, with their left ends and widths. */
function columnsOf(box, steps, labels) {
  const wide = Boolean(steps.query) && box.width >= NARROW;
  const width = Math.min(box.width, 1300) - 24;
  const token = Math.min(width * 0.2, Math.max(50, ...labels.map((label) => textWidth(label, 13, 700))) + 16);
  const shares = wide ? { k: 0.28, score: 0.22, weight: 0.22, v: 0.28 } : { score: 0.5, weight: 0.5 };
  let x = 12 + token;
  const columns = { token: { x: 12, width: token - 10 } };
  for (const [name, share] of Object.entries(shares)) {
    const space = (width - token) * share;
    columns[name] = { x, width: space - 18 };
    x += space;
  }
  return columns;
}

function layout(scene, box) {
  const steps = stepsOf(scene);
  const heading = layoutHeading(box, titleAndNote(scene, steps));
  if (!steps) return { steps, heading, height: heading.height };
  const columns = columnsOf(box, steps, steps.rows.map(({ key }) => scene.attention.keys[key]));
  const queryTop = heading.height + 24;
  const top = queryTop + (steps.query ? VECTOR + 48 : 20);
  const outputTop = top + steps.rows.length * ROW + 30;
  const lens = steps.query ? outputTop + VECTOR + 34 : outputTop;
  const after = predictionsAfter(scene);
  return { steps, heading, columns, queryTop, top, outputTop, lens, after, height: lens + (after.length ? 44 : 0) + 12 };
}

/** The best prediction after each layer at the chosen token, from the logit lens. */
function predictionsAfter(scene) {
  const entry = scene.predictions.find(({ predictions }) => predictions.rows.length > 1);
  return entry ? entry.predictions.rows.map((name, row) => ({ name, ...predictionList(scene, entry, row)[0] })) : [];
}

export const stepView = {
  name: "step",
  panel: ["cell", "row"],
  intro: "How the chosen token's attention is computed from numbers: its query times each key, softmax, then the mean of the values.",
  title: "Step by step",
  description: "The computation of one row: query, keys, scores, softmax, values, output, and the predictions after each layer.",
  available: ({ image }) => !image,
  height: (scene, box) => layout(scene, box).height,
  headerHeight: (scene, box) => layout(scene, box).heading.height,

  draw(painter, scene, box) {
    const geometry = layout(scene, box);
    if (geometry.steps) drawSteps(painter, scene, box, geometry);
    drawHeading(painter, scene.palette, box, geometry.heading);
  },

  hitTest(scene, box, x, y) {
    const { steps, top } = layout(scene, box);
    const row = steps?.rows[Math.floor((y - top) / ROW)];
    return row && y >= top ? { query: scene.state.query, key: row.key } : null;
  },

  move(app, across, down) {
    app.set({ query: app.state.query + across, key: app.state.key + down });
  },

  describe: (scene) => `${titleAndNote(scene, stepsOf(scene))[0]}. ${scene.describeCell()}`,
};

function drawSteps(painter, scene, box, geometry) {
  const { palette, attention, state } = scene;
  const { steps, columns, queryTop, top, outputTop, lens, after } = geometry;
  const small = { size: 11.5, color: palette.soft };
  const fit = (text, width, size = 13, weight = 400) => truncate(text, width, (t) => textWidth(t, size, weight));
  if (steps.query) {
    const area = columns.k ?? { x: 12, width: Math.min(400, box.width - 24) };
    const title = `q, the query of “${attention.queries[state.query]}”: ${describeSize(steps.query)}`;
    painter.text(fit(title, box.width - area.x - 12, 11.5), area.x, queryTop - 8, small);
    drawBars(painter, palette, steps.query, { ...area, y: queryTop, height: VECTOR });
  }
  const titles = { token: "key", k: "k", score: scoreTitle(scene.vectors), weight: "weight: softmax", v: "v" };
  for (const [name, { x, width }] of Object.entries(columns)) painter.text(fit(titles[name], width, 11.5), x, top - 12, small);
  const scores = steps.rows.map(({ score }) => score).filter((score) => score !== undefined);
  const [low, high] = [Math.min(0, ...scores), Math.max(0, ...scores)];
  const extents = { k: largestOf(steps.rows.map(({ k }) => k)), v: largestOf(steps.rows.map(({ v }) => v)) };
  steps.rows.forEach((row, index) => {
    const y = top + index * ROW;
    const chosen = row.key === state.key;
    const color = chosen ? palette.mark : palette.ink;
    const style = { size: 13, color, weight: chosen ? 700 : 400 };
    painter.text(isolate(fit(attention.keys[row.key], columns.token.width, 13, 700)), columns.token.x, y + ROW / 2, style);
    for (const name of ["k", "v"])
      if (columns[name] && row[name]) drawStrip(painter, palette, row[name], { ...columns[name], y: y + 4, height: ROW - 8 }, extents[name]);
    if (row.score !== undefined) drawScore(painter, palette, row.score, columns.score, y, low, high, color);
    drawWeight(painter, palette, row.weight, columns.weight, y, chosen);
  });
  if (steps.output) {
    const area = columns.v ?? { x: 12, width: Math.min(400, box.width - 24) };
    const title = fit(`output: the sum of weight × v; ${describeSize(steps.output)}`, box.width - 24, 11.5);
    const x = Math.min(area.x, box.width - 12 - textWidth(title, 11.5));
    painter.text(title, x, outputTop - 8, small);
    drawBars(painter, palette, steps.output, { ...area, y: outputTop, height: VECTOR });
  }
  if (after.length) drawPredictions(painter, palette, after, { x: 12, y: lens, width: box.width - 24 }, state.layer);
}

const largestOf = (vectors) =>
  vectors.reduce((max, vector) => (vector ?? []).reduce((most, value) => Math.max(most, Math.abs(value)), max), 0) || 1;

/** The numbers of a vector as bars: positive ones upwards, negative ones downwards. */
function drawBars(painter, palette, vector, { x, y, width, height }) {
  const extent = largestOf([vector]);
  const [bar, middle] = [width / vector.length, y + height / 2];
  painter.rect(x, y, width, height, palette.wash, { radius: 3 });
  vector.forEach((value, index) => {
    const length = (Math.abs(value) / extent) * (height / 2);
    painter.rect(x + index * bar, value < 0 ? middle : middle - length, Math.max(0.5, bar - 0.5), length, colorOf(value));
  });
}

const describeSize = (vector) => `${vector.length} numbers up to ${formatNumber(largestOf([vector]))}`;

function scoreTitle(vectors) {
  if (!vectors) return "score";
  const factor = isUsual({ ...vectors, has_bias: false }) ? "/ √d" : vectors.scale === 1 ? "" : `× ${formatNumber(vectors.scale)}`;
  return `score: q k ${factor}${vectors.has_bias ? " + bias" : ""}`;
}

const colorOf = (value) => PART_COLORS[value < 0 ? 1 : 0];

/** The numbers of a vector as cells: blue if positive, orange if negative, stronger if larger. */
function drawStrip(painter, palette, vector, { x, y, width, height }, extent) {
  painter.rect(x, y, width, height, palette.wash);
  const cell = width / vector.length;
  vector.forEach((value, index) =>
    painter.rect(x + index * cell, y, cell + 0.3, height, colorOf(value), { alpha: Math.abs(value) / extent }),
  );
}

function drawScore(painter, palette, score, { x, width }, y, low, high, color) {
  const space = width - 52;
  const at = (value) => x + ((value - low) / (high - low || 1)) * space;
  painter.rect(Math.min(at(0), at(score)), y + 5, Math.max(1, Math.abs(at(score) - at(0))), ROW - 10, palette.soft, { radius: 2 });
  painter.line(at(0), y, at(0), y + ROW, palette.line, 1);
  const text = `${score < 0 ? "−" : ""}${Math.abs(score).toFixed(2)}`;
  painter.text(text, x + width, y + ROW / 2, { size: 12, align: "right", color });
}

function drawWeight(painter, palette, weight, { x, width }, y, chosen) {
  const space = width - 60;
  painter.rect(x, y + 5, space, ROW - 10, palette.wash, { radius: 3 });
  painter.rect(x, y + 5, Math.max(1, space * weight), ROW - 10, chosen ? palette.mark : palette.accent, { radius: 3 });
  painter.text(formatNumber(weight), x + width, y + ROW / 2, { size: 12, align: "right", color: palette.ink });
}

/** What the model would predict after each layer: as many of them as fit, among them this layer and the last. */
function drawPredictions(painter, palette, after, { x, y, width }, layer) {
  const title = "The heads' outputs are added to the token's state. What the model would say after each layer:";
  painter.text(truncate(title, width, (t) => textWidth(t, 11.5)), x, y, { size: 11.5, color: palette.soft });
  const count = Math.max(2, Math.min(after.length, Math.floor(width / 130)));
  const here = after.findIndex(({ name }) => name === `after layer ${layer}`);
  const evenly = Array.from({ length: count }, (_, place) => Math.round((place * (after.length - 1)) / (count - 1)));
  if (here >= 0 && !evenly.includes(here)) {
    const nearest = evenly.reduce((best, row, place) => (Math.abs(row - here) < Math.abs(evenly[best] - here) ? place : best), 0);
    evenly[nearest] = here;
  }
  const cell = width / count;
  [...new Set(evenly)].forEach((row, place) => {
    const { name, label, share } = after[row];
    const color = row === here ? palette.mark : palette.ink;
    const text = label === undefined ? "" : `${label} ${formatProbability(share)}`;
    const fit = (line, size) => truncate(line, cell - 10, (t) => textWidth(t, size, 600));
    painter.text(fit(name, 10.5), x + place * cell, y + 17, { size: 10.5, color: palette.soft });
    painter.text(isolate(fit(text, 12.5)), x + place * cell, y + 33, { size: 12.5, color, weight: row === here ? 600 : 400 });
  });
}
