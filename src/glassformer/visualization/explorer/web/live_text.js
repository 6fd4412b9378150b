// The field for another text, of which the page then shows the attention.

import { formatNumber } from "./text.js";
import { fromHash } from "./state.js";
import { ContentsSource } from "./data.js";
import { element } from "./panel.js";
import { LiveModel } from "./live_model.js";
import { liveContents } from "./live_contents.js";

const SUBMIT = "Show its attention";
const COMPUTING = "Computing …";

class LiveText {
  constructor(app) {
    this.app = app;
    this.source = app.store.source; // of the page's own text
    this.original = this.source.contents();
    this.model = new LiveModel(this.source, this.original.live);
    this.build();
    app.root.querySelector("h1").after(this.section);
    this.shown = ""; // the typed text
    app.host.hash = () => (this.shown ? new URLSearchParams({ text: this.shown }).toString() : "");
    app.host.onHash = (hash) => this.restore(hash);
    this.restore(location.hash);
  }

  /** Show the text of a link. */
  async restore(hash) {
    const text = new URLSearchParams(hash.slice(1)).get("text") ?? "";
    if (text === this.shown) return;
    this.field.value = text;
    if (!text) return this.showOriginal();
    await this.submit();
    if (text === this.shown) await this.app.set(fromHash(hash, this.app.start, this.app.contents), { replace: true });
  }

  /** No form: the frame of a notebook does not let one be submitted. */
  build() {
    const submit = (event) => event.key === "Enter" && !event.isComposing && this.submit();
    this.field = element("input", { type: "text", id: "live-text", autocomplete: "off", spellcheck: false, dir: "auto", onkeydown: submit });
    this.button = element("button", { type: "button", className: "live-submit", textContent: SUBMIT, onclick: () => this.submit() });
    this.back = element("button", { type: "button", textContent: "Back to the original text", hidden: true, onclick: () => this.showOriginal() });
    this.status = element("p", { role: "status" });
    const label = element("label", { htmlFor: "live-text", textContent: "Type another sentence" });
    this.section = element(
      "div",
      { className: "live" },
      element("div", { className: "live-row" }, label, this.field, this.button, this.back),
      this.status,
      element("p", { className: "soft", textContent: describeRounding(this.original.live) }),
    );
  }

  async submit() {
    if (this.busy) return;
    this.setBusy(true);
    const text = this.field.value;
    const began = performance.now();
    let problem = "";
    try {
      const encoded = await this.model.encode(text);
      const result = await this.model.forward(encoded.ids);
      const contents = await liveContents(this.original, text, encoded, this.model.labels, result);
      await this.show(new ContentsSource(contents), text);
      this.back.hidden = false;
      this.milliseconds = performance.now() - began;
    } catch (error) {
      problem = error.message;
    }
    this.setBusy(false, problem);
  }

  async showOriginal() {
    this.back.hidden = true;
    this.status.textContent = "";
    await this.show(this.source, "");
    this.field.focus({ preventScroll: true });
  }

  /** Show the last token of a text. */
  show(source, text) {
    this.shown = text;
    return this.app.replaceSource(source, { query: Infinity, key: 0 });
  }

  /** Say that the page computes, in place of the button's text so that nothing moves, or what the problem is. */
  setBusy(busy, problem = "") {
    this.busy = busy;
    this.button.textContent = busy ? COMPUTING : SUBMIT;
    this.status.className = problem ? "live-error" : "visually-hidden";
    this.status.textContent = busy ? COMPUTING : problem;
  }
}

function describeRounding({ size, attention_difference: attention, probability_difference: probability }) {
  const differences = [`attention weights ${formatNumber(attention)}`];
  if (probability !== null) differences.push(`probabilities ${formatNumber(probability)}`);
  return (
    `Computed in this page with 8-bit weights (${(size / 1e6).toFixed(1)} MB); largest difference from float32 on the ` +
    `original text: ${differences.join(", ")}.`
  );
}

window.glassformer.live = new LiveText(window.glassformer);
