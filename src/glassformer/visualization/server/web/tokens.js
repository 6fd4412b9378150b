// Tokens of the text, then the generated ones, with a mark where the text was truncated.

import { element, visibleText } from "./explorer_modules.js";

/** Shows one row of tokens, or for an encoder-decoder a row for the source and one for the target. */
export function showTokens(root, { tokens, generated, truncation }, isEncoderDecoder) {
  const source = tokens.map((label) => chip(label, ""));
  if (truncation) source.splice(truncation.at, 0, cutMark(truncation.count));
  const added = generated.map(({ label }) => chip(label, "generated"));
  if (isEncoderDecoder) root.replaceChildren(...row("Source", source), ...row("Target", added.length ? added : [element("i", { textContent: "empty" })]));
  else root.replaceChildren(chips([...source, ...added]));
  if (generated.length) root.scrollTop = root.scrollHeight;
}

const chip = (label, kind) => element("span", { className: kind, textContent: visibleText(label) });
const chips = (children) => element("div", { className: "chips", dir: "auto" }, ...children);
const row = (name, children) => [element("b", { textContent: name }), chips(children)];
const cutMark = (count) => element("em", { textContent: `✂ ${count.toLocaleString("en")} truncated`, title: "The text was truncated here" });
