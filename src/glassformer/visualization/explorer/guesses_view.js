// What the model expects at the chosen token: the likeliest tokens at its end, and after each layer.

import { fitted, isolated, likelihood } from "./labels.js";
import { inkOn, shade } from "./colours.js";
import { measured } from "./painter.js";
import { drawHeading, headingOf, wrapped } from "./heading.js";
import { drawStrip, stripOf, tokenAt } from "./token_strip.js";

const BAR = 24;
const ROW = 23;

const isLens = ({ guesses }) => guesses.rows.length > 1;
const isWhole = ({ values }) => values.length === 1;

/** Of the bars, or of the lens: lines under the title, and how high all is. */
function sized(scene, entry, width) {
  const note = isLens(entry) ? entry.guesses.note : truthInWords(scene, entry) || entry.guesses.note;
  const notes = note ? wrapped(note, width, 11.5, 3) : [];
  const rows = isLens(entry) ? entry.guesses.rows.length * ROW : guessList(scene, entry).length * BAR;
  return { notes, first: 20 + 14 * notes.length, height: 20 + 14 * notes.length + rows };
}

/** The heading, the tokens to choose from, and under them the guesses, side by side where there is room. */
function layout(scene, box) {
  const { attention, state, guesses } = scene;
  const heading = headingOf(box, words(scene));
  const whole = guesses.every(isWhole);
  const strip = whole
    ? null
    : stripOf(attention.queries, state.query, 12, heading.height + 6, box.width - 24);
  const top = heading.height + 24 + (strip ? strip.height : 0);
  const beside = box.width >= 900 && guesses.length > 1;
  const bars = Math.min(560, box.width * 0.4);
  let y = top;
  const places = guesses.map((entry, index) => {
    const x = beside && index ? bars + 36 : 12;
    const width = beside ? (index ? box.width - bars - 48 : bars - 12) : box.width - 24;
    const place = { x, y: beside ? top : y, width, entry, ...sized(scene, entry, width) };
    y += place.height + 28;
    return place;
  });
  return { heading, strip, places, height: Math.max(...places.map((place) => place.y + place.height)) + 16 };
}

function words(scene) {
  const { state, attention, guesses, picture } = scene;
  if (guesses.every(isWhole))
    return [`Of the whole ${picture ? "image" : "text"}`, "probabilities of the model"];
  const title = `At “${attention.queries[state.query]}”, token ${state.query}`;
  return [
    title,
    `probabilities of the model, for the token chosen here${picture ? "" : ": a click or the arrows choose another"}`,
  ];
}

export const guessesView = {
  name: "guesses",
  title: "Predictions",
  about: "What the model expects at the chosen token, and how the guess grows from layer to layer.",
  available: (contents) => contents.guesses.length > 0,
  height: (scene, box) => layout(scene, box).height,

  draw(painter, scene, box) {
    const { heading, strip, places } = layout(scene, box);
    for (const place of places) (isLens(place.entry) ? drawLens : drawBars)(painter, scene, place);
    if (strip) drawStrip(painter, scene.palette, strip, scene.state.query);
    drawHeading(painter, scene.palette, box, heading);
  },

  hit(scene, box, x, y) {
    const { strip } = layout(scene, box);
    const token = strip && tokenAt(strip, x, y);
    return token === null ? null : { query: token, key: scene.state.key };
  },

  move(app, across, down) {
    app.set({ query: app.state.query + across + down });
  },

  describe: (scene) =>
    `${words(scene)[0]}. ${scene.guesses.map((entry) => guessInWords(scene, entry)).join(" ")}`,
};

const rowsAt = (scene, { guesses, values }) =>
  values[isWhole({ values }) ? 0 : scene.state.query] ?? guesses.rows.map(() => []);

/** "token" and its probability, from the flat list [token, probability, token, ...]. */
export function guessList(scene, entry, row = 0) {
  const flat = rowsAt(scene, entry)[row] ?? [];
  const list = [];
  for (let i = 0; i < flat.length; i += 2)
    list.push({ label: entry.guesses.tokens[flat[i]], share: flat[i + 1] });
  return list;
}

export function truthInWords(scene, { guesses, truths }) {
  const truth = truths?.[scene.state.query];
  if (!truth) return "";
  const [token, share, rank] = truth;
  const place = rank === 1 ? "its first guess" : `guess number ${rank.toLocaleString("en")}`;
  return `There stands “${guesses.tokens[token]}”: ${likelihood(share)}, ${place}.`;
}

function guessInWords(scene, entry) {
  const best = guessList(scene, entry, entry.guesses.rows.length - 1).slice(0, 3);
  return `${entry.guesses.title}: ${best.map(({ label, share }) => `${label} ${likelihood(share)}`).join(", ")}. ${truthInWords(scene, entry)}`;
}

/** The title of guesses, and under it what there is to know of them. */
function drawWords(painter, palette, title, { x, y, width, notes }) {
  const style = { size: 13, weight: 650 };
  const text = fitted(title, width, (t) => measured(t, style.size, style.weight));
  painter.text(isolated(text), x, y, { ...style, colour: palette.ink });
  notes.forEach((line, index) =>
    painter.text(isolated(line), x, y + 18 + 14 * index, { size: 11.5, colour: palette.soft }),
  );
}

function drawBars(painter, scene, place) {
  const { palette } = scene;
  const { x, y, width, entry, first } = place;
  drawWords(painter, palette, `The likeliest for ${entry.guesses.title}`, place);
  const list = guessList(scene, entry);
  const names = Math.min(width * 0.45, Math.max(30, ...list.map(({ label }) => measured(label, 13)))) + 8;
  const room = width - names - 64;
  list.forEach(({ label, share }, index) => {
    const middle = y + first + (index + 0.5) * BAR;
    const name = isolated(fitted(label, names - 8, (t) => measured(t, 13)));
    painter.text(name, x + names - 8, middle, { size: 13, align: "right", colour: palette.ink });
    painter.rect(x + names, middle - 8, room, 16, palette.wash, { radius: 3 });
    painter.rect(x + names, middle - 8, Math.max(1, room * share), 16, palette.accent, { radius: 3 });
    painter.text(likelihood(share), x + width, middle, { size: 12, align: "right", colour: palette.soft });
  });
}

/** A row for each layer, the last at the bottom: the stream is read from top to bottom. */
function drawLens(painter, scene, place) {
  const { palette } = scene;
  const { x, y, width, entry, first } = place;
  const { guesses } = entry;
  drawWords(painter, palette, guesses.title, place);
  const names = Math.min(width * 0.3, Math.max(...guesses.rows.map((row) => measured(row, 11.5)))) + 10;
  guesses.rows.forEach((name, row) => {
    const top = y + first + row * ROW;
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
  const number = likelihood(share);
  const beside = width > 74 ? measured(number, 10) + 10 : 0;
  painter.text(
    isolated(fitted(label, width - beside - 8, (t) => measured(t, 12))),
    x + 5,
    y + ROW / 2 - 1.5,
    { size: 12, colour },
  );
  if (beside) painter.text(number, x + width - 5, y + ROW / 2 - 1.5, { size: 10, align: "right", colour });
}
