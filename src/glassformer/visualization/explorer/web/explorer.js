// The explorer: a page with every head of a model, which works without a network.

import { withVisibleText } from "./text.js";
import { Store } from "./data.js";
import { textColorOn, useTheme } from "./colors.js";
import { displayedKind, fromHash, initialState, nearestState, toHash } from "./state.js";
import { headsView, overviewWidths } from "./heads_view.js";
import { textView } from "./text_view.js";
import { mapView } from "./map_view.js";
import { rolloutView } from "./rollout_view.js";
import { linesView } from "./lines_view.js";
import { imageView, loadImages } from "./image_view.js";
import { predictionsView } from "./predictions_view.js";
import { scoreView } from "./score_view.js";
import { stepView } from "./step_view.js";
import { byHeadView } from "./by_head_view.js";
import { buildScene, predictionsFor } from "./scene.js";
import { element, fillPanel } from "./panel.js";
import { modelTitle, toSvg } from "./export.js";
import { handleKey } from "./keyboard.js";
import { followCell, hover, pan, zoom } from "./navigation.js";
import { buildHeader, buildTabs, Controls, fillAbout } from "./controls.js";
import { buildHelp } from "./help.js";
import { ScrollCanvas } from "./canvas.js";
import { Tour } from "./tour.js";

const VIEWS = [textView, imageView, headsView, mapView, stepView, byHeadView, linesView, predictionsView, scoreView, rolloutView];
const ANNOUNCE_DELAY = 200; // milliseconds; while a key is held, screen readers are told the last step only

/** Parts of the page that fit side by side: the view, the panel, and the overview of all heads. */
const layoutOf = (width) => (width >= 1280 ? "full" : width >= 960 ? "beside" : "stacked");

/**
 * What a page around the explorer may add or replace. aside: an element in the root, which stays after the header;
 * layoutOf: of a width in pixels; hash(): its part of the URL's hash; onHash(): called when the hash was changed from
 * outside; isOff() and toggle(): whether a head is turned off, and the action to turn it off or on; clickToggles():
 * whether every click on the map of heads does that; onChange(): called after a change of the state; tourSteps(), words
 * and keys: added to the tour and to the help; command: that makes the page; noVectors: why a page has no vectors.
 */
const NO_HOST = {
  aside: null,
  layoutOf,
  hash: () => "",
  onHash() {},
  isOff: () => false,
  toggle: null,
  clickToggles: () => false,
  onChange() {},
  tourSteps: () => [],
  words: [],
  keys: [],
  command: "glassformer explore",
  noVectors: "Queries, keys and values are only in pages of shorter texts.",
};

export class Explorer {
  /** source: has the methods of PageSource; host: any of the members of NO_HOST. */
  constructor(root, source, host = {}) {
    this.root = root;
    this.host = { ...NO_HOST, ...host };
    this.timings = {};
    this.load(source);
    this.build();
    this.applyTheme();
    this.listen();
    this.ready = this.open().then(() => this.tour?.offer());
  }

  load(source) {
    this.contents = withVisibleText(source.contents());
    this.store = new Store(source, this.contents);
    this.views = VIEWS.filter((view) => view.available(this.contents));
    this.start = initialState(this.contents);
    this.state = this.nearestState(this.state ?? fromHash(location.hash, this.start, this.contents));
    this.cells = new Map(); // the cell chosen last in each kind of attention
  }

  /** Show the contents of another source, such as a typed text; the view and the head stay the same. */
  replaceSource(source, change) {
    this.state = { ...this.state, ...change };
    this.hovered = null;
    this.hint.hidden = true;
    this.load(source);
    this.update();
    return (this.ready = this.open());
  }

  async open() {
    await this.loadImage();
    await this.show();
    this.timings.drawn = performance.now();
    await this.loadThumbnails();
    this.timings.complete = performance.now();
  }

  /** The nearest state that exists on this page, with its view. */
  nearestState(state) {
    const view = this.views.some(({ name }) => name === state.view) ? state.view : this.start.view;
    return nearestState({ ...state, view }, this.contents);
  }

