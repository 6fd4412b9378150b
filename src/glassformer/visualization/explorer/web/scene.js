// The input of a view's drawing: the state, and the data that it refers to.

import { formatNumber, isolate } from "./text.js";
import { MEAN } from "./state.js";
import { describeHeadLabel } from "./heads_view.js";

const ATTENTION = { active: "looks at", passive: "is looked at by", keyAxis: "key →" };
const ROLLOUT = {
  active: "takes from",
  passive: "gives to",
  queryAxis: "output",
  keyAxis: "input →",
};

/** Build the scene of the current state; parts that are not loaded, or not in the file, are undefined. */
export function buildScene(app, compact = false) {
  const { contents, state, attention, palette, store, kind } = app;
  const layer = attention.layers.indexOf(state.layer);
  const headIndex = attention.heads[layer].indexOf(state.head); // -1 for the mean
  const maps = store.loaded(attention.maps[layer]);
  const matrix = maps && (state.head === MEAN ? maps.mean() : maps.matrix(headIndex));
  const rollout = contents.rollouts[state.rollout];
  const rolloutMatrix = rollout && store.loaded(rollout.map)?.matrix(0);
  const headLabels = contents.head_labels.filter((label) => label.kind === kind);
  const headLabelsOf = (number, head) =>
    headLabels.filter((label) => label.layer === number && label.head === head);
  const decomposition = contents.decompositions.find((item) => item.kind === kind);
  const scores = decomposition && store.loaded(decomposition.layers[layer]);
  const scoresOf = (query) =>
    scores && state.head !== MEAN ? scores.row(headIndex * attention.queries.length + query) : [];
  const vectors = contents.vectors.find((item) => item.kind === kind);
  const shownMatrix = state.view === "rollout" ? rolloutMatrix : matrix;
  const words = state.view === "rollout" ? ROLLOUT : { ...ATTENTION, queryAxis: attention.query_axis };
  return {
    ...{ contents, state, kind, attention, palette, compact, maps, matrix, rollout, rolloutMatrix, headLabels, headLabelsOf },
    ...{ decomposition, scoresOf, words, vectors },
    layerVectors: vectors && store.loaded(vectors.layers[layer]),
    shownMatrix,
    noVectors: app.host.noVectors,
    isOff: (number, head) => app.host.isOff(kind, number, head),
    ready: compact || Boolean(shownMatrix),
    thumbnails: attention.thumbnails.map((packed) => store.loaded(packed)),
    rolloutRows: contents.rollouts.map(({ map }) => store.loaded(map)?.matrix(0)),
    parts: scoresOf(state.query).find(({ key }) => key === state.key)?.parts,
    predictions: predictionsFor(app).filter(({ values }) => values),
    image: contents.image,
    imageCanvas: app.imageCanvas,
    grayCanvas: app.grayCanvas,
    hovered: app.hovered,
    overviewHeight: () => app.stage?.clientHeight ?? 0, // a function, since reading it forces a layout of the page
    ...headText(app, headLabelsOf(state.layer, state.head), app.host.isOff(kind, state.layer, state.head)),
    describeCell: () => describeCell(app, shownMatrix, words),
  };
}

/** The predictions at the tokens of the kind of attention that is shown. */
export const predictionsFor = ({ contents, store, kind }) =>
  contents.predictions
    .filter(({ kinds }) => kinds.includes(kind))
    .map((predictions) => ({
      predictions,
      values: store.loaded(predictions),
      targets: predictions.targets && store.loaded(predictions.targets),
    }));

function headText({ state, contents, attention, kind }, labels, off) {
  const which = contents.attention.length > 1 ? `${kind}, ` : "";
  const head = state.head === MEAN ? "mean of all heads" : `head ${state.head}`;
  const title = `${which}layer ${state.layer}, ${head}`;
  const labeled = labels.length ? `: ${labels.map(({ name }) => name).join(", ")}` : "";
  return {
    headTitle: `${title[0].toUpperCase()}${title.slice(1)}${labeled}${off ? " (turned off)" : ""}`,
    headNote: [attention.title, ...labels.map(describeHeadLabel)].join("; "),
  };
}

function describeCell({ attention, state }, matrix, words) {
  const weight = matrix.at(state.query, state.key);
  const value = weight === weight ? formatNumber(weight) : "masked";
  const name = (labels, index) => `${isolate(labels[index])} (${index})`;
  return `${name(attention.queries, state.query)} ${words.active} ${name(attention.keys, state.key)}: ${value}`;
}
