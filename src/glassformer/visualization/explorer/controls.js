// The page around the picture: title, tabs, choices, buttons, help.

import { isolated, numeral } from "./labels.js";
import { HEAVIEST, MEAN } from "./state.js";
import { element } from "./panel.js";
import { EXPORTS, hasLink, modelInWords } from "./export.js";
import { keysOf } from "./keys.js";
import { thresholdOf } from "./lines_view.js";
import { closer, fit, kindsOf, stepHead, stepLayer } from "./moving.js";

const button = (text, label, onclick) =>
  element("button", { type: "button", textContent: text, "aria-label": label, title: label, onclick });

export function buildHeader(app) {
  const { text, notes } = app.contents;
  const list = notes.length ? [element("p", { className: "notes", textContent: notes.join("; ") })] : [];
  const words = [
    element("h1", { textContent: modelInWords(app.contents) }),
    element("p", { className: "text", dir: "auto", textContent: text }),
    ...list,
    wholeText(app),
  ];
  return element(
    "header",
    {},
    element("button", {
      type: "button",
      className: "skip",
      textContent: "To the picture",
      onclick: () => app.stage.focus(),
    }),
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

/** Everything that was read, token by token, to be unfolded: what looks, and where that differs, what is looked at. */
function wholeText(app) {
  const lists = element("div", {});
  const whole = element(
    "details",
    { className: "whole", ontoggle: () => whole.open && fillWhole(app, lists) },
    element("summary", { textContent: "All tokens" }),
    lists,
  );
  app.showWhole = () => whole.open && fillWhole(app, lists);
  return whole;
}

function fillWhole(app, lists) {
  const { attention } = app;
  const same = attention.queries.join("\n") === attention.keys.join("\n");
  const list = (side, title) =>
    element(
      "div",
      {},
      element("p", { className: "soft", textContent: `${title}: a click chooses` }),
      element("p", { className: "chips", dir: "auto" }, ...attention[side].map((token, index) =>
        element("button", {
          type: "button",
          className: "chip",
          textContent: isolated(token),
          title: `${side === "keys" ? "key" : "query"} ${index}`,
          onclick: () => app.set({ [side === "keys" ? "key" : "query"]: index }, { follow: true }),
        }),
      )),
    );
  if (lists.dataset.kind === attention.kind) return;
  lists.dataset.kind = attention.kind;
  const count = ({ length }) => `${length} tokens`;
  lists.replaceChildren(
    list("queries", `${count(attention.queries)} that look`),
    ...(same ? [] : [list("keys", `${count(attention.keys)} that are looked at`)]),
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
      step: 0.005,
      title: "a square-root scale, as the colours have",
      oninput: (event) => app.set({ threshold: Number(event.target.value) ** 2 }),
    });
    this.thresholdValue = element("output", {});
    this.heaviest = button("Auto", "Auto: the heaviest lines, three a token (a)", () =>
      app.set({ threshold: HEAVIEST }),
    );
    const box = (name) =>
      element("input", { type: "checkbox", onchange: ({ target }) => app.set({ [name]: Number(target.checked) }) });
    this.only = box("only");
    this.first = box("first");
    const zoom = element(
      "span",
      { className: "field", role: "group", "aria-label": "Zoom" },
      button("−", "− further away (-)", () => closer(app, 1 / 1.5)),
      button("+", "+ closer (+)", () => closer(app, 1.5)),
      button("Fit", "Fit all of it (0)", () => fit(app)),
    );
    this.fields = {
      kind: this.kind.field,
      layer: this.layer.field,
      head: this.head.field,
      flow: this.flow.field,
      top: this.top.field,
      zoom,
      threshold: element(
        "span",
        { className: "field" },
        element("label", { className: "field" }, "At least ", this.threshold, this.thresholdValue),
        this.heaviest,
      ),
      only: element("label", { className: "field" }, this.only, " chosen token only"),
      first: element("label", { className: "field" }, this.first, " to the first token too"),
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
        ["auto", "auto"],
        ["one", "1"],
        ["largest", "the largest"],
      ],
      state.top,
    );
    if (state.view === "lines") {
      const threshold = thresholdOf(scene);
      this.threshold.value = Math.sqrt(threshold);
      this.thresholdValue.textContent = ` ${numeral(threshold)}`;
      this.heaviest.setAttribute("aria-pressed", state.threshold === HEAVIEST);
    }
    this.only.checked = Boolean(state.only);
    this.first.checked = Boolean(state.first);
    const used = usedBy(state.view, kindsOf(this.app).length);
    for (const [name, field] of Object.entries(this.fields)) field.hidden = !used.includes(name);
  }
}

function usedBy(view, kinds) {
  const kind = kinds > 1 ? ["kind"] : [];
  const head = ["layer", "head"];
  return {
    heads: [...kind, ...head, "zoom"],
    map: [...kind, ...head, "top", "zoom"],
    byhead: [...kind, ...head, "top", "zoom"],
    lines: [...kind, ...head, "threshold", "only", "first"],
    guesses: kind,
    flow: ["flow", "top", "zoom"],
  }[view] ?? [...kind, ...head];
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
      "div",
      {},
      element("dt", {}, element("kbd", { textContent: shown })),
      element("dd", { textContent: what }),
    ),
  );
  const letters = element("input", {
    type: "checkbox",
    checked: Boolean(app.state.keys),
    onchange: (event) => app.set({ keys: Number(event.target.checked) }),
  });
  const about =
    "Attention weights are kept in 8 bits on a square-root scale: a weight w is read back within " +
    `√w / ${app.contents.levels}, 0.004 at most. Cells that a mask hides are striped.`;
  return element(
    "dialog",
    { className: "help", "aria-label": "Keys and help" },
    element("h2", { textContent: "Keys", tabIndex: -1, autofocus: true }),
    element("p", {
      textContent:
        "Arrows work in the picture, once it was clicked or reached with Tab; the others everywhere.",
    }),
    element("dl", { className: "keys" }, ...rows),
    element("label", {}, letters, " single letters and digits do something"),
    element("p", { textContent: about }),
    element("p", {
      textContent:
        "With the mouse: click chooses, Ctrl + wheel or a pinch zooms, dragging moves what is zoomed.",
    }),
    element("form", { method: "dialog" }, element("button", { textContent: "Close" })),
  );
}
