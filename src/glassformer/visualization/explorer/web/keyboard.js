// Keyboard shortcuts: one table for both their actions and the help.

import { headsView } from "./heads_view.js";
import { EXPORTS } from "./export.js";
import { thresholdOf } from "./lines_view.js";
import { resetZoom, stepHead, stepKind, stepLayer, stepRollout, toggleMean, zoomBy } from "./navigation.js";
import { AUTO } from "./state.js";

const NEXT_COLOR_MAX = { auto: "one", one: "largest", largest: "auto" };

/** Move the threshold; its slider is linear in the square root of a weight. */
function stepThreshold(app, by) {
  const scene = app.scene();
  if (scene.ready) app.set({ threshold: Math.min(1, Math.max(0, Math.sqrt(thresholdOf(scene)) + by)) ** 2 });
}

const ARROWS = [
  {
    keys: ["ArrowLeft"],
    shown: "← →",
    what: "previous or next key (or head, token or patch)",
    run: (app, e, view) => app.move(-1, 0, view, e.shiftKey),
  },
  { keys: ["ArrowRight"], run: (app, e, view) => app.move(1, 0, view, e.shiftKey) },
  {
    keys: ["ArrowUp"],
    shown: "↑ ↓",
    what: "previous or next query (or layer)",
    run: (app, e, view) => app.move(0, -1, view, e.shiftKey),
  },
  { keys: ["ArrowDown"], run: (app, e, view) => app.move(0, 1, view, e.shiftKey) },
  { shown: "Shift + arrow", what: "move by ten; in the text, to another word" },
  {
    keys: ["Home"],
    shown: "Home End",
    what: "first or last key (or head, token or patch)",
    run: (app, e, view) => app.move(-Infinity, 0, view),
  },
  { keys: ["End"], run: (app, e, view) => app.move(Infinity, 0, view) },
  {
    keys: ["PageUp"],
    shown: "Page ↑ ↓",
    what: "first or last query (or layer)",
    run: (app, e, view) => app.move(0, -Infinity, view),
  },
  { keys: ["PageDown"], run: (app, e, view) => app.move(0, Infinity, view) },
  {
    keys: ["Enter"],
    shown: "Enter",
    what: "in all heads: open the heat map of the chosen head",
    run: (app, e, view) => view === headsView && app.set({ view: "map" }),
  },
];

const LETTERS = [
  { keys: ["["], shown: "[ ]", what: "previous or next head", run: (app) => stepHead(app, -1) },
  { keys: ["]"], run: (app) => stepHead(app, 1) },
  { keys: ["{", ","], shown: ", .", what: "previous or next layer", run: (app) => stepLayer(app, -1) },
  { keys: ["}", "."], run: (app) => stepLayer(app, 1) },
  {
    keys: ["m"],
    shown: "m",
    what: "switch between the mean of the heads and the chosen head",
    run: (app) => toggleMean(app),
  },
  {
    keys: ["o"],
    shown: "o",
    what: "turn the chosen head off or on",
    available: ({ host }) => host.toggle !== null,
    run: (app) => app.host.toggle(app.kind, app.state.layer, app.state.head),
  },
  { keys: ["k"], shown: "k", what: "next kind of attention", run: (app) => stepKind(app, 1) },
  {
    keys: ["r"],
    shown: "r",
    what: "next rollout method",
    run: (app) => stepRollout(app),
  },
  {
    keys: ["c"],
    shown: "c",
    what: "color scale up to 1, up to the largest weight, or automatic",
    run: (app) => app.set({ colorMax: NEXT_COLOR_MAX[app.state.colorMax] }),
  },
  { keys: ["+", "="], shown: "+ −", what: "zoom in or out", run: (app) => zoomBy(app, 1.5) },
  { keys: ["-"], run: (app) => zoomBy(app, 1 / 1.5) },
  { keys: ["0"], shown: "0", what: "fit the whole map", run: (app) => resetZoom(app) },
  {
    keys: ["f"],
    shown: "f",
    what: "lines of the chosen token only, or of all tokens",
    run: (app) => app.set({ onlyChosen: 1 - app.state.onlyChosen }),
  },
  {
    keys: ["<"],
    shown: "< >",
    what: "lower or raise the threshold for lines",
    run: (app) => stepThreshold(app, -0.02),
  },
  { keys: [">"], run: (app) => stepThreshold(app, 0.02) },
  {
    keys: ["a"],
    shown: "a",
    what: "automatic threshold: three lines per token, or ten of the chosen one",
    run: (app) => app.set({ threshold: AUTO }),
  },
  {
    keys: ["x"],
    shown: "x",
    what: "with or without the first token",
    run: (app) => app.set({ firstToken: 1 - app.state.firstToken }),
  },
  { keys: ["t"], shown: "t", what: "light or dark theme", run: (app) => app.toggleTheme() },
  { keys: ["s"], shown: "s", what: "save the view as SVG", run: (app) => EXPORTS.svg(app) },
  { keys: ["p"], shown: "p", what: "save the view as PNG", run: (app) => EXPORTS.png(app) },
  { keys: ["j"], shown: "j", what: "save the head's numbers as JSON", run: (app) => EXPORTS.json(app) },
  { keys: ["J"], shown: "Shift + j", what: "save all data as JSON", run: (app) => EXPORTS.all(app) },
  { keys: ["l"], shown: "l", what: "copy a link to this view", run: (app) => EXPORTS.link(app) },
  { keys: ["?"], shown: "?", what: "this help", run: (app) => app.help() },
];

/** The entries of the help, with the views of this page. */
export function shortcutsOf(app) {
  const views = app.views.map((view, index) => ({
    shown: String(index + 1),
    what: `${view.title}: ${view.description}`,
  }));
  return [...views, ...ARROWS, ...LETTERS].filter((entry) => entry.shown && (entry.available?.(app) ?? true));
}

/** Run the shortcut of a key; returns whether there is one. */
export function handleKey(app, event) {
  const altGraph = event.getModifierState?.("AltGraph"); // some keyboards need it for [ and ]
  if (((event.ctrlKey || event.altKey) && !altGraph) || event.metaKey || event.defaultPrevented) return false;
  const inField = event.target.closest?.("input, select, textarea, dialog");
  const views = new Map([
    [app.stage, app.view],
    [app.overview, headsView],
  ]);
  const view = views.get(event.target);
  const arrow = ARROWS.find(({ keys }) => keys?.includes(event.key));
  if (arrow) return view !== undefined && done(arrow.run?.(app, event, view));
  if (inField || !app.state.shortcuts) return false; // shortcuts of single characters can be disabled
  const number = Number(event.key);
  if (number >= 1 && number <= app.views.length) return done(app.set({ view: app.views[number - 1].name }));
  const letter = LETTERS.find(({ keys, available }) => keys.includes(event.key) && (available?.(app) ?? true));
  return letter ? done(letter.run(app, event)) : false;
}

const done = () => true;
