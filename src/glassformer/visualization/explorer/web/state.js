// The state of the page: what is shown. It is written to the hash of the URL and restored from it.

export const MEAN = -1; // instead of a head: the mean of the layer's heads
export const AUTO = -1; // instead of a threshold: one that leaves as many lines as can be distinguished

const START = {
  view: "",
  kind: "",
  layer: 0,
  head: 0,
  query: 0,
  key: 0,
  rollout: 0,
  colorMax: "auto",
  threshold: AUTO,
  onlyChosen: 1,
  firstToken: 1,
  looking: "at",
  merged: 1,
  sort: "layer",
  zoom: 1,
  size: 1,
  x: 0.5,
  y: 0.5,
  theme: "auto",
  shortcuts: 1,
};

const CHOICES = { colorMax: ["auto", "one", "largest"], theme: ["auto", "light", "dark"], looking: ["at", "by"], sort: ["layer", "kind"] };
const clampInt = (value, low, high) => Math.min(high, Math.max(low, Math.round(value)));
const clamp = (value, low, high) => Math.min(high, Math.max(low, value));

/** Whether queries and keys are different texts. */
export const isCross = ({ queries, keys }) => queries.length !== keys.length || queries.some((token, i) => token !== keys[i]);

/**
 * The state that a page opens with: cross-attention if there is any, and the head whose pattern is most visible, among
 * the labeled ones if there are any, at its peak.
 */
export function initialState(contents) {
  const attention = contents.attention.find(isCross) ?? contents.attention[0];
  const isLabeled = ({ layer, head }) =>
    contents.head_labels.some((label) => label.kind === attention.kind && label.layer === layer && label.head === head);
  const heads = attention.layers.flatMap((layer, row) =>
    attention.heads[row].map((head, column) => ({ layer, head, peak: attention.peaks?.[row]?.[column] ?? NO_PEAK })),
  );
  const labeled = heads.filter(isLabeled);
  const { layer, head, peak } = (labeled.length ? labeled : heads).reduce((best, one) =>
    one.peak[0] > best.peak[0] ? one : best,
  );
  const [, query, key] = peak;
  return nearestState(
    {
      ...START,
      view: contents.image ? "image" : "text",
      theme: contents.theme ?? "auto",
      kind: attention.kind,
      layer,
      head,
      query: contents.image ? 0 : query,
      key,
      rollout: contents.rollouts.length - 1, // gradient-weighted, if available
    },
    contents,
  );
}

const NO_PEAK = [0, Infinity, 0];

/** The kind of attention whose tokens are shown: that of the rollout, or one that has predictions. */
export function displayedKind({ view, kind, rollout }, { rollouts, predictions }) {
  if (view === "rollout") return rollouts[rollout]?.kind ?? kind;
  const available = view === "predictions" ? predictionKinds(predictions) : [];
  return available.length && !available.includes(kind) ? available[0] : kind;
}

export const predictionKinds = (predictions) => [...new Set(predictions.flatMap(({ kinds }) => kinds))];

/** The nearest state that exists on this page. */
export function nearestState(state, contents) {
  const attention = contents.attention.find((item) => item.kind === state.kind) ?? contents.attention[0];
  const { layers, heads } = attention;
  const rollout = clampInt(state.rollout, 0, Math.max(0, contents.rollouts.length - 1));
  const shown = displayedKind({ ...state, kind: attention.kind, rollout }, contents);
  const { queries, keys } = contents.attention.find(({ kind }) => kind === shown);
  const layer = layers.includes(state.layer) ? state.layer : nearest(layers, state.layer);
  const layerHeads = heads[layers.indexOf(layer)];
  const head = state.head === MEAN || layerHeads.includes(state.head) ? state.head : nearest(layerHeads, state.head);
  const clean = {
    ...state,
    kind: attention.kind,
    layer,
    head,
    query: clampInt(state.query, 0, queries.length - 1),
    key: clampInt(state.key, 0, keys.length - 1),
    rollout,
    threshold: state.threshold < 0 ? AUTO : clamp(state.threshold, 0, 1),
    zoom: clamp(state.zoom, 1, 64),
    size: clamp(state.size, 1, 16),
    x: clamp(state.x, 0, 1),
    y: clamp(state.y, 0, 1),
    onlyChosen: state.onlyChosen ? 1 : 0,
    firstToken: state.firstToken ? 1 : 0,
    merged: state.merged ? 1 : 0,
    shortcuts: state.shortcuts ? 1 : 0,
  };
  for (const [name, values] of Object.entries(CHOICES))
    if (!values.includes(clean[name])) clean[name] = values[0];
  return clean;
}

const nearest = (numbers, wanted) =>
  numbers.reduce((best, number) => (Math.abs(number - wanted) < Math.abs(best - wanted) ? number : best));

/** The hash of a URL: the fields that differ from the initial state. */
export function toHash(state, start) {
  const changed = Object.keys(START).filter((name) => state[name] !== start[name]);
  const text = (value) => (typeof value === "number" ? String(Number(value.toPrecision(6))) : value);
  return new URLSearchParams(changed.map((name) => [name, text(state[name])])).toString();
}

/** The state of a URL's hash; unknown fields and invalid numbers are ignored. */
export function fromHash(hash, start, contents) {
  const state = { ...start };
  for (const [name, value] of new URLSearchParams(hash.replace(/^#/, ""))) {
    if (!Object.hasOwn(START, name)) continue;
    if (typeof START[name] === "string") state[name] = value;
    else if (value.trim() !== "" && Number.isFinite(Number(value))) state[name] = Number(value);
  }
  return nearestState(state, contents);
}
