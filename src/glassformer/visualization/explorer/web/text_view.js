// The running text, shaded by where the chosen word looks, or by who looks at it.

import { formatPercent, formatProbability, isolate } from "./text.js";
import { shadeOf, textColorOn } from "./colors.js";
import { drawHeading, layoutHeading } from "./heading.js";
import { drawStrips, layoutStrips, stripAt } from "./head_strips.js";
import { stepHead, stepLayer } from "./navigation.js";
import { predictionList } from "./predictions_view.js";
import { isCross } from "./state.js";
import { layoutWords } from "./text_layout.js";
import { wordAt, wordWeights, wordsOf } from "./words.js";

const SIZES = [[60, 25], [150, 20], [400, 17], [Infinity, 14]]; // of the letters, up to a number of words
const NEXT = "the next token";
const SENTENCE = { size: 14, weight: 400, line: 21, maxLines: 1 };
const OTHER = { query: "key", key: "query" };

/** The side of the chosen word: a query looks, a key is looked at. */
const sideOf = ({ state }) => (state.looking === "by" ? "key" : "query");

const wordsOfSide = ({ attention, state }, side) => wordsOf(attention, side, Boolean(state.merged));

/** The chosen word: { side, index, word, words }; words are those of its side. */
export function chosenWord(scene) {
  const side = sideOf(scene);
  const words = wordsOfSide(scene, side);
  const index = wordAt(words, scene.state[side]);
  return { side, index, word: words[index], words };
}

/** The word under the pointer, or else the chosen one. */
function shownWord(scene) {
  const { hovered } = scene;
  if (!hovered?.side) return chosenWord(scene);
  const words = wordsOfSide(scene, hovered.side);
  const index = wordAt(words, hovered[hovered.side]);
  return { side: hovered.side, index, word: words[index], words };
}

/**
 * The weights between a word and the words of the other side in one head: { words, weights, largest }. Without the
 * first token its weight is NaN, and the largest is that of the others.
 */
export function weightsOfWord(scene, { side, word }, matrix = scene.matrix) {
  const words = wordsOfSide(scene, OTHER[side]);
  const weights = wordWeights(matrix, word, side, words);
  if (side === "query" && !scene.state.firstToken) weights[0] = NaN;
  const largest = weights.reduce((max, weight) => (weight > max ? weight : max), 0);
  return { words, weights, largest };
}

/** The indices of the words with the largest weights, in descending order. */
export const heaviest = (weights, count) =>
  [...weights.keys()]
    .filter((index) => weights[index] > 0)
    .sort((a, b) => weights[b] - weights[a] || a - b)
    .slice(0, count);

/** "“keys” looks at “cabinet” 41 %, “The” 22 %". */
function sentence(scene, shown) {
  const { words, weights } = weightsOfWord(scene, shown);
  const best = heaviest(weights, 3).map((index) => `“${words[index].text}” ${formatPercent(weights[index])}`);
  const verb = shown.side === "query" ? scene.words.active : scene.words.passive;
  return `“${shown.word.text}” ${verb} ${best.join(", ") || "no other word"}`;
}

/** The prediction for the token after the text, as a word after the last one; none if there is no such prediction. */
function nextWord(scene, side) {
  const { attention, predictions } = scene;
  const entry = predictions.find((one) => one.predictions.title === NEXT && one.predictions.rows.length === 1);
  if (!entry || side !== sideOf(scene) || isCross(scene.attention)) return [];
  const [best] = predictionList({ ...scene, state: { ...scene.state, query: attention.queries.length - 1 } }, entry);
  if (!best) return [];
  const what = best.isEnd ? "the end of the text" : best.label.replace(/^·(?=.)/, ""); // without its space
  return [{ text: `next: ${what} ${formatProbability(best.share)}`, space: true, breaks: 0 }];
}

function layout(scene, box) {
  const heading = layoutHeading(box, [scene.headTitle, sentence(scene, shownWord(scene))], SENTENCE);
  const sides = isCross(scene.attention) ? ["query", "key"] : [sideOf(scene)];
  const width = Math.min(box.width, box.visibleWidth ?? Infinity) - 28;
  let y = heading.height + 12;
  const blocks = sides.map((side) => {
    const words = wordsOfSide(scene, side);
    const size = Math.min(SIZES.find(([count]) => words.length <= count)[1], box.width < 560 ? 17 : Infinity);
    const line = Math.round(size * 1.7);
    const title = sides.length > 1 ? (side === "query" ? "the text that looks" : "the text that is looked at") : "";
    const top = y + (title ? 18 : 0);
    const tokens = !scene.state.merged;
    const { boxes, height } = layoutWords([...words, ...nextWord(scene, side)], { x: 14, y: top, width, size, line, tokens });
    const block = { side, words, boxes: boxes.slice(0, words.length), next: boxes[words.length], size, line, title, y };
    y = top + height + 20;
    return block;
  });
  const strips = layoutStrips(scene, { x: 14, y: y + 6, width }, wordsOfSide(scene, OTHER[shownWord(scene).side]));
  return { heading, blocks, strips, height: strips.y + strips.height + 10 };
}

