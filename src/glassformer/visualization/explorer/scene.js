// Everything that a view is given to draw, gathered from the state and from what is loaded.

import { isolated, numeral } from "./labels.js";
import { MEAN } from "./state.js";
import { nameInWords } from "./heads_view.js";

const LOOKS = { active: "looks at", passive: "is looked at by", across: "at this →" };
const TAKES = {
  active: "takes from",
  passive: "gives to",
  down: "this output takes",
  across: "from this input →",
};

/** The scene of what is shown; undefined parts are not loaded, or not in the file. */
export function sceneOf(app, compact = false) {
  const { contents, state, attention, palette, store, kind } = app;
  const layer = attention.layers.indexOf(state.layer);
  const place = attention.heads[layer].indexOf(state.head); // -1 of the mean
  const maps = store.known(attention.maps[layer]);
  const matrix = maps && (state.head === MEAN ? maps.mean() : maps.matrix(place));
  const flow = contents.flows[state.flow];
  const flowMatrix = flow && store.known(flow.map)?.matrix(0);
  const names = contents.names.filter((name) => name.kind === kind);
  const namesOf = (number, head) => names.filter((name) => name.layer === number && name.head === head);
  const decomposition = contents.decompositions.find((item) => item.kind === kind);
  const scores = decomposition && store.known(decomposition.layers[layer]);
  const scoresOf = (query) =>
    scores && state.head !== MEAN ? scores.row(place * attention.queries.length + query) : [];
  const shownMatrix = state.view === "flow" ? flowMatrix : matrix;
  const verbs = state.view === "flow" ? TAKES : { ...LOOKS, down: `this ${attention.row}` };
  return {
    ...{ contents, state, kind, attention, palette, compact, maps, matrix, flow, flowMatrix, names, namesOf },
    ...{ decomposition, scoresOf, verbs },
    shownMatrix,
    ready: compact || Boolean(shownMatrix),
    thumbnails: attention.thumbnails.map((packed) => store.known(packed)),
    flowRows: contents.flows.map(({ map }) => store.known(map)?.matrix(0)),
    parts: scoresOf(state.query).find(({ key }) => key === state.key)?.parts,
    guesses: guessesOf(app).filter(({ values }) => values),
    picture: contents.picture,
    image: app.image,
    greyImage: app.greyImage,
    hovered: app.hovered,
    roomHeight: () => app.stage?.clientHeight ?? 0, // asked for only where it is needed: it lays the page out
    ...headInWords(app, namesOf(state.layer, state.head)),
    cellInWords: () => cellInWords(app, shownMatrix, verbs),
  };
}

/** What is guessed at the tokens of the attention shown. */
export const guessesOf = ({ contents, store, kind }) =>
  contents.guesses
    .filter(({ kinds }) => kinds.includes(kind))
    .map((guesses) => ({
      guesses,
      values: store.known(guesses),
      truths: guesses.truth && store.known(guesses.truth),
    }));

function headInWords({ state, contents, attention, kind }, names) {
  const which = contents.attention.length > 1 ? `${kind}, ` : "";
  const head = state.head === MEAN ? "mean of all heads" : `head ${state.head}`;
  const place = `${which}layer ${state.layer}, ${head}`;
  const named = names.length ? `: ${names.map(({ name }) => name).join(", ")}` : "";
  return {
    headTitle: `${place[0].toUpperCase()}${place.slice(1)}${named}`,
    headNote: [attention.title, ...names.map(nameInWords)].join("; "),
  };
}

function cellInWords({ attention, state }, matrix, verbs) {
  const weight = matrix.at(state.query, state.key);
  const value = weight === weight ? numeral(weight) : "masked";
  const name = (labels, index) => `${isolated(labels[index])} (${index})`;
  return `${name(attention.queries, state.query)} ${verbs.active} ${name(attention.keys, state.key)}: ${value}`;
}
