// Pictures, numbers and links of what is shown.

import { CanvasPainter, SvgPainter } from "./painter.js";

const SCALE = 2; // pixels of a PNG for each pixel of the page

/** The whole view, also what is scrolled out of sight. */
function wholeBox(app) {
  const { width, height } = app.box();
  const whole = app.view.height(app.scene(), width, height);
  return { width, height: whole, top: 0, bottom: whole };
}

export async function svgOf(app) {
  const box = wholeBox(app);
  const painter = new SvgPainter(box.width, box.height);
  painter.rect(0, 0, box.width, box.height, app.palette.card);
  app.view.draw(painter, app.scene(), box);
  return painter.finished();
}

export async function pngOf(app) {
  const box = wholeBox(app);
  const scale = Math.min(SCALE, 16000 / box.height); // taller ones no browser draws
  const canvas = new OffscreenCanvas(Math.round(box.width * scale), Math.round(box.height * scale));
  const context = canvas.getContext("2d");
  context.scale(scale, scale);
  context.fillStyle = app.palette.card;
  context.fillRect(0, 0, box.width, box.height);
  app.view.draw(new CanvasPainter(context, scale), app.scene(), box);
  return canvas.convertToBlob({ type: "image/png" });
}

/** The chosen head as numbers, null where masked, with its tokens. */
export function numbersOf(app) {
  const { attention, shownMatrix, contents } = app.scene();
  const { kind, layer, head, view } = app.state;
  const rows = Array.from({ length: shownMatrix.queries }, (_, query) =>
    Array.from(shownMatrix.row(query), (weight) =>
      weight === weight ? Number(weight.toPrecision(5)) : null,
    ),
  );
  return {
    format: "glassformer-head-1",
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
  json: async (app) =>
    download(`${nameOf(app.state)}.json`, JSON.stringify(numbersOf(app)), "application/json"),
  all: async (app) =>
    download("glassformer-explorer.json", JSON.stringify(await everythingOf(app)), "application/json"),
  link: async (app) => {
    try {
      await navigator.clipboard.writeText(location.href);
      app.say("The link is on the clipboard.");
    } catch {
      app.say("The link is in the address bar.");
    }
  },
};
