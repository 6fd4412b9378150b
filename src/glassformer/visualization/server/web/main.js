// The page: type a text, see the attention and the predictions, generate tokens, turn heads off, compare two texts.

import { Attention, layoutOf } from "./attention.js";
import { fetchJson } from "./api.js";
import { formatPercent, useTheme, visibleText } from "./explorer_modules.js";
import { HeadSwitches } from "./head_switches.js";
import { onTableKey, showComparison, showPredictions } from "./predictions.js";
import { fromAddress, isShown, toAddress } from "./address.js";
import { showTokens } from "./tokens.js";
import { showVectorChanges } from "./vector_changes.js";

const TYPING_DELAY = 30; // milliseconds after the last key before the text is sent
const RETRY_DELAY = 2000; // milliseconds before a server that did not respond is asked again
const byId = (id) => document.getElementById(id);
const PREDICT = "/api/predict";
const STEP = "/api/step";

class Page {
  constructor(model) {
    Object.assign(this, { model, generated: [], generating: false, pending: null, typingTimer: null });
    byId("title").textContent = `${visibleText(model.name)} - ${model.family}`;
    byId("about").textContent = `${model.limit[0].toUpperCase()}${model.limit.slice(1)}. Everything is computed on the machine that serves this page.`;
    document.title = `${visibleText(model.name)} - glassformer`;
    byId("predictions-title").textContent = model.predicts ? `Prediction: ${model.predicts}` : "Effect of the heads that are off";
    byId("legend").textContent = model.predicts ? "" : "This model has no language modeling head, so it predicts no tokens.";
    byId("chat-field").hidden = !model.has_chat_template;
    const analyses = model.predicts ? "vectors, logit lens, scores, rollout" : "vectors, scores, rollout";
    const limit = model.max_analysis_tokens < model.max_tokens ? `; at most ${model.max_analysis_tokens.toLocaleString("en")} tokens` : "";
    byId("analyses-label").textContent = `with ${analyses} (slower${limit})`;
    this.heads = new HeadSwitches(model, () => this.onHeadsChange());
    this.attention = new Attention(this, {
      hash: () => toAddress(this),
      onHash: (hash) => this.restore(hash),
      isOff: (kind, layer, head) => this.heads.isOff(kind, layer, head),
      toggle: (kind, layer, head) => this.heads.toggle(kind, layer, head),
      clickToggles: () => byId("click-toggles").checked,
    });
    this.addListeners();
    byId("inputs").disabled = false;
    this.ready = this.fill(location.hash);
  }

  /** Show the texts, the generated tokens and the heads of a link. */
  fill(hash) {
    const { generated, off } = fromAddress(this, hash);
    this.stop();
    this.hidePage();
    this.generated = generated;
    this.heads.set(off);
    this.showFields();
    this.attention.redraw();
    return this.predict(hash);
  }

  addListeners() {
    for (const id of ["text", "text-2"]) byId(id).addEventListener("input", () => this.onType(id));
    byId("chat").addEventListener("change", () => this.onType("text"));
    byId("compare").addEventListener("change", () => this.onCompare());
    const actions = { next: () => this.next(), generate: () => (this.generating ? this.stop() : this.generate()),
      undo: () => this.keepFirst(this.generated.length - 1), clear: () => this.keepFirst(0),
      "toggle-head": () => this.heads.toggle(...this.heads.shown), "make-page": () => this.makePage() };
    for (const [id, action] of Object.entries(actions)) byId(id).addEventListener("click", action);
    byId("predictions").addEventListener("keydown", onTableKey);
    document.addEventListener("add-token", ({ detail }) => this.addToken(detail));
    document.addEventListener("keydown", (event) => {
      const inField = /^(TEXTAREA|INPUT)$/.test(event.target.tagName);
      if (!event.ctrlKey && !event.metaKey) return;
      if (event.key === "Enter") this.next();
      else if (event.key === "Backspace" && !inField) this.keepFirst(this.generated.length - 1);
      else return;
      event.preventDefault();
    });
  }

  // ---- requests

  get request() {
    const [ablated_heads, ablation] = [[...this.heads.off], byId("ablation").value];
    return { text: byId("text").value, chat: byId("chat").checked, generated: this.generated, ablated_heads, ablation };
  }

  get comparing() {
    return byId("compare").checked;
  }

  /** The request for the second text, after which nothing was generated. */
  get secondRequest() {
    return { ...this.request, text: byId("text-2").value, generated: [] };
  }

  /** Whether the same heads are off as in the request. */
  sameHeads({ ablated_heads: heads, ablation }) {
    return ablation === byId("ablation").value && heads.length === this.heads.off.size && heads.every((head) => this.heads.off.has(head));
  }

  get sampling() {
    return this.pending?.path === STEP;
  }

