// Attention over an image: what the chosen token looks at, large, and the same for every head of the layer.

import { fitted, numeral, percent } from "./labels.js";
import { measured } from "./painter.js";
import { drawHeading, headingOf } from "./heading.js";
import { drawStrip, stripOf, tokenAt } from "./token_strip.js";
import { MEAN } from "./state.js";

function layout(scene, box) {
  const { picture, attention, state } = scene;
  const { width } = box;
  const heading = headingOf(box, words(scene));
  const others = stripOf(attention.queries.slice(0, picture.first), state.query, 12, heading.height + 8, width - 24);
  const top = heading.height + 16 + others.height;
  const ratio = picture.height / picture.width;
  const side = Math.floor(Math.max(120, Math.min(480, (width - 36) / 2)));
  const tiles = tilesOf(scene);
  const across = Math.floor((width - 14) / tiles.length) - 10; // all in one line, where they stay large enough
  const small = Math.min(150, across >= 84 ? across : Math.max(84, Math.floor((width - 14) / 5) - 10));
  const columns = Math.max(1, Math.floor((width - 14) / (small + 10)));
  const under = top + side * ratio + 58;
  const line = small * ratio + 38;
  const height = under + Math.ceil(tiles.length / columns) * line + 8;
  return { heading, others, top, side, small, ratio, columns, under, line, tiles, height };
}

/** What is drawn small: each head of the layer, their mean, and the ways through all layers. */
function tilesOf({ attention, state, maps, contents, flowRows }) {
  const heads = [...attention.heads[attention.layers.indexOf(state.layer)], MEAN];
  const ofHead = (head, place) => ({
    name: head === MEAN ? "mean" : `head ${head}`,
    row: (head === MEAN ? maps.mean() : maps.matrix(place)).row(state.query),
    chosen: head === state.head,
    hit: { layer: state.layer, head },
  });
  const ofFlow = ({ name }, flow) => ({
    name,
    row: flowRows[flow]?.row(state.query),
    hit: { view: "flow", flow },
  });
  return [...heads.map(ofHead), ...contents.flows.map(ofFlow)].filter(({ row }) => row);
}

function words({ picture, state, attention, matrix, headTitle }) {
  const row = matrix.row(state.query);
  const share = row.subarray(picture.first).reduce((sum, weight) => sum + (weight || 0), 0);
  const looking = `where “${attention.queries[state.query]}” looks`;
  const named = "patches are named row,column from the top left";
  return [headTitle, `${looking}: ${percent(share)} on the patches, the rest on other tokens; ${named}`];
}

export const imageView = {
  name: "image",
  title: "Image",
  about: "What the chosen patch, or the class token, looks at in the image.",
  available: (contents) => Boolean(contents.picture),
  height: (scene, box) => layout(scene, box).height,

  draw(painter, scene, box) {
    const { palette, picture, state } = scene;
    const place = layout(scene, box);
    const { top } = place;
    const row = scene.matrix.row(state.query);
    const fit = (text, size, weight) => fitted(text, box.width - 24, (t) => measured(t, size, weight));
    const tall = place.side * place.ratio;
    drawStrip(painter, palette, place.others, state.query);
    drawImage(painter, scene, 12, top, place.side, tall, null);
    drawImage(painter, scene, 24 + place.side, top, place.side, tall, row);
    drawPatch(painter, scene, 12, place, state.query - picture.first);
    drawPatch(painter, scene, 24 + place.side, place, state.key - picture.first);
    painter.text("the image: a click chooses what looks", 12, top + tall + 12, { size: 11, colour: palette.soft });
    drawLegend(painter, scene, 24 + place.side, top + tall + 12, place.side, largestOf(row, picture.first));
    const title = `Heads of layer ${state.layer}, and all layers together, each up to its own largest weight`;
    painter.text(fit(title, 12.5, 650), 12, place.under - 14, { size: 12.5, weight: 650, colour: palette.ink });
    drawTiles(painter, scene, box, place);
    drawHeading(painter, palette, box, place.heading);
  },

  hit(scene, box, x, y) {
    const { picture, state } = scene;
    const place = layout(scene, box);
    const tall = place.side * place.ratio;
    const other = tokenAt(place.others, x, y);
    if (other !== null) return { query: other, key: state.key };
    for (const [left, what] of [
      [12, "query"],
      [24 + place.side, "key"],
    ]) {
      const column = Math.floor(((x - left) / place.side) * picture.columns);
      const row = Math.floor(((y - place.top) / tall) * picture.rows);
      if (column >= 0 && column < picture.columns && row >= 0 && row < picture.rows) {
        const token = picture.first + row * picture.columns + column;
        return { query: state.query, key: state.key, [what]: token };
      }
    }
    const across = Math.floor((x - 12) / (place.small + 10));
    const number = Math.floor((y - place.under) / place.line) * place.columns + across;
    return y >= place.under && across < place.columns ? (place.tiles[number]?.hit ?? null) : null;
  },

  /** Arrows go from patch to patch; up from the first row is the class token. */
  move(app, across, down) {
    const { picture } = app.contents;
    const patch = app.state.query - picture.first;
    const to = patch < 0 ? (down > 0 || across > 0 ? 0 : patch) : patch + across + down * picture.columns;
    if (to < picture.rows * picture.columns)
      app.set({ query: Math.max(0, picture.first + to) < picture.first ? 0 : picture.first + to });
  },

  describe: (scene) => `${scene.headTitle}, over the image. ${scene.cellInWords()}`,
};

