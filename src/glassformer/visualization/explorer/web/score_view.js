// The score of the chosen cell before the softmax, as the sum of its parts, with the other scores of its row.

import { formatNumber, isolate, truncate } from "./text.js";
import { PART_COLORS } from "./colors.js";
import { textWidth } from "./painter.js";
import { drawHeading, layoutHeading } from "./heading.js";
import { MEAN } from "./state.js";

const ROW = 34;
const LIST = 24;
const MAX_LISTED = 24; // cells of a row, those with the largest weights

function layout(scene, box) {
  const heading = layoutHeading(box, titleAndNote(scene));
  const top = heading.height + 30;
  const listTop = scene.parts ? top + (scene.parts.length + 1) * ROW + 34 : heading.height + 24;
  const listed = heaviestOf(scene);
  const height = listTop + (listed.length ? 38 + listed.length * LIST : 0) + 12;
  return { heading, top, listTop, listed, height };
}

const MEANINGS = {
  content: "content: from what the tokens are",
  position: "position: from where they are",
  bias: "bias: from the biases of the query and key projections",
};

function titleAndNote(scene) {
  const { attention, state, decomposition, parts } = scene;
  if (state.head === MEAN)
    return [scene.headTitle, "The mean of the heads has no scores: choose a head."];
  const title = `Why “${attention.queries[state.query]}” looks at “${attention.keys[state.key]}”: ${scene.headTitle}`;
  const meanings = decomposition.parts.map((name) => MEANINGS[name]).join("; ");
  const note = `Parts of the score before the softmax, each accurate to 0.01: ${meanings}`;
  const missing = parts ? [] : ["The score of this cell is not in the file: choose another cell"];
  return [title, [...missing, note, decomposition.note].filter(Boolean).join(". ")];
}

const total = (parts) => parts.reduce((sum, part) => sum + part, 0);

/** The scores of the chosen row that are in the file, sorted by weight. */
function heaviestOf({ scoresOf, state, matrix }) {
  return scoresOf(state.query)
    .map(({ key, parts }) => ({ key, parts, score: total(parts), weight: matrix.at(state.query, key) }))
    .sort((a, b) => b.weight - a.weight || b.score - a.score)
    .slice(0, MAX_LISTED);
}

/** The logarithm of the row's sum of exp(score). */
const logSumExp = ([heaviest]) => (heaviest?.weight > 0.001 ? heaviest.score - Math.log(heaviest.weight) : null);

export const scoreView = {
  name: "score",
  panel: ["cell", "row"],
  intro: "What the scores of the chosen token are made of, before the softmax turns them into weights.",
  title: "Score",
  description: "Why the chosen query attends to the chosen key: its score as a sum of parts.",
  available: (contents) => contents.decompositions.length > 0,
  height: (scene, box) => layout(scene, box).height,

  draw(painter, scene, box) {
    const geometry = layout(scene, box);
    if (scene.parts) drawParts(painter, scene, box, geometry);
    if (geometry.listed.length) drawRow(painter, scene, box, geometry);
    drawHeading(painter, scene.palette, box, geometry.heading);
  },

  hitTest(scene, box, x, y) {
    const { listed, listTop } = layout(scene, box);
    const cell = listed[Math.floor((y - listTop - 38) / LIST)];
    return cell ? { query: scene.state.query, key: cell.key } : null;
  },

  /** Left and right go to the next stored key; up and down to the next row, to the same key or the heaviest. */
  move(app, across, down) {
    const { scoresOf, state, attention, matrix } = app.scene();
    const query = Math.min(attention.queries.length - 1, Math.max(0, state.query + down));
    const keys = scoresOf(query).map(({ key }) => key);
    if (!keys.length || (down && keys.includes(state.key))) return app.set({ query });
    if (down) {
      const heaviest = keys.reduce((a, b) => (matrix.at(query, b) > matrix.at(query, a) ? b : a));
      return app.set({ query, key: heaviest });
    }
    const current = across > 0 ? keys.findLastIndex((key) => key <= state.key) : keys.findIndex((key) => key >= state.key);
    const from = current < 0 && across < 0 ? keys.length : current;
    return app.set({ key: keys[Math.min(keys.length - 1, Math.max(0, from + across))] });
  },

  describe: (scene) => (scene.parts ? `${titleAndNote(scene)[0]}. ${describeParts(scene)}` : titleAndNote(scene).join(". ")),
};

export function describeParts({ decomposition, parts }) {
  const listed = decomposition.parts.map((name, index) => `${name} ${signed(parts[index])}`).join(", ");
  return `Score ${signed(total(parts))}: ${listed}.`;
}

const signed = (number) => `${number < 0 ? "−" : "+"}${Math.abs(number).toFixed(2)}`;

