// The page around the picture: title, tabs, choices, buttons, help.

import { MEAN } from "./state.js";
import { element } from "./panel.js";
import { EXPORTS, hasLink, modelInWords } from "./export.js";
import { keysOf } from "./keys.js";
import { kindsOf, stepHead, stepLayer } from "./moving.js";

const button = (text, label, onclick) =>
  element("button", { type: "button", textContent: text, "aria-label": label, title: label, onclick });

export function buildHeader(app) {
  const { text, notes } = app.contents;
  const list = notes.length ? [element("p", { className: "notes", textContent: notes.join("; ") })] : [];
  const words = [
    element("h1", { textContent: modelInWords(app.contents) }),
    element("p", { className: "text", dir: "auto", textContent: text }),
    ...list,
    wholeText(app.contents),
  ];
  return element(
    "header",
    {},
    element("div", { className: "words" }, ...words),
    element(
      "div",
      { className: "actions", role: "group", "aria-label": "Save and settings" },
      button("SVG", "Save the view as SVG (s)", () => EXPORTS.svg(app)),
      button("PNG", "Save the view as PNG (p)", () => EXPORTS.png(app)),
      button("JSON", "Save the chosen head's numbers as JSON (j)", () => EXPORTS.json(app)),
      button("All data", "Save all data of the page as JSON (Shift + j)", () => EXPORTS.all(app)),
      ...(hasLink() ? [button("Link", "Copy a link to this view (l)", () => EXPORTS.link(app))] : []),
      button("◐", "Light or dark (t)", () => app.turnTheme()),
      button("?", "Keys and help (?)", () => app.help()),
    ),
  );
}

/** Everything that was read, token by token, to be unfolded. */
function wholeText({ attention }) {
  const lists = new Map(
    attention.flatMap(({ queries, keys }) => [queries, keys]).map((list) => [list.join(" "), list]),
  );
  const tokens = [...lists.keys()].map((list) => element("p", { dir: "auto", textContent: list }));
  const counts = [...lists.values()].map((list) => list.length).join(" and ");
  return element(
    "details",
    { className: "whole" },
    element("summary", { textContent: `All ${counts} tokens` }),
    ...tokens,
  );
}

export function buildTabs(app) {
  const tabs = app.views.map((view, index) =>
    element("button", {
      type: "button",
      role: "tab",
      id: `tab-${view.name}`,
      textContent: view.title,
      title: `${view.about} (${index + 1})`,
      "aria-controls": "view",
      onclick: () => app.set({ view: view.name }),
    }),
  );
  const list = element("div", { className: "tabs", role: "tablist", "aria-label": "Views" }, ...tabs);
  list.addEventListener("keydown", (event) => {
    const here = app.views.indexOf(app.view);
    const to = { ArrowLeft: here - 1, ArrowRight: here + 1, Home: 0, End: -1 }[event.key];
    if (to === undefined) return;
    const next = (to + tabs.length) % tabs.length;
    app.set({ view: app.views[next].name });
    tabs[next].focus();
    event.preventDefault();
  });
  return list;
}

/** Choices, each with a label; those that a view has no use for are hidden while it is shown. */
export class Controls {
  constructor(app) {
    this.app = app;
    const number = (name) => (event) => app.set({ [name]: Number(event.target.value) });
    this.kind = this.select("Attention", (event) => app.set({ kind: event.target.value }));
    this.layer = this.select("Layer", number("layer"), (by) => stepLayer(app, by));
    this.head = this.select("Head", number("head"), (by) => stepHead(app, by));
    this.flow = this.select("Method", number("flow"));
    this.top = this.select("Colours up to", (event) => app.set({ top: event.target.value }));
    this.threshold = element("input", {
      type: "range",
      min: 0,
      max: 1,
      step: 0.01,
      oninput: number("threshold"),
    });
    this.thresholdValue = element("output", {});
    this.only = element("input", {
      type: "checkbox",
      onchange: (event) => app.set({ only: Number(event.target.checked) }),
    });
    const zoom = element(
      "span",
      { className: "field", role: "group", "aria-label": "Zoom" },
      button("−", "− further away (-)", () => app.set({ zoom: app.state.zoom / 1.5 })),
      button("+", "+ closer (+)", () => app.set({ zoom: app.state.zoom * 1.5 }, { follow: true })),
      button("Fit", "Fit the whole map (0)", () => app.set({ zoom: 1, x: 0.5, y: 0.5 })),
    );
    this.fields = {
      kind: this.kind.field,
      layer: this.layer.field,
      head: this.head.field,
      flow: this.flow.field,
      top: this.top.field,
      zoom,
      threshold: element("label", { className: "field" }, "At least ", this.threshold, this.thresholdValue),
      only: element("label", { className: "field" }, this.only, " chosen token only"),
    };
    this.bar = element("div", { className: "controls" }, ...Object.values(this.fields));
  }

