// The second of two texts that are compared: a view of its own, with the head and the settings of the first one.

import { Explorer, handleKey, hover, pan, ScrollCanvas, zoom, element } from "./explorer_modules.js";

const OWN = ["query", "key", "x", "y"]; // of the state; all else is shared
const ARROWS = /^(Arrow|Page|Home|End)/;
const NO_OVERVIEW = { draw() {}, reveal() {} };

const pick = (state, isWanted) => Object.fromEntries(Object.entries(state).filter(([name]) => isWanted(name)));

export class Companion extends Explorer {
  /** leader: the explorer of the first text. */
  constructor(root, source, leader) {
    super(root, source, { ...leader.host, leader });
  }

  get leader() {
    return this.host.leader;
  }

  load(source) {
    this.state ??= this.leader.state;
    super.load(source);
  }

  build() {
    this.stage = element("div", { className: "stage", tabIndex: 0, role: "application" });
    this.hint = element("div", { className: "hint", hidden: true, "aria-hidden": "true" });
    this.root.replaceChildren(this.stage, this.hint);
    this.overviewCanvas = NO_OVERVIEW;
    this.mainCanvas = new ScrollCanvas(this.stage, {
      view: () => this.view,
      scene: () => this.scene(),
      onSelect: (hit, event) => this.select(hit, event),
      onHover: (hit, event) => hover(this, hit, event),
      fitsContent: () => this.leader.root.dataset.layout === "stacked",
      onPan: (dx, dy) => pan(this, dx, dy),
      onZoom: (factor, point) => zoom(this, factor, point),
    });
  }

  /** The panel is that of the first text. */
  get panelSections() {
    return [];
  }

  update() {}

  applyTheme() {
    this.palette = this.leader.palette;
  }

  listen() {
    this.stage.addEventListener("keydown", (event) => ARROWS.test(event.key) && handleKey(this, event) && event.preventDefault());
  }

  /** Change the chosen cell here, and all else in the first text, which this one follows. */
  set(change) {
    const [own, shared] = [pick(change, (name) => OWN.includes(name)), pick(change, (name) => !OWN.includes(name))];
    if (Object.keys(shared).length) this.leader.set(shared);
    const shown = this.change(own);
    this.leader.writeHash();
    return shown;
  }

  follow() {
    this.palette = this.leader.palette;
    return this.change(pick(this.leader.state, (name) => !OWN.includes(name)));
  }

  change(change) {
    const before = this.state;
    this.hovered = null;
    this.hint.hidden = true;
    this.state = this.nearestState({ ...before, ...change });
    return this.show(before);
  }

  drawControls(scene) {
    this.stage.setAttribute("aria-label", `Second text. ${this.view.title}. ${this.view.describe(scene)}`);
  }

  writeHash() {}
}