/** A waterfall chart: each part starts where the one before it ended; the last bar is the sum. */
function drawParts(painter, scene, box, { top }) {
  const { palette, decomposition, parts } = scene;
  const ends = parts.reduce((sums, part) => [...sums, sums.at(-1) + part], [0]);
  const [low, high] = [Math.min(0, ...ends), Math.max(0, ...ends)];
  const rows = [...decomposition.parts, "score"];
  const labelsWidth = Math.min(box.width * 0.4, Math.max(...rows.map((name) => textWidth(name, 12.5, 700)))) + 24;
  const space = Math.min(900, box.width - labelsWidth - 90);
  const at = (value) => labelsWidth + ((value - low) / (high - low || 1)) * space;
  rows.forEach((name, index) => {
    const isTotal = index === parts.length;
    const y = top + index * ROW;
    const [from, to] = isTotal ? [0, ends.at(-1)] : [ends[index], ends[index + 1]];
    const text = truncate(name, labelsWidth - 20, (t) => textWidth(t, 12.5, 700));
    painter.text(text, labelsWidth - 10, y + 10, {
      size: 12.5,
      align: "right",
      color: palette.ink,
      weight: isTotal ? 700 : 400,
    });
    const color = isTotal ? palette.ink : PART_COLORS[index % PART_COLORS.length];
    const width = Math.max(1, Math.abs(at(to) - at(from)));
    painter.rect(Math.min(at(from), at(to)), y, width, 20, color, { radius: 2 });
    const style = { size: 12, color: palette.ink };
    painter.text(signed(to - from), Math.max(at(from), at(to)) + 8, y + 10, style);
  });
  painter.line(at(0), top - 8, at(0), top + rows.length * ROW - 6, palette.soft, 1);
  painter.text("0", at(0), top - 16, { size: 10.5, align: "center", color: palette.soft });
}

/** The other keys of the row, each with its parts, its score, and its weight after the softmax. */
function drawRow(painter, scene, box, { listTop, listed }) {
  const { palette, attention, state } = scene;
  const fit = (text, width, size, weight) => truncate(text, width, (t) => textWidth(t, size, weight));
  const title = fit(`The row of “${attention.queries[state.query]}”`, box.width * 0.6, 13, 650);
  painter.text(isolate(title), 12, listTop, { size: 13, weight: 650, color: palette.ink });
  drawLegend(painter, scene, 26 + textWidth(title, 13, 650), listTop);
  const sum = logSumExp(listed);
  const formula =
    sum === null
      ? ""
      : `weight = exp(score − ${sum.toFixed(2)})${box.width < 560 ? "" : "; adding a constant to a whole row changes no weight"}`;
  painter.text(fit(formula, box.width - 24, 11.5), 12, listTop + 17, { size: 11.5, color: palette.soft });
  const maxWidth = Math.min(box.width * 0.26, 220);
  const labelsWidth =
    Math.min(maxWidth, Math.max(...listed.map(({ key }) => textWidth(attention.keys[key], 12.5, 700)))) + 20;
  const width = Math.min(900, box.width - labelsWidth - 20);
  const bars = { x: labelsWidth + 6, width: width * 0.6 - 64 };
  const weights = { x: labelsWidth + width * 0.6 + 8, width: width * 0.4 - 62 };
  const ends = listed.flatMap(({ parts }) => [sumWhere(parts, (p) => p < 0), sumWhere(parts, (p) => p > 0)]);
  const [low, high] = [Math.min(0, ...ends), Math.max(0, ...ends)];
  const at = (score) => bars.x + ((score - low) / (high - low || 1)) * bars.width;
  listed.forEach(({ key, parts, score, weight }, index) => {
    const y = listTop + 38 + (index + 0.5) * LIST;
    const chosen = key === state.key;
    const text = isolate(fit(attention.keys[key], labelsWidth - 16, 12.5, 700));
    painter.text(text, labelsWidth - 8, y, {
      size: 12.5,
      align: "right",
      color: chosen ? palette.mark : palette.ink,
      weight: chosen ? 700 : 400,
    });
    drawStack(painter, parts, at, y);
    painter.line(at(score), y - 10, at(score), y + 10, palette.ink, 2);
    painter.text(signed(score), bars.x + bars.width + 56, y, { size: 12, align: "right", color: palette.ink });
    painter.rect(weights.x, y - 8, weights.width, 16, palette.wash, { radius: 3 });
    const color = chosen ? palette.mark : palette.accent;
    painter.rect(weights.x, y - 8, Math.max(1, weights.width * weight), 16, color, { radius: 3 });
    painter.text(formatNumber(weight), weights.x + weights.width + 6, y, { size: 12, color: palette.ink });
  });
  painter.line(at(0), listTop + 38, at(0), listTop + 38 + listed.length * LIST, palette.soft, 1);
}

/** The colors of the parts. */
function drawLegend(painter, { decomposition, palette }, x, y) {
  decomposition.parts.forEach((name, index) => {
    painter.rect(x, y - 5, 10, 10, PART_COLORS[index % PART_COLORS.length]);
    painter.text(name, x + 14, y, { size: 11.5, color: palette.soft });
    x += 26 + textWidth(name, 11.5);
  });
}

const sumWhere = (parts, wanted) => total(parts.filter(wanted));

/** A stacked bar: positive parts to the right of zero, negative ones to the left. */
function drawStack(painter, parts, at, y) {
  let [low, high] = [0, 0];
  parts.forEach((part, index) => {
    const from = part < 0 ? low : high;
    const [start, end] = [at(from), at(from + part)];
    painter.rect(Math.min(start, end), y - 7, Math.abs(end - start), 14, PART_COLORS[index % PART_COLORS.length]);
    if (part < 0) low += part;
    else high += part;
  });
}
