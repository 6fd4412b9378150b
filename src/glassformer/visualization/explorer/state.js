// What is shown. It can be written into a link, and a link restores it.

export const MEAN = -1; // stands for the mean of a layer's heads
export const HEAVIEST = -1; // stands for a threshold that so many lines pass as can be told apart

const START = {
  view: "",
  kind: "",
  layer: 0,
  head: 0,
  query: 0,
  key: 0,
  flow: 0,
  top: "auto",
  threshold: HEAVIEST,
  only: 0,
  first: 1,
  zoom: 1,
  size: 1,
  x: 0.5,
  y: 0.5,
  theme: "auto",
  keys: 1,
};

const WORDS = { top: ["auto", "one", "largest"], theme: ["auto", "light", "dark"] };
const whole = (value, low, high) => Math.min(high, Math.max(low, Math.round(value)));
const within = (value, low, high) => Math.min(high, Math.max(low, value));

const lookElsewhere = ({ queries, keys }) => queries.join("\n") !== keys.join("\n");

/** The state that a page opens with: one sequence's look at another if there is such, in the middle layer. */
export function startState(contents) {
  const first = contents.attention.find(lookElsewhere) ?? contents.attention[0];
  const layer = first.layers[Math.floor(first.layers.length / 2)];
  return valid(
    {
      ...START,
      kind: first.kind,
      layer,
      flow: contents.flows.length - 1, // weighted by gradients, where there is such
      query: contents.picture ? 0 : first.queries.length - 1,
    },
    contents,
  );
}

/** The kind of attention whose tokens a view is about: that of its flow, or one that has predictions. */
export function shownKind({ view, kind, flow }, { flows, guesses }) {
  if (view === "flow") return flows[flow]?.kind ?? kind;
  const guessed = view === "guesses" ? kindsOfGuesses(guesses) : [];
  return guessed.length && !guessed.includes(kind) ? guessed[0] : kind;
}

export const kindsOfGuesses = (guesses) => [...new Set(guesses.flatMap(({ kinds }) => kinds))];

/** A state in which everything exists: numbers that are out of range are brought into it. */
export function valid(state, contents) {
  const attention = contents.attention.find((item) => item.kind === state.kind) ?? contents.attention[0];
  const { layers, heads } = attention;
  const flow = whole(state.flow, 0, Math.max(0, contents.flows.length - 1));
  const shown = shownKind({ ...state, kind: attention.kind, flow }, contents);
  const { queries, keys } = contents.attention.find(({ kind }) => kind === shown);
  const layer = layers.includes(state.layer) ? state.layer : nearest(layers, state.layer);
  const here = heads[layers.indexOf(layer)];
  const head = state.head === MEAN || here.includes(state.head) ? state.head : nearest(here, state.head);
  const clean = {
    ...state,
    kind: attention.kind,
    layer,
    head,
    query: whole(state.query, 0, queries.length - 1),
    key: whole(state.key, 0, keys.length - 1),
    flow,
    threshold: state.threshold < 0 ? HEAVIEST : within(state.threshold, 0, 1),
    zoom: within(state.zoom, 1, 64),
    size: within(state.size, 1, 16),
    x: within(state.x, 0, 1),
    y: within(state.y, 0, 1),
    only: state.only ? 1 : 0,
    first: state.first ? 1 : 0,
    keys: state.keys ? 1 : 0,
  };
  for (const [name, words] of Object.entries(WORDS)) if (!words.includes(clean[name])) clean[name] = words[0];
  return clean;
}

const nearest = (numbers, wanted) =>
  numbers.reduce((best, number) => (Math.abs(number - wanted) < Math.abs(best - wanted) ? number : best));

/** The part of a link after #: only what differs from how a page opens. */
export function toHash(state, start) {
  const changed = Object.keys(START).filter((name) => state[name] !== start[name]);
  const shown = (value) => (typeof value === "number" ? String(Number(value.toPrecision(6))) : value);
  return new URLSearchParams(changed.map((name) => [name, shown(state[name])])).toString();
}

/** The state of a link; whatever in it is unknown or no number is left as the page opens. */
export function fromHash(hash, start, contents) {
  const state = { ...start };
  for (const [name, value] of new URLSearchParams(hash.replace(/^#/, ""))) {
    if (!Object.hasOwn(START, name)) continue;
    if (typeof START[name] === "string") state[name] = value;
    else if (value.trim() !== "" && Number.isFinite(Number(value))) state[name] = Number(value);
  }
  return valid(state, contents);
}
