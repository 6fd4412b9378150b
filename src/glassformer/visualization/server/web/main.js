// The page: type a text, generate tokens step by step, ablate heads, and compare the predictions.

import { fetchJson } from "./api.js";
import { AttentionPanel } from "./attention_panel.js";
import { paletteOf, formatPercent, visibleText } from "./explorer_modules.js";
import { HeadSwitches } from "./head_switches.js";
import { onTableKey, showPredictions } from "./predictions.js";
import { showTokens } from "./tokens.js";
import { showVectorChanges } from "./vector_changes.js";

const TYPING_DELAY = 350; // milliseconds after the last key before the text is sent
const RETRY_DELAY = 2000; // milliseconds before a server that did not respond is asked again
const COMPACT_LAYERS = 13; // up to this many layers, of all kinds of attention, the heads fit below the text
const byId = (id) => document.getElementById(id);
const PREDICT = "/api/predict";
const STEP = "/api/step";

class Page {
  constructor(model) {
    Object.assign(this, { model, generated: [], generating: false, pending: null, typingTimer: null });
    const [size, unit] = [[1e9, "G"], [1e6, "M"], [1e3, "k"], [1, ""]].find(([least]) => model.parameters >= least);
    byId("title").textContent = `${visibleText(model.name)} - ${model.family}, ${Number((model.parameters / size).toPrecision(3))} ${unit} parameters`;
    byId("about").textContent = `${model.limit[0].toUpperCase()}${model.limit.slice(1)}. Everything is computed on the machine that serves this page.`;
    document.title = `${visibleText(model.name)} - glassformer`;
    byId("predictions-title").textContent = model.predicts ? `Prediction: ${model.predicts}` : "Effect of the ablated heads";
    byId("legend").textContent = model.predicts ? "" : "This model has no language modeling head, so it predicts no tokens.";
    byId("generation").hidden = !model.predicts;
    byId("ablation").options[1].textContent = `its mean over ${model.mean_over}`;
    byId("text").value = model.example;
    byId("chat-field").hidden = !model.has_chat_template;
    this.switches = new HeadSwitches(byId("switches"), model, () => this.onHeadsChange());
    byId("pair").classList.toggle("compact", this.switches.grid.length <= COMPACT_LAYERS);
    this.attention = new AttentionPanel(model, () => this.request, () => this.updateBusy());
    this.addListeners();
    byId("inputs").disabled = false;
    this.ready = this.predict();
  }

  addListeners() {
    byId("text").addEventListener("input", () => this.onType());
    byId("chat").addEventListener("change", () => this.onType());
    const actions = { next: () => this.step(), generate: () => (this.generating ? this.stop() : this.generate()),
      undo: () => this.keepFirst(this.generated.length - 1), clear: () => this.keepFirst(0), restore: () => this.switches.restoreAll() };
    for (const [id, action] of Object.entries(actions)) byId(id).addEventListener("click", action);
    byId("ablation").addEventListener("change", () => this.onHeadsChange());
    byId("predictions").addEventListener("keydown", onTableKey);
    document.addEventListener("add-token", ({ detail }) => this.addToken(detail));
    document.addEventListener("keydown", (event) => {
      const inField = /^(TEXTAREA|INPUT)$/.test(event.target.tagName);
      if (!event.ctrlKey && !event.metaKey) return;
      if (event.key === "Enter") this.step();
      else if (event.key === "Backspace" && !inField) this.keepFirst(this.generated.length - 1);
      else return;
      event.preventDefault();
    });
  }

  // ---- requests

  get request() {
    return { text: byId("text").value, chat: byId("chat").checked, generated: this.generated, ablated_heads: [...this.switches.ablated], ablation: byId("ablation").value };
  }

  /** Whether the same heads are ablated as in the request. */
  sameHeads({ ablated_heads: heads, ablation }) {
    return ablation === byId("ablation").value && heads.length === this.switches.ablated.size && heads.every((head) => this.switches.ablated.has(head));
  }

  get sampling() {
    return this.pending?.path === STEP;
  }

