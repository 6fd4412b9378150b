// The heads of the layer as strips: one for each head, with the weights of the shown word.

import { countOf, truncate } from "./text.js";
import { Matrix } from "./data.js";
import { toBitmap } from "./colors.js";
import { textWidth } from "./painter.js";
import { MEAN } from "./state.js";

const MIN_WIDTH = 250;
const MAX_COLUMNS = 4;
const GAP = 14;
const ROW = 40; // a label, and the strip below it
const STRIP = 16;
const TITLE = 26;

const headsOf = ({ attention, state }) => [...attention.heads[attention.layers.indexOf(state.layer)], MEAN];

export function layoutStrips(scene, { x, y, width }) {
  const heads = headsOf(scene);
  const columns = Math.max(1, Math.min(MAX_COLUMNS, Math.floor((width + GAP) / (MIN_WIDTH + GAP))));
  const cell = (width - GAP * (columns - 1)) / columns;
  const rows = Math.ceil(heads.length / columns);
  const strips = heads.map((head, index) => ({
    head,
    x: x + (index % columns) * (cell + GAP),
    y: y + TITLE + Math.floor(index / columns) * ROW,
    width: cell,
  }));
  return { x, y, width, strips, height: TITLE + rows * ROW };
}

/** weightsIn(matrix): { weights, largest } of the shown word in a head. */
export function drawStrips(painter, scene, { x, y, width, strips }, { word, side }, weightsIn) {
  const { palette, state, maps, headLabelsOf, words } = scene;
  const verb = side === "query" ? words.active : words.passive;
  const title = `The ${countOf(strips.length - 1, "head")} of layer ${state.layer}: what “${word.text}” ${verb}, from the first word to the last`;
  const fit = (text, space, size, weight = 400) => truncate(text, space, (t) => textWidth(t, size, weight));
  painter.text(fit(title, width, 12.5, 650), x, y + 8, { size: 12.5, weight: 650, color: palette.ink });
  strips.forEach((strip, index) => {
    const chosen = strip.head === state.head;
    const { weights, largest } = weightsIn(strip.head === MEAN ? maps.mean() : maps.matrix(index));
    const name = strip.head === MEAN ? "mean of the heads" : `head ${strip.head}`;
    const label = [name, ...headLabelsOf(state.layer, strip.head).map((found) => found.name)].join(" · ");
    const style = { size: 11.5, weight: chosen ? 700 : 400 };
    painter.text(fit(label, strip.width, style.size, style.weight), strip.x, strip.y + 8, {
      ...style,
      color: chosen ? palette.mark : palette.ink,
    });
    const [top, height] = [strip.y + 16, STRIP];
    const bitmap = toBitmap(new Matrix(1, weights.length, weights), largest || 1, palette, strip.width * painter.ratio, 1);
    if (weights.some((weight) => weight !== weight)) painter.rect(strip.x, top, strip.width, height, palette.masked);
    painter.image(bitmap, strip.x, top, strip.width, height);
    const edge = chosen ? { stroke: palette.mark, lineWidth: 2 } : { stroke: palette.line };
    painter.rect(strip.x - 0.5, top - 0.5, strip.width + 1, height + 1, null, edge);
  });
}

/** The head whose strip is at a point, or null. */
export function stripAt({ state }, { strips }, x, y) {
  const found = strips.find(
    (strip) => x >= strip.x && x < strip.x + strip.width && y >= strip.y && y < strip.y + ROW - 4,
  );
  return found ? { layer: state.layer, head: found.head } : null;
}
