// One cell's score before the softmax, as the sum of its parts, beside the other scores of its row.

import { fitted, isolated, numeral } from "./labels.js";
import { PARTS } from "./colours.js";
import { measured } from "./painter.js";
import { drawHeading, headingOf } from "./heading.js";
import { MEAN } from "./state.js";

const ROW = 34;
const LIST = 24;
const LISTED = 24; // cells of a row, the heaviest

function layout(scene, box) {
  const heading = headingOf(box, words(scene));
  const top = heading.height + 30;
  const under = top + ((scene.parts?.length ?? 0) + 1) * ROW + 34;
  const listed = listOf(scene);
  return {
    heading,
    top,
    under,
    listed,
    height: under + (listed.length ? 20 + listed.length * LIST : 0) + 12,
  };
}

function words(scene) {
  const { attention, state, decomposition, parts } = scene;
  if (state.head === MEAN)
    return [scene.headTitle, "The mean of the heads has no scores of its own: choose a head."];
  if (!parts) return [scene.headTitle, "No score of this head is in the file."];
  const title = `Why “${attention.queries[state.query]}” looks at “${attention.keys[state.key]}”: ${scene.headTitle}`;
  const note = "parts of the score before the softmax; they sum to it";
  return [title, [note, decomposition.note].filter(Boolean).join(". ")];
}

const total = (parts) => parts.reduce((sum, part) => sum + part, 0);

/** Scores of the chosen row that are in the file, the heaviest weights first. */
function listOf({ cells, state, matrix }) {
  return cellsOf(cells)
    .filter(({ query }) => query === state.query)
    .map(({ key, parts }) => ({ key, score: total(parts), weight: matrix.at(state.query, key) }))
    .sort((a, b) => b.weight - a.weight)
    .slice(0, LISTED);
}

const cellsOf = (cells) =>
  Object.entries(cells ?? {}).map(([name, parts]) => {
    const [query, key] = name.split(".").map(Number);
    return { query, key, parts };
  });

export const scoreView = {
  name: "score",
  title: "Score",
  about: "Why the chosen token looks there: the score of one cell, split into parts that sum to it.",
  available: (contents) => contents.decompositions.length > 0,
  height: (scene, box) => layout(scene, box).height,

  draw(painter, scene, box) {
    const place = layout(scene, box);
    if (scene.parts) {
      drawParts(painter, scene, box, place);
      drawRow(painter, scene, box, place);
    }
    drawHeading(painter, scene.palette, box, place.heading);
  },

  hit(scene, box, x, y) {
    const { listed, under } = layout(scene, box);
    const cell = listed[Math.floor((y - under - 20) / LIST)];
    return cell ? { query: scene.state.query, key: cell.key } : null;
  },

  /** To the neighbouring cell, or where that is not in the file to the next one that is. */
  move(app, across, down) {
    const { cells } = app.scene();
    if (cells) app.set(nextCell(cells, app.state, across, down));
  },

  describe: (scene) => (scene.parts ? `${words(scene)[0]}. ${partsInWords(scene)}` : words(scene).join(". ")),
};

/** The cell in the file that is nearest: of the same row where it has one. */
export function nearestCell(cells, { query, key }) {
  const far = (cell) => 1e6 * Math.abs(cell.query - query) + Math.abs(cell.key - key);
  const [nearest] = cellsOf(cells).sort((a, b) => far(a) - far(b));
  return nearest ? { query: nearest.query, key: nearest.key } : {};
}

/** Along the row to the next key in the file, or to another row and there to the nearest. */
function nextCell(cells, { query, key }, across, down) {
  const all = cellsOf(cells);
  const rows = [...new Set(all.map((cell) => cell.query))].sort((a, b) => a - b);
  const keys = all.filter((cell) => cell.query === query).map((cell) => cell.key);
  keys.sort((a, b) => a - b);
  const along = (places, from, by) =>
    places[Math.min(places.length - 1, Math.max(0, places.indexOf(from) + by))];
  return across
    ? { query, key: along(keys, key, across) }
    : nearestCell(cells, { query: along(rows, query, down), key });
}

