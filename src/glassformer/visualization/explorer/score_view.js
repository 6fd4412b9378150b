// One cell's score before the softmax, as the sum of its parts, beside the other scores of its row.

import { fitted, isolated, numeral } from "./labels.js";
import { PARTS } from "./colours.js";
import { measured } from "./painter.js";
import { drawHeading, headingOf } from "./heading.js";
import { MEAN } from "./state.js";

const ROW = 34;
const LIST = 24;
const LISTED = 24; // cells of a row, the heaviest

function layout(scene, box) {
  const heading = headingOf(box, words(scene));
  const top = heading.height + 30;
  const under = scene.parts ? top + (scene.parts.length + 1) * ROW + 34 : heading.height + 24;
  const listed = listOf(scene);
  const height = under + (listed.length ? 38 + listed.length * LIST : 0) + 12;
  return { heading, top, under, listed, height };
}

const MEANINGS = {
  content: "content: what the tokens are",
  position: "position: where they stand",
  bias: "bias: the constants of the query and key projections",
};

function words(scene) {
  const { attention, state, decomposition, parts } = scene;
  if (state.head === MEAN)
    return [scene.headTitle, "The mean of the heads has no scores of its own: choose a head."];
  const title = `Why “${attention.queries[state.query]}” looks at “${attention.keys[state.key]}”: ${scene.headTitle}`;
  const meant = decomposition.parts.map((name) => MEANINGS[name]).join("; ");
  const of = `Parts of the score before the softmax, each to within 0.01: ${meant}`;
  const absent = parts ? [] : ["The score of this cell is not in the file: choose one that is"];
  return [title, [...absent, of, decomposition.note].filter(Boolean).join(". ")];
}

const total = (parts) => parts.reduce((sum, part) => sum + part, 0);

/** Scores of the chosen row that are in the file, the heaviest weights first. */
function listOf({ scoresOf, state, matrix }) {
  return scoresOf(state.query)
    .map(({ key, parts }) => ({ key, parts, score: total(parts), weight: matrix.at(state.query, key) }))
    .sort((a, b) => b.weight - a.weight || b.score - a.score)
    .slice(0, LISTED);
}

/** The logarithm of the row's sum of exp(score): the score that a weight of 1 would have. */
const sumOf = ([heaviest]) => (heaviest?.weight > 0.001 ? heaviest.score - Math.log(heaviest.weight) : null);

export const scoreView = {
  name: "score",
  title: "Score",
  about: "Why the chosen token looks there: the score of one cell, split into parts that sum to it.",
  available: (contents) => contents.decompositions.length > 0,
  height: (scene, box) => layout(scene, box).height,

  draw(painter, scene, box) {
    const place = layout(scene, box);
    if (scene.parts) drawParts(painter, scene, box, place);
    if (place.listed.length) drawRow(painter, scene, box, place);
    drawHeading(painter, scene.palette, box, place.heading);
  },

  hit(scene, box, x, y) {
    const { listed, under } = layout(scene, box);
    const cell = listed[Math.floor((y - under - 38) / LIST)];
    return cell ? { query: scene.state.query, key: cell.key } : null;
  },

  /** Along the row to the next key in the file, or to another row, and there to the same key or the heaviest. */
  move(app, across, down) {
    const { scoresOf, state, attention, matrix } = app.scene();
    const query = Math.min(attention.queries.length - 1, Math.max(0, state.query + down));
    const keys = scoresOf(query).map(({ key }) => key);
    if (!keys.length || (down && keys.includes(state.key))) return app.set({ query });
    if (down) {
      const heaviest = keys.reduce((a, b) => (matrix.at(query, b) > matrix.at(query, a) ? b : a));
      return app.set({ query, key: heaviest });
    }
    const here = across > 0 ? keys.findLastIndex((key) => key <= state.key) : keys.findIndex((key) => key >= state.key);
    const from = here < 0 && across < 0 ? keys.length : here;
    return app.set({ key: keys[Math.min(keys.length - 1, Math.max(0, from + across))] });
  },

  describe: (scene) => (scene.parts ? `${words(scene)[0]}. ${partsInWords(scene)}` : words(scene).join(". ")),
};

export function partsInWords({ decomposition, parts }) {
  const said = decomposition.parts.map((name, index) => `${name} ${signed(parts[index])}`).join(", ");
  return `Score ${signed(total(parts))}: ${said}.`;
}

const signed = (number) => `${number < 0 ? "−" : "+"}${Math.abs(number).toFixed(2)}`;