  /** The response; null if a newer request replaced it, the text changed, or it is an error, which the page shows. */
  async send(path, request) {
    this.cancelPending();
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
  onType() {
    this.stop();
    this.cancelPending();
    this.generated = [];
    this.setDisabled({ undo: true, clear: true }, byId("text"));
    this.typingTimer = setTimeout(() => this.predict(), TYPING_DELAY);
    this.updateBusy();
    this.attention.updateStale();
  }

  async predict() {
    const request = this.request;
    const response = await this.send(PREDICT, request);
    if (response && this.sameHeads(request)) this.show(response, request);
  }

  /** Samples a token; returns whether another step can follow. */
  async step() {
    if (this.sampling || !this.model.predicts) return false;
    const [temperature, top_k] = [byId("temperature").valueAsNumber, Math.trunc(byId("top-k").valueAsNumber)];
    if (Number.isNaN(temperature) || Number.isNaN(top_k)) {
      showError(`${Number.isNaN(temperature) ? "Temperature" : "Top k"} must be a number.`);
      return false;
    }
    const request = this.request;
    const response = await this.send(STEP, { ...request, temperature, top_k });
    if (response && this.sameHeads(request)) this.show(response, request);
    else if (response) this.showGenerated(response); // its predictions are of other ablated heads
    if (!this.generating) this.refresh();
    if (response?.token === null) this.announce(response.message);
    return Boolean(response) && response.token !== null && !response.ended;
  }

  async generate() {
    this.generating = true;
    this.updateGenerateButton();
    while (this.generating && (await this.step()));
    this.stop();
    this.refresh();
  }

  /** Predicts again if the shown predictions are of other ablated heads and no request is pending. */
  refresh() {
    if (!this.pending && !this.typingTimer && this.shown && !this.sameHeads(this.shown)) this.predict();
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
    this.generated = [...this.generated, token];
    return this.predict();
  }

  /** Removes all but the first generated tokens. */
  keepFirst(count) {
    if (count < 0) return;
    this.stop();
    this.generated = this.generated.slice(0, count);
    this.predict();
  }

  onHeadsChange() {
    const { size } = this.switches.ablated;
    this.setDisabled({ restore: !size }, this.switches.tabStop);
    byId("count").textContent = size ? `${size} ablated` : "";
    this.attention.updateStale();
    if (!this.generating && !this.sampling) this.predict(); // else step() refreshes the predictions
  }

  // ---- results

  updateBusy() {
    document.body.setAttribute("aria-busy", Boolean(this.pending || this.typingTimer || this.attention?.pending));
  }

  show(response, request) {
    const ablated = request.ablated_heads.length > 0;
    this.shown = request;
    this.showGenerated(response);
    byId("notes").textContent = response.notes.map(visibleText).join("; ");
    byId("notes").hidden = !response.notes.length;
    if (!this.model.predicts) return showVectorChanges(document, response);
    showPredictions(document, response, ablated);
    const full = !response.predictions.length;
    this.setDisabled({ next: full, generate: full }, byId(full ? "undo" : "next"));
    const [best] = response.predictions;
    if (best) this.announce(`Generated tokens: ${response.generated.length}. Most probable: ${visibleText(best.label)}, ${formatPercent(ablated ? best.after : best.before)}`);
  }

  showGenerated(response) {
    this.generated = response.generated.map(({ id }) => id);
    showTokens(byId("tokens"), response, this.model.is_encoder_decoder);
    const none = !this.generated.length;
    this.setDisabled({ undo: none, clear: none }, byId("next"));
    this.attention.updateStale();
  }

  /** Removes the results of the previous text; invalid: whether the server refused the text. */
  clearResults(invalid) {
    for (const id of ["tokens", "predictions", "vector-changes", "summary", "notes", ...(this.model.predicts ? ["legend"] : [])]) byId(id).replaceChildren();
    for (const part of [byId("notes"), ...document.querySelectorAll("table")]) part.hidden = true;
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

function applyTheme() {
  const palette = paletteOf(matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
  const { style } = document.documentElement;
  style.colorScheme = palette.theme;
  for (const name of ["paper", "card", "ink", "soft", "line", "accent", "mark", "wash"]) style.setProperty(`--${name}`, palette[name]);
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

applyTheme();
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", applyTheme);
window.glassformer = new Page(await fetchModel());
