// The panel beside the view, as text: what the view shows of the chosen cell, word or head, in numbers.

import { formatNumber, formatPercent, formatProbability, isolate } from "./text.js";
import { MEAN } from "./state.js";
import { describeHeadLabel } from "./heads_view.js";
import { describeTarget, predictionList } from "./predictions_view.js";
import { describeParts } from "./score_view.js";
import { chosenWord, heaviest, weightsOfWord } from "./text_view.js";

const MAX_ROWS = 10;
const NO_LABEL = "No label: it did not exceed its baselines in any pattern that was measured.";

/** Create an element with properties, attributes, event listeners (on...) and children; texts are not parsed as HTML. */
export function element(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (name in made && !name.startsWith("aria")) made[name] = value;
    else made.setAttribute(name, value);
  }
  made.append(...children);
  return made;
}

export function fillPanel(panel, scene, app) {
  const parts = app.panelSections.flatMap((name) => SECTIONS[name](scene, app));
  const focused = panel.contains(document.activeElement) && document.activeElement.dataset;
  panel.replaceChildren(...parts.filter(Boolean));
  if (focused?.side) buttonOf(panel, focused).focus({ preventScroll: true });
}

/** The button of the same token, or if the list has changed, the one at the same position. */
function buttonOf(panel, { side, index, position }) {
  const list = [...panel.querySelectorAll(`[data-side="${side}"]`)];
  return list.find((button) => button.dataset.index === index) ?? list[position] ?? list.at(-1) ?? panel;
}

/** The sections by the names that views give in their `panel`. */
const SECTIONS = {
  cell: cellSection,
  head: headLabelsSection,
  row: (scene, app) => listSection(scene, app, "query"),
  column: (scene, app) => listSection(scene, app, "key"),
  words: wordsSection,
  predictions: (scene) =>
    scene.predictions.filter(({ predictions }) => predictions.rows.length === 1).map((entry) => predictionsSection(scene, entry)),
};

const section = (title, ...children) =>
  element("section", {}, element("h2", { textContent: title }), ...children);

function cellSection(scene) {
  const { attention, state, shownMatrix } = scene;
  const weight = shownMatrix.at(state.query, state.key);
  const token = (labels, index) => element("b", { textContent: isolate(labels[index]), dir: "auto" });
  const words = element(
    "p",
    { className: "cell" },
    token(attention.queries, state.query),
    element("span", { textContent: ` (${state.query}) → ` }),
    token(attention.keys, state.key),
    element("span", { textContent: ` (${state.key})` }),
  );
  const masked = weight !== weight;
  const number = element("p", { className: "number", textContent: masked ? "masked" : formatNumber(weight) });
  const notes = masked ? ["the mask hides this key from this query"] : [];
  if (scene.parts && state.view !== "rollout") notes.push(describeParts(scene));
  const soft = notes.map((textContent) => element("p", { className: "soft", textContent }));
  return section("Chosen cell", words, number, ...soft);
}

function headLabelsSection(scene) {
  const { state, contents } = scene;
  if (state.head === MEAN) return [];
  const labels = scene.headLabelsOf(state.layer, state.head);
  if (!labels.length)
    return section("What this head does", element("p", { className: "soft", textContent: NO_LABEL }));
  const rates = "Rates: how often the head's largest weight is where its label says, with 95 % intervals";
  const items = labels.map((label) => element("li", { textContent: describeHeadLabel(label) }));
  const source = contents.head_labels_source;
  const note = source ? [element("p", { className: "soft", textContent: source })] : [];
  const heading = element("p", { className: "soft", textContent: rates });
  return section("What this head does", heading, element("ul", {}, ...items), ...note);
}

