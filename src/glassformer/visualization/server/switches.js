// A switch for each head, in rows of layers, and before them one for the whole row. One stop for Tab; arrows
// move, space or Enter switches.

import { visible } from "./labels.js";
import { element } from "./panel.js";

export class Switches {
  /** about: kinds and names of heads; changed: called with nothing when a switch was turned. */
  constructor(root, about, changed) {
    Object.assign(this, { root, changed, off: new Set(), grid: [] });
    const kinds = Object.entries(about.kinds);
    root.style.setProperty("--heads", Math.max(...kinds.flatMap(([, sizes]) => sizes)));
    for (const [kind, sizes] of kinds) {
      if (kinds.length > 1) root.append(element("h3", { textContent: kind }));
      sizes.forEach((size, layer) => root.append(this.row(kinds.length > 1 ? `${kind}:` : "", kind, layer, size, about.names)));
    }
    this.moveTo(this.grid[0][0], false);
    root.addEventListener("keydown", (event) => this.pressed(event));
  }

  row(prefix, kind, layer, size, names) {
    const heads = Array.from({ length: size }, (_, head) => {
      const named = names.filter((name) => name.kind === kind && name.layer === layer && name.head === head).map(({ name }) => visible(name));
      const label = [`layer ${layer}, head ${head}`, ...named].join(" · ");
      return element("button", {
        type: "button", role: "switch", className: named.length ? "head named" : "head", tabIndex: -1, textContent: String(head),
        "aria-checked": "true", "aria-label": prefix + label, title: label, "data-head": `${prefix}${layer}.${head}`,
        onclick: (event) => this.turn([event.currentTarget], event.currentTarget),
      });
    });
    const whole = element("button", {
      type: "button", className: "whole-layer", tabIndex: -1, textContent: `layer ${layer}`, title: `All heads of layer ${layer}`,
      "aria-label": `${prefix}all heads of layer ${layer}`, "aria-pressed": "true", onclick: (event) => this.turn(heads, event.currentTarget),
    });
    this.grid.push([whole, ...heads]);
    return element("div", { className: "layer", role: "group", "aria-label": `${prefix}layer ${layer}` }, whole, element("div", {}, ...heads));
  }

  /** All of them off; on, if they are off already. */
  turn(heads, from) {
    const on = heads.every((head) => this.off.has(head.dataset.head));
    for (const head of heads) this.set(head, on);
    this.told(from);
  }

  set(head, on) {
    head.setAttribute("aria-checked", on);
    if (on) this.off.delete(head.dataset.head);
    else this.off.add(head.dataset.head);
  }

  allOn() {
    for (const [, ...heads] of this.grid) for (const head of heads) this.set(head, true);
    this.told(this.here);
  }

  told(from) {
    for (const [whole, ...heads] of this.grid) {
      const on = heads.filter((head) => !this.off.has(head.dataset.head)).length;
      whole.setAttribute("aria-pressed", on === heads.length ? "true" : on ? "mixed" : "false");
    }
    this.moveTo(from, false);
    this.changed();
  }

  moveTo(button, focus) {
    if (this.here) this.here.tabIndex = -1;
    this.here = button;
    button.tabIndex = 0;
    if (focus) button.focus();
  }

  pressed(event) {
    const row = this.grid.findIndex((buttons) => buttons.includes(event.target));
    const [down, across] = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0], Home: [0, -Infinity], End: [0, Infinity] }[event.key] ?? [0, 0];
    if (row < 0 || !(down || across)) return;
    event.preventDefault();
    const buttons = this.grid[Math.min(this.grid.length - 1, Math.max(0, row + down))];
    const place = this.grid[row].indexOf(event.target) + across;
    this.moveTo(buttons[Math.min(buttons.length - 1, Math.max(0, place))], true);
  }
}
