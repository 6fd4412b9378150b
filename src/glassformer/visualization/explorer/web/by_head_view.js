// Comparison of all heads of a layer: one row per head, with its weights of the chosen query.

import { Matrix } from "./data.js";
import { makeMapView } from "./map_view.js";
import { MEAN } from "./state.js";

const columnsOf = ({ attention, state }) => [
  ...attention.heads[attention.layers.indexOf(state.layer)],
  MEAN,
];

function rowsOf({ attention, maps, state }) {
  const heads = columnsOf({ attention, state });
  const weights = new Float32Array(heads.length * attention.keys.length);
  heads.forEach((head, index) => {
    const matrix = head === MEAN ? maps.mean() : maps.matrix(index);
    weights.set(matrix.row(state.query), index * attention.keys.length);
  });
  return new Matrix(heads.length, attention.keys.length, weights);
}

const nameOf = (scene, head) =>
  head === MEAN
    ? "mean"
    : [`head ${head}`, ...scene.headLabelsOf(scene.state.layer, head).map(({ name }) => name)].join(" · ");

/** The scene with heads in place of queries. */
function headsAsRows(scene) {
  const heads = columnsOf(scene);
  return {
    ...scene,
    matrix: rowsOf(scene),
    attention: { ...scene.attention, queries: heads.map((head) => nameOf(scene, head)) },
    state: { ...scene.state, query: heads.indexOf(scene.state.head) },
    words: { ...scene.words, queryAxis: "head" },
    token: scene.attention.queries[scene.state.query],
    plain: true,
  };
}

export const byHeadView = makeMapView({
  name: "byhead",
  panel: ["cell", "row", "head"],
  intro: "Each row is one head of this layer, and shows where the chosen token looks in it. Click a row to choose its head.",
  title: "By head",
  description: "What the chosen token attends to in every head of the layer: one row per head.",
  available: () => true,
  transform: headsAsRows,
  matrix: (scene) => scene.matrix,
  titleAndNote: ({ token, state, words, contents, kind }) => [
    `${contents.attention.length > 1 ? `${kind}, layer` : "Layer"} ${state.layer}: what “${token}” ${words.active}, by head`,
    contents.head_labels.length ? "one row per head, with its labels" : "one row per head, and their mean",
  ],
  select: (scene, { query, key }) => ({ query: scene.state.query, key, head: columnsOf(scene)[query] }),

  /** Arrows move between keys and between heads. */
  move(app, across, down) {
    const heads = columnsOf(app.scene());
    const index = Math.min(heads.length - 1, Math.max(0, heads.indexOf(app.state.head) + down));
    app.set({ key: app.state.key + across, head: heads[index] }, { follow: true });
  },
});
