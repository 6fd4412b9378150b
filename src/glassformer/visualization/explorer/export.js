// Pictures, numbers and links of what is shown.

import { isolated } from "./labels.js";
import { CanvasPainter, SvgPainter, base64 } from "./painter.js";
import { wrapped } from "./heading.js";
import { toHash } from "./state.js";
import { unprinted } from "./data.js";
import { guessList } from "./guesses_view.js";
import { element } from "./panel.js";

const SCALE = 2; // pixels of a PNG for each pixel of the picture
const WIDTH = 1200; // of every picture, however wide the window is
const WIDEST = 2400; // of those in which more can be named then
const HEIGHT = 900; // of those that fit themselves to a height, or more where they are wider
const PAGE = 1.3; // times as high as wide, of those that arrange themselves on a page
const CAPTION = { size: 11, line: 15, most: 3 };

/** Which model this is. */
export const modelInWords = ({ name, title }) => (name ? `${name} - ${title}` : title);

/** The whole view, also what is scrolled out of sight, and under it of which model and text it is. */
function wholeOf(app) {
  const { view, contents } = app;
  const scene = app.scene();
  const width = Math.max(WIDTH, view.leastWidth?.(scene) ?? 0, Math.min(WIDEST, view.wide?.(scene) ?? 0));
  const tall = view.fits ? width * PAGE : 0;
  const wanted = view.natural?.(scene, { width, top: 0, height: 0 }) ?? tall;
  const box = { width, top: 0, height: view.natural ? Math.min(Math.max(HEIGHT, 1.05 * width), wanted) : tall };
  const needed = view.height(scene, box);
  box.height = view.natural ? Math.max(box.height, needed) : needed;
  box.bottom = box.height;
  const said = [modelInWords(contents), contents.text, ...contents.notes].filter(Boolean).join(" · ");
  const caption = wrapped(said, width - 24, CAPTION.size, CAPTION.most);
  return { scene, box, caption, height: box.height + 14 + caption.length * CAPTION.line };
}

function drawWhole(painter, app, { scene, box, caption, height }) {
  painter.rect(0, 0, box.width, height, app.palette.card);
  app.view.draw(painter, scene, box);
  caption.forEach((line, index) =>
    painter.text(isolated(line), 12, box.height + CAPTION.line * (index + 0.5), {
      size: CAPTION.size,
      colour: app.palette.soft,
    }),
  );
}

export async function svgOf(app) {
  await app.shown;
  const whole = wholeOf(app);
  const painter = new SvgPainter(whole.box.width, whole.height, modelInWords(app.contents));
  drawWhole(painter, app, whole);
  return painter.finished();
}

export async function pngOf(app) {
  await app.shown;
  const whole = wholeOf(app);
  const { width } = whole.box;
  const scale = Math.min(SCALE, 16000 / whole.height); // taller ones no browser draws
  const canvas = new OffscreenCanvas(Math.round(width * scale), Math.round(whole.height * scale));
  const context = canvas.getContext("2d");
  context.scale(scale, scale);
  drawWhole(new CanvasPainter(context, scale), app, whole);
  return canvas.convertToBlob({ type: "image/png" });
}

/** The chosen head as numbers, null where masked, with its tokens, and what the page says of the chosen cell. */
export function numbersOf(app) {
  const scene = app.scene();
  const { layer, head, view, query, key } = app.state;
  const drawn = app.view.of?.(scene) ?? scene;
  const matrix = app.view.matrix?.(drawn) ?? scene.shownMatrix;
  const byHead = drawn.token === undefined ? {} : { heads: drawn.attention.queries };
  const contents = app.store.source.contents(); // texts as they are, not as they are shown
  const attention = contents.attention.find(({ kind }) => kind === scene.kind);
  const rows = Array.from({ length: matrix.queries }, (_, row) =>
    Array.from(matrix.row(row), (weight) => (weight === weight ? Number(weight.toPrecision(5)) : null)),
  );
  const flow = contents.flows[app.state.flow];
  return {
    format: "glassformer-head-1",
    model: contents.name,
    title: contents.title,
    text: contents.text,
    notes: contents.notes,
    view,
    kind: scene.kind,
    ...(view === "flow"
      ? {
          flow: flow.name,
          flow_note: flow.note,
          faithfulness: flow.faithfulness,
          low: flow.low,
          high: flow.high,
        }
      : { layer, head: head < 0 ? "mean" : head }),
    error: `each weight w is within sqrt(w) / ${contents.levels} + 4e-6`,
    ...byHead, // then each row is what a head does with the chosen query
    queries: attention.queries,
    keys: attention.keys,
    weights: rows,
    chosen: {
      query,
      key,
      score_parts: partsOf(scene),
      guesses: scene.guesses.map((entry) => allOf(scene, entry, contents.guesses)),
    },
    names: view === "flow" ? [] : scene.namesOf(layer, head),
  };
}

