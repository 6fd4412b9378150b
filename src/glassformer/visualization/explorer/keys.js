// Everything by keyboard: one table that is both what is done and what the help says.

import { headsView } from "./heads_view.js";
import { EXPORTS } from "./export.js";
import { thresholdOf } from "./lines_view.js";
import { closer, fit, stepFlow, stepHead, stepKind, stepLayer, turnMean } from "./moving.js";
import { HEAVIEST } from "./state.js";

const step = (event) => (event.shiftKey ? 10 : 1);
const NEXT_TOP = { auto: "one", one: "largest", largest: "auto" };

/** Up or down the slider, which is even in the square root of a weight. */
function stepThreshold(app, by) {
  const scene = app.scene();
  if (scene.ready) app.set({ threshold: Math.min(1, Math.max(0, Math.sqrt(thresholdOf(scene)) + by)) ** 2 });
}

const CELLS = [
  {
    keys: ["ArrowLeft"],
    shown: "← →",
    what: "the key before, or after (the head, the token, the patch, where there are no keys)",
    run: (app, e, view) => app.move(-step(e), 0, view),
  },
  { keys: ["ArrowRight"], run: (app, e, view) => app.move(step(e), 0, view) },
  {
    keys: ["ArrowUp"],
    shown: "↑ ↓",
    what: "the query before, or after (in the grid: the layer)",
    run: (app, e, view) => app.move(0, -step(e), view),
  },
  { keys: ["ArrowDown"], run: (app, e, view) => app.move(0, step(e), view) },
  { shown: "Shift + arrow", what: "ten at once" },
  {
    keys: ["Home"],
    shown: "Home End",
    what: "the first, or last, that ← and → go to",
    run: (app, e, view) => app.move(-Infinity, 0, view),
  },
  { keys: ["End"], run: (app, e, view) => app.move(Infinity, 0, view) },
  {
    keys: ["PageUp"],
    shown: "Page ↑ ↓",
    what: "the first, or last, that ↑ and ↓ go to",
    run: (app, e, view) => app.move(0, -Infinity, view),
  },
  { keys: ["PageDown"], run: (app, e, view) => app.move(0, Infinity, view) },
  {
    keys: ["Enter"],
    shown: "Enter",
    what: "from the grid to the head's heat map",
    run: (app, e, view) => view === headsView && app.set({ view: "map" }),
  },
];

const LETTERS = [
  { keys: ["["], shown: "[ ]", what: "the head before, or after", run: (app) => stepHead(app, -1) },
  { keys: ["]"], run: (app) => stepHead(app, 1) },
  { keys: ["{", ","], shown: ", .", what: "the layer before, or after", run: (app) => stepLayer(app, -1) },
  { keys: ["}", "."], run: (app) => stepLayer(app, 1) },
  {
    keys: ["m"],
    shown: "m",
    what: "the mean of the layer's heads, and back",
    run: (app) => turnMean(app),
  },
  { keys: ["k"], shown: "k", what: "the next kind of attention", run: (app) => stepKind(app, 1) },
  {
    keys: ["r"],
    shown: "r",
    what: "the next way through all layers (rollout)",
    run: (app) => stepFlow(app),
  },
  {
    keys: ["c"],
    shown: "c",
    what: "colours up to 1, up to the head's largest weight, or as suits it",
    run: (app) => app.set({ top: NEXT_TOP[app.state.top] }),
  },
  { keys: ["+", "="], shown: "+ −", what: "closer, or further", run: (app) => closer(app, 1.5) },
  { keys: ["-"], run: (app) => closer(app, 1 / 1.5) },
  { keys: ["0"], shown: "0", what: "all of it", run: (app) => fit(app) },
  {
    keys: ["f"],
    shown: "f",
    what: "lines of the chosen token only, or of all",
    run: (app) => app.set({ only: 1 - app.state.only }),
  },
  {
    keys: ["<"],
    shown: "< >",
    what: "a lower, or higher, threshold for lines",
    run: (app) => stepThreshold(app, -0.02),
  },
  { keys: [">"], run: (app) => stepThreshold(app, 0.02) },
  {
    keys: ["a"],
    shown: "a",
    what: "the heaviest lines: three a token",
    run: (app) => app.set({ threshold: HEAVIEST }),
  },
  {
    keys: ["x"],
    shown: "x",
    what: "lines to the first token, or none",
    run: (app) => app.set({ first: 1 - app.state.first }),
  },
  { keys: ["t"], shown: "t", what: "light or dark", run: (app) => app.turnTheme() },
  { keys: ["s"], shown: "s", what: "save the view as SVG", run: (app) => EXPORTS.svg(app) },
  { keys: ["p"], shown: "p", what: "save the view as PNG", run: (app) => EXPORTS.png(app) },
  { keys: ["j"], shown: "j", what: "save the head's numbers as JSON", run: (app) => EXPORTS.json(app) },
  { keys: ["J"], shown: "Shift + j", what: "save all data as JSON", run: (app) => EXPORTS.all(app) },
  { keys: ["l"], shown: "l", what: "copy a link to this view", run: (app) => EXPORTS.link(app) },
  { keys: ["?"], shown: "?", what: "this help", run: (app) => app.help() },
];

/** What the help shows, for the views that this page has. */
export function keysOf(app) {
  const views = app.views.map((view, index) => ({
    shown: String(index + 1),
    what: `${view.title}: ${view.about}`,
  }));
  return [...views, ...CELLS, ...LETTERS].filter((entry) => entry.shown);
}

/** Does what a key stands for; false where it stands for nothing. */
export function pressed(app, event) {
  const typing = event.getModifierState?.("AltGraph"); // which some keyboards need for [ and ]
  if (((event.ctrlKey || event.altKey) && !typing) || event.metaKey || event.defaultPrevented) return false;
  const inField = event.target.closest?.("input, select, textarea, dialog");
  const pictures = new Map([
    [app.stage, app.view],
    [app.overview, headsView],
  ]);
  const picture = pictures.get(event.target);
  const cell = CELLS.find(({ keys }) => keys?.includes(event.key));
  if (cell) return picture !== undefined && done(cell.run?.(app, event, picture));
  if (inField || !app.state.keys) return false; // single letters can be switched off
  const number = Number(event.key);
  if (number >= 1 && number <= app.views.length) return done(app.set({ view: app.views[number - 1].name }));
  const letter = LETTERS.find(({ keys }) => keys.includes(event.key));
  return letter ? done(letter.run(app, event)) : false;
}

const done = () => true;