  /** The response; null if a newer request replaced it, the text changed, or it is an error, which the page shows. */
  async send(path, request) {
    this.cancelPending();
    this.attention.cancel(); // the server computes one request at a time
    const pending = (this.pending = { path, controller: new AbortController() });
    this.updateBusy();
    try {
      const response = await fetchJson(path, request, pending.controller.signal);
      if (pending !== this.pending || request.text !== byId("text").value || request.chat !== byId("chat").checked) return null;
      showError("");
      return response;
    } catch (error) {
      if (pending !== this.pending) return null;
      showError(error.message);
      if (path === PREDICT) this.clearResults(error.status === 400);
      if (path === PREDICT) this.attention.markStale(true);
      return null;
    } finally {
      if (pending === this.pending) this.pending = null;
      this.updateBusy();
    }
  }

  cancelPending() {
    this.pending?.controller.abort();
    this.pending = null;
    clearTimeout(this.typingTimer);
    this.typingTimer = null;
  }

  // ---- actions

  /** The pending response and the generated tokens belong to the previous text. */
  onType(id) {
    this.stop();
    this.cancelPending();
    this.attention.cancel();
    this.hidePage();
    if (id === "text") this.generated = [];
    this.setDisabled({ undo: !this.generated.length, clear: !this.generated.length }, byId(id));
    this.typingTimer = setTimeout(() => this.predict(), TYPING_DELAY);
    this.updateBusy();
  }

  onCompare() {
    this.stop();
    this.showFields();
    if (this.comparing && !byId("text-2").value) byId("text-2").value = byId("text").value;
    if (this.comparing) byId("text-2").focus();
    this.predict();
  }

  showFields() {
    byId("second-text").hidden = !this.comparing;
    byId("generation").hidden = byId("sampling").hidden = this.comparing || !this.model.predicts;
  }

  /** link: the hash of a URL whose view is shown then. */
  async predict(link = null) {
    const request = this.request;
    const withAttention = this.attention.isFast(link);
    const response = await this.send(PREDICT, { ...request, attention: withAttention });
    if (!response || !this.sameHeads(request)) return;
    const second = this.comparing ? await this.predictSecond(request, response) : null;
    if (second === undefined) return; // another request replaced it
    this.show(response, request, second);
    const given = [response, ...(this.hasSecond ? [second] : [])].map(({ attention }) => attention);
    this.attention.update(this.shownRequests, link, withAttention ? given : []);
  }

  /**
   * The response to the second text, or { error }; both responses get the probabilities of the best tokens of the other
   * one. undefined: a newer request replaced it.
   */
  async predictSecond(request, response) {
    const pending = (this.pending = { path: PREDICT, controller: new AbortController() });
    this.updateBusy();
    const { signal } = pending.controller;
    const idsOf = ({ predictions }) => predictions.map(({ id }) => id);
    try {
      const second = await fetchJson(PREDICT, { ...this.secondRequest, tokens: idsOf(response), attention: Boolean(response.attention) }, signal);
      if (second.predictions.length && response.predictions.length)
        response.wanted = (await fetchJson(PREDICT, { ...request, tokens: idsOf(second) }, signal)).wanted;
      return pending === this.pending ? second : undefined;
    } catch (error) {
      return pending === this.pending ? { error: error.message } : undefined;
    } finally {
      if (pending === this.pending) this.pending = null;
      this.updateBusy();
    }
  }

  /** Show the attention of the texts that are shown, if nothing else is under way. */
  refreshAttention() {
    if (this.shown && !this.pending && !this.typingTimer) this.attention.update(this.shownRequests);
  }

  /** The requests for the texts whose predictions are shown; the second text may have been refused. */
  get shownRequests() {
    return [this.request, ...(this.comparing && this.hasSecond ? [this.secondRequest] : [])];
  }

  /** Make a page of its own of the current text, and show a link to it; a second click cancels. */
  async makePage() {
    if (this.making) return this.hidePage();
    const making = (this.making = new AbortController());
    byId("page-link").hidden = true;
    byId("make-page").textContent = "Cancel";
    try {
      const request = { ...this.request, analyses: byId("analyses").checked };
      const { page } = await fetchJson("/api/explore", request, making.signal);
      byId("page-link").href = page;
      byId("page-link").hidden = this.making !== making;
    } catch (error) {
      if (error.name !== "AbortError") showError(error.message);
    }
    if (this.making === making) this.hidePage(false);
    return undefined;
  }

  /** The page that was made, or is being made, is of another text; hides: whether its link is hidden. */
  hidePage(hides = true) {
    this.making?.abort();
    this.making = null;
    byId("make-page").textContent = "Make a page of its own";
    if (hides) byId("page-link").hidden = true;
  }

  /** Samples a token; returns whether another step can follow. */
  async step() {
    if (this.sampling || this.comparing || !this.model.predicts) return false;
    const [temperature, top_k] = [byId("temperature").valueAsNumber, Math.trunc(byId("top-k").valueAsNumber)];
    if (Number.isNaN(temperature) || Number.isNaN(top_k)) {
      showError(`${Number.isNaN(temperature) ? "Temperature" : "Top k"} must be a number.`);
      return false;
    }
    const request = this.request;
    const response = await this.send(STEP, { ...request, temperature, top_k });
    this.hidePage();
    if (response && this.sameHeads(request)) this.show(response, request);
    else if (response) this.showGenerated(response); // its predictions are of other ablated heads
    if (response?.token === null) this.announce(response.message);
    return Boolean(response) && response.token !== null && !response.ended;
  }

