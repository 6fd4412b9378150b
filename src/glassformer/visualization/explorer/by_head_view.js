// What each head of a layer does with the chosen token: a row a head, to compare them.

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
  heads.forEach((head, place) => {
    const matrix = head === MEAN ? maps.mean() : maps.matrix(place);
    weights.set(matrix.row(state.query), place * attention.keys.length);
  });
  return new Matrix(heads.length, attention.keys.length, weights);
}

const nameOf = (scene, head) =>
  head === MEAN
    ? "mean"
    : [`head ${head}`, ...scene.namesOf(scene.state.layer, head).map(({ name }) => name)].join(" · ");

/** The scene with heads instead of queries. */
function headsAsRows(scene) {
  const heads = columnsOf(scene);
  return {
    ...scene,
    matrix: rowsOf(scene),
    attention: { ...scene.attention, queries: heads.map((head) => nameOf(scene, head)) },
    state: { ...scene.state, query: heads.indexOf(scene.state.head) },
    verbs: { ...scene.verbs, down: "this head" },
    token: scene.attention.queries[scene.state.query],
    plain: true,
  };
}

export const byHeadView = makeMapView({
  name: "byhead",
  title: "By head",
  about: "What every head of the layer does with the chosen token: a row a head.",
  available: () => true,
  of: headsAsRows,
  matrix: (scene) => scene.matrix,
  words: ({ token, state, verbs, contents, kind }) => [
    `${contents.attention.length > 1 ? `${kind}, layer` : "Layer"} ${state.layer}: what “${token}” ${verbs.active}, by head`,
    contents.names.length ? "a row a head, with its names" : "a row a head, and their mean",
  ],
  chosen: (scene, { query, key }) => ({ query: scene.state.query, key, head: columnsOf(scene)[query] }),

  /** Along the row from key to key, and from head to head. */
  move(app, across, down) {
    const heads = columnsOf(app.scene());
    const place = Math.min(heads.length - 1, Math.max(0, heads.indexOf(app.state.head) + down));
    app.set({ key: app.state.key + across, head: heads[place] }, { follow: true });
  },
});
