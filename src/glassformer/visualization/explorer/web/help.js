// The help: every word on the page in a sentence, then the shortcuts.

import { shortcutsOf } from "./keyboard.js";
import { element } from "./panel.js";

const IN_TEXT = ({ image }) => !image;

/** Words with their meaning, and whether a page has them. */
const GLOSSARY = [
  ["token", "A piece of the text that the model reads as one unit: a word, a part of a word, or a sign.", IN_TEXT],
  ["patch", "A square piece of the image that the model reads as one unit.", ({ image }) => image],
  ["attention", "How much a token takes from each other token when the model computes what it means here."],
  ["looks at", "Another way to say that a token gives attention to another one."],
  ["weight", "The share of its attention that a token gives to another one; the weights of a row sum to 1."],
  ["query, key", "The token that looks is the query, a row; a token that is looked at is the key, a column."],
  ["head", "One of several parts of a layer that look at the tokens independently, each for something else."],
  ["layer", "One step of the model; the output of a layer is the input of the next one."],
  ["mean", "The average of the weights of all heads of the layer."],
  ["masked", "Not visible: a model that writes from left to right may not look at tokens that come later."],
  ["first token", "Many heads look at the first token when they find nothing else; without it the rest shows better."],
  ["label", "The pattern that a head was found to follow, with how often it does, and a baseline without the head.",
    ({ head_labels: labels }) => labels.length],
  ["baseline", "What a fixed rule, such as always the token before, reaches at best.", ({ head_labels: labels }) => labels.length],
  ["prediction", "What the model finds most probable: the next token, a hidden token, or a class, with its probability.",
    ({ predictions }) => predictions.length],
  ["logit lens", "What the model would predict if it stopped after a layer.", ({ predictions }) => predictions.some(isLens)],
  ["score", "The number for a query and a key from which the softmax makes a weight: q k / sqrt(d), plus biases.",
    ({ decompositions }) => decompositions.length],
  ["softmax", "Turns the scores of a row into weights: all positive, with sum 1, larger scores more than in proportion."],
  ["content, position, bias", "Parts of a score: from what the tokens are, from where they are, and from learned constants.",
    ({ decompositions }) => decompositions.length],
  ["rollout", "The attention of all layers multiplied, as an estimate of how much an output takes from each input.",
    ({ rollouts }) => rollouts.length],
  ["faithfulness", "Whether the prediction falls faster when inputs are deleted in the order of a rollout than in random orders.",
    ({ rollouts }) => rollouts.length],
  ["kind of attention", "Of a text to itself (self, encoder, decoder), or of the written text to the text that was read (cross).",
    ({ attention }) => attention.length > 1],
];

const isLens = ({ rows }) => rows.length > 1;

const definitions = (className, entries) =>
  element(
    "dl",
    { className },
    ...entries.map(([term, meaning]) => element("div", {}, element("dt", {}, term), element("dd", { textContent: meaning }))),
  );

export function buildHelp(app) {
  const { contents } = app;
  const words = [...GLOSSARY.filter(([, , isOnPage]) => !isOnPage || isOnPage(contents)), ...app.host.words];
  const shortcuts = [...shortcutsOf(app).map(({ shown, what }) => [shown, what]), ...app.host.keys];
  const keys = shortcuts.map(([shown, what]) => [element("kbd", { textContent: shown }), what]);
  const letters = element("input", {
    type: "checkbox",
    checked: Boolean(app.state.shortcuts),
    onchange: (event) => app.set({ shortcuts: Number(event.target.checked) }),
  });
  const paragraph = (textContent) => element("p", { textContent });
  const analyzed = contents.head_labels.length || contents.head_labels_source || contents.image;
  return element(
    "dialog",
    { className: "help", "aria-label": "What the words mean, and shortcuts" },
    element("h2", { textContent: "What the words mean", tabIndex: -1, autofocus: true }),
    definitions("words", words),
    ...(analyzed
      ? []
      : [paragraph(`What the heads of this model do was not analyzed: ${app.host.command} --names does it, or --heads-report uses a saved analysis.`)]),
    element("h2", { textContent: "Accuracy" }),
    paragraph(
      "Attention weights are stored in 8 bits on a square-root scale, and each row is made to sum to one: the error of " +
        `a weight w is at most 2 √w / ${contents.levels}, which is never more than 0.008. Masked cells are striped. ` +
        "Attention of words is the sum over the tokens that are looked at, and the mean over those that look.",
    ),
    element("h2", { textContent: "Keys and mouse" }),
    paragraph("Arrows work in the view, after a click on it or when it is reached with Tab; all other keys work everywhere."),
    definitions("keys", keys),
    element("label", {}, letters, " enable shortcuts of single characters"),
    paragraph("With the mouse: click to choose, Ctrl + wheel or a pinch to zoom, drag to move a zoomed map."),
    element("form", { method: "dialog" }, element("button", { textContent: "Close" })),
  );
}