  get view() {
    return this.views.find(({ name }) => name === this.state.view);
  }

  /** The sections of the panel; what heads do is only known if they were analyzed. */
  get panelSections() {
    const { head_labels: labels, head_labels_source: source } = this.contents;
    return this.view.panel.filter((name) => name !== "head" || labels.length || source);
  }

  /** The kind of attention that is shown; views of one kind only do not change the chosen one. */
  get kind() {
    return displayedKind(this.state, this.contents);
  }

  get attention() {
    return this.contents.attention.find(({ kind }) => kind === this.kind);
  }

  // ---- the page

  build() {
    const { contents } = this;
    this.controls = new Controls(this);
    this.tabs = element("div", { className: "tabs", role: "tablist", "aria-label": "Views" });
    this.stage = element("div", { className: "stage", tabIndex: 0, role: "application" });
    this.overview = element("div", { className: "overview", tabIndex: 0, role: "application" });
    this.panel = element("aside", {
      className: "panel",
      "aria-label": "The chosen cell, its row and its column",
      tabIndex: 0,
    });
    this.announcement = element("p", { className: "visually-hidden", role: "status", "aria-live": "polite" });
    this.hint = element("div", { className: "hint", hidden: true, "aria-hidden": "true" });
    const view = element("section", { className: "view", id: "view", role: "tabpanel" }, this.stage);
    const columns = element("div", { className: "columns" }, this.overview, view, this.panel);
    this.intro = element("p", { className: "intro" });
    this.tour = new Tour(this);
    this.about = element("div", {});
    const { aside } = this.host; // is not moved, since it would lose the focus
    for (const child of [...this.root.children]) if (child !== aside) child.remove();
    this.root.prepend(buildHeader(this));
    this.root.append(
      element("nav", { className: "bar", "aria-label": "View and settings" }, this.tabs, this.controls.bar),
      this.intro,
      columns,
      this.announcement,
      this.hint,
    );
    this.mainCanvas = new ScrollCanvas(this.stage, {
      view: () => this.view,
      scene: () => this.scene(),
      onSelect: (hit, event) => this.select(hit, event),
      onHover: (hit, event) => hover(this, hit, event),
      fitsContent: () => this.root.dataset.layout === "stacked",
      onPan: (dx, dy) => pan(this, dx, dy),
      onZoom: (factor, point) => zoom(this, factor, point),
    });
    this.overviewCanvas = new ScrollCanvas(this.overview, {
      view: () => headsView,
      scene: () => this.scene(true),
      onSelect: (hit, event) => this.toggles(hit, event, true) || this.set(this.state.view === "heads" ? { ...hit, view: "map" } : hit),
      onHover: (hit, event) => hover(this, hit, event, headsView),
      shrinks: true,
    });
    document.title = `${modelTitle(contents)} - glassformer`;
    this.arrange();
    this.update();
  }

  /** Update what depends on the contents. */
  update() {
    fillAbout(this);
    const names = this.views.map(({ name }) => name).join();
    if (this.tabs.dataset.names === names) return;
    this.tabs.dataset.names = names;
    const focused = this.tabs.contains(document.activeElement) && document.activeElement.id;
    const tabs = buildTabs(this);
    this.tabs.replaceChildren(...tabs);
    if (focused) (tabs.find(({ id }) => id === focused) ?? tabs[0]).focus();
  }

  arrange() {
    this.setData("layout", this.host.layoutOf(innerWidth));
  }

  /** Set the colors of the page and of the views. */
  applyTheme() {
    this.palette = useTheme(this.state.theme);
  }

