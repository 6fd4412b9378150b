// The explorer: one page with every head of a model. Opens from its own file and asks the network for nothing.

import { readable } from "./labels.js";
import { PageSource, Store } from "./data.js";
import { inkOn, paletteOf } from "./colours.js";
import { fromHash, shownKind, startState, toHash, valid } from "./state.js";
import { headsView, overviewWidths } from "./heads_view.js";
import { mapView } from "./map_view.js";
import { flowView } from "./flow_view.js";
import { linesView } from "./lines_view.js";
import { imageView, loadedImages } from "./image_view.js";
import { guessesView } from "./guesses_view.js";
import { scoreView } from "./score_view.js";
import { byHeadView } from "./by_head_view.js";
import { guessesOf, sceneOf } from "./scene.js";
import { element, fillPanel } from "./panel.js";
import { modelInWords, svgOf } from "./export.js";
import { pressed } from "./keys.js";
import { followCell, hover, pan, zoom } from "./moving.js";
import { Controls, buildHeader, buildHelp, buildTabs } from "./controls.js";
import { Surface } from "./surface.js";

const VIEWS = [headsView, mapView, byHeadView, linesView, imageView, guessesView, scoreView, flowView];
const SAID_AFTER = 200; // milliseconds: a screen reader need not hear every step of a held key

class Explorer {
  /** source: has contents(), bytes(packed) and json(packed); a page that is served may bring its own. */
  constructor(root, source) {
    this.root = root;
    this.contents = readable(source.contents());
    this.store = new Store(source, this.contents);
    this.views = VIEWS.filter((view) => view.available(this.contents));
    this.start = { ...startState(this.contents), view: this.contents.picture ? "image" : "map" };
    this.state = this.checked(fromHash(location.hash, this.start, this.contents));
    this.timings = {};
    this.places = new Map(); // by kind of attention, the cell that was chosen last
    this.build();
    this.paint();
    this.listen();
    this.ready = this.open();
  }

  async open() {
    await this.loadImage();
    await this.show();
    this.timings.drawn = performance.now();
    await this.loadThumbnails();
    this.timings.complete = performance.now();
  }

  /** A state in which everything exists, the view too. */
  checked(state) {
    const view = this.views.some(({ name }) => name === state.view) ? state.view : this.start.view;
    return valid({ ...state, view }, this.contents);
  }

  get view() {
    return this.views.find(({ name }) => name === this.state.view);
  }

  /** Of attention, as it is shown; a view that is of one kind only does not change what was chosen. */
  get kind() {
    return shownKind(this.state, this.contents);
  }

  get attention() {
    return this.contents.attention.find(({ kind }) => kind === this.kind);
  }

  // ---- the page

  build() {
    const { contents } = this;
    this.controls = new Controls(this);
    this.tabs = buildTabs(this);
    this.stage = element("div", { className: "stage", tabIndex: 0, role: "application" });
    this.overview = element("div", { className: "overview", tabIndex: 0, role: "application" });
    this.panel = element("aside", {
      className: "panel",
      "aria-label": "The chosen cell, its row and its column",
      tabIndex: 0,
    });
    this.spoken = element("p", { className: "spoken", role: "status", "aria-live": "polite" });
    this.hint = element("div", { className: "hint", hidden: true, "aria-hidden": "true" });
    const picture = element("section", { className: "view", id: "view", role: "tabpanel" }, this.stage);
    const room = element("div", { className: "room" }, this.overview, picture, this.panel);
    this.root.replaceChildren(
      buildHeader(this),
      element("nav", { className: "bar", "aria-label": "What is shown" }, this.tabs, this.controls.bar),
      room,
      this.spoken,
      this.hint,
    );
    this.surface = new Surface(this.stage, {
      view: () => this.view,
      scene: () => this.scene(),
      chosen: (hit) => this.chosen(hit),
      hovered: (hit, event) => hover(this, hit, event),
      adapts: () => matchMedia("(max-width: 959px)").matches, // as in the style sheet
      panned: (dx, dy) => pan(this, dx, dy),
      zoomed: (factor, point) => zoom(this, factor, point),
    });
    this.small = new Surface(this.overview, {
      view: () => headsView,
      scene: () => this.scene(true),
      chosen: (hit) => this.set(hit),
      hovered: (hit, event) => hover(this, hit, event, headsView),
      snug: true,
    });
    document.title = `${modelInWords(contents)} - glassformer`;
  }

