// Navigation: steps between heads, layers and kinds of attention, zoom, pan, and the hint at the pointer.

import { formatNumber, isolate } from "./text.js";
import { MEAN, predictionKinds } from "./state.js";
import { describeHeadLabel, previewOf } from "./heads_view.js";

export function stepHead(app, by) {
  const { layers, heads } = app.attention;
  const choices = [...heads[layers.indexOf(app.state.layer)], MEAN];
  const index = choices.indexOf(app.state.head);
  app.set({ head: choices[(index + by + choices.length) % choices.length] });
  app.overviewCanvas.reveal();
}

/** Switch to the mean of the heads, and back to the head before. */
export function toggleMean(app) {
  const { head } = app.state;
  if (head !== MEAN) app.previousHead = head;
  return app.set({ head: head === MEAN ? (app.previousHead ?? 0) : MEAN });
}

export function stepLayer(app, by) {
  const { layers } = app.attention;
  const index = Math.min(layers.length - 1, Math.max(0, layers.indexOf(app.state.layer) + by));
  app.set({ layer: layers[index] });
  app.overviewCanvas.reveal();
}

/** The kinds of attention that the current view can show. */
export const availableKinds = ({ contents, state }) =>
  state.view === "predictions" ? predictionKinds(contents.predictions) : contents.attention.map(({ kind }) => kind);

export function stepKind(app, by) {
  const kinds = availableKinds(app);
  app.set({ kind: kinds[(kinds.indexOf(app.kind) + by) % kinds.length] });
}

export function stepRollout(app) {
  const { state, contents } = app;
  const count = contents.rollouts.length;
  if (count) app.set({ view: "rollout", rollout: (state.rollout + (state.view === "rollout" ? 1 : 0)) % count });
}

/** Move a zoomed map so that the chosen cell is visible. */
export function followCell(app) {
  const { state, view } = app;
  if (view.layout && state.zoom > 1) {
    if (!app.scene().ready) return;
    const scene = view.transform(app.scene());
    const matrix = view.matrix(scene);
    const { plot } = view.layout(app.scene(), app.box());
    const { query, key } = scene.state;
    const { x, y, width, height } = view.cellRect(app.scene(), app.box(), query, key);
    const inside =
      x >= plot.x && y >= plot.y && x + width <= plot.x + plot.width && y + height <= plot.y + plot.height;
    const [across, down] = [(key + 0.5) / matrix.keys, (query + 0.5) / matrix.queries];
    if (!inside) app.state = { ...state, x: across, y: down };
  }
  app.mainCanvas.reveal();
}

/** Zoom a map around the chosen cell, or change the size of the small maps. */
export function zoomBy(app, factor) {
  const name = app.view.zoomKey ?? (app.view.layout && "zoom");
  if (!name) return undefined;
  return app.set({ [name]: app.state[name] * factor }, { follow: true });
}

/** Reset the zoom. */
export function resetZoom(app) {
  if (app.view.zoomKey) return app.set({ [app.view.zoomKey]: 1 });
  return app.view.layout && app.set({ zoom: 1, x: 0.5, y: 0.5 });
}

/** Move a zoomed map; returns false if nothing is zoomed. */
export function pan(app, dx, dy) {
  const { state, view } = app;
  if (!view.layout || state.zoom <= 1) return false;
  if (!app.scene().ready) return true; // not loaded yet
  const matrix = view.matrix(view.transform(app.scene()));
  const { cell } = view.layout(app.scene(), app.box());
  app.set({ x: state.x - dx / (cell.width * matrix.keys), y: state.y - dy / (cell.height * matrix.queries) });
  return true;
}

/** Zoom so that the cell under the pointer stays there. */
export function zoom(app, factor, point) {
  const { state, view } = app;
  if (!view.layout) return;
  if (!app.scene().ready) return;
  const matrix = view.matrix(view.transform(app.scene()));
  const { cell, plot } = view.layout(app.scene(), app.box());
  const newZoom = Math.min(64, Math.max(1, state.zoom * factor));
  const center = (at, start, shift, length, cell, count) =>
    (at - start - shift) / (cell * count) - (at - start - length / 2) / (((cell * newZoom) / state.zoom) * count);
  app.set({
    zoom: newZoom,
    x: center(point.x, plot.x, plot.dx, plot.width, cell.width, matrix.keys),
    y: center(point.y, plot.y, plot.dy, plot.height, cell.height, matrix.queries),
  });
}

/** Show what is under the pointer in the hint beside it, and in views that highlight it. */
export function hover(app, hit, event, view = app.view) {
  const { hint, hovered } = app;
  app.hovered = hit;
  if (view.highlightsHover && (hit?.[hit.side] !== hovered?.[hovered?.side] || hit?.side !== hovered?.side))
    app.mainCanvas.draw();
  const scene = app.scene();
  const text = hit && scene.shownMatrix ? (view.hint?.(scene, hit) ?? hoverText(app, hit)) : "";
  hint.hidden = !text;
  if (!text) return;
  const preview = hit.layer === undefined ? null : previewOf(scene, hit);
  hint.replaceChildren(...(preview ? [preview] : []), text);
  const { width, height } = hint.getBoundingClientRect();
  hint.style.left = `${Math.max(4, Math.min(innerWidth - width - 8, event.clientX + 14))}px`;
  hint.style.top = `${event.clientY + height + 24 > innerHeight ? event.clientY - height - 12 : event.clientY + 16}px`;
}

function hoverText(app, { layer, head, query, key }) {
  const { attention, headLabelsOf, maps, shownMatrix } = app.scene();
  const headName = (which) => (which === MEAN ? "mean" : `head ${which}`);
  if (query === undefined && layer === undefined) return "";
  if (query === undefined)
    return [`layer ${layer}, ${headName(head)}`, ...headLabelsOf(layer, head).map(describeHeadLabel)].join(": ");
  const headIndex = attention.heads[attention.layers.indexOf(app.state.layer)].indexOf(head);
  const matrix = head === undefined ? shownMatrix : head === MEAN ? maps.mean() : maps.matrix(headIndex);
  const weight = matrix.at(query, key);
  const cell = `${isolate(attention.queries[query])} (${query}) → ${isolate(attention.keys[key])} (${key})`;
  const prefix = head === undefined ? "" : `${headName(head)}: `;
  return `${prefix}${cell}: ${weight === weight ? formatNumber(weight) : "masked"}`;
}
