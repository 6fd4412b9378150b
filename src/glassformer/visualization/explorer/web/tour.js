// A tour of the page in a few steps, which opens by itself once.

import { element } from "./panel.js";

const SEEN = "glassformer-tour"; // in the browser's storage
const shown = (node) => node.getClientRects().length > 0;

/** The steps: the part of the page that each is about, and its text. */
const stepsOf = ({ stage, overview, controls, tabs, root, contents, host }) => [
  ...host.tourSteps(),
  [
    stage,
    contents.image
      ? "Click a patch of the left picture. The right picture shows where it looks: that is attention."
      : "This is the text that the model read. Point at a word: the words that it looks at are colored. That is attention.",
  ],
  [
    shown(overview) ? overview : controls.layer.field,
    "Each layer of the model has several heads, and each looks for something else. Every small map is a head: click one.",
  ],
  [controls.bar, "Change the layer and the head here, or with the arrow keys after a click into the view."],
  [tabs, "These are other views of the same numbers: each weight in a heat map, lines, and what the model predicts."],
  [root.querySelector(".actions"), "Save any view as a picture. The button ? explains every word on the page in a sentence."],
];

export class Tour {
  constructor(app) {
    this.app = app;
  }

  /** Start, unless the tour was seen before or the browser cannot remember it. */
  offer() {
    try {
      if (!localStorage.getItem(SEEN)) this.start();
    } catch {
      /* a frame without storage */
    }
  }

  start() {
    this.end();
    this.steps = stepsOf(this.app);
    this.text = element("p", { "aria-live": "polite" });
    this.count = element("span", { className: "soft" });
    const button = (textContent, onclick) => element("button", { type: "button", textContent, onclick });
    this.back = button("Back", () => this.go(this.step - 1));
    this.next = button("Next", () => this.go(this.step + 1));
    const buttons = [this.count, button("Skip", () => this.end()), this.back, this.next];
    this.card = element(
      "aside",
      { className: "tour", "aria-label": "Tour", onkeydown: (event) => event.key === "Escape" && this.end() },
      this.text,
      element("p", { className: "tour-buttons" }, ...buttons),
    );
    this.app.root.append(this.card);
    this.go(0);
  }

  /** Show a step; after the last one the tour ends. */
  go(step) {
    this.marked?.classList.remove("toured");
    if (step >= this.steps.length) return this.end();
    this.step = step;
    const [part, text] = this.steps[step];
    this.marked = part;
    part.classList.add("toured");
    part.scrollIntoView({ block: "nearest" });
    this.text.textContent = text;
    this.count.textContent = `${step + 1} of ${this.steps.length}`;
    this.back.disabled = step === 0;
    this.next.textContent = step === this.steps.length - 1 ? "Done" : "Next";
    return undefined;
  }

  end() {
    if (!this.card) return;
    this.marked?.classList.remove("toured");
    this.card.remove();
    this.card = null;
    try {
      localStorage.setItem(SEEN, "1");
    } catch {
      /* a frame without storage */
    }
  }
}
