// Panel that requests and shows an explorer page of the current text.

import { fetchJson } from "./api.js";
import { element } from "./explorer_modules.js";

const byId = (id) => document.getElementById(id);

export class AttentionPanel {
  /** model: its description; getRequest: returns the current request; onBusyChange: called when a request starts or ends. */
  constructor(model, getRequest, onBusyChange) {
    Object.assign(this, { getRequest, onBusyChange, pending: null });
    const analyses = model.predicts ? "logit lens, rollout and score decomposition" : "rollout and score decomposition";
    const limit = model.max_analysis_tokens < model.max_tokens ? `, at most ${model.max_analysis_tokens.toLocaleString("en")} tokens` : "";
    byId("analyses-label").textContent = `with ${analyses} (slower${limit})`;
    byId("explore").addEventListener("click", () => this.start());
    byId("cancel").addEventListener("click", () => this.pending?.abort());
  }

  async start() {
    if (this.pending) return;
    const [pending, request] = [new AbortController(), this.getRequest()];
    this.begin(pending);
    try {
      const { page } = await fetchJson("/api/explore", { ...request, analyses: byId("analyses").checked }, pending.signal);
      this.shownRequest = JSON.stringify(request);
      this.end("");
      this.show(page);
    } catch (error) {
      this.end(error.name === "AbortError" ? "Cancelled." : error.message);
    }
    this.updateStale();
  }

  begin(pending) {
    const started = performance.now();
    this.pending = pending;
    const update = () => (byId("elapsed").textContent = `Computing … ${Math.round((performance.now() - started) / 1000)} s. Other requests wait.`);
    update();
    this.timer = setInterval(update, 1000);
    byId("explore-status").textContent = "";
    this.swapButtons(true);
  }

  end(status) {
    clearInterval(this.timer);
    this.pending = null;
    byId("elapsed").textContent = "";
    byId("explore-status").textContent = status;
    this.swapButtons(false);
  }

  /** Shows one button instead of the other; the focus moves along. */
  swapButtons(busy) {
    const [shown, hidden] = busy ? [byId("cancel"), byId("explore")] : [byId("explore"), byId("cancel")];
    const focused = document.activeElement === hidden;
    shown.hidden = false;
    if (focused) shown.focus();
    hidden.hidden = true;
    byId("analyses").disabled = busy;
    this.onBusyChange();
  }

  show(page) {
    byId("frame").replaceChildren(
      element("a", { href: page, target: "_blank", rel: "noopener", textContent: "Open in a new tab" }),
      element("iframe", { title: "Attention of every head", src: page, sandbox: "allow-scripts allow-downloads", allow: "clipboard-write" }),
    );
  }

  /** Shows whether the page below is of another text or of other ablated heads. */
  updateStale() {
    byId("stale").hidden = !this.shownRequest || this.shownRequest === JSON.stringify(this.getRequest());
  }
}