export const textView = {
  name: "text",
  panel: ["words", "head", "predictions"],
  title: "Text",
  description: "The text itself, shaded by where the chosen word looks, or by who looks at it.",
  intro: "Point at a word: the darker another word is, the more the outlined one looks at it in this head.",
  introOf({ shownMatrix, state }) {
    const row = state.looking === "at" ? shownMatrix.row(state.query) : [];
    const hidden = [...row.keys()].filter((key) => row[key] !== row[key]);
    if (!hidden.length) return "Click to keep it.";
    return `Gray words ${hidden[0] > state.query ? "come later: they " : ""}are hidden from it.`;
  },
  highlightsHover: true,
  available: ({ image }) => !image,
  height: (scene, box) => layout(scene, box).height,
  headerHeight: (scene, box) => layout(scene, box).heading.height,

  draw(painter, scene, box) {
    const geometry = layout(scene, box);
    const shown = shownWord(scene);
    for (const block of geometry.blocks) drawBlock(painter, scene, box, block, shown);
    drawStrips(painter, scene, box, geometry.strips, shown, (matrix) => weightsOfWord(scene, shown, matrix));
    drawHeading(painter, scene.palette, box, geometry.heading);
  },

  hitTest(scene, box, x, y) {
    const { heading, blocks, strips } = layout(scene, box);
    if (y < box.top + heading.height) return null;
    for (const { side, words, boxes, next, line } of blocks) {
      if (next && contains(next, line, x, y)) return { view: "predictions", query: scene.attention.queries.length - 1 };
      const found = boxes.find((word) => contains(word, line, x, y));
      if (found) return { side, [side]: words[found.index].last };
    }
    return stripAt(scene, strips, x, y);
  },

  /** A click on a word chooses it, with the heaviest word of the other side; one on a strip its head. */
  select(app, { side, ...hit }) {
    if (!side) return app.set(hit.head !== undefined && app.state.head === hit.head ? { view: "map" } : hit);
    return chooseWord(app, side, hit[side]);
  },

  hint: (scene, hit) => (hit.side ? "" : hit.view ? "the most probable next token: click for all predictions" : null),

  /** The lines of the chosen word. */
  chosenBounds(scene, box) {
    const { side, index } = chosenWord(scene);
    const block = layout(scene, box).blocks.find((one) => one.side === side);
    return { y: block.boxes[index].y, height: block.line };
  },

  move(app, across, down) {
    if (Math.abs(across) === Infinity) return moveWord(app, across);
    return across ? stepHead(app, across) : stepLayer(app, down);
  },

  /** With Shift, arrows choose another word. */
  moveShifted: (app, across, down) => moveWord(app, across + down),

  describe: (scene) => `${scene.headTitle}. ${sentence(scene, chosenWord(scene))}.`,
};

const contains = (word, line, x, y) => x >= word.x && x < word.x + word.width && y >= word.y && y < word.y + line;

function moveWord(app, by) {
  const { side, index, words } = chosenWord(app.scene());
  const to = Math.min(words.length - 1, Math.max(0, index + by));
  return chooseWord(app, side, words[to].last);
}

/** Choose the word of a token, and on the other side the heaviest that is neither the first token nor itself. */
export function chooseWord(app, side, token) {
  const scene = app.scene();
  const looking = side === "query" ? "at" : "by";
  if (!scene.ready) return app.set({ looking, [side]: token });
  const chosen = wordsOfSide(scene, side);
  const word = chosen[wordAt(chosen, token)];
  const { words, weights } = weightsOfWord(scene, { side, word });
  const self = isCross(scene.attention) ? -1 : word.first;
  const order = heaviest(weights, weights.length);
  const index = order.find((other) => words[other].first > 0 && words[other].first !== self) ?? order[0] ?? 0;
  return app.set({ looking, [side]: token, [OTHER[side]]: words[index].last });
}

function drawBlock(painter, scene, box, { side, words, boxes, next, size, line, title, y }, shown) {
  const { palette } = scene;
  if (title) painter.text(title, 14, y + 6, { size: 11, color: palette.soft });
  const cross = isCross(scene.attention);
  const shades = cross && side === shown.side ? null : weightsOfWord(scene, shown);
  for (const word of boxes) {
    if (word.y + line < box.top || word.y > box.bottom) continue;
    const weight = shades?.weights[word.index];
    const share = shades ? shadeOf(weight, shades.largest) : 0;
    const masked = shades && weight !== weight;
    const isShown = (side === shown.side || !cross) && word.index === shown.index;
    const fill = share > 0 ? palette.css[share] : null;
    if (fill || isShown)
      painter.rect(word.x, word.y + 3, word.width, line - 6, fill, {
        radius: 4,
        ...(isShown ? { stroke: palette.mark, lineWidth: 2 } : {}),
      });
    const isSoft = masked || words[word.index].isSpecial;
    const color = share > 0 ? textColorOn(palette, share) : isSoft ? palette.soft : palette.ink;
    painter.text(isolate(word.text), word.x + 2, word.y + line / 2, { size, color });
  }
  if (next) drawNext(painter, palette, next, size, line);
}

/** The most probable next token, with an outline of its own, since it is no part of the text. */
function drawNext(painter, palette, { x, y, width, text }, size, line) {
  painter.rect(x, y + 3, width, line - 6, palette.wash, { radius: 4, stroke: palette.accent });
  painter.text(isolate(text), x + 2, y + line / 2, { size, color: palette.accent });
}
