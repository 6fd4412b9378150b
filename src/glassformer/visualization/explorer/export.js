// Pictures, numbers and links of what is shown.

import { guessList } from "./guesses_view.js";
import { fitted, isolated, visible } from "./labels.js";
import { CanvasPainter, SvgPainter, measured } from "./painter.js";

/** Which model this is. */
export const headingOf = ({ name, title }) => (name ? `${name} - ${title}` : title);

const SCALE = 2; // pixels of a PNG for each pixel of the page

/** The whole view, also what is scrolled out of sight. */
function wholeBox(app) {
  const { width, height } = app.box();
  const whole = app.view.height(app.scene(), width, height);
  return { width, height: whole, top: 0, bottom: whole };
}

const CAPTION = 26; // pixels under a picture, for the model and its text

/** Under a picture that leaves the page: of which model it is, and of which text. */
function caption(painter, app, box) {
  const { contents, palette } = app;
  const said = [headingOf(contents), contents.text && `“${contents.text}”`].filter(Boolean).join(" · ");
  const shown = fitted(visible(said), box.width - 24, (part) => measured(part, 11));
  painter.text(isolated(shown), 12, box.height + CAPTION / 2, { size: 11, colour: palette.soft });
}

export async function svgOf(app) {
  await app.shown;
  const box = wholeBox(app);
  const painter = new SvgPainter(box.width, box.height + CAPTION, visible(headingOf(app.contents)));
  painter.rect(0, 0, box.width, box.height + CAPTION, app.palette.card);
  app.view.draw(painter, app.scene(), box);
  caption(painter, app, box);
  return painter.finished();
}

export async function pngOf(app) {
  await app.shown;
  const box = wholeBox(app);
  const height = box.height + CAPTION;
  const scale = Math.min(SCALE, 16000 / height); // taller ones no browser draws
  const canvas = new OffscreenCanvas(Math.round(box.width * scale), Math.round(height * scale));
  const context = canvas.getContext("2d");
  context.scale(scale, scale);
  context.fillStyle = app.palette.card;
  context.fillRect(0, 0, box.width, height);
  const painter = new CanvasPainter(context, scale);
  app.view.draw(painter, app.scene(), box);
  caption(painter, app, box);
  return canvas.convertToBlob({ type: "image/png" });
}

/** The chosen head as numbers, null where masked, with its tokens, and what the page says of the chosen cell. */
export function numbersOf(app) {
  const scene = app.scene();
  const { attention, shownMatrix, contents } = scene;
  const { kind, layer, head, view } = app.state;
  const rows = Array.from({ length: shownMatrix.queries }, (_, query) =>
    Array.from(shownMatrix.row(query), (weight) =>
      weight === weight ? Number(weight.toPrecision(5)) : null,
    ),
  );
  return {
    format: "glassformer-head-1",
    model: contents.name,
    title: contents.title,
    text: contents.text,
    notes: contents.notes,
    view,
    kind,
    ...(view === "flow" ? { flow: app.scene().flow.name } : { layer, head: head < 0 ? "mean" : head }),
    error: `each weight w is within sqrt(w) / ${contents.levels} + 4e-6`,
    queries: attention.queries,
    keys: attention.keys,
    weights: rows,
    chosen: {
      query: app.state.query,
      key: app.state.key,
      score_parts: scene.parts ?? null,
      guesses: scene.guesses.map((entry) => ({
        of: entry.guesses.title,
        likeliest: guessList(scene, entry).map(({ label, share }) => ({ token: label, probability: share })),
      })),
    },
    names: view === "flow" ? [] : scene.namesOf(layer, head),
  };
}

/** Everything on the page, packed as it is there. */
export async function everythingOf(app) {
  const put = (value) => {
    if (Array.isArray(value)) return value.map(put);
    if (value === null || typeof value !== "object") return value;
    const { block, ...rest } = value;
    const copy = Object.fromEntries(Object.entries(rest).map(([name, part]) => [name, put(part)]));
    return block ? { ...copy, data: app.store.source.base64(value) } : copy;
  };
  const how =
    "data: base64 of deflated (zlib) bytes. Maps: one byte a weight, map by map, key by key, and for each key its " +
    "queries (in a triangle only those from the key on); weight = (byte / levels)^2, 255 = masked. Others: JSON.";
  return { how_to_unpack: how, ...put(app.contents) };
}

export function download(name, content, type) {
  const blob = content instanceof Blob ? content : new Blob([content], { type });
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

const nameOf = ({ view, kind, layer, head }) =>
  view === "flow"
    ? `glassformer-${view}`
    : `glassformer-${view}-${kind}-layer${layer}-${head < 0 ? "mean" : `head${head}`}`;

export const EXPORTS = {
  svg: async (app) => download(`${nameOf(app.state)}.svg`, await svgOf(app), "image/svg+xml"),
  png: async (app) => download(`${nameOf(app.state)}.png`, await pngOf(app)),
  json: async (app) => {
    await app.shown;
    download(`${nameOf(app.state)}.json`, JSON.stringify(numbersOf(app)), "application/json");
  },
  all: async (app) =>
    download("glassformer-explorer.json", JSON.stringify(await everythingOf(app)), "application/json"),
  link: async (app) => {
    if (self !== top) return app.say("In a frame the page has no link of its own: open it in its own tab.");
    try {
      await navigator.clipboard.writeText(location.href);
      return app.say("The link is on the clipboard.");
    } catch {
      return app.say("The link is in the address bar.");
    }
  },
};
