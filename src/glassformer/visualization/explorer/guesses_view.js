// What the model expects at the chosen token: the likeliest tokens at its end, and after each layer.

import { fitted, isolated, percent, visible } from "./labels.js";
import { inkOn, shade } from "./colours.js";
import { heading, measured, wrapped } from "./painter.js";

const TOP = 66;
const BAR = 24;
const ROW = 23;

const isLens = (guesses) => guesses.rows.length > 1;
const heightOf = (entry) => (isLens(entry.guesses) ? 56 + entry.guesses.rows.length * ROW : 64 + 10 * BAR);

/** Side by side where there is room. */
function places(scene, width) {
  const beside = width >= 900 && scene.guesses.length > 1;
  let y = TOP;
  return scene.guesses.map((entry, index) => {
    const bars = Math.min(430, width * 0.4);
    const place = beside
      ? { x: index ? bars + 36 : 12, y: TOP, width: index ? width - bars - 48 : bars }
      : { x: 12, y, width: width - 24 };
    y += heightOf(entry) + 20;
    return { ...place, entry };
  });
}

export const guessesView = {
  name: "guesses",
  title: "Predictions",
  about: "What the model expects at the chosen token, and how the guess grows from layer to layer.",
  scrolls: true,
  available: (contents) => contents.guesses.length > 0,
  height: (scene, width) =>
    Math.max(TOP, ...places(scene, width).map((place) => place.y + heightOf(place.entry))) + 12,

  draw(painter, scene, box) {
    const { palette, state, attention } = scene;
    const token = visible(attention.queries[state.query]);
    const title = `At “${token}”, token ${state.query}`;
    heading(
      painter,
      palette,
      box,
      title,
      scene.guesses.length
        ? "probabilities of the model"
        : `predictions stand at the tokens of other attention: choose ${scene.contents.guesses[0].kinds.join(" or ")}`,
    );
    for (const place of places(scene, box.width)) {
      if (isLens(place.entry.guesses)) drawLens(painter, scene, place);
      else drawBars(painter, scene, place);
    }
  },

  hit: () => null,
  move(app, across, down) {
    app.set({ query: app.state.query + across + down });
  },
  describe: (scene) => scene.guesses.map((entry) => guessInWords(scene, entry)).join(" "),
};

const rowsAt = (scene, { guesses, values }) =>
  values[values.length === 1 ? 0 : scene.state.query] ?? guesses.rows.map(() => []);

/** "token" and its probability, from the flat list [token, probability, token, ...]. */
export function guessList(scene, entry, row = 0) {
  const flat = rowsAt(scene, entry)[row] ?? [];
  const list = [];
  for (let i = 0; i < flat.length; i += 2)
    list.push({ label: visible(entry.guesses.tokens[flat[i]]), share: flat[i + 1] });
  return list;
}

export function truthInWords(scene, { guesses, truths }) {
  const truth = truths?.[scene.state.query];
  if (!truth) return "";
  const [token, share, rank] = truth;
  const place = rank === 1 ? "its first guess" : `guess number ${rank.toLocaleString("en")}`;
  return `There stands “${visible(guesses.tokens[token])}”: ${percent(share)}, ${place}.`;
}

function guessInWords(scene, entry) {
  const best = guessList(scene, entry, entry.guesses.rows.length - 1).slice(0, 3);
  return `${entry.guesses.title}: ${best.map(({ label, share }) => `${label} ${percent(share)}`).join(", ")}. ${truthInWords(scene, entry)}`;
}

function drawNote(painter, palette, note, x, y, width) {
  wrapped(note, width, 11.5, 2).forEach((line, index) =>
    painter.text(isolated(line), x, y + 18 + 14 * index, { size: 11.5, colour: palette.soft }),
  );
}

function drawBars(painter, scene, { x, y, width, entry }) {
  const { palette } = scene;
  const text = (t, size, weight = 400) => fitted(t, width, (s) => measured(s, size, weight));
  painter.text(text(`The likeliest for ${entry.guesses.title}`, 13, 650), x, y, {
    size: 13,
    weight: 650,
    colour: palette.ink,
  });
  const note = truthInWords(scene, entry) || entry.guesses.note;
  drawNote(painter, palette, note, x, y, width);
  const list = guessList(scene, entry);
  const names = Math.min(width * 0.45, Math.max(30, ...list.map(({ label }) => measured(label, 13)))) + 8;
  const room = width - names - 52;
  list.forEach(({ label, share }, index) => {
    const middle = y + (note ? 56 : 28) + index * BAR;
    const name = isolated(fitted(label, names - 8, (t) => measured(t, 13)));
    painter.text(name, x + names - 8, middle, { size: 13, align: "right", colour: palette.ink });
    painter.rect(x + names, middle - 8, room, 16, palette.wash, { radius: 3 });
    painter.rect(x + names, middle - 8, Math.max(1, room * share), 16, palette.accent, { radius: 3 });
    painter.text(percent(share), x + width, middle, { size: 12, align: "right", colour: palette.soft });
  });
}

/** A row for each layer, the last at the bottom: the stream is read from top to bottom. */
function drawLens(painter, scene, { x, y, width, entry }) {
  const { palette } = scene;
  const { guesses } = entry;
  const text = (t, size, weight = 400) => fitted(t, width, (s) => measured(s, size, weight));
  painter.text(text(guesses.title, 13, 650), x, y, { size: 13, weight: 650, colour: palette.ink });
  drawNote(painter, palette, guesses.note, x, y, width);
  const names = Math.min(width * 0.3, Math.max(...guesses.rows.map((row) => measured(row, 11.5)))) + 10;
  guesses.rows.forEach((name, row) => {
    const top = y + 48 + row * ROW;
    const label = fitted(name, names - 8, (t) => measured(t, 11.5));
    painter.text(label, x, top + ROW / 2 - 1, { size: 11.5, colour: palette.soft });
    const list = guessList(scene, entry, row);
    const cell = (width - names) / Math.max(1, list.length);
    list.forEach(({ label: guess, share }, index) =>
      drawGuess(painter, palette, x + names + index * cell, top, cell - 3, guess, share),
    );
  });
}

function drawGuess(painter, palette, x, y, width, label, share) {
  const index = shade(share, 1);
  const colour = inkOn(palette, index);
  painter.rect(x, y, width, ROW - 3, palette.css[index], { radius: 3, stroke: palette.line });
  const number = percent(share);
  const beside = width > 74 ? measured(number, 10) + 10 : 0;
  painter.text(
    isolated(fitted(label, width - beside - 8, (t) => measured(t, 12))),
    x + 5,
    y + ROW / 2 - 1.5,
    { size: 12, colour },
  );
  if (beside) painter.text(number, x + width - 5, y + ROW / 2 - 1.5, { size: 10, align: "right", colour });
}
