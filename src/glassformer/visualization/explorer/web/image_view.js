// Attention over an image: the weights of the chosen query, large, and small for every head of the layer.

import { formatNumber, formatPercent, truncate } from "./text.js";
import { textWidth } from "./painter.js";
import { drawHeading, layoutHeading } from "./heading.js";
import { drawStrip, layoutStrip, tokenAt } from "./token_strip.js";
import { MEAN } from "./state.js";

function layout(scene, box) {
  const { image, attention, state } = scene;
  const { width } = box;
  const heading = layoutHeading(box, titleAndNote(scene));
  const others = layoutStrip(attention.queries.slice(0, image.first_patch), state.query, 12, heading.height + 8, width - 24);
  const top = heading.height + 16 + others.height;
  const ratio = image.height / image.width;
  const side = Math.floor(Math.max(120, Math.min(480, (width - 36) / 2)));
  const tiles = tilesOf(scene);
  const across = Math.floor((width - 14) / tiles.length) - 10; // the width of a tile if all are in one row
  const tile = Math.min(150, across >= 84 ? across : Math.max(84, Math.floor((width - 14) / 5) - 10));
  const columns = Math.max(1, Math.floor((width - 14) / (tile + 10)));
  const tilesTop = top + side * ratio + 58;
  const line = tile * ratio + 38;
  const height = tilesTop + Math.ceil(tiles.length / columns) * line + 8;
  return { heading, others, top, side, tile, ratio, columns, tilesTop, line, tiles, height };
}

/** The small images: each head of the layer, their mean, and the rollouts. */
function tilesOf({ attention, state, maps, contents, rolloutRows }) {
  const heads = [...attention.heads[attention.layers.indexOf(state.layer)], MEAN];
  const ofHead = (head, index) => ({
    name: head === MEAN ? "mean" : `head ${head}`,
    row: (head === MEAN ? maps.mean() : maps.matrix(index)).row(state.query),
    chosen: head === state.head,
    hit: { layer: state.layer, head },
  });
  const ofRollout = ({ name }, rollout) => ({
    name,
    row: rolloutRows[rollout]?.row(state.query),
    hit: { view: "rollout", rollout },
  });
  return [...heads.map(ofHead), ...contents.rollouts.map(ofRollout)].filter(({ row }) => row);
}

function titleAndNote({ image, state, attention, matrix, headTitle }) {
  const row = matrix.row(state.query);
  const share = row.subarray(image.first_patch).reduce((sum, weight) => sum + (weight || 0), 0);
  const what = `where “${attention.queries[state.query]}” looks`;
  const named = "patches are named row,column from the top left";
  return [headTitle, `${what}: ${formatPercent(share)} on the patches, the rest on other tokens; ${named}`];
}

export const imageView = {
  name: "image",
  panel: ["cell", "row", "predictions"],
  intro: "Click a patch in the left picture: the right one shows where it looks, and the small ones where it looks in each head.",
  title: "Image",
  description: "What the chosen patch, or the class token, attends to in the image.",
  available: (contents) => Boolean(contents.image),
  height: (scene, box) => layout(scene, box).height,

  draw(painter, scene, box) {
    const { palette, image, state } = scene;
    const geometry = layout(scene, box);
    const { top } = geometry;
    const row = scene.matrix.row(state.query);
    const fit = (text, size, weight) => truncate(text, box.width - 24, (t) => textWidth(t, size, weight));
    const imageHeight = geometry.side * geometry.ratio;
    drawStrip(painter, palette, geometry.others, state.query);
    drawImage(painter, scene, 12, top, geometry.side, imageHeight, null);
    drawImage(painter, scene, 24 + geometry.side, top, geometry.side, imageHeight, row);
    drawPatch(painter, scene, 12, geometry, state.query - image.first_patch);
    drawPatch(painter, scene, 24 + geometry.side, geometry, state.key - image.first_patch);
    painter.text("the image: click to choose the query", 12, top + imageHeight + 12, { size: 11, color: palette.soft });
    drawLegend(painter, scene, 24 + geometry.side, top + imageHeight + 12, geometry.side, largestWeight(row, image.first_patch));
    const title = `Heads of layer ${state.layer}, and rollouts through all layers, each scaled to its own largest weight`;
    painter.text(fit(title, 12.5, 650), 12, geometry.tilesTop - 14, { size: 12.5, weight: 650, color: palette.ink });
    drawTiles(painter, scene, box, geometry);
    drawHeading(painter, palette, box, geometry.heading);
  },

  hitTest(scene, box, x, y) {
    const { image, state } = scene;
    const geometry = layout(scene, box);
    const imageHeight = geometry.side * geometry.ratio;
    const other = tokenAt(geometry.others, x, y);
    if (other !== null) return { query: other, key: state.key };
    for (const [left, what] of [
      [12, "query"],
      [24 + geometry.side, "key"],
    ]) {
      const column = Math.floor(((x - left) / geometry.side) * image.columns);
      const row = Math.floor(((y - geometry.top) / imageHeight) * image.rows);
      if (column >= 0 && column < image.columns && row >= 0 && row < image.rows) {
        const token = image.first_patch + row * image.columns + column;
        return { query: state.query, key: state.key, [what]: token };
      }
    }
    const across = Math.floor((x - 12) / (geometry.tile + 10));
    const number = Math.floor((y - geometry.tilesTop) / geometry.line) * geometry.columns + across;
    return y >= geometry.tilesTop && across < geometry.columns ? (geometry.tiles[number]?.hit ?? null) : null;
  },

  /** Arrows move between patches; up from the first row is the class token. */
  move(app, across, down) {
    const { image } = app.contents;
    const patch = app.state.query - image.first_patch;
    const to = patch < 0 ? (down > 0 || across > 0 ? 0 : patch) : patch + across + down * image.columns;
    if (to < image.rows * image.columns)
      app.set({ query: Math.max(0, image.first_patch + to) < image.first_patch ? 0 : image.first_patch + to });
  },

  describe: (scene) => `${scene.headTitle}, over the image. ${scene.describeCell()}`,
};

