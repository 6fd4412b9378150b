// The heads of the layer side by side, each with the weights of the shown word: as small texts, or as strips.

import { countOf, isolate, truncate } from "./text.js";
import { Matrix } from "./data.js";
import { shadeOf, textColorOn, toBitmap } from "./colors.js";
import { textWidth } from "./painter.js";
import { MEAN } from "./state.js";
import { layoutWords } from "./text_layout.js";

const MIN_WIDTH = 250;
const MAX_COLUMNS = 4;
const GAP = 14;
const LABEL = 17; // pixels for the label above
const STRIP = 16;
const TITLE = 26;
const MAX_WORDS = 80; // of a text that is written in small letters; longer ones are strips of color
const SIZE = 11; // of these letters
const LINE = 16;

const headsOf = ({ attention, state }) => [...attention.heads[attention.layers.indexOf(state.layer)], MEAN];

/** words: those that the shown word looks at, or that look at it. */
export function layoutStrips(scene, { x, y, width }, words) {
  const heads = headsOf(scene);
  const columns = Math.max(1, Math.min(MAX_COLUMNS, Math.floor((width + GAP) / (MIN_WIDTH + GAP))));
  const cell = (width - GAP * (columns - 1)) / columns;
  const tokens = !scene.state.merged;
  const text = words.length <= MAX_WORDS && layoutWords(words, { x: 4, y: 2, width: cell - 8, size: SIZE, line: LINE, tokens });
  const height = text ? text.height + 4 : STRIP;
  const row = LABEL + height + GAP;
  const strips = heads.map((head, index) => ({
    head,
    x: x + (index % columns) * (cell + GAP),
    y: y + TITLE + Math.floor(index / columns) * row,
    width: cell,
    height,
  }));
  return { x, y, width, strips, text, height: TITLE + Math.ceil(heads.length / columns) * row };
}

/** weightsIn(matrix): { weights, largest } of the shown word in a head. */
export function drawStrips(painter, scene, box, { x, y, width, strips, text }, { word, side }, weightsIn) {
  const { palette, state, maps, headLabelsOf, words } = scene;
  const verb = side === "query" ? words.active : words.passive;
  const title = `The ${countOf(strips.length - 1, "head")} of layer ${state.layer}: what “${word.text}” ${verb} in each. Click one.`;
  const fit = (line, space, size, weight = 400) => truncate(line, space, (t) => textWidth(t, size, weight));
  painter.text(fit(title, width, 12.5, 650), x, y + 8, { size: 12.5, weight: 650, color: palette.ink });
  strips.forEach((strip, index) => {
    if (strip.y + LABEL + strip.height < box.top || strip.y > box.bottom) return;
    const chosen = strip.head === state.head;
    const found = weightsIn(strip.head === MEAN ? maps.mean() : maps.matrix(index));
    const name = strip.head === MEAN ? "mean of the heads" : `head ${strip.head}`;
    const off = scene.isOff(state.layer, strip.head) ? ["turned off"] : [];
    const label = [name, ...headLabelsOf(state.layer, strip.head).map((one) => one.name), ...off].join(" · ");
    const style = { size: 11.5, weight: chosen ? 700 : 400 };
    painter.text(fit(label, strip.width, style.size, style.weight), strip.x, strip.y + 8, {
      ...style,
      color: chosen ? palette.mark : palette.ink,
    });
    const area = { ...strip, y: strip.y + LABEL };
    if (text) drawSmallText(painter, palette, area, text, found);
    else drawStrip(painter, palette, area, found);
    const edge = chosen ? { stroke: palette.mark, lineWidth: 2 } : { stroke: palette.line };
    painter.rect(strip.x - 0.5, area.y - 0.5, strip.width + 1, strip.height + 1, null, edge);
  });
}

function drawSmallText(painter, palette, { x, y }, { boxes }, { weights, largest }) {
  for (const word of boxes) {
    const place = shadeOf(weights[word.index], largest);
    if (place) painter.rect(x + word.x, y + word.y + 1, word.width, LINE - 2, palette.css[place], { radius: 2 });
    const color = place ? textColorOn(palette, place) : palette.soft;
    painter.text(isolate(word.text), x + word.x + 2, y + word.y + LINE / 2, { size: SIZE, color });
  }
}

/** A cell for each word, from the first one to the last. */
function drawStrip(painter, palette, { x, y, width, height }, { weights, largest }) {
  const bitmap = toBitmap(new Matrix(1, weights.length, weights), largest || 1, palette, width * painter.ratio, 1);
  if (weights.some((weight) => weight !== weight)) painter.rect(x, y, width, height, palette.masked);
  painter.image(bitmap, x, y, width, height);
}

/** The head whose strip is at a point, or null. */
export function stripAt({ state }, { strips }, x, y) {
  const found = strips.find(
    (strip) => x >= strip.x && x < strip.x + strip.width && y >= strip.y && y < strip.y + LABEL + strip.height,
  );
  return found ? { layer: state.layer, head: found.head } : null;
}