  select(text, onchange, stepper) {
    const select = element("select", { onchange });
    const around = stepper
      ? [
          button("‹", `The ${text.toLowerCase()} before`, () => stepper(-1)),
          select,
          button("›", `The ${text.toLowerCase()} after`, () => stepper(1)),
        ]
      : [select];
    select.setAttribute("aria-label", text);
    return {
      select,
      field: element(
        "span",
        { className: stepper ? "field steps" : "field" },
        element("span", { textContent: `${text} ` }),
        ...around,
      ),
    };
  }

  /** Bring every choice up to what is shown. */
  show(scene) {
    const { state, contents, attention, namesOf } = scene;
    const layerHeads = attention.heads[attention.layers.indexOf(state.layer)];
    const headLabel = (head) =>
      [String(head), ...namesOf(state.layer, head).map(({ name }) => name)].join(" · ");
    choices(
      this.kind.select,
      kindsOf(this.app).map((kind) => [kind, kind]),
      scene.kind,
    );
    choices(
      this.layer.select,
      attention.layers.map((layer) => [layer, String(layer)]),
      state.layer,
    );
    choices(
      this.head.select,
      [...layerHeads.map((head) => [head, headLabel(head)]), [MEAN, "mean"]],
      state.head,
    );
    choices(
      this.flow.select,
      contents.flows.map(({ name }, index) => [index, name]),
      state.flow,
    );
    choices(
      this.top.select,
      [
        ["one", "1"],
        ["largest", "the largest"],
      ],
      state.top,
    );
    this.threshold.value = state.threshold;
    this.thresholdValue.textContent = ` ${state.threshold.toFixed(2)}`;
    this.only.checked = Boolean(state.only);
    const used = usedBy(state.view, kindsOf(this.app).length);
    for (const [name, field] of Object.entries(this.fields)) field.hidden = !used.includes(name);
  }
}

function usedBy(view, kinds) {
  const kind = kinds > 1 ? ["kind"] : [];
  const own =
    { map: ["top", "zoom"], lines: ["threshold", "only"], flow: ["flow", "top", "zoom"] }[view] ?? [];
  return view === "flow" || view === "guesses"
    ? [...(view === "guesses" ? kind : []), ...own]
    : [...kind, "layer", "head", ...own];
}

function choices(select, options, chosen) {
  const known = JSON.stringify(options);
  if (select.dataset.known !== known) {
    select.replaceChildren(
      ...options.map(([value, text]) => element("option", { value: String(value), textContent: text })),
    );
    select.dataset.known = known;
  }
  select.value = String(chosen);
}

export function buildHelp(app) {
  const rows = keysOf(app).map(({ shown, what }) =>
    element(
      "tr",
      {},
      element("th", { scope: "row" }, element("kbd", { textContent: shown })),
      element("td", { textContent: what }),
    ),
  );
  const letters = element("input", {
    type: "checkbox",
    checked: Boolean(app.state.keys),
    onchange: (event) => app.set({ keys: Number(event.target.checked) }),
  });
  const about =
    "Attention weights are kept in 8 bits on a square-root scale: a weight w is read back within " +
    `√w / ${app.contents.levels}, 0.004 at most. Cells that a mask hides have a colour of their own.`;
  return element(
    "dialog",
    { className: "help", "aria-label": "Keys and help" },
    element("h2", { textContent: "Keys", tabIndex: -1, autofocus: true }),
    element("p", {
      textContent:
        "Arrows work in the picture, once it was clicked or reached with Tab; the others everywhere.",
    }),
    element("table", {}, element("tbody", {}, ...rows)),
    element("label", {}, letters, " single letters and digits do something"),
    element("p", { textContent: about }),
    element("p", {
      textContent:
        "With the mouse: click chooses, Ctrl + wheel or a pinch zooms, dragging moves what is zoomed.",
    }),
    element("form", { method: "dialog" }, element("button", { textContent: "Close" })),
  );
}