/** The image; with weights, darkened where nothing looks and tinted where something does. */
function drawImage(painter, scene, x, y, width, height, weights) {
  if (scene.image) painter.image(weights ? scene.greyImage : scene.image, x, y, width, height);
  if (weights) painter.image(overlay(scene, weights), x, y, width, height);
  painter.rect(x - 0.5, y - 0.5, width + 1, height + 1, null, { stroke: scene.palette.line });
}

const GLOW = [255, 176, 32]; // on grey, light enough for every eye
const OPAQUE = 225; // of 255, so that the image is always seen

function largestOf(weights, first) {
  let largest = 0;
  for (let i = first; i < weights.length; i++) if (weights[i] > largest) largest = weights[i];
  return largest;
}

function overlay(scene, weights) {
  const { rows, columns, first } = scene.picture;
  const canvas = new OffscreenCanvas(columns, rows);
  const context = canvas.getContext("2d");
  const image = context.createImageData(columns, rows);
  const largest = largestOf(weights, first) || 1;
  for (let patch = 0; patch < rows * columns; patch++) {
    const strength = (weights[first + patch] || 0) / largest;
    image.data.set([...GLOW, Math.round(OPAQUE * strength)], 4 * patch);
  }
  context.putImageData(image, 0, 0);
  return canvas;
}

/** From nothing, the grey image, to the largest weight on a patch. */
function drawLegend(painter, { palette }, x, y, width, largest) {
  const wide = Math.max(40, Math.min(160, width - 110));
  painter.text("0", x, y, { size: 11, colour: palette.soft });
  painter.rect(x + 12, y - 5, wide, 10, "#555555");
  for (let i = 0; i < 40; i++) {
    painter.rect(x + 12 + (i * wide) / 40, y - 5, wide / 40 + 0.5, 10, `rgb(${GLOW.join(" ")})`, {
      alpha: ((i + 0.5) / 40) * (OPAQUE / 255),
    });
  }
  painter.text(`${numeral(largest)} a patch`, x + wide + 18, y, { size: 11, colour: palette.soft });
}

function drawPatch(painter, scene, x, place, patch) {
  const { picture, palette } = scene;
  if (patch < 0) return;
  const width = place.side / picture.columns;
  const height = (place.side * place.ratio) / picture.rows;
  const [row, column] = [Math.floor(patch / picture.columns), patch % picture.columns];
  painter.rect(x + column * width, place.top + row * height, width, height, null, {
    stroke: "#ffffff",
    lineWidth: 4,
  });
  painter.rect(x + column * width, place.top + row * height, width, height, null, {
    stroke: palette.mark,
    lineWidth: 2,
  });
}

function drawTiles(painter, scene, box, place) {
  const { palette, picture } = scene;
  const [wide, high] = [place.small, place.small * place.ratio];
  place.tiles.forEach(({ name, row, chosen }, number) => {
    const x = 12 + (number % place.columns) * (wide + 10);
    const y = place.under + Math.floor(number / place.columns) * place.line;
    if (y + place.line < box.top || y > box.bottom) return;
    drawImage(painter, scene, x, y, wide, high, row);
    if (chosen) painter.rect(x - 1, y - 1, wide + 2, high + 2, null, { stroke: palette.mark, lineWidth: 3 });
    const fit = (text, weight) => fitted(text, wide, (t) => measured(t, 11, weight));
    const weight = chosen ? 700 : 400;
    painter.text(fit(name, weight), x, y + high + 11, { size: 11, colour: chosen ? palette.mark : palette.ink, weight });
    const most = `up to ${numeral(largestOf(row, picture.first))}`;
    painter.text(fit(most, 400), x, y + high + 24, { size: 10.5, colour: palette.soft });
  });
}

/** The image as the model was given it, and in dark grey for attention to glow on. */
export async function loadedImages({ source, width, height }) {
  const image = new Image();
  image.src = source;
  await image.decode();
  const [colour, grey] = [new OffscreenCanvas(width, height), new OffscreenCanvas(width, height)];
  colour.getContext("2d").drawImage(image, 0, 0);
  const context = grey.getContext("2d");
  context.drawImage(image, 0, 0);
  const pixels = context.getImageData(0, 0, width, height);
  for (let i = 0; i < pixels.data.length; i += 4) {
    const [red, green, blue] = pixels.data.subarray(i, i + 3);
    pixels.data.fill(0.55 * (0.3 * red + 0.59 * green + 0.11 * blue), i, i + 3);
  }
  context.putImageData(pixels, 0, 0);
  return [colour, grey];
}
