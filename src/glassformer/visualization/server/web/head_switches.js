// Switches that ablate heads: a row for each layer, which begins with a button for the whole layer. The grid is one
// tab stop: arrow keys move, space or Enter switches.

import { element, visibleText } from "./explorer_modules.js";

export class HeadSwitches {
  /** model: its description, with the heads and their labels; onChange: called after a change. */
  constructor(root, model, onChange) {
    Object.assign(this, { root, onChange, ablated: new Set(), grid: [] });
    const kinds = Object.entries(model.heads);
    root.style.setProperty("--heads", Math.max(...kinds.flatMap(([, layers]) => layers.map(({ length }) => length))));
    for (const [kind, layers] of kinds) {
      if (kinds.length > 1) root.append(element("h3", { textContent: kind }));
      layers.forEach((numbers, layer) => root.append(this.row(kinds.length > 1 ? `${kind}:` : "", kind, layer, numbers, model.labels)));
    }
    this.setTabStop(this.grid[0][0], false);
    root.addEventListener("keydown", (event) => this.onKey(event));
  }

  /** numbers: of the layer's heads, which leave out pruned ones. */
  row(prefix, kind, layer, numbers, labels) {
    const heads = numbers.map((head) => {
      const own = labels.filter((label) => label.kind === kind && label.layer === layer && label.head === head).map(({ label }) => visibleText(label));
      const title = [`layer ${layer}, head ${head}`, ...own].join(" · ");
      return element("button", {
        type: "button", role: "switch", className: own.length ? "head labeled" : "head", tabIndex: -1, textContent: String(head),
        "aria-checked": "true", "aria-label": prefix + title, title, "data-head": `${prefix}${layer}.${head}`,
        onclick: (event) => this.toggle([event.currentTarget], event.currentTarget),
      });
    });
    const whole = element("button", {
      type: "button", className: "whole-layer", tabIndex: -1, textContent: `layer ${layer}`, title: `All heads of layer ${layer}`,
      "aria-label": `${prefix}all heads of layer ${layer}`, "aria-pressed": "true", onclick: (event) => this.toggle(heads, event.currentTarget),
    });
    this.grid.push([whole, ...heads]);
    return element("div", { className: "layer", role: "group", "aria-label": `${prefix}layer ${layer}` }, whole, element("div", {}, ...heads));
  }

  /** Ablates all the heads, or restores them if all are ablated already. */
  toggle(heads, button) {
    const restore = heads.every((head) => this.ablated.has(head.dataset.head));
    for (const head of heads) this.set(head, restore);
    this.update(button);
  }

  set(head, on) {
    head.setAttribute("aria-checked", on);
    if (on) this.ablated.delete(head.dataset.head);
    else this.ablated.add(head.dataset.head);
  }

  restoreAll() {
    for (const [, ...heads] of this.grid) for (const head of heads) this.set(head, true);
    this.update(this.tabStop);
  }

  update(button) {
    for (const [whole, ...heads] of this.grid) {
      const on = heads.filter((head) => !this.ablated.has(head.dataset.head)).length;
      whole.setAttribute("aria-pressed", on === heads.length ? "true" : on ? "mixed" : "false");
    }
    this.setTabStop(button, false);
    this.onChange();
  }

  setTabStop(button, focus) {
    if (this.tabStop) this.tabStop.tabIndex = -1;
    this.tabStop = button;
    button.tabIndex = 0;
    if (focus) button.focus();
  }

  onKey(event) {
    const row = this.grid.findIndex((buttons) => buttons.includes(event.target));
    const [down, across] = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0], Home: [0, -Infinity], End: [0, Infinity] }[event.key] ?? [0, 0];
    if (row < 0 || !(down || across)) return;
    event.preventDefault();
    const buttons = this.grid[Math.min(this.grid.length - 1, Math.max(0, row + down))];
    const column = this.grid[row].indexOf(event.target) + across;
    this.setTabStop(buttons[Math.min(buttons.length - 1, Math.max(0, column))], true);
  }
}
