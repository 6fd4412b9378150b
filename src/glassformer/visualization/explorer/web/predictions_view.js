// Predictions at the chosen token: the most probable tokens of the model, and after each layer (logit lens).

import { formatProbability, isolate, truncate } from "./text.js";
import { colorIndex, textColorOn } from "./colors.js";
import { textWidth } from "./painter.js";
import { drawHeading, layoutHeading, wrapText } from "./heading.js";
import { drawStrip, layoutStrip, tokenAt } from "./token_strip.js";

const BAR = 24;
const ROW = 23;
const SKIPPED = 14; // pixels in place of layers that are not on the page

const isLens = ({ predictions }) => predictions.rows.length > 1;
const isOfWholeInput = ({ values }) => values.length === 1;

/** The lines under the title of the bars or the lens, and the total height. */
function measure(scene, entry, width) {
  const note = isLens(entry) ? entry.predictions.note : describeTarget(scene, entry) || entry.predictions.note;
  const notes = note ? wrapText(note, width, 11.5, 3) : [];
  const rows = isLens(entry) ? rowTops(entry.predictions.rows).at(-1) + ROW : predictionList(scene, entry).length * BAR;
  return { notes, first: 20 + 14 * notes.length, height: 20 + 14 * notes.length + rows };
}

/** Where each row of the lens begins; layers that are not on the page leave a gap. */
function rowTops(names) {
  let top = 0;
  return names.map((name, row) => {
    if (row) top += ROW + (numberOf(name) - numberOf(names[row - 1]) > 1 ? SKIPPED : 0);
    return top;
  });
}

/** The number of the last layer before a readout such as "after layer 3"; -1 before layer 0. */
const numberOf = (name) => Number(name.match(/\d+$/)[0]) - (name.startsWith("before") ? 1 : 0);

/** The heading, the tokens to choose from, and below them bars and lens, side by side if there is space. */
function layout(scene, box) {
  const { attention, state, predictions } = scene;
  const heading = layoutHeading(box, titleAndNote(scene));
  const strip = predictions.every(isOfWholeInput)
    ? null
    : layoutStrip(attention.queries, state.query, 12, heading.height + 6, box.width - 24);
  const top = heading.height + 24 + (strip ? strip.height : 0);
  const beside = box.width >= 900 && predictions.length > 1;
  const bars = Math.min(560, box.width * 0.4);
  let y = top;
  const areas = predictions.map((entry, index) => {
    const x = beside && index ? bars + 36 : 12;
    const width = beside ? (index ? box.width - bars - 48 : bars - 12) : box.width - 24;
    const area = { x, y: beside ? top : y, width, entry, ...measure(scene, entry, width) };
    y += area.height + 28;
    return area;
  });
  return { heading, strip, areas, height: Math.max(...areas.map((area) => area.y + area.height)) + 16 };
}

function titleAndNote(scene) {
  const { state, attention, predictions, image } = scene;
  if (predictions.every(isOfWholeInput))
    return [`Of the whole ${image ? "image" : "text"}`, "probabilities of the model"];
  const title = `At “${attention.queries[state.query]}”, token ${state.query}`;
  return [
    title,
    `probabilities of the model at the chosen token${image ? "" : ": click or use the arrows to choose another"}`,
  ];
}

export const predictionsView = {
  name: "predictions",
  panel: [],
  intro: "What the model predicts at the chosen token, and what it would predict after each layer. Click another token.",
  title: "Predictions",
  description: "What the model predicts at the chosen token, and how the prediction develops from layer to layer.",
  available: (contents) => contents.predictions.length > 0,
  height: (scene, box) => layout(scene, box).height,

  draw(painter, scene, box) {
    const { heading, strip, areas } = layout(scene, box);
    for (const area of areas) (isLens(area.entry) ? drawLens : drawBars)(painter, scene, area);
    if (strip) drawStrip(painter, scene.palette, strip, scene.state.query);
    drawHeading(painter, scene.palette, box, heading);
  },

  hitTest(scene, box, x, y) {
    const { strip } = layout(scene, box);
    const token = strip && tokenAt(strip, x, y);
    return token === null ? null : { query: token, key: scene.state.key };
  },

  move(app, across, down) {
    app.set({ query: app.state.query + across + down });
  },

  describe: (scene) =>
    `${titleAndNote(scene)[0]}. ${scene.predictions.map((entry) => describePredictions(scene, entry)).join(" ")}`,
};

const rowsAt = (scene, { predictions, values }) =>
  values[isOfWholeInput({ values }) ? 0 : scene.state.query] ?? predictions.rows.map(() => []);