/** Each part starts where the one before it ended; the last bar is their sum. */
function drawParts(painter, scene, box, { top }) {
  const { palette, decomposition, parts } = scene;
  const ends = parts.reduce((sums, part) => [...sums, sums.at(-1) + part], [0]);
  const [low, high] = [Math.min(0, ...ends), Math.max(0, ...ends)];
  const rows = [...decomposition.parts, "score"];
  const names = Math.min(box.width * 0.4, Math.max(...rows.map((name) => measured(name, 12.5, 700)))) + 24;
  const room = Math.min(900, box.width - names - 90);
  const at = (value) => names + ((value - low) / (high - low || 1)) * room;
  rows.forEach((name, index) => {
    const isTotal = index === parts.length;
    const y = top + index * ROW;
    const [from, to] = isTotal ? [0, ends.at(-1)] : [ends[index], ends[index + 1]];
    const text = fitted(name, names - 20, (t) => measured(t, 12.5, 700));
    painter.text(text, names - 10, y + 10, {
      size: 12.5,
      align: "right",
      colour: palette.ink,
      weight: isTotal ? 700 : 400,
    });
    const colour = isTotal ? palette.ink : PARTS[index % PARTS.length];
    const width = Math.max(1, Math.abs(at(to) - at(from)));
    painter.rect(Math.min(at(from), at(to)), y, width, 20, colour, { radius: 2 });
    const style = { size: 12, colour: palette.ink };
    painter.text(signed(to - from), Math.max(at(from), at(to)) + 8, y + 10, style);
  });
  painter.line(at(0), top - 8, at(0), top + rows.length * ROW - 6, palette.soft, 1);
  painter.text("0", at(0), top - 16, { size: 10.5, align: "center", colour: palette.soft });
}

/** What else the token looks at: for each key its score, of which parts, and the weight that the softmax made of it. */
function drawRow(painter, scene, box, { under, listed }) {
  const { palette, attention, state } = scene;
  const fit = (text, width, size, weight) => fitted(text, width, (t) => measured(t, size, weight));
  const title = fit(`The row of “${attention.queries[state.query]}”`, box.width * 0.6, 13, 650);
  painter.text(isolated(title), 12, under, { size: 13, weight: 650, colour: palette.ink });
  drawNames(painter, scene, 26 + measured(title, 13, 650), under);
  const sum = sumOf(listed);
  const how = sum === null ? "" : `weight = exp(score − ${sum.toFixed(2)})${box.width < 560 ? "" : "; what is the same in a whole row changes no weight"}`;
  painter.text(fit(how, box.width - 24, 11.5), 12, under + 17, { size: 11.5, colour: palette.soft });
  const most = Math.min(box.width * 0.26, 220);
  const names =
    Math.min(most, Math.max(...listed.map(({ key }) => measured(attention.keys[key], 12.5, 700)))) + 20;
  const width = Math.min(900, box.width - names - 20);
  const bars = { x: names + 6, width: width * 0.6 - 64 };
  const weights = { x: names + width * 0.6 + 8, width: width * 0.4 - 62 };
  const ends = listed.flatMap(({ parts }) => [sumWhere(parts, (p) => p < 0), sumWhere(parts, (p) => p > 0)]);
  const [low, high] = [Math.min(0, ...ends), Math.max(0, ...ends)];
  const at = (score) => bars.x + ((score - low) / (high - low || 1)) * bars.width;
  listed.forEach(({ key, parts, score, weight }, index) => {
    const y = under + 38 + (index + 0.5) * LIST;
    const chosen = key === state.key;
    const text = isolated(fit(attention.keys[key], names - 16, 12.5, 700));
    painter.text(text, names - 8, y, {
      size: 12.5,
      align: "right",
      colour: chosen ? palette.mark : palette.ink,
      weight: chosen ? 700 : 400,
    });
    drawStack(painter, parts, at, y);
    painter.line(at(score), y - 10, at(score), y + 10, palette.ink, 2);
    painter.text(signed(score), bars.x + bars.width + 56, y, { size: 12, align: "right", colour: palette.ink });
    painter.rect(weights.x, y - 8, weights.width, 16, palette.wash, { radius: 3 });
    const colour = chosen ? palette.mark : palette.accent;
    painter.rect(weights.x, y - 8, Math.max(1, weights.width * weight), 16, colour, { radius: 3 });
    painter.text(numeral(weight), weights.x + weights.width + 6, y, { size: 12, colour: palette.ink });
  });
  painter.line(at(0), under + 38, at(0), under + 38 + listed.length * LIST, palette.soft, 1);
}

/** Which colour is which part. */
function drawNames(painter, { decomposition, palette }, x, y) {
  decomposition.parts.forEach((name, index) => {
    painter.rect(x, y - 5, 10, 10, PARTS[index % PARTS.length]);
    painter.text(name, x + 14, y, { size: 11.5, colour: palette.soft });
    x += 26 + measured(name, 11.5);
  });
}

const sumWhere = (parts, wanted) => total(parts.filter(wanted));

/** Parts above zero to the right of it, one after the other, and those below to the left. */
function drawStack(painter, parts, at, y) {
  let [low, high] = [0, 0];
  parts.forEach((part, index) => {
    const from = part < 0 ? low : high;
    const [start, end] = [at(from), at(from + part)];
    painter.rect(Math.min(start, end), y - 7, Math.abs(end - start), 14, PARTS[index % PARTS.length]);
    if (part < 0) low += part;
    else high += part;
  });
}