  async next() {
    const count = this.generated.length;
    await this.step();
    if (!this.generating) this.refresh(this.generated.length !== count);
  }

  async generate() {
    this.generating = true;
    this.updateGenerateButton();
    while (this.generating && (await this.step()));
    this.stop();
    this.refresh();
  }

  /** After steps: predicts again if the shown predictions are of other heads; shows the attention of new tokens. */
  refresh(isNew = true) {
    if (this.pending || this.typingTimer || !this.shown) return;
    if (!this.sameHeads(this.shown)) this.predict();
    else if (isNew) this.refreshAttention();
  }

  stop() {
    this.generating = false;
    this.updateGenerateButton();
  }

  updateGenerateButton() {
    byId("generate").textContent = this.generating ? "Stop" : "Generate";
    byId("generate").setAttribute("aria-pressed", this.generating);
  }

  addToken(token) {
    this.stop();
    this.hidePage();
    this.generated = [...this.generated, token];
    return this.predict();
  }

  /** Removes all but the first generated tokens. */
  keepFirst(count) {
    if (count < 0) return;
    this.stop();
    this.hidePage();
    this.generated = this.generated.slice(0, count);
    this.predict();
  }

  onHeadsChange() {
    this.hidePage();
    this.attention.redraw();
    if (!this.generating && !this.sampling) this.predict(); // else step() refreshes the predictions
  }

  /** The URL was changed: if texts or heads changed, show them, then the view. */
  async restore(hash) {
    if (!isShown(this, hash)) await this.fill(hash);
  }

  // ---- results

  updateBusy() {
    document.body.setAttribute("aria-busy", Boolean(this.pending || this.typingTimer || this.attention?.pending));
  }

  /** second: the response to the second text, or { error }. */
  show(response, request, second = null) {
    const ablated = request.ablated_heads.length > 0;
    this.shown = request;
    this.hasSecond = Boolean(second && !second.error);
    this.showGenerated(response);
    this.notes = [...response.notes, ...(second?.notes ?? []).map((note) => `second text: ${note}`)];
    byId("notes").textContent = this.notes.map(visibleText).join("; ");
    byId("notes").hidden = !this.notes.length;
    if (second?.error) showError(`Second text: ${second.error}`);
    if (!this.model.predicts) return showVectorChanges(document, response);
    if (this.hasSecond) showComparison(document, response, second);
    else showPredictions(document, response, ablated);
    const full = !response.predictions.length;
    this.setDisabled({ next: full, generate: full }, byId(full ? "undo" : "next"));
    const [best] = response.predictions;
    if (best) this.announce(`Generated tokens: ${response.generated.length}. Most probable: ${visibleText(best.label)}, ${formatPercent(ablated ? best.after : best.before)}`);
  }

  /** Shows the notes of the attention that are not among those of the predictions. */
  showNotes(notes) {
    byId("attention-notes").textContent = notes.filter((note) => !this.notes.includes(note)).map(visibleText).join("; ");
  }

  showError = showError;

  /** Hides an error, unless another one is shown by now. */
  clearError(message) {
    if (byId("error").textContent === message) showError("");
  }

  showGenerated(response) {
    this.generated = response.generated.map(({ id }) => id);
    showTokens(byId("tokens"), response, this.model.is_encoder_decoder);
    const none = !this.generated.length;
    this.setDisabled({ undo: none, clear: none }, byId("next"));
  }

  /** Removes the results of the previous text; invalid: whether the server refused the text. */
  clearResults(invalid) {
    for (const id of ["tokens", "predictions", "vector-changes", "summary", "notes", ...(this.model.predicts ? ["legend"] : [])]) byId(id).replaceChildren();
    for (const part of [byId("notes"), ...document.querySelectorAll("#bench table")]) part.hidden = true;
    const none = !this.generated.length;
    this.setDisabled({ next: invalid, generate: invalid, undo: none, clear: none }, byId("text"));
  }

  /** Disables or enables buttons by id; if the focused one is disabled, the fallback gets the focus. */
  setDisabled(buttons, fallback) {
    const focused = document.activeElement;
    for (const [id, disabled] of Object.entries(buttons)) byId(id).disabled = disabled;
    if (focused?.disabled) (fallback.disabled ? byId("text") : fallback).focus();
  }

  /** Tells screen readers. */
  announce(message) {
    byId("announcement").textContent = message;
  }
}

function showError(message) {
  byId("error").textContent = message;
  byId("error").hidden = !message;
}

/** The description of the model; the request is repeated until the server responds. */
async function fetchModel() {
  for (;;) {
    try {
      const model = await fetchJson("/api/model");
      showError("");
      return model;
    } catch (error) {
      showError(`${error.message.replace(/\.?$/, ".")} The page tries again.`);
      await new Promise((resolve) => setTimeout(resolve, RETRY_DELAY));
    }
  }
}

useTheme("auto"); // until the explorer is there, which follows its own setting
byId("explorer").dataset.layout = layoutOf(innerWidth);
window.glassformer = new Page(await fetchModel());
