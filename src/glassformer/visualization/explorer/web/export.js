// Export of the current view as SVG, PNG, JSON or a link.

import { isolate } from "./text.js";
import { base64, CanvasPainter, SvgPainter } from "./painter.js";
import { wrapText } from "./heading.js";
import { decodeBase91, errorOf } from "./data.js";
import { predictionList } from "./predictions_view.js";
import { element } from "./panel.js";

const SCALE = 2; // pixels of a PNG for each pixel of the picture
const WIDTH = 1200; // of a picture, whatever the width of the window
const MAX_WIDTH = 2400; // of views in which more labels fit then
const HEIGHT = 900; // of views that adapt to a height
const PAGE_RATIO = 1.3; // height by width of views that arrange themselves on a page
const CAPTION = { size: 11, line: 15, maxLines: 3 };

/** The name and title of the model. */
export const modelTitle = ({ name, title }) => (name ? `${name} - ${title}` : title);

/** The layout of the whole view, with parts that are not visible, and its caption: model, text and notes. */
function exportLayout(app) {
  const { view, contents } = app;
  const scene = app.scene();
  const width = Math.max(WIDTH, view.minWidth?.(scene) ?? 0, Math.min(MAX_WIDTH, view.exportWidth?.(scene) ?? 0));
  const pageHeight = view.fitsPage ? width * PAGE_RATIO : 0;
  const wanted = view.naturalHeight?.(scene, { width, top: 0, height: 0 }) ?? pageHeight;
  const box = { width, top: 0, height: view.naturalHeight ? Math.min(Math.max(HEIGHT, 1.05 * width), wanted) : pageHeight };
  const needed = view.height(scene, box);
  box.height = view.naturalHeight ? Math.max(box.height, needed) : needed;
  box.bottom = box.height;
  const text = [modelTitle(contents), contents.text, ...contents.notes].filter(Boolean).join(" · ");
  const caption = wrapText(text, width - 24, CAPTION.size, CAPTION.maxLines);
  return { scene, box, caption, height: box.height + 14 + caption.length * CAPTION.line };
}

function drawExport(painter, app, { scene, box, caption, height }) {
  painter.rect(0, 0, box.width, height, app.palette.card);
  app.view.draw(painter, scene, box);
  caption.forEach((line, index) =>
    painter.text(isolate(line), 12, box.height + CAPTION.line * (index + 0.5), {
      size: CAPTION.size,
      color: app.palette.soft,
    }),
  );
}

export async function toSvg(app) {
  await app.shown;
  const layout = exportLayout(app);
  const painter = new SvgPainter(layout.box.width, layout.height, modelTitle(app.contents));
  drawExport(painter, app, layout);
  return painter.source();
}

export async function toPng(app) {
  await app.shown;
  const layout = exportLayout(app);
  const { width } = layout.box;
  const scale = Math.min(SCALE, 16000 / layout.height); // browsers limit the size of a canvas
  const canvas = new OffscreenCanvas(Math.round(width * scale), Math.round(layout.height * scale));
  const context = canvas.getContext("2d");
  context.scale(scale, scale);
  drawExport(new CanvasPainter(context, scale), app, layout);
  return canvas.convertToBlob({ type: "image/png" });
}

/** The weights of the chosen head (null where masked), its tokens, and the analyses of the chosen cell. */
export function headToJson(app) {
  const scene = app.scene();
  const { layer, head, view, query, key } = app.state;
  const drawn = app.view.transform?.(scene) ?? scene;
  const matrix = app.view.matrix?.(drawn) ?? scene.shownMatrix;
  const byHead = drawn.token === undefined ? {} : { heads: drawn.attention.queries };
  const contents = app.store.source.contents(); // the original texts, with invisible characters
  const attention = contents.attention.find(({ kind }) => kind === scene.kind);
  const rows = Array.from({ length: matrix.queries }, (_, row) =>
    Array.from(matrix.row(row), (weight) => (weight === weight ? Number(weight.toPrecision(5)) : null)),
  );
  const rollout = contents.rollouts[app.state.rollout];
  return {
    format: "glassformer-head-1",
    model: contents.name,
    title: contents.title,
    text: contents.text,
    notes: contents.notes,
    view,
    kind: scene.kind,
    ...(view === "rollout"
      ? {
          flow: rollout.name,
          flow_note: rollout.note,
          faithfulness: rollout.faithfulness,
          low: rollout.low,
          high: rollout.high,
        }
      : { layer, head: head < 0 ? "mean" : head }),
    error: `each weight w is within 2 sqrt(w) / ${contents.levels} + ${errorOf(0).toPrecision(2)}`,
    ...byHead, // then each row holds the weights of a head for the chosen query
    queries: attention.queries,
    keys: attention.keys,
    weights: rows,
    chosen: {
      query,
      key,
      score_parts: partsToJson(scene),
      guesses: scene.predictions.map((entry) => predictionsToJson(scene, entry, contents.predictions)),
    },
    names: view === "rollout" ? [] : scene.headLabelsOf(layer, head),
  };
}