const partsOf = ({ parts, decomposition }) =>
  parts ? Object.fromEntries(decomposition.parts.map((name, index) => [name, parts[index]])) : null;

/** raw: the guesses with their tokens as they are. */
function allOf(scene, { guesses, ...entry }, raw) {
  const { tokens, ...own } = raw[scene.contents.guesses.indexOf(guesses)];
  return {
    of: own.title,
    rows: own.rows.map((name, row) => ({
      name,
      likeliest: guessList(scene, { ...entry, guesses: { ...own, tokens } }, row).map(({ label, share }) => ({
        token: label,
        probability: share,
      })),
    })),
  };
}

/** Everything on the page, packed as it is there. */
export async function everythingOf(app) {
  const put = (value) => {
    if (Array.isArray(value)) return value.map(put);
    if (value === null || typeof value !== "object") return value;
    const { block, ...rest } = value;
    const copy = Object.fromEntries(Object.entries(rest).map(([name, part]) => [name, put(part)]));
    return block ? { ...copy, data: base64(unprinted(app.store.source.text(value))) } : copy;
  };
  const how =
    "data: base64 of deflated (zlib) bytes. Maps: one byte a weight, map by map, key by key, and for each key its " +
    "queries (in a triangle only those from the key on); weight = (byte / levels)^2, 255 = masked. Layers of " +
    "scores: numbers of 16 bits, first all low bytes, then all high ones: of each row of each head how many cells " +
    "are there, of each cell how far its key is from the one before it, then each part in steps. Others: JSON.";
  return { how_to_unpack: how, ...put(app.store.source.contents()) };
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

function nameOf({ kind, state: { view, layer, head, query } }) {
  if (view === "flow") return `glassformer-${view}`;
  if (view === "byhead") return `glassformer-${view}-${kind}-layer${layer}-token${query}`;
  if (view === "guesses") return `glassformer-${view}-${kind}-token${query}`;
  return `glassformer-${view}-${kind}-layer${layer}-${head < 0 ? "mean" : `head${head}`}`;
}

/** Whether the page has an address: a frame of a notebook has none. */
export const hasLink = () => location.protocol !== "about:";

function linkOf(app) {
  const link = new URL(location.href);
  link.hash = toHash(app.state, app.start);
  return link.href;
}

/** The link to be copied by hand, where the page may not write to the clipboard. */
function showLink(app, link) {
  const field = element("input", { readOnly: true, value: link, "aria-label": "Link to this view" });
  const close = element("form", { method: "dialog" }, element("button", { textContent: "Close" }));
  const dialog = element("dialog", { className: "link", "aria-label": "Link to this view" }, field, close);
  dialog.addEventListener("close", () => dialog.remove());
  app.root.append(dialog);
  dialog.showModal();
  field.select();
}

async function copyLink(app) {
  if (!hasLink()) return app.say("In a notebook the page has no link of its own: open it as a file.");
  const link = linkOf(app);
  const allowed = document.featurePolicy?.allowsFeature("clipboard-write") ?? true; // asking logs an error
  try {
    if (!allowed) throw new Error("not allowed");
    await navigator.clipboard.writeText(link);
    return app.say("The link is on the clipboard.");
  } catch {
    return showLink(app, link);
  }
}

export const EXPORTS = {
  svg: async (app) => download(`${nameOf(app)}.svg`, await svgOf(app), "image/svg+xml"),
  png: async (app) => download(`${nameOf(app)}.png`, await pngOf(app)),
  json: async (app) => {
    await app.shown;
    download(`${nameOf(app)}.json`, JSON.stringify(numbersOf(app)), "application/json");
  },
  all: async (app) =>
    download("glassformer-explorer.json", JSON.stringify(await everythingOf(app)), "application/json"),
  link: copyLink,
};
