// Beside the picture, as text: the chosen cell, its row and its column, the head's names, what comes next.

import { isolated, likelihood, numeral } from "./labels.js";
import { MEAN } from "./state.js";
import { nameInWords } from "./heads_view.js";
import { guessList, truthInWords } from "./guesses_view.js";
import { partsInWords } from "./score_view.js";

const SHOWN = 10;
const NAMELESS = "No name: it beat the controls in nothing that was measured.";
const OF_IMAGES = "No name: heads are named after patterns of text, and this model reads images.";
const HOW_TO_NAME =
  "Not measured. glassformer explore --names measures it here; --heads-report takes it from an analysis.";

/** An element with text or children; texts are never read as HTML. */
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
  const parts = [cellSection(scene), namesSection(scene)];
  parts.push(listSection(scene, app, "query"), listSection(scene, app, "key"));
  for (const entry of scene.guesses)
    if (entry.guesses.rows.length === 1 && scene.state.view !== "guesses") parts.push(guessesSection(scene, entry));
  const focused = panel.contains(document.activeElement) && document.activeElement.dataset;
  panel.replaceChildren(...parts.filter(Boolean));
  if (focused?.side) buttonOf(panel, focused).focus({ preventScroll: true });
}

/** The token that was focused, or where its list has changed, what stands in its place. */
function buttonOf(panel, { side, index, place }) {
  const list = [...panel.querySelectorAll(`[data-side="${side}"]`)];
  return list.find((button) => button.dataset.index === index) ?? list[place] ?? list.at(-1) ?? panel;
}

const section = (title, ...children) =>
  element("section", {}, element("h2", { textContent: title }), ...children);

function cellSection(scene) {
  const { attention, state, shownMatrix } = scene;
  const weight = shownMatrix.at(state.query, state.key);
  const token = (labels, index) => element("b", { textContent: isolated(labels[index]), dir: "auto" });
  const words = element(
    "p",
    { className: "cell" },
    token(attention.queries, state.query),
    element("span", { textContent: ` (${state.query}) → ` }),
    token(attention.keys, state.key),
    element("span", { textContent: ` (${state.key})` }),
  );
  const masked = weight !== weight;
  const number = element("p", { className: "number", textContent: masked ? "masked" : numeral(weight) });
  const within = Math.sqrt(weight) / scene.contents.levels + 4e-6;
  const exact = masked ? "the mask hides this key from this query" : `exact to within ${numeral(within)}`;
  const parts =
    scene.parts && state.view !== "flow"
      ? [element("p", { className: "soft", textContent: partsInWords(scene) })]
      : [];
  return section(
    "Chosen cell",
    words,
    number,
    element("p", { className: "soft", textContent: exact }),
    ...parts,
  );
}

function namesSection(scene) {
  const { state, contents } = scene;
  if (state.view === "flow" || state.head === MEAN) return null;
  const names = scene.namesOf(state.layer, state.head);
  if (!names.length) {
    const measured = contents.names.length || contents.names_source;
    const why = measured ? NAMELESS : contents.picture ? OF_IMAGES : HOW_TO_NAME;
    return section("What this head does", element("p", { className: "soft", textContent: why }));
  }
  const items = names.map((name) => element("li", { textContent: nameInWords(name) }));
  const source = contents.names_source;
  const note = source ? [element("p", { className: "soft", textContent: source })] : [];
  return section("What this head does", element("ul", {}, ...items), ...note);
}

/** The ten heaviest of the chosen row, or column, and what is left for all others. */
function listSection(scene, app, side) {
  const { attention, state, shownMatrix, verbs } = scene;
  const isRow = side === "query";
  const weights = isRow ? shownMatrix.row(state.query) : shownMatrix.column(state.key);
  const labels = isRow ? attention.keys : attention.queries;
  const order = [...weights.keys()].filter((index) => weights[index] === weights[index]);
  order.sort((a, b) => weights[b] - weights[a] || a - b);
  const rest = order.slice(SHOWN).reduce((sum, index) => sum + weights[index], 0);
  const token = isRow ? attention.queries[state.query] : attention.keys[state.key];
  const name = isRow ? `Row: “${token}” ${verbs.active}` : `Column: “${token}” ${verbs.passive}`;
  const most = weights[order[0]] || 1;
  const rows = order
    .slice(0, SHOWN)
    .map((index, place) =>
      weightRow(app, labels[index], index, weights[index], weights[index] / most, isRow ? "key" : "query", place),
    );
  const [others, all] = [order.length - SHOWN, order.reduce((sum, index) => sum + weights[index], 0)];
  if (isRow && others > 0) rows.push(restRow(`${others} others together`, rest));
  if (!isRow && order.length > 1) rows.push(restRow(`mean of ${order.length} queries`, all / order.length));
  const table = element("table", { "aria-label": name }, element("tbody", {}, ...rows));
  return section(name, table);
}

function weightRow(app, label, index, weight, share, side, place) {
  const choose = element("button", {
    type: "button",
    className: "token",
    textContent: isolated(label),
    dir: "auto",
    onclick: () => app.set({ [side]: index }, { follow: true }),
  });
  Object.assign(choose.dataset, { side, index, place });
  const bar = element("span", { className: "bar" });
  bar.style.setProperty("--share", share);
  return element(
    "tr",
    {},
    element("th", { scope: "row" }, choose),
    element("td", { className: "place", textContent: index }),
    element("td", {}, bar),
    element("td", { className: "weight", textContent: numeral(weight) }),
  );
}

const restRow = (words, weight) =>
  element(
    "tr",
    { className: "rest" },
    element("th", { scope: "row", colSpan: 3, textContent: words }),
    element("td", { className: "weight", textContent: numeral(weight) }),
  );

function guessesSection(scene, entry) {
  const rows = guessList(scene, entry)
    .slice(0, 5)
    .map(({ label, share }) => {
      const bar = element("span", { className: "bar" });
      bar.style.setProperty("--share", share);
      return element(
        "tr",
        {},
        element("th", { scope: "row", textContent: isolated(label), dir: "auto" }),
        element("td", {}, bar),
        element("td", { className: "weight", textContent: likelihood(share) }),
      );
    });
  const truth = truthInWords(scene, entry);
  const said = truth ? [element("p", { className: "soft", textContent: truth })] : [];
  const title = `Likeliest for ${entry.guesses.title}`;
  return section(title, element("table", { "aria-label": title }, element("tbody", {}, ...rows)), ...said);
}
