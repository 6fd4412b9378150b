// What comes next, as bars: with all heads, and below it without those that are off.

import { percent, visible } from "./labels.js";
import { element } from "./panel.js";

/**
 * Fills the table with an answer's guesses; a click on a token writes it. One stop for Tab: arrows move between
 * the tokens, and the focus stays in its row.
 */
export function showGuesses(page, { guesses, divergence, why }, off) {
  const table = page.querySelector(".guesses");
  table.hidden = !guesses.length;
  table.classList.toggle("two", off);
  const longest = Math.max(...guesses.flatMap(({ before, after }) => [before, after]), 1e-9);
  const write = (id) => page.dispatchEvent(new CustomEvent("write", { detail: id }));
  const rows = guesses.map((guess) => row(guess, longest, off, write));
  if (guesses.length) rows.push(rest(guesses));
  const [body] = table.tBodies;
  const focused = [...body.rows].findIndex((row) => row.contains(document.activeElement));
  body.replaceChildren(...rows);
  moveTo(buttonsOf(body)[Math.max(0, Math.min(focused, guesses.length - 1))], focused >= 0);
  page.querySelector("#legend").replaceChildren(...(!guesses.length ? [why] : off ? legend() : []));
  page.querySelector("#divergence").textContent = guesses.length ? [`The longest bar is ${percent(longest)}.`, ...(off ? [apart(divergence)] : [])].join(" ") : "";
}

/** Arrows, Home and End among the tokens of the table. */
export function moveAmong(event) {
  const buttons = buttonsOf(event.currentTarget);
  const place = buttons.indexOf(event.target);
  const next = { ArrowUp: place - 1, ArrowDown: place + 1, Home: 0, End: buttons.length - 1 }[event.key];
  if (place < 0 || next === undefined) return;
  event.preventDefault();
  moveTo(buttons[Math.max(0, Math.min(buttons.length - 1, next))], true);
}

const buttonsOf = (body) => [...body.querySelectorAll("button")];

function moveTo(button, focus) {
  if (!button) return;
  for (const other of buttonsOf(button.closest("tbody"))) other.tabIndex = other === button ? 0 : -1;
  if (focus) button.focus();
}

const apart = (divergence) =>
  `Without these heads the prediction moves by ${divergence === 0 ? "0" : divergence.toPrecision(3)} nats (Kullback-Leibler divergence of the two distributions; 0 is no change).`;

function row({ id, label, before, after }, longest, off, write) {
  const shown = visible(label);
  const token = element("button", { type: "button", className: "token", dir: "auto", textContent: shown, title: `Write ${shown}`, onclick: () => write(id) });
  const bars = [bar("before", before / longest), ...(off ? [bar("after", after / longest)] : [])];
  return element("tr", {}, element("th", { scope: "row" }, token), element("td", {}, ...bars), ...numbers(before, after));
}

function rest(guesses) {
  const others = (name) => Math.max(0, 1 - guesses.reduce((sum, guess) => sum + guess[name], 0));
  return element("tr", { className: "rest" }, element("th", { scope: "row", textContent: "all others" }), element("td", {}),
    ...numbers(others("before"), others("after")));
}

const numbers = (before, after) => [element("td", { className: "weight", textContent: percent(before) }),
  element("td", { className: "weight changed", textContent: percent(after) })];

function bar(kind, share) {
  const made = element("span", { className: `bar ${kind}`, "aria-hidden": "true" });
  made.style.setProperty("--share", share);
  return made;
}

function legend() {
  const key = (kind, text) => [element("span", { className: `key ${kind}`, "aria-hidden": "true" }), element("span", { textContent: text })];
  return [...key("before", "all heads"), ...key("after", "without those that are off")];
}
