// The field for another text, of which the page then shows the attention.

import { formatNumber } from "./text.js";
import { element } from "./panel.js";
import { LiveModel } from "./live_model.js";
import { liveContents, LiveSource } from "./live_source.js";

class LiveText {
  constructor(app) {
    this.app = app;
    this.source = app.store.source; // of the page's own text
    this.original = this.source.contents();
    this.model = new LiveModel(this.source, this.original.live);
    this.build();
    this.place();
  }

  build() {
    this.field = element("input", { type: "text", id: "live-text", autocomplete: "off", spellcheck: false, dir: "auto" });
    this.button = element("button", { type: "submit", textContent: "Show its attention" });
    this.back = element("button", { type: "button", textContent: "Back to the original text", hidden: true, onclick: () => this.showOriginal() });
    this.status = element("span", { className: "live-status", role: "status" });
    this.form = element(
      "form",
      { className: "live", onsubmit: (event) => [event.preventDefault(), this.submit()] },
      element(
        "span",
        { className: "live-row" },
        element("label", { htmlFor: "live-text", textContent: "Type another sentence" }),
        this.field,
        this.button,
        this.back,
      ),
      this.status,
      element("p", { className: "soft", textContent: describeRounding(this.original.live) }),
    );
  }

  /** Put the form under the title, which is built anew with other contents. */
  place() {
    this.app.root.querySelector("h1").after(this.form);
  }

  async submit() {
    if (this.busy) return;
    this.busy = true;
    this.button.disabled = true;
    this.setStatus("Computing …");
    const text = this.field.value;
    const began = performance.now();
    try {
      const ids = await this.model.encode(text);
      const result = await this.model.forward(ids);
      const contents = await liveContents(this.original, text, ids, this.model.labels, result);
      await this.show(new LiveSource(contents), { query: Infinity, key: 0 });
      this.setStatus("");
      this.back.hidden = false;
      this.milliseconds = performance.now() - began;
    } catch (error) {
      this.setStatus(error.message, true);
    }
    this.busy = false;
    this.button.disabled = false;
    this.field.focus({ preventScroll: true });
  }

  async showOriginal() {
    this.back.hidden = true;
    this.setStatus("");
    await this.show(this.source, { query: Infinity, key: 0 });
    this.field.focus({ preventScroll: true });
  }

  async show(source, change) {
    const shown = this.app.replaceSource(source, change);
    this.place();
    await shown;
  }

  setStatus(text, isError = false) {
    this.status.textContent = text;
    this.status.classList.toggle("live-error", isError);
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