const partsToJson = ({ parts, decomposition }) =>
  parts ? Object.fromEntries(decomposition.parts.map((name, index) => [name, parts[index]])) : null;

/** original: the predictions with the original texts of their tokens. */
function predictionsToJson(scene, { predictions, ...entry }, original) {
  const { tokens, ...own } = original[scene.contents.predictions.indexOf(predictions)];
  return {
    of: own.title,
    rows: own.rows.map((name, row) => ({
      name,
      likeliest: predictionList(scene, { ...entry, predictions: { ...own, tokens } }, row).map(({ label, share }) => ({
        token: label,
        probability: share,
      })),
    })),
  };
}

/** All data of the page, in base 64 instead of base 91, with a description of the encoding. */
export async function pageToJson(app) {
  const convert = (value) => {
    if (Array.isArray(value)) return value.map(convert);
    if (value === null || typeof value !== "object") return value;
    const { block, ...rest } = value;
    const copy = Object.fromEntries(Object.entries(rest).map(([name, part]) => [name, convert(part)]));
    return block ? { ...copy, data: base64(decodeBase91(app.store.source.text(value))) } : copy;
  };
  const how =
    "data: base64 of bytes compressed with zlib. Maps: one byte per weight, ordered by map, key and query (if " +
    "lower_triangular, only the queries from the key on); weight = (byte / levels)^2, 255 = masked; add to all bytes " +
    "of a row the number between -0.5 and 0.5 with which its weights sum to one (but never below 0). Layers of " +
    "scores: 16-bit numbers, first all low bytes, then all high bytes: the number of cells of each row of each head, " +
    "for each cell the distance of its key from the one before it, then each part in steps. All others: JSON.";
  const contents = { ...app.store.source.contents(), live: null }; // without the weights of a live page
  return { how_to_unpack: how, ...convert(contents) };
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
  if (view === "rollout") return `glassformer-${view}`;
  if (view === "byhead") return `glassformer-${view}-${kind}-layer${layer}-token${query}`;
  if (view === "predictions") return `glassformer-${view}-${kind}-token${query}`;
  return `glassformer-${view}-${kind}-layer${layer}-${head < 0 ? "mean" : `head${head}`}`;
}

/** Whether the page has a URL; the frame of a notebook has none. */
export const hasLink = () => location.protocol !== "about:";

function linkTo(app) {
  const link = new URL(location.href);
  link.hash = app.hash();
  return link.href;
}

/** Show the link, if the page may not write to the clipboard. */
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
  if (!hasLink()) return app.announce("In a notebook the page has no link: save it and open it as a file.");
  const link = linkTo(app);
  const allowed = document.featurePolicy?.allowsFeature("clipboard-write") ?? true; // a rejected call logs an error
  try {
    if (!allowed) throw new Error("not allowed");
    await navigator.clipboard.writeText(link);
    return app.announce("The link was copied to the clipboard.");
  } catch {
    return showLink(app, link);
  }
}

export const EXPORTS = {
  svg: async (app) => download(`${nameOf(app)}.svg`, await toSvg(app), "image/svg+xml"),
  png: async (app) => download(`${nameOf(app)}.png`, await toPng(app)),
  json: async (app) => {
    await app.shown;
    download(`${nameOf(app)}.json`, JSON.stringify(headToJson(app)), "application/json");
  },
  all: async (app) =>
    download("glassformer-explorer.json", JSON.stringify(await pageToJson(app)), "application/json"),
  link: copyLink,
};