  listen() {
    document.addEventListener("keydown", (event) => handleKey(this, event) && event.preventDefault());
    addEventListener("resize", () => this.arrange());
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.set({}));
    addEventListener("hashchange", () => {
      const { theme, shortcuts } = this.state; // preferences, which a link does not change
      this.host.onHash(location.hash);
      this.set({ ...fromHash(location.hash, this.start, this.contents), theme, shortcuts }, { replace: true });
    });
  }

  // ---- state and drawing

  scene(compact = false) {
    return buildScene(this, compact);
  }

  /**
   * Change the state; resolves when the view is drawn. follow: scroll a zoomed map to the chosen cell;
   * replace: add no entry to the history.
   */
  set(change, { follow = false, replace = false } = {}) {
    const [before, kind] = [this.state, this.kind];
    this.hovered = null;
    this.hint.hidden = true; // its text may be outdated
    this.state = this.nearestState({ ...before, ...change });
    if (this.kind !== kind) this.state = this.nearestState({ ...this.state, ...this.lastCell(kind, before), ...change });
    if (change.theme || Object.keys(change).length === 0) this.applyTheme();
    if (follow) followCell(this);
    if (!replace && before.view !== this.state.view) this.writeHash(true);
    this.host.onChange();
    return this.show(before);
  }

  /** The cell chosen last in the kind of attention that is now shown, after that of the kind before is saved. */
  lastCell(kind, { query, key }) {
    this.cells.set(kind, { query, key });
    return this.cells.get(this.kind) ?? { query: Infinity, key: 0 };
  }

  /** The hash of a URL that restores what is shown. */
  hash() {
    return [toHash(this.state, this.start), this.host.hash()].filter(Boolean).join("&");
  }

  /** Write the state into the URL; a new view gets an entry in the history. */
  writeHash(newView = false) {
    const hash = this.hash();
    if (!newView && hash === location.hash.slice(1)) return;
    const address = hash ? `#${hash}` : location.pathname + location.search;
    try {
      if (newView) history.pushState(null, "", address);
      else history.replaceState(null, "", address);
    } catch {
      /* a frame without a URL */
    }
  }

  missingData() {
    const { contents, state, attention } = this;
    const layer = attention.layers.indexOf(state.layer);
    const maps = [attention.maps[layer]];
    if (state.view === "rollout") maps.push(contents.rollouts[state.rollout].map);
    if (state.view === "image") maps.push(...contents.rollouts.map(({ map }) => map));
    const predictions = predictionsFor(this).map((entry) => entry.predictions);
    const json = [...predictions, ...predictions.map(({ targets }) => targets).filter(Boolean)];
    const rows = attention.heads[layer].length * attention.queries.length;
    const scores = contents.decompositions.filter(({ kind }) => kind === this.kind);
    const vectors = state.view === "step" ? contents.vectors.filter(({ kind }) => kind === this.kind) : [];
    const missing = (packed) => !this.store.loaded(packed);
    return [
      ...maps.filter(missing).map((packed) => this.store.maps(packed)),
      ...json.filter(missing).map((packed) => this.store.json(packed)),
      ...scores
        .map(({ layers }) => layers[layer])
        .filter(missing)
        .map((packed) => this.store.scores(packed, rows)),
      ...vectors
        .map(({ layers }) => layers[layer])
        .filter(missing)
        .map((packed) => this.store.vectors(packed, attention.queries.length, attention.keys.length)),
    ];
  }

  /** Draw the state, after loading what is missing. */
  show(before) {
    const missing = this.missingData();
    if (!missing.length) return (this.shown = Promise.resolve(this.drawAll(before)));
    const wanted = this.state;
    return (this.shown = Promise.all(missing).then(() => this.state === wanted && this.drawAll(before)));
  }

  /** Draw the view at once, and the rest of the page with the next frame, so that held keys stay fast. */
  drawAll(before) {
    if (before && before.view !== this.state.view) this.stage.scrollTo(0, 0);
    this.setData("view", this.state.view);
    this.setData("panel", this.panelSections.length ? "shown" : "none");
    this.setData("zoomed", String(this.state.zoom > 1));
    this.mainCanvas.draw();
    if (!before || before.view !== this.state.view) this.mainCanvas.reveal();
    this.settled ??= new Promise((done) =>
      requestAnimationFrame(() => {
        this.settled = null;
        const scene = this.scene(); // not ready while a layer is loading; another frame follows then
        if (scene.ready) this.drawControls(scene);
        this.writeHash();
        done();
      }),
    );
  }

  /** Set a data attribute for the style sheet; only if it changed, since the browser then updates the layout. */
  setData(name, value) {
    if (this.root.dataset[name] !== value) this.root.dataset[name] = value;
  }

  drawControls(scene) {
    const [min, max] = overviewWidths(this.scene(true));
    const { scale } = this.mainCanvas;
    for (const [name, width] of Object.entries({ "--overview-min": min, "--overview-max": max })) {
      const pixels = `${Math.ceil(width * scale)}px`;
      if (this.root.style.getPropertyValue(name) !== pixels) this.root.style.setProperty(name, pixels);
    }
    this.controls.update(scene);
    const dark = this.palette.theme === "dark"; // where larger weights are brighter
    const intro = [this.view.intro, this.view.introOf?.(scene)].filter(Boolean).join(" ");
    this.intro.textContent = dark ? intro.replace("darker", "brighter") : intro;
    for (const tab of this.tabs.children) {
      const chosen = tab.id === `tab-${this.state.view}`;
      tab.setAttribute("aria-selected", chosen);
      tab.tabIndex = chosen ? 0 : -1;
    }
    this.stage.parentElement.setAttribute("aria-labelledby", `tab-${this.state.view}`);
    this.overviewCanvas.draw();
    fillPanel(this.panel, scene, this);
    this.updateTokens();
    this.describe(scene);
  }

  describe(scene) {
    clearTimeout(this.timer);
    const text = this.view.describe(scene);
    this.stage.setAttribute("aria-label", `${this.view.title}. ${text}`);
    this.overview.setAttribute("aria-label", `Overview of all heads; use the arrows to choose one. Chosen: ${scene.headTitle}`);
    this.timer = setTimeout(() => (this.announcement.textContent = text), ANNOUNCE_DELAY);
  }

  /** Show a message, also to screen readers. */
  announce(text) {
    clearTimeout(this.timer);
    this.announcement.textContent = text;
    this.hint.textContent = text;
    Object.assign(this.hint.style, { left: "50%", top: "1rem" });
    this.hint.hidden = false;
    setTimeout(() => (this.hint.hidden = true), 1800);
  }

  async loadThumbnails() {
    const all = this.contents.attention.flatMap(({ thumbnails }) => thumbnails);
    await Promise.all(all.map((packed) => this.store.maps(packed)));
    this.mainCanvas.draw();
    this.overviewCanvas.draw();
  }

  async loadImage() {
    const { image } = this.contents;
    if (image) [this.imageCanvas, this.grayCanvas] = await loadImages(image);
  }

  // ---- actions

  move(across, down, view = this.view, shifted = false) {
    if (shifted && view.moveShifted) view.moveShifted(this, across, down);
    else view.move(this, shifted ? 10 * across : across, shifted ? 10 * down : down);
    this.mainCanvas.reveal();
    this.overviewCanvas.reveal();
  }

  /** Turn a head off or on if a click does that; onMap: whether it was on the map of heads. */
  toggles({ layer, head }, { ctrlKey, metaKey, altKey, shiftKey }, onMap) {
    const { toggle, clickToggles } = this.host;
    const isWanted = ctrlKey || metaKey || altKey || shiftKey || (onMap && clickToggles());
    if (!toggle || layer === undefined || !isWanted) return false;
    toggle(this.kind, layer, head);
    return true;
  }

  select(hit, event = {}) {
    this.stage.focus({ preventScroll: true });
    if (this.toggles(hit, event, this.view === headsView)) return undefined;
    if (this.view.select) return this.view.select(this, hit);
    const { side, ...change } = hit;
    return this.set(change);
  }

  toggleTheme() {
    this.set({ theme: this.palette.theme === "dark" ? "light" : "dark" });
  }

  help() {
    const dialog = buildHelp(this);
    this.root.append(dialog);
    dialog.addEventListener("close", () => dialog.remove());
    dialog.showModal();
  }

  box() {
    return this.mainCanvas.box();
  }

  /** The color of numbers on a color of the scale. */
  textColorOn(index) {
    return textColorOn(this.palette, index);
  }

  /** The view as SVG. */
  svg() {
    return toSvg(this);
  }
}
