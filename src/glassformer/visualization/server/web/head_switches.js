// Which heads are turned off: chosen on the map of heads, one by one or by a preset, and listed here.

import { countOf, element, MEAN, visibleText } from "./explorer_modules.js";

const MAX_LISTED = 24; // heads that are listed one by one
const RANDOM_SHARE = 0.1; // of all heads, if none is off that a random choice could be compared with
const RANDOM = "random";
const byId = (id) => document.getElementById(id);

export class HeadSwitches {
  /** model: its description, with the heads and their labels; onChange: called after a change. */
  constructor(model, onChange) {
    Object.assign(this, { model, onChange, off: new Set() });
    this.several = Object.keys(model.heads).length > 1;
    this.all = Object.entries(model.heads).flatMap(([kind, layers]) =>
      layers.flatMap((heads, layer) => heads.map((head) => this.nameOf(kind, layer, head))),
    );
    byId("ablation").options[1].textContent = `its mean over ${model.mean_over}`;
    byId("ablation").addEventListener("change", () => this.onChange());
    byId("restore").addEventListener("click", () => this.replace([]));
    byId("preset").addEventListener("change", () => this.applyPreset());
    this.fillPresets();
    this.update();
  }

  nameOf = (kind, layer, head) => `${this.several ? `${kind}:` : ""}${layer}.${head}`;

  /** The names of a head, or of all heads of a layer for its mean. */
  namesOf(kind, layer, head) {
    const heads = head === MEAN ? (this.model.heads[kind]?.[layer] ?? []) : [head];
    return heads.map((one) => this.nameOf(kind, layer, one));
  }

  isOff(kind, layer, head) {
    const names = this.off.size ? this.namesOf(kind, layer, head) : [];
    return names.length > 0 && names.every((name) => this.off.has(name));
  }

  /** Turn a head off, or on if it is off already; for the mean, all heads of the layer. */
  toggle(kind, layer, head) {
    const [names, restore] = [this.namesOf(kind, layer, head), this.isOff(kind, layer, head)];
    for (const name of names) {
      if (restore) this.off.delete(name);
      else this.off.add(name);
    }
    this.changed();
  }

  replace(names) {
    this.set(names);
    this.onChange();
  }

  /** As replace, without the call of onChange. */
  set(names) {
    const known = new Set(this.all);
    this.off = new Set(names.filter((name) => known.has(name)));
    this.update();
  }

  changed() {
    this.update();
    this.onChange();
  }

  // ---- presets

  /** { name: [names of heads] } */
  presets() {
    const kinds = new Map();
    for (const { kind, layer, head, label } of this.model.labels) {
      if (!kinds.has(label)) kinds.set(label, []);
      kinds.get(label).push(this.nameOf(kind, layer, head));
    }
    const byLabel = [...kinds].sort(([, a], [, b]) => b.length - a.length).map(([label, names]) => [describe(label, names), names]);
    const layers = Object.entries(this.model.heads).flatMap(([kind, rows]) =>
      rows.map((_, layer) => [`without ${this.several ? `${kind} ` : ""}layer ${layer}`, this.namesOf(kind, layer, MEAN)]),
    );
    return { byLabel, layers };
  }

  fillPresets() {
    const { byLabel, layers } = this.presets();
    const option = ([text, names]) => element("option", { textContent: visibleText(text), value: JSON.stringify(names) });
    const group = (label, options) => element("optgroup", { label }, ...options);
    byId("preset").replaceChildren(
      element("option", { textContent: "choose …", value: "" }),
      ...(byLabel.length ? [group("What heads do", byLabel.map(option))] : []),
      group("Control", [(this.random = element("option", { value: RANDOM }))]),
      group("Whole layers", layers.map(option)),
    );
  }

  applyPreset() {
    const { value } = byId("preset");
    const names = value === RANDOM ? this.randomHeads() : value ? JSON.parse(value) : [];
    this.replace(names);
    if (value !== RANDOM) byId("preset").value = value; // stays until other heads are turned off or on
  }

  /** Random heads, none of which is off now unless there are too few others. */
  randomHeads() {
    const count = this.off.size || Math.max(1, Math.round(RANDOM_SHARE * this.all.length));
    const shuffle = (names) => names.map((name) => [Math.random(), name]).sort(([a], [b]) => a - b).map(([, name]) => name);
    const others = this.all.filter((name) => !this.off.has(name));
    return [...shuffle(others), ...shuffle([...this.off])].slice(0, count);
  }

  // ---- the list

  update() {
    const names = this.all.filter((name) => this.off.has(name));
    const place = [...byId("off").children].indexOf(document.activeElement);
    const focused = place >= 0 || document.activeElement === byId("restore");
    byId("count").textContent = names.length ? `${names.length} of ${countOf(this.all.length, "head")} off:` : "All heads are on.";
    const chips = names.slice(0, MAX_LISTED).map((name) =>
      element("button", {
        type: "button", className: "chip off", textContent: name, title: `Turn head ${name} on`, "aria-label": `Turn head ${name} on`,
        onclick: () => [this.off.delete(name), this.changed()],
      }),
    );
    const more = names.length > MAX_LISTED ? [element("span", { textContent: `and ${names.length - MAX_LISTED} more` })] : [];
    byId("off").replaceChildren(...chips, ...more);
    byId("restore").disabled = !names.length;
    if (focused) (chips.at(Math.min(Math.max(place, 0), chips.length - 1)) ?? byId("preset")).focus();
    byId("preset").value = "";
    const count = countOf(names.length, "random head");
    this.random.textContent = names.length ? `${count} instead, to compare` : "without a random tenth of the heads";
  }

  /** Name the buttons for the head that the explorer shows. */
  show(kind, layer, head) {
    const off = this.isOff(kind, layer, head);
    const prefix = this.several ? `${kind} ` : "";
    const name = head === MEAN ? `all heads of ${prefix}layer ${layer}` : `${prefix}head ${layer}.${head}`;
    byId("toggle-head").textContent = `Turn ${off ? "on" : "off"} ${name}`;
    byId("toggle-head").disabled = false;
    this.shown = [kind, layer, head];
  }
}

const describe = (label, names) => `without the ${countOf(names.length, `${label} head`)}`;
