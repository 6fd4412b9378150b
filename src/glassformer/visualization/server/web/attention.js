// The explorer of the page: the attention of the current text, and of a second one beside it.

import { fetchJson } from "./api.js";
import { Companion } from "./companion.js";
import { ContentsSource, element, Explorer, fromHash } from "./explorer_modules.js";

const WIDE = 1360; // pixels from which the explorer's panel fits beside its view
const NARROW = 960;
const layoutOf = (width) => (width >= WIDE ? "full" : width >= NARROW ? "overview" : "stacked");
const byId = (id) => document.getElementById(id);

const tourSteps = () => [
  [byId("text").closest(".box"), "Type a text here. What the model predicts and where each word looks change while you type."],
];
const WORDS = [
  ["turn off", "Replace the output of a head by zero, or by its mean: the predictions that change show what the head does."],
  ["temperature", "How much a sampled token is left to chance: at 0 it is the most probable one, above 1 improbable ones become frequent."],
  ["top k", "Sample from the k most probable tokens only."],
];

export class Attention {
  /** page: see main.js; host: of the explorer, without the parts that are set here. */
  constructor(page, host) {
    Object.assign(this, { page, pending: null });
    this.host = { ...host, aside: byId("bench"), layoutOf, onChange: () => this.follow(), tourSteps, words: WORDS };
    this.second = element("div", { className: "second" });
    byId("analyses").addEventListener("change", () => page.refreshAttention());
  }

  /** Show the attention of the texts of some requests; the chosen word stays if the texts are the same. */
  async update(requests) {
    this.cancel();
    const pending = (this.pending = new AbortController());
    this.page.updateBusy();
    try {
      await this.load(requests, pending.signal);
      const texts = requests.map(({ text }) => text.length);
      if (byId("analyses").checked && texts.length) await this.load(requests, pending.signal, true);
      byId("attention-error").textContent = "";
      if (this.restoring) await this.restore(this.restoring);
    } catch (error) {
      if (error.name !== "AbortError") byId("attention-error").textContent = error.message;
    } finally {
      if (pending === this.pending) this.pending = null;
      this.page.updateBusy();
    }
  }

  cancel() {
    this.pending?.abort();
    this.pending = null;
  }

  async load(requests, signal, analyses = false) {
    const contents = [];
    for (const request of requests) contents.push(await fetchJson("/api/attention", { ...request, analyses }, signal));
    signal.throwIfAborted();
    const [first, second] = contents;
    const changed = (name, { text, generated, chat }) => {
      const key = JSON.stringify([text, generated, chat]);
      const isNew = this[name] !== undefined && this[name] !== key;
      this[name] = key;
      return isNew ? { query: Infinity, key: 0 } : {};
    };
    await this.showFirst(new ContentsSource(first), changed("firstText", requests[0]), analyses);
    if (second) await this.showSecond(new ContentsSource(second), changed("secondText", requests[1]));
    else this.hideSecond();
  }

  async showFirst(source, change, analyses) {
    if (!this.explorer) {
      this.explorer = new Explorer(byId("explorer"), source, this.host);
    } else {
      const { view } = this.explorer.state;
      const wanted = this.wantedView ?? view;
      const has = () => this.explorer.views.some(({ name }) => name === wanted);
      await this.explorer.replaceSource(source, { ...change, view: wanted });
      this.wantedView = analyses || has() ? undefined : wanted; // a view that comes with the analyses
    }
    await this.explorer.ready;
    this.follow();
  }

  async showSecond(source, change) {
    const { stage } = this.explorer;
    stage.parentElement.classList.add("comparing");
    if (!this.second.isConnected) stage.after(this.second);
    if (this.companion) await this.companion.replaceSource(source, change);
    else this.companion = new Companion(this.second, source, this.explorer);
    await this.companion.ready;
  }

  hideSecond() {
    if (!this.companion) return;
    this.explorer.stage.parentElement.classList.remove("comparing");
    this.second.remove();
    this.companion = null;
    this.secondText = undefined;
  }

  /** Draw again, after heads were turned off or on. */
  redraw() {
    this.explorer?.set({}, { replace: true });
  }

  follow() {
    const { explorer } = this;
    if (!explorer) return;
    this.companion?.follow();
    this.page.heads.show(explorer.kind, explorer.state.layer, explorer.state.head);
  }

  /** Apply what a link says about the view. */
  restore(hash) {
    const { explorer } = this;
    this.restoring = null;
    return explorer?.set(fromHash(hash, explorer.start, explorer.contents), { replace: true });
  }
}
