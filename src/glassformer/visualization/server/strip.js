// The tokens as the model reads them, then those that it wrote; and where a text was cut.

import { visible } from "./labels.js";
import { element } from "./panel.js";

/** Fills the strip: one row, or one for a source and one for its target. */
export function showTokens(root, { tokens, written, cut }, twoTexts) {
  const read = tokens.map((label) => chip(label, ""));
  if (cut) read.splice(cut.at, 0, mark(cut.left_out));
  const new_ = written.map(({ label }) => chip(label, "new"));
  if (twoTexts) root.replaceChildren(...row("Source", read), ...row("Target", new_.length ? new_ : [element("i", { textContent: "nothing yet" })]));
  else root.replaceChildren(chips([...read, ...new_]));
  if (written.length) root.scrollTop = root.scrollHeight;
}

const chip = (label, kind) => element("span", { className: kind, textContent: visible(label) });
const chips = (children) => element("div", { className: "chips", dir: "auto" }, ...children);
const row = (name, children) => [element("b", { textContent: name }), chips(children)];
const mark = (count) => element("em", { textContent: `✂ ${count.toLocaleString("en")} not read`, title: "The text was cut here" });
