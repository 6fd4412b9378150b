// Going from one thing to the next, looking closer, and what follows the pointer.

import { isolated, numeral } from "./labels.js";
import { MEAN, kindsOfGuesses } from "./state.js";
import { nameInWords } from "./heads_view.js";

export function stepHead(app, by) {
  const { layers, heads } = app.attention;
  const here = [...heads[layers.indexOf(app.state.layer)], MEAN];
  const index = here.indexOf(app.state.head);
  app.set({ head: here[(index + by + here.length) % here.length] });
  app.small.reveal();
}

/** The mean of the heads, and back to the head it came from. */
export function turnMean(app) {
  const { head } = app.state;
  if (head !== MEAN) app.headBefore = head;
  return app.set({ head: head === MEAN ? (app.headBefore ?? 0) : MEAN });
}

export function stepLayer(app, by) {
  const { layers } = app.attention;
  const index = Math.min(layers.length - 1, Math.max(0, layers.indexOf(app.state.layer) + by));
  app.set({ layer: layers[index] });
  app.small.reveal();
}

/** Kinds of attention that can be chosen for what is shown. */
export const kindsOf = ({ contents, state }) =>
  state.view === "guesses" ? kindsOfGuesses(contents.guesses) : contents.attention.map(({ kind }) => kind);

export function stepKind(app, by) {
  const kinds = kindsOf(app);
  app.set({ kind: kinds[(kinds.indexOf(app.kind) + by) % kinds.length] });
}

export function stepFlow(app) {
  const { state, contents } = app;
  const count = contents.flows.length;
  if (count) app.set({ view: "flow", flow: (state.flow + (state.view === "flow" ? 1 : 0)) % count });
}

/** Moves a zoomed map so that the chosen cell is in sight. */
export function followCell(app) {
  const { state, view } = app;
  if (view.layout && state.zoom > 1) {
    if (!app.scene().ready) return;
    const scene = view.of(app.scene()); // in which a row may be a head
    const matrix = view.matrix(scene);
    const { plot } = view.layout(app.scene(), app.box());
    const { query, key } = scene.state;
    const { x, y, width, height } = view.cellRect(app.scene(), app.box(), query, key);
    const inside =
      x >= plot.x && y >= plot.y && x + width <= plot.x + plot.width && y + height <= plot.y + plot.height;
    const [across, down] = [(key + 0.5) / matrix.keys, (query + 0.5) / matrix.queries];
    if (!inside) app.state = { ...state, x: across, y: down };
  }
  app.surface.reveal();
}

/** Larger or smaller: a map around the chosen cell, or all small maps. */
export function closer(app, factor) {
  const name = app.view.zoomed ?? (app.view.layout && "zoom");
  if (!name) return undefined;
  return app.set({ [name]: app.state[name] * factor }, { follow: true });
}

/** All of it in sight. */
export function fit(app) {
  if (app.view.zoomed) return app.set({ [app.view.zoomed]: 1 });
  return app.view.layout && app.set({ zoom: 1, x: 0.5, y: 0.5 });
}

/** Moves what is zoomed; false where nothing is. */
export function pan(app, dx, dy) {
  const { state, view } = app;
  if (!view.layout || state.zoom <= 1) return false;
  if (!app.scene().ready) return true; // not unpacked yet
  const matrix = view.matrix(view.of(app.scene()));
  const { cell } = view.layout(app.scene(), app.box());
  app.set({ x: state.x - dx / (cell.width * matrix.keys), y: state.y - dy / (cell.height * matrix.queries) });
  return true;
}

/** Closer or further, with what is under the pointer staying there. */
export function zoom(app, factor, point) {
  const { state, view } = app;
  if (!view.layout) return;
  if (!app.scene().ready) return;
  const matrix = view.matrix(view.of(app.scene()));
  const { cell, plot } = view.layout(app.scene(), app.box());
  const closer = Math.min(64, Math.max(1, state.zoom * factor));
  const centre = (at, start, shift, length, cell, count) =>
    (at - start - shift) / (cell * count) - (at - start - length / 2) / (((cell * closer) / state.zoom) * count);
  app.set({
    zoom: closer,
    x: centre(point.x, plot.x, plot.dx, plot.width, cell.width, matrix.keys),
    y: centre(point.y, plot.y, plot.dy, plot.height, cell.height, matrix.queries),
  });
}

/** Says beside the pointer what is under it, and lets a view that shows it do so. */
export function hover(app, hit, event, view = app.view) {
  const { hint, hovered } = app;
  app.hovered = hit;
  if (view.follows && (hit?.[hit.side] !== hovered?.[hovered?.side] || hit?.side !== hovered?.side))
    app.surface.draw();
  const words = hit && app.scene().shownMatrix ? wordsOf(app, hit) : "";
  hint.hidden = !words;
  if (!words) return;
  hint.textContent = words;
  const { width, height } = hint.getBoundingClientRect();
  hint.style.left = `${Math.max(4, Math.min(innerWidth - width - 8, event.clientX + 14))}px`;
  hint.style.top = `${event.clientY + height + 24 > innerHeight ? event.clientY - height - 12 : event.clientY + 16}px`;
}

function wordsOf(app, { layer, head, query, key }) {
  const { attention, namesOf, maps, shownMatrix } = app.scene();
  const headName = (which) => (which === MEAN ? "mean" : `head ${which}`);
  if (query === undefined && layer === undefined) return "";
  if (query === undefined)
    return [`layer ${layer}, ${headName(head)}`, ...namesOf(layer, head).map(nameInWords)].join(": ");
  const place = attention.heads[attention.layers.indexOf(app.state.layer)].indexOf(head);
  const matrix = head === undefined ? shownMatrix : head === MEAN ? maps.mean() : maps.matrix(place);
  const weight = matrix.at(query, key);
  const cell = `${isolated(attention.queries[query])} (${query}) → ${isolated(attention.keys[key])} (${key})`;
  const of = head === undefined ? "" : `${headName(head)}: `;
  return `${of}${cell}: ${weight === weight ? numeral(weight) : "masked"}`;
}