export function partsInWords({ decomposition, parts }) {
  const said = decomposition.parts.map((name, index) => `${name} ${signed(parts[index])}`).join(", ");
  return `Score ${signed(total(parts))}: ${said}.`;
}

const signed = (number) => (number < 0 ? `−${numeral(-number)}` : `+${numeral(number)}`);

/** Each part starts where the one before it ended; the last bar is their sum. */
function drawParts(painter, scene, box, { top }) {
  const { palette, decomposition, parts } = scene;
  const ends = parts.reduce((sums, part) => [...sums, sums.at(-1) + part], [0]);
  const [low, high] = [Math.min(0, ...ends), Math.max(0, ...ends)];
  const rows = [...decomposition.parts, "score"];
  const names = Math.min(box.width * 0.4, Math.max(...rows.map((name) => measured(name, 12.5, 700)))) + 24;
  const room = Math.min(900, box.width - names - 90);
  const at = (value) => names + ((value - low) / (high - low || 1)) * room;
  rows.forEach((name, index) => {
    const isTotal = index === parts.length;
    const y = top + index * ROW;
    const [from, to] = isTotal ? [0, ends.at(-1)] : [ends[index], ends[index + 1]];
    const text = fitted(name, names - 20, (t) => measured(t, 12.5, 700));
    painter.text(text, names - 10, y + 10, {
      size: 12.5,
      align: "right",
      colour: palette.ink,
      weight: isTotal ? 700 : 400,
    });
    const colour = isTotal ? palette.ink : PARTS[index % PARTS.length];
    const width = Math.max(1, Math.abs(at(to) - at(from)));
    painter.rect(Math.min(at(from), at(to)), y, width, 20, colour, { radius: 2 });
    const style = { size: 12, colour: palette.ink };
    painter.text(signed(to - from), Math.max(at(from), at(to)) + 8, y + 10, style);
  });
  painter.line(at(0), top - 8, at(0), top + rows.length * ROW - 6, palette.soft, 1);
  painter.text("0", at(0), top - 16, { size: 10.5, align: "center", colour: palette.soft });
}

/** What else the token looks at: for each key its score, and the weight that the softmax made of it. */
function drawRow(painter, scene, box, { under, listed }) {
  const { palette, attention, state } = scene;
  const title = "Scores of this row, and their weights";
  const style = { size: 13, weight: 650 };
  painter.text(
    fitted(title, box.width - 24, (t) => measured(t, 13, 650)),
    12,
    under,
    { ...style, colour: palette.ink },
  );
  const most = Math.min(box.width * 0.3, 220);
  const names =
    Math.min(most, Math.max(...listed.map(({ key }) => measured(attention.keys[key], 12.5, 700)))) + 24;
  const room = Math.min(900, box.width - names - 90) - 60;
  listed.forEach(({ key, score, weight }, index) => {
    const y = under + 20 + (index + 0.5) * LIST;
    const chosen = key === state.key;
    const text = isolated(fitted(attention.keys[key], names - 20, (t) => measured(t, 12.5, 700)));
    painter.text(text, names - 10, y, {
      size: 12.5,
      align: "right",
      colour: chosen ? palette.mark : palette.ink,
      weight: chosen ? 700 : 400,
    });
    painter.text(signed(score), names + 52, y, { size: 12, align: "right", colour: palette.soft });
    painter.rect(names + 60, y - 8, room, 16, palette.wash, { radius: 3 });
    const colour = chosen ? palette.mark : palette.accent;
    painter.rect(names + 60, y - 8, Math.max(1, room * weight), 16, colour, { radius: 3 });
    painter.text(numeral(weight), names + 68 + room, y, { size: 12, colour: palette.ink });
  });
}