/** The ten largest weights of the chosen row or column, and a summary of the others. */
function listSection(scene, app, side) {
  const { attention, state, shownMatrix, words } = scene;
  const isRow = side === "query";
  const weights = isRow ? shownMatrix.row(state.query) : shownMatrix.column(state.key);
  const labels = isRow ? attention.keys : attention.queries;
  const order = [...weights.keys()].filter((index) => weights[index] === weights[index]);
  order.sort((a, b) => weights[b] - weights[a] || a - b);
  const rest = order.slice(MAX_ROWS).reduce((sum, index) => sum + weights[index], 0);
  const token = isRow ? attention.queries[state.query] : attention.keys[state.key];
  const name = isRow ? `Row: “${token}” ${words.active}` : `Column: “${token}” ${words.passive}`;
  const max = weights[order[0]] || 1;
  const rows = order
    .slice(0, MAX_ROWS)
    .map((index, position) =>
      weightRow(app, labels[index], index, weights[index], weights[index] / max, isRow ? "key" : "query", position),
    );
  const [others, all] = [order.length - MAX_ROWS, order.reduce((sum, index) => sum + weights[index], 0)];
  if (isRow && others > 0) rows.push(restRow(others === 1 ? "1 other" : `${others} others together`, rest));
  if (!isRow && order.length > 1) rows.push(restRow(`mean of ${order.length} queries`, all / order.length));
  const number = state.view === "rollout" ? "share" : "weight";
  const head = columnNames([isRow ? "key" : "query", ""], ["index", "token-index"], ["", ""], [number, "weight"]);
  const table = element("table", { "aria-label": name }, head, element("tbody", {}, ...rows));
  return section(name, table);
}

/** The ten words of the other side with the largest weights. */
function wordsSection(scene, app) {
  const chosen = chosenWord(scene);
  const { words, weights, largest } = weightsOfWord(scene, chosen);
  const looks = chosen.side === "query";
  const title = `“${chosen.word.text}” ${looks ? scene.words.active : scene.words.passive}`;
  const isRepeated = (text) => words.filter((other) => other.text === text).length > 1;
  const rows = heaviest(weights, MAX_ROWS).map((index, position) => {
    const { text, last } = words[index];
    const place = isRepeated(text) ? index + 1 : ""; // tells equal words apart
    const row = weightRow(app, text, place, weights[index], weights[index] / largest, looks ? "key" : "query", position, () =>
      app.set({ [looks ? "key" : "query"]: last }),
    );
    row.lastChild.textContent = formatPercent(weights[index]);
    return row;
  });
  const head = columnNames(["word", ""], ["place", "token-index"], ["", ""], ["weight", "weight"]);
  return section(title, element("table", { "aria-label": title }, head, element("tbody", {}, ...rows)));
}

/** The names and classes of the columns of a list; a column of bars has neither. */
function columnNames(...columns) {
  const cells = columns.map(([textContent, className]) =>
    textContent ? element("th", { scope: "col", textContent, className }) : element("td"),
  );
  return element("thead", {}, element("tr", { className: "rest" }, ...cells));
}

function weightRow(app, label, index, weight, share, side, position, choose = () => app.set({ [side]: index }, { follow: true })) {
  const button = element("button", {
    type: "button",
    className: "token",
    textContent: isolate(label),
    dir: "auto",
    onclick: choose,
  });
  Object.assign(button.dataset, { side, index: index === "" ? label : index, position });
  const bar = element("span", { className: "bar" });
  bar.style.setProperty("--share", share);
  return element(
    "tr",
    {},
    element("th", { scope: "row" }, button),
    element("td", { className: "token-index", textContent: index }),
    element("td", {}, bar),
    element("td", { className: "weight", textContent: formatNumber(weight) }),
  );
}

const restRow = (words, weight) =>
  element(
    "tr",
    { className: "rest" },
    element("th", { scope: "row", colSpan: 3, textContent: words }),
    element("td", { className: "weight", textContent: formatNumber(weight) }),
  );

function predictionsSection(scene, entry) {
  const rows = predictionList(scene, entry)
    .slice(0, 5)
    .map(({ label, share }) => {
      const bar = element("span", { className: "bar" });
      bar.style.setProperty("--share", share);
      return element(
        "tr",
        {},
        element("th", { scope: "row", textContent: isolate(label), dir: "auto" }),
        element("td", {}, bar),
        element("td", { className: "weight", textContent: formatProbability(share) }),
      );
    });
  const target = describeTarget(scene, entry);
  const notes = [target, rows.some(({ textContent }) => textContent.includes("·")) && "· is a space"].filter(Boolean);
  const note = notes.map((textContent) => element("p", { className: "soft", textContent }));
  const token = isolate(scene.attention.queries[scene.state.query]);
  const isNext = entry.predictions.title === "the next token";
  const title = isNext ? `What the model predicts after “${token}”` : `Most probable: ${entry.predictions.title}`;
  const what = entry.predictions.title === "the class" ? "class" : "token";
  const head = columnNames([what, ""], ["", ""], ["probability", "weight"]);
  return section(title, element("table", { "aria-label": title }, head, element("tbody", {}, ...rows)), ...note);
}