  /** Colours for the page and the pictures, from one place. */
  paint() {
    const { theme } = this.state;
    const dark = theme === "dark" || (theme === "auto" && matchMedia("(prefers-color-scheme: dark)").matches);
    this.palette = paletteOf(dark ? "dark" : "light");
    const { style } = document.documentElement;
    style.colorScheme = this.palette.theme;
    for (const name of ["paper", "card", "ink", "soft", "line", "accent", "mark", "wash"])
      style.setProperty(`--${name}`, this.palette[name]);
  }

  listen() {
    document.addEventListener("keydown", (event) => pressed(this, event) && event.preventDefault());
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.set({}));
    addEventListener("hashchange", () => {
      const { theme, keys } = this.state; // these are a person's, not a view's
      this.set({ ...fromHash(location.hash, this.start, this.contents), theme, keys }, { returns: true });
    });
  }

  // ---- what is shown

  scene(compact = false) {
    return sceneOf(this, compact);
  }

  /** Change what is shown. Resolves when it is drawn. returns: to a view that was shown before, or by a link. */
  set(change, { follow = false, returns = false } = {}) {
    const [before, kind] = [this.state, this.kind];
    this.hovered = null;
    this.hint.hidden = true; // what it says may be so no more
    this.state = this.checked({ ...before, ...change });
    if (this.kind !== kind) this.state = this.checked({ ...this.state, ...this.cellOf(kind, before), ...change });
    if (change.theme || Object.keys(change).length === 0) this.paint();
    if (follow) followCell(this);
    if (!returns && before.view !== this.state.view) this.writeHash(true);
    return this.show(before);
  }

  /** The cell chosen last in the kind of attention that is shown now: another one has other tokens. */
  cellOf(kind, { query, key }) {
    this.places.set(kind, { query, key });
    return this.places.get(this.kind) ?? { query: Infinity, key: 0 };
  }

  /** The address leads to what is shown; the way back, to the view before. */
  writeHash(turned = false) {
    const hash = toHash(this.state, this.start);
    if (!turned && hash === location.hash.slice(1)) return;
    const address = hash ? `#${hash}` : location.pathname + location.search;
    try {
      if (turned) history.pushState(null, "", address);
      else history.replaceState(null, "", address);
    } catch {
      /* a frame without an address of its own */
    }
  }

  needed() {
    const { contents, state, attention } = this;
    const layer = attention.layers.indexOf(state.layer);
    const maps = [attention.maps[layer]];
    if (state.view === "flow") maps.push(contents.flows[state.flow].map);
    if (state.view === "image") maps.push(...contents.flows.map(({ map }) => map));
    const here = guessesOf(this).map(({ guesses }) => guesses);
    const json = [
      ...here,
      ...here.map(({ truth }) => truth).filter(Boolean),
    ];
    const rows = attention.heads[layer].length * attention.queries.length;
    const scores = contents.decompositions.filter(({ kind }) => kind === this.kind);
    const missing = (packed) => !this.store.known(packed);
    return [
      ...maps.filter(missing).map((packed) => this.store.maps(packed)),
      ...json.filter(missing).map((packed) => this.store.json(packed)),
      ...scores
        .map(({ layers }) => layers[layer])
        .filter(missing)
        .map((packed) => this.store.scores(packed, rows)),
    ];
  }

  /** Draws at once what is at hand, and otherwise as soon as it is unpacked. */
  show(before) {
    const needed = this.needed();
    if (!needed.length) return (this.shown = Promise.resolve(this.drawAll(before)));
    const wanted = this.state;
    return (this.shown = Promise.all(needed).then(() => this.state === wanted && this.drawAll(before)));
  }

  /** The picture at once; what stands around it with the next frame, so that a held key is followed. */
  drawAll(before) {
    if (before && before.view !== this.state.view) this.stage.scrollTo(0, 0);
    this.mark("view", this.state.view);
    this.mark("zoomed", String(this.state.zoom > 1));
    this.surface.draw();
    if (!before || before.view !== this.state.view) this.surface.reveal();
    this.settled ??= new Promise((done) =>
      requestAnimationFrame(() => {
        this.settled = null;
        const scene = this.scene(); // perhaps of a layer that is still packed: then another frame follows
        if (scene.ready) this.drawAround(scene);
        this.writeHash();
        done();
      }),
    );
  }

  /** For the style sheet, and only what has changed: the browser would lay everything out again. */
  mark(name, value) {
    if (this.root.dataset[name] !== value) this.root.dataset[name] = value;
  }

  drawAround(scene) {
    const [least, most] = overviewWidths(this.scene(true));
    const { scale } = this.surface;
    for (const [name, width] of Object.entries({ "--least": least, "--most": most })) {
      const pixels = `${Math.ceil(width * scale)}px`;
      if (this.root.style.getPropertyValue(name) !== pixels) this.root.style.setProperty(name, pixels);
    }
    this.controls.show(scene);
    for (const tab of this.tabs.children) {
      const chosen = tab.id === `tab-${this.state.view}`;
      tab.setAttribute("aria-selected", chosen);
      tab.tabIndex = chosen ? 0 : -1;
    }
    this.stage.parentElement.setAttribute("aria-labelledby", `tab-${this.state.view}`);
    this.small.draw();
    fillPanel(this.panel, scene, this);
    this.showWhole();
    this.describe(scene);
  }

  describe(scene) {
    clearTimeout(this.saying);
    const words = this.view.describe(scene);
    this.stage.setAttribute("aria-label", `${this.view.title}. ${words}`);
    this.overview.setAttribute("aria-label", `All heads, small. The arrows choose: ${scene.headTitle}`);
    this.saying = setTimeout(() => (this.spoken.textContent = words), SAID_AFTER);
  }

  say(words) {
    clearTimeout(this.saying);
    this.spoken.textContent = words;
    this.hint.textContent = words;
    Object.assign(this.hint.style, { left: "50%", top: "1rem" });
    this.hint.hidden = false;
    setTimeout(() => (this.hint.hidden = true), 1800);
  }

  async loadThumbnails() {
    const all = this.contents.attention.flatMap(({ thumbnails }) => thumbnails);
    await Promise.all(all.map((packed) => this.store.maps(packed)));
    this.surface.draw();
    this.small.draw();
  }

  async loadImage() {
    const { picture } = this.contents;
    if (picture) [this.image, this.greyImage] = await loadedImages(picture);
  }

  // ---- what a person does

  move(across, down, view = this.view) {
    view.move(this, across, down);
    this.surface.reveal();
    this.small.reveal();
  }

  chosen(hit) {
    this.stage.focus({ preventScroll: true });
    const opens =
      this.state.view === "heads" && hit.layer === this.state.layer && hit.head === this.state.head;
    const { side, ...change } = hit;
    this.set(opens ? { ...change, view: "map" } : change); // a second click opens the head
  }

  turnTheme() {
    this.set({ theme: this.palette.theme === "dark" ? "light" : "dark" });
  }

  help() {
    const dialog = buildHelp(this);
    this.root.append(dialog);
    dialog.addEventListener("close", () => dialog.remove());
    dialog.showModal();
  }

  box() {
    return this.surface.box();
  }

  /** The ink of numbers on a shade of the scale. */
  inkOn(shade) {
    return inkOn(this.palette, shade);
  }

  /** What is shown, as the source of an SVG. */
  svg() {
    return svgOf(this);
  }
}

window.glassformer = new Explorer(document.getElementById("explorer"), new PageSource(document));