/** The image; with weights, in gray, with a color over the patches that are attended to. */
function drawImage(painter, scene, x, y, width, height, weights) {
  if (scene.imageCanvas) painter.image(weights ? scene.grayCanvas : scene.imageCanvas, x, y, width, height);
  if (weights) painter.image(overlay(scene, weights), x, y, width, height);
  painter.rect(x - 0.5, y - 0.5, width + 1, height + 1, null, { stroke: scene.palette.line });
}

const HIGHLIGHT = [255, 176, 32]; // orange, which has a strong contrast with gray
const MAX_ALPHA = 225; // of 255, so that the image stays visible

function largestWeight(weights, first) {
  let largest = 0;
  for (let i = first; i < weights.length; i++) if (weights[i] > largest) largest = weights[i];
  return largest;
}

function overlay(scene, weights) {
  const { rows, columns, first_patch: first } = scene.image;
  const canvas = new OffscreenCanvas(columns, rows);
  const context = canvas.getContext("2d");
  const pixels = context.createImageData(columns, rows);
  const largest = largestWeight(weights, first) || 1;
  for (let patch = 0; patch < rows * columns; patch++) {
    const strength = (weights[first + patch] || 0) / largest;
    pixels.data.set([...HIGHLIGHT, Math.round(MAX_ALPHA * strength)], 4 * patch);
  }
  context.putImageData(pixels, 0, 0);
  return canvas;
}

/** The scale from 0 to the largest weight on a patch. */
function drawLegend(painter, { palette }, x, y, width, largest) {
  const length = Math.max(40, Math.min(160, width - 110));
  painter.text("0", x, y, { size: 11, color: palette.soft });
  painter.rect(x + 12, y - 5, length, 10, "#555555");
  for (let i = 0; i < 40; i++) {
    painter.rect(x + 12 + (i * length) / 40, y - 5, length / 40 + 0.5, 10, `rgb(${HIGHLIGHT.join(" ")})`, {
      alpha: ((i + 0.5) / 40) * (MAX_ALPHA / 255),
    });
  }
  painter.text(`${formatNumber(largest)} per patch`, x + length + 18, y, { size: 11, color: palette.soft });
}

function drawPatch(painter, scene, x, geometry, patch) {
  const { image, palette } = scene;
  if (patch < 0) return;
  const width = geometry.side / image.columns;
  const height = (geometry.side * geometry.ratio) / image.rows;
  const [row, column] = [Math.floor(patch / image.columns), patch % image.columns];
  painter.rect(x + column * width, geometry.top + row * height, width, height, null, {
    stroke: "#ffffff",
    lineWidth: 4,
  });
  painter.rect(x + column * width, geometry.top + row * height, width, height, null, {
    stroke: palette.mark,
    lineWidth: 2,
  });
}

function drawTiles(painter, scene, box, geometry) {
  const { palette, image } = scene;
  const [width, height] = [geometry.tile, geometry.tile * geometry.ratio];
  geometry.tiles.forEach(({ name, row, chosen }, number) => {
    const x = 12 + (number % geometry.columns) * (width + 10);
    const y = geometry.tilesTop + Math.floor(number / geometry.columns) * geometry.line;
    if (y + geometry.line < box.top || y > box.bottom) return;
    drawImage(painter, scene, x, y, width, height, row);
    if (chosen) painter.rect(x - 1, y - 1, width + 2, height + 2, null, { stroke: palette.mark, lineWidth: 3 });
    const fit = (text, weight) => truncate(text, width, (t) => textWidth(t, 11, weight));
    const weight = chosen ? 700 : 400;
    painter.text(fit(name, weight), x, y + height + 11, { size: 11, color: chosen ? palette.mark : palette.ink, weight });
    const maxText = `up to ${formatNumber(largestWeight(row, image.first_patch))}`;
    painter.text(fit(maxText, 400), x, y + height + 24, { size: 10.5, color: palette.soft });
  });
}

/** The image as the model was given it, and a dark gray copy as the background of weights. */
export async function loadImages({ source, width, height }) {
  const image = new Image();
  image.src = source;
  await image.decode();
  const [color, gray] = [new OffscreenCanvas(width, height), new OffscreenCanvas(width, height)];
  color.getContext("2d").drawImage(image, 0, 0);
  const context = gray.getContext("2d");
  context.drawImage(image, 0, 0);
  const pixels = context.getImageData(0, 0, width, height);
  for (let i = 0; i < pixels.data.length; i += 4) {
    const [red, green, blue] = pixels.data.subarray(i, i + 3);
    pixels.data.fill(0.55 * (0.3 * red + 0.59 * green + 0.11 * blue), i, i + 3);
  }
  context.putImageData(pixels, 0, 0);
  return [color, gray];
}
