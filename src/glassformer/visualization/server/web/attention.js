// The explorer of the page: the attention of the current text, and of a second one beside it.

import { fetchJson } from "./api.js";
import { Companion } from "./companion.js";
import { ContentsSource, element, Explorer, fromHash } from "./explorer_modules.js";

const WIDE = 1360; // pixels from which the explorer's panel fits beside its view
const NARROW = 960;
const WITH_ANALYSES = ["step", "predictions", "score", "rollout"]; // views that the analyses add or complete
const byId = (id) => document.getElementById(id);

export const layoutOf = (width) => (width >= WIDE ? "full" : width >= NARROW ? "overview" : "stacked");

const tourSteps = ({ predicts }) => [
  [byId("text").closest(".box"), `Type a text here. ${predicts ? "What the model predicts and where" : "Where"} each word looks changes while you type.`],
  [byId("preset").closest(".box"), `Turn heads off, and see ${predicts ? "which predictions need them" : "which words they change"}.`],
];
const words = ({ predicts }) => [
  ["turn off", "Replace the output of a head by zero, or by its mean: the predictions that change show what the head does."],
  ...(predicts
    ? [
        ["temperature", "How much a sampled token is left to chance: 0 takes the most probable one; above 1, improbable ones become frequent."],
        ["top k", "Sample from the k most probable tokens only."],
      ]
    : []),
];
const keys = ({ predicts }) => [
  ["Ctrl + click", "on the map of heads: turn a head off or on (⌘, Alt and Shift do the same)"],
  ...(predicts
    ? [
        ["Ctrl + Enter", "sample the next token"],
        ["Ctrl + Backspace", "remove the last generated token (outside of fields)"],
      ]
    : []),
];

export class Attention {
  /** page: see main.js; host: of the explorer, without the parts that are set here. */
  constructor(page, host) {
    Object.assign(this, { page, pending: null, typed: {}, rollout: 0 });
    this.host = {
      ...host,
      aside: byId("bench"),
      layoutOf,
      onChange: () => this.follow(),
      tourSteps: () => tourSteps(page.model),
      words: words(page.model),
      keys: keys(page.model),
      command: "glassformer serve",
      noVectors: "Queries, keys and values come with the option “with vectors …”, for texts that are not too long.",
    };
    this.second = element("div", { className: "second" });
    byId("analyses").addEventListener("change", () => page.refreshAttention());
  }

  /** Whether the shown view, or that of a link, needs no analyses. */
  isFast(link) {
    const view = link === null ? this.explorer?.state.view : new URLSearchParams(link.slice(1)).get("view");
    return !byId("analyses").checked || !WITH_ANALYSES.includes(view);
  }

  /**
   * Show the attention of the texts of some requests, and if it is given, the view of a link. given: the attention
   * without analyses, if it came with the predictions.
   */
  async update(requests, link = null, given = []) {
    this.cancel();
    const pending = (this.pending = new AbortController());
    this.page.updateBusy();
    const analyses = byId("analyses").checked;
    const key = JSON.stringify(requests);
    const { signal } = pending;
    try {
      const isShown = analyses && this.shown === key; // and only lacks the analyses
      if (this.isFast(link) && !isShown) {
        await this.show(requests, given.length ? given : await this.fetchAll(requests, signal, false), signal, link);
      }
      if (analyses) await this.show(requests, await this.fetchAll(requests, signal, true), signal, link);
      this.page.clearError(this.error);
    } catch (error) {
      if (error.name === "AbortError") return;
      this.error = error.message;
      this.page.showError(error.message);
      this.markStale(this.shown !== key);
    } finally {
      if (pending === this.pending) this.pending = null;
      this.page.updateBusy();
    }
  }

  cancel() {
    this.pending?.abort();
    this.pending = null;
  }

  /** Show that the attention is not that of the text in the field. */
  markStale(stale) {
    byId("explorer").classList.toggle("stale", stale);
  }

  async fetchAll(requests, signal, analyses) {
    const contents = [];
    for (const request of requests) contents.push(await fetchJson("/api/attention", { ...request, analyses }, signal));
    return contents;
  }

  async show(requests, [first, second], signal, link) {
    signal.throwIfAborted();
    await this.showFirst(new ContentsSource(first), this.changeOf(0, requests[0]));
    signal.throwIfAborted();
    if (second) await this.showSecond(new ContentsSource(second), this.changeOf(1, requests[1]));
    else this.hideSecond();
    signal.throwIfAborted();
    this.shown = JSON.stringify(requests);
    this.markStale(false);
    this.page.showNotes(first.notes);
    if (link !== null) await this.restore(link);
  }

  /** What changes in the state: the last token of a new text is chosen. */
  changeOf(index, { text, generated, chat }) {
    const typed = JSON.stringify([text, generated, chat]);
    const isNew = this.typed[index] !== undefined && this.typed[index] !== typed;
    this.typed[index] = typed;
    return isNew ? { query: Infinity, key: 0 } : {};
  }

  async showFirst(source, change) {
    if (this.explorer) await this.explorer.replaceSource(source, { ...change, rollout: this.rollout });
    else await (this.explorer = new Explorer(byId("explorer"), source, this.host)).ready;
    this.follow();
  }

  async showSecond(source, change) {
    const { stage } = this.explorer;
    stage.parentElement.classList.add("comparing");
    if (!this.second.isConnected) stage.after(this.second);
    if (this.companion) await this.companion.replaceSource(source, change);
    else await (this.companion = new Companion(this.second, source, this.explorer)).ready;
    this.companion.follow();
  }

  hideSecond() {
    if (!this.companion) return;
    this.explorer.stage.parentElement.classList.remove("comparing");
    this.second.remove();
    this.companion = null;
    delete this.typed[1];
  }

  /** Draw again, after heads were turned off or on. */
  redraw() {
    this.explorer?.set({}, { replace: true });
  }

  follow() {
    const { explorer, page } = this;
    if (!explorer) return;
    const { kind, state, contents } = explorer;
    if (contents.rollouts.length) this.rollout = state.rollout; // kept for the next contents that have rollouts
    this.companion?.follow();
    page.heads.show(kind, state.layer, state.head);
  }

  /** Apply what a link says about the view; the theme and whether there are shortcuts stay. */
  async restore(link) {
    const { explorer, companion } = this;
    const { theme, shortcuts } = explorer.state;
    await explorer.set({ ...fromHash(link, explorer.start, explorer.contents), theme, shortcuts }, { replace: true });
    const second = new URLSearchParams(link.slice(1)).get("at2");
    const [query, key] = (second ?? "").split(".").map(Number);
    if (companion && query >= 0 && key >= 0) await companion.set({ query, key });
  }

  /** The chosen cell of the second text, for a link. */
  get secondCell() {
    return this.companion ? `${this.companion.state.query}.${this.companion.state.key}` : "";
  }
}