/** A list of { label, share } from the flat list [token, probability, token, ...]. */
export function predictionList(scene, entry, row = 0) {
  const flat = rowsAt(scene, entry)[row] ?? [];
  const list = [];
  for (let i = 0; i < flat.length; i += 2)
    list.push({ label: entry.predictions.tokens[flat[i]], share: flat[i + 1], isEnd: entry.predictions.ends?.includes(flat[i]) });
  return list;
}

export function describeTarget(scene, { predictions, targets }) {
  const target = targets?.[scene.state.query];
  if (!target) return "";
  const [token, share, rank] = target;
  return `Actual token: “${predictions.tokens[token]}”, ${formatProbability(share)}, rank ${rank.toLocaleString("en")}.`;
}

function describePredictions(scene, entry) {
  const best = predictionList(scene, entry, entry.predictions.rows.length - 1).slice(0, 3);
  return `${entry.predictions.title}: ${best.map(({ label, share }) => `${label} ${formatProbability(share)}`).join(", ")}. ${describeTarget(scene, entry)}`;
}

/** The title of the bars or the lens, and the lines under it. */
function drawTitle(painter, palette, title, { x, y, width, notes }) {
  const style = { size: 13, weight: 650 };
  const text = truncate(title, width, (t) => textWidth(t, style.size, style.weight));
  painter.text(isolate(text), x, y, { ...style, color: palette.ink });
  notes.forEach((line, index) =>
    painter.text(isolate(line), x, y + 18 + 14 * index, { size: 11.5, color: palette.soft }),
  );
}

function drawBars(painter, scene, area) {
  const { palette } = scene;
  const { x, y, width, entry, first } = area;
  drawTitle(painter, palette, `Most probable: ${entry.predictions.title}`, area);
  const list = predictionList(scene, entry);
  const labelsWidth = Math.min(width * 0.45, Math.max(30, ...list.map(({ label }) => textWidth(label, 13)))) + 8;
  const space = width - labelsWidth - 64;
  list.forEach(({ label, share }, index) => {
    const middle = y + first + (index + 0.5) * BAR;
    const text = isolate(truncate(label, labelsWidth - 8, (t) => textWidth(t, 13)));
    painter.text(text, x + labelsWidth - 8, middle, { size: 13, align: "right", color: palette.ink });
    painter.rect(x + labelsWidth, middle - 8, space, 16, palette.wash, { radius: 3 });
    painter.rect(x + labelsWidth, middle - 8, Math.max(1, space * share), 16, palette.accent, { radius: 3 });
    painter.text(formatProbability(share), x + width, middle, { size: 12, align: "right", color: palette.soft });
  });
}

/** A row for each layer, the first one at the top. */
function drawLens(painter, scene, area) {
  const { palette } = scene;
  const { x, y, width, entry, first } = area;
  const { predictions } = entry;
  drawTitle(painter, palette, predictions.title, area);
  const labelsWidth = Math.min(width * 0.3, Math.max(...predictions.rows.map((row) => textWidth(row, 11.5)))) + 10;
  const tops = rowTops(predictions.rows);
  predictions.rows.forEach((name, row) => {
    const top = y + first + tops[row];
    if (row && tops[row] - tops[row - 1] > ROW) painter.text("⋯", x + labelsWidth, top - SKIPPED / 2 - 2, { size: 12, color: palette.soft });
    const label = truncate(name, labelsWidth - 8, (t) => textWidth(t, 11.5));
    painter.text(label, x, top + ROW / 2 - 1, { size: 11.5, color: palette.soft });
    const list = predictionList(scene, entry, row);
    const cell = (width - labelsWidth) / Math.max(1, list.length);
    list.forEach(({ label: token, share }, index) =>
      drawPrediction(painter, palette, x + labelsWidth + index * cell, top, cell - 3, token, share),
    );
  });
}

function drawPrediction(painter, palette, x, y, width, label, share) {
  const index = colorIndex(share, 1);
  const color = textColorOn(palette, index);
  painter.rect(x, y, width, ROW - 3, palette.css[index], { radius: 3, stroke: palette.line });
  const number = formatProbability(share);
  const numberWidth = width > 74 ? textWidth(number, 10) + 10 : 0;
  painter.text(
    isolate(truncate(label, width - numberWidth - 8, (t) => textWidth(t, 12))),
    x + 5,
    y + ROW / 2 - 1.5,
    { size: 12, color },
  );
  if (numberWidth) painter.text(number, x + width - 5, y + ROW / 2 - 1.5, { size: 10, align: "right", color });
}
