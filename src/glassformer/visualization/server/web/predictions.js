// Table of the most probable tokens: a bar with all heads and a bar without some, or a bar for each of two texts.

import { element, formatPercent, visibleText } from "./explorer_modules.js";

const WITH_AND_WITHOUT = ["all heads", "some off"];

/**
 * Fills the table from a response; a click on a token adds it to the text. The table is one tab stop: arrow keys
 * move between the tokens, and a focused row keeps the focus.
 */
export function showPredictions(page, { predictions, divergence, message }, ablated, names = WITH_AND_WITHOUT, canAdd = true) {
  const table = page.querySelector(".predictions");
  table.hidden = !predictions.length;
  table.classList.toggle("compare", ablated);
  const max = Math.max(...predictions.flatMap(({ before, after }) => [before, after]), 1e-9);
  const add = canAdd ? (id) => page.dispatchEvent(new CustomEvent("add-token", { detail: id })) : null;
  const rows = predictions.map((prediction) => row(prediction, max, ablated, add));
  if (predictions.length) rows.push(remainder(predictions));
  const [body] = table.tBodies;
  const focused = [...body.rows].findIndex((row) => row.contains(document.activeElement));
  body.replaceChildren(...rows);
  setTabStop(buttonsOf(body)[Math.max(0, Math.min(focused, predictions.length - 1))], focused >= 0);
  page.querySelector("#legend").replaceChildren(...(!predictions.length ? [message] : ablated ? legend(names) : []));
  names.forEach((name, index) => (page.querySelectorAll(".predictions thead .numeric")[index].textContent = name));
  page.querySelector("#summary").textContent = predictions.length
    ? [`The longest bar is ${formatPercent(max)}.`, ...(ablated && divergence !== undefined ? [divergenceText(divergence)] : [])].join(" ") : "";
}

/** Shows the probabilities after two texts beside each other; each response has those of the best tokens of the other. */
export function showComparison(page, first, second) {
  const byId = (response) => new Map([...response.predictions, ...response.wanted].map((one) => [one.id, one]));
  const [one, other] = [byId(first), byId(second)];
  const shared = [...one.values()].filter(({ id }) => other.has(id));
  const both = shared.map(({ id, label, after }) => ({ id, label, before: after, after: other.get(id).after }));
  both.sort((a, b) => Math.max(b.before, b.after) - Math.max(a.before, a.after));
  const count = Math.max(first.predictions.length, second.predictions.length);
  const message = first.message || second.message;
  showPredictions(page, { predictions: message ? [] : both.slice(0, count), message }, true, ["text 1", "text 2"], false);
}

/** Handles arrow keys, Home and End in the table. */
export function onTableKey(event) {
  const buttons = buttonsOf(event.currentTarget);
  const index = buttons.indexOf(event.target);
  const next = { ArrowUp: index - 1, ArrowDown: index + 1, Home: 0, End: buttons.length - 1 }[event.key];
  if (index < 0 || next === undefined) return;
  event.preventDefault();
  setTabStop(buttons[Math.max(0, Math.min(buttons.length - 1, next))], true);
}

const buttonsOf = (body) => [...body.querySelectorAll("button")];

function setTabStop(button, focus) {
  if (!button) return;
  for (const other of buttonsOf(button.closest("tbody"))) other.tabIndex = other === button ? 0 : -1;
  if (focus) button.focus();
}

const divergenceText = (divergence) =>
  `Without the heads that are off, the distribution changes by a Kullback-Leibler divergence of ${divergence === 0 ? "0" : divergence.toPrecision(3)} nats.`;

function row({ id, label, before, after }, max, ablated, add) {
  const text = visibleText(label);
  const token = add
    ? element("button", { type: "button", className: "token", dir: "auto", textContent: text, title: `Add ${text} to the text`, onclick: () => add(id) })
    : element("span", { className: "token", dir: "auto", textContent: text });
  const bars = [bar("before", before / max), ...(ablated ? [bar("after", after / max)] : [])];
  return element("tr", {}, element("th", { scope: "row" }, token), element("td", {}, ...bars), ...numbers(before, after));
}

function remainder(predictions) {
  const sum = (name) => Math.max(0, 1 - predictions.reduce((total, prediction) => total + prediction[name], 0));
  return element("tr", { className: "remainder" }, element("th", { scope: "row", textContent: "all others" }), element("td", {}),
    ...numbers(sum("before"), sum("after")));
}

const numbers = (before, after) => [element("td", { className: "numeric", textContent: formatPercent(before) }),
  element("td", { className: "numeric ablated", textContent: formatPercent(after) })];

function bar(kind, share) {
  const made = element("span", { className: `bar ${kind}`, "aria-hidden": "true" });
  made.style.setProperty("--share", share);
  return made;
}

function legend([first, second]) {
  const key = (kind, text) => [element("span", { className: `key ${kind}`, "aria-hidden": "true" }), element("span", { textContent: text })];
  return [...key("before", first), ...key("after", second)];
}
