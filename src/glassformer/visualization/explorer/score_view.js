// One cell's score before the softmax, as the sum of its parts.

import { fitted, numeral, visible } from "./labels.js";
import { PARTS } from "./colours.js";
import { heading, measured } from "./painter.js";

const TOP = 92;
const ROW = 34;

export const scoreView = {
  name: "score",
  title: "Score",
  about: "Why the chosen token looks there: the score of one cell, split into parts that sum to it.",
  scrolls: true,
  keepsCell: true,
  available: (contents) => contents.decompositions.length > 0,
  height: (scene) => TOP + ((scene.decomposition?.parts.length ?? 0) + 1) * ROW + 60,

  draw(painter, scene, box) {
    const { palette, attention, state } = scene;
    const names = `“${visible(attention.queries[state.query])}” on “${visible(attention.keys[state.key])}”`;
    const title = `Why ${names}: ${scene.headTitle}`;
    const note = scene.parts
      ? "parts of the score before the softmax; they sum to it"
      : "this cell's score is not in the file; the arrow keys, or a click, go to one that is";
    heading(painter, palette, box, title, [note, scene.decomposition?.note].filter(Boolean).join(". "));
    if (scene.parts) drawParts(painter, scene, box);
  },

  hit: (scene) => (scene.parts || !scene.cells ? null : nearestCell(scene.cells, scene.state, 1)),
  /** To the neighbouring cell, or where that is not in the file to the nearest one that is. */
  move(app, across, down) {
    const { cells } = app.scene();
    const there = { query: app.state.query + down, key: app.state.key + across };
    app.set(
      !cells || cells[`${there.query}.${there.key}`] ? there : nearestCell(cells, app.state, across + down),
    );
  },

  describe: (scene) => (scene.parts ? partsInWords(scene) : "This cell's score is not in the file."),
};

/** The next cell in the file, in reading order, after (or before) the chosen one. */
function nearestCell(cells, { query, key }, by) {
  const places = Object.keys(cells)
    .map((name) => name.split(".").map(Number))
    .sort(([a, b], [c, d]) => a - c || b - d);
  const after = places.findIndex(([q, k]) => q > query || (q === query && k > key));
  const index = by > 0 ? after : places.findLastIndex(([q, k]) => q < query || (q === query && k < key));
  const found = places[index] ?? (by > 0 ? places.at(-1) : places[0]);
  return found ? { query: found[0], key: found[1] } : {};
}

export function partsInWords({ decomposition, parts }) {
  const said = decomposition.parts.map((name, index) => `${name} ${signed(parts[index])}`).join(", ");
  return `Score ${signed(parts.reduce((sum, part) => sum + part, 0))}: ${said}.`;
}

const signed = (number) => (number < 0 ? `−${numeral(-number)}` : `+${numeral(number)}`);

/** Each part starts where the one before it ended; the last bar is their sum. */
function drawParts(painter, scene, box) {
  const { palette, decomposition, parts } = scene;
  const ends = parts.reduce((sums, part) => [...sums, sums.at(-1) + part], [0]);
  const total = ends.at(-1);
  const low = Math.min(0, ...ends);
  const high = Math.max(0, ...ends);
  const names =
    Math.min(
      box.width * 0.4,
      Math.max(...[...decomposition.parts, "score"].map((name) => measured(name, 12.5))),
    ) + 24;
  const room = Math.min(700, box.width - names - 90);
  const at = (value) => names + ((value - low) / (high - low || 1)) * room;
  [...parts, total].forEach((part, index) => {
    const isTotal = index === parts.length;
    const y = TOP + index * ROW;
    const [from, to] = isTotal ? [0, total] : [ends[index], ends[index + 1]];
    const x = Math.min(at(from), at(to));
    painter.text(
      fitted(isTotal ? "score" : decomposition.parts[index], names - 20, (t) => measured(t, 12.5)),
      names - 10,
      y + 10,
      {
        size: 12.5,
        align: "right",
        colour: palette.ink,
        weight: isTotal ? 700 : 400,
      },
    );
    painter.rect(
      x,
      y,
      Math.max(1, Math.abs(at(to) - at(from))),
      20,
      isTotal ? palette.ink : PARTS[index % PARTS.length],
      { radius: 2 },
    );
    painter.text(signed(part), Math.max(at(from), at(to)) + 8, y + 10, { size: 12, colour: palette.ink });
  });
  painter.line(at(0), TOP - 8, at(0), TOP + (parts.length + 1) * ROW - 6, palette.soft, 1);
  painter.text("0", at(0), TOP - 16, { size: 10.5, align: "center", colour: palette.soft });
}
