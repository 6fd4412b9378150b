// The page around the view: header, tabs, controls and help.

import { countOf, formatNumber, isolate } from "./text.js";
import { AUTO, MEAN, isCross } from "./state.js";
import { element } from "./panel.js";
import { hasKinds } from "./head_rows.js";
import { EXPORTS, hasLink, modelTitle } from "./export.js";
import { thresholdOf } from "./lines_view.js";
import { availableKinds, resetZoom, stepHead, stepLayer, zoomBy } from "./navigation.js";

const button = (text, label, onclick) =>
  element("button", { type: "button", textContent: text, "aria-label": label, title: label, onclick });

/** Say in the header what text is shown. */
export function fillAbout(app) {
  const { text, notes } = app.contents;
  const noteList = notes.length ? [element("p", { className: "notes", textContent: notes.join("; ") })] : [];
  app.about.replaceChildren(element("p", { className: "text", dir: "auto", textContent: text }), ...noteList, allTokens(app));
}

export function buildHeader(app) {
  return element(
    "header",
    {},
    element("button", {
      type: "button",
      className: "skip",
      textContent: "Skip to the view",
      onclick: () => app.stage.focus(),
    }),
    element("div", { className: "description" }, element("h1", { textContent: modelTitle(app.contents) }), app.about),
    element(
      "div",
      { className: "actions", role: "group", "aria-label": "Save and settings" },
      saveMenu(app),
      button("◐ Theme", "Theme: light or dark (t)", () => app.toggleTheme()),
      button("Tour", "A tour of the page in a few steps", () => app.tour.start()),
      button("? Help", "? Help: what the words mean, and shortcuts (?)", () => app.help()),
    ),
  );
}

/** The exports, in a menu that closes after a choice. */
function saveMenu(app) {
  const choose = (save) => () => {
    menu.open = false;
    return save(app);
  };
  const menu = element(
    "details",
    { className: "save", onfocusout: ({ relatedTarget: to }) => to && !menu.contains(to) && (menu.open = false) },
    element("summary", { textContent: "Save ▾" }),
    element(
      "div",
      {},
      button("Picture, SVG", "Picture, SVG: save the view (s)", choose(EXPORTS.svg)),
      button("Picture, PNG", "Picture, PNG: save the view (p)", choose(EXPORTS.png)),
      button("Weights, JSON", "Weights, JSON: save those of the chosen head (j)", choose(EXPORTS.json)),
      button("All data, JSON", "All data, JSON: save all of the page (Shift + j)", choose(EXPORTS.all)),
      ...(hasLink() ? [button("Copy a link", "Copy a link to this view (l)", choose(EXPORTS.link))] : []),
    ),
  );
  return menu;
}

/** A list of all tokens that can be unfolded: the queries, and the keys if they differ. */
function allTokens(app) {
  const lists = element("div", {});
  const details = element(
    "details",
    { className: "all-tokens", ontoggle: () => details.open && fillTokens(app, lists) },
    element("summary", { textContent: "All tokens" }),
    lists,
  );
  app.updateTokens = () => details.open && fillTokens(app, lists);
  return details;
}

function fillTokens(app, lists) {
  const { attention } = app;
  const same = !isCross(attention);
  const list = (side, title) =>
    element(
      "div",
      {},
      element("p", { className: "soft", textContent: `${title}: click to choose one` }),
      element("p", { className: "chips", dir: "auto" }, ...attention[side].map((token, index) =>
        element("button", {
          type: "button",
          className: "chip",
          textContent: isolate(token),
          title: `${side === "keys" ? "key" : "query"} ${index}`,
          onclick: () => app.set({ [side === "keys" ? "key" : "query"]: index }, { follow: true }),
        }),
      )),
    );
  if (lists.dataset.kind === attention.kind) return;
  lists.dataset.kind = attention.kind;
  const count = ({ length }) => countOf(length, "token");
  lists.replaceChildren(
    list("queries", `${count(attention.queries)} (queries)`),
    ...(same ? [] : [list("keys", `${count(attention.keys)} (keys)`)]),
  );
}

/** The tabs of the views; arrow keys move between them. */
export function buildTabs(app) {
  const tabs = app.views.map((view, index) =>
    element("button", {
      type: "button",
      role: "tab",
      id: `tab-${view.name}`,
      textContent: view.title,
      title: `${view.description} (${index + 1})`,
      "aria-controls": "view",
      onclick: () => app.set({ view: view.name }),
      onkeydown: (event) => moveTab(app, tabs, event),
    }),
  );
  return tabs;
}

function moveTab(app, tabs, event) {
  const current = app.views.indexOf(app.view);
  const to = { ArrowLeft: current - 1, ArrowRight: current + 1, Home: 0, End: -1 }[event.key];
  if (to === undefined) return;
  const next = (to + tabs.length) % tabs.length;
  app.set({ view: app.views[next].name });
  tabs[next].focus();
  event.preventDefault();
}

/** Labeled controls; those that the current view does not use are hidden. */
export class Controls {
  constructor(app) {
    this.app = app;
    const number = (name) => (event) => app.set({ [name]: Number(event.target.value) });
    this.kind = this.select("Attention", (event) => app.set({ kind: event.target.value }));
    this.layer = this.select("Layer", number("layer"), (by) => stepLayer(app, by));
    this.head = this.select("Head", number("head"), (by) => stepHead(app, by));
    this.rollout = this.select("Method", number("rollout"));
    this.colorMax = this.select("Color scale up to", (event) => app.set({ colorMax: event.target.value }));
    this.threshold = element("input", {
      type: "range",
      min: 0,
      max: 1,
      step: 0.005,
      title: "a square-root scale, like the color scale",
      oninput: (event) => app.set({ threshold: Number(event.target.value) ** 2 }),
    });
    this.thresholdValue = element("output", {});
    this.autoThreshold = button("Auto", "Auto: the largest weights, three lines per token or ten of the chosen one (a)", () =>
      app.set({ threshold: AUTO }),
    );
    const checkbox = (name) =>
      element("input", { type: "checkbox", onchange: ({ target }) => app.set({ [name]: Number(target.checked) }) });
    this.sort = this.select("Sorted by", (event) => app.set({ sort: event.target.value }));
    this.looking = this.select("Shaded", (event) => app.set({ looking: event.target.value }));
    this.merged = this.select("Pieces", number("merged"));
    this.onlyChosen = checkbox("onlyChosen");
    this.firstToken = checkbox("firstToken");
    const zoom = element(
      "span",
      { className: "field", role: "group", "aria-label": "Zoom" },
      button("−", "− zoom out (-)", () => zoomBy(app, 1 / 1.5)),
      button("+", "+ zoom in (+)", () => zoomBy(app, 1.5)),
      button("Fit", "Fit the whole map (0)", () => resetZoom(app)),
    );
    this.fields = {
      kind: this.kind.field,
      layer: this.layer.field,
      head: this.head.field,
      sort: this.sort.field,
      looking: this.looking.field,
      merged: this.merged.field,
      rollout: this.rollout.field,
      colorMax: this.colorMax.field,
      zoom,
      threshold: element(
        "span",
        { className: "field" },
        element("label", { className: "field" }, "At least ", this.threshold, this.thresholdValue),
        this.autoThreshold,
      ),
      onlyChosen: element("label", { className: "field" }, this.onlyChosen, " chosen token only"),
      firstToken: element(
        "label",
        { className: "field", title: "Many heads look at the first token when they find nothing else (x)" },
        this.firstToken,
        " show the first token",
      ),
    };
    this.bar = element("div", { className: "controls" }, ...Object.values(this.fields));
  }

  select(text, onchange, stepper) {
    const select = element("select", { onchange });
    const withButtons = stepper
      ? [
          button("‹", `Previous ${text.toLowerCase()}`, () => stepper(-1)),
          select,
          button("›", `Next ${text.toLowerCase()}`, () => stepper(1)),
        ]
      : [select];
    select.setAttribute("aria-label", text);
    return {
      select,
      field: element(
        "span",
        { className: stepper ? "field steps" : "field" },
        element("span", { textContent: `${text} ` }),
        ...withButtons,
      ),
    };
  }

  /** Update all controls to the state. */
  update(scene) {
    const { state, contents, attention, headLabelsOf } = scene;
    const layerHeads = attention.heads[attention.layers.indexOf(state.layer)];
    const headLabel = (head) =>
      [String(head), ...headLabelsOf(state.layer, head).map(({ name }) => name)].join(" · ");
    setOptions(
      this.kind.select,
      availableKinds(this.app).map((kind) => [kind, kind]),
      scene.kind,
    );
    setOptions(
      this.layer.select,
      attention.layers.map((layer) => [layer, String(layer)]),
      state.layer,
    );
    setOptions(
      this.head.select,
      [...layerHeads.map((head) => [head, headLabel(head)]), [MEAN, "mean"]],
      state.head,
    );
    setOptions(
      this.rollout.select,
      contents.rollouts.map(({ name }, index) => [index, name]),
      state.rollout,
    );
    setOptions(
      this.colorMax.select,
      [
        ["auto", "auto"],
        ["one", "1"],
        ["largest", "the largest"],
      ],
      state.colorMax,
    );
    setOptions(
      this.sort.select,
      [
        ["layer", "layer"],
        ["kind", "kind of head"],
      ],
      state.sort,
    );
    setOptions(
      this.looking.select,
      [
        ["at", "where it looks"],
        ["by", "who looks at it"],
      ],
      state.looking,
    );
    setOptions(
      this.merged.select,
      [
        [1, "words"],
        [0, "tokens"],
      ],
      state.merged,
    );
    if (state.view === "lines") {
      const threshold = thresholdOf(scene);
      this.threshold.value = Math.sqrt(threshold);
      this.thresholdValue.textContent = ` ${formatNumber(threshold)}`;
      this.autoThreshold.setAttribute("aria-pressed", state.threshold === AUTO);
    }
    this.onlyChosen.checked = Boolean(state.onlyChosen);
    this.firstToken.checked = Boolean(state.firstToken);
    const shown = controlsFor(state.view, availableKinds(this.app).length, hasKinds(scene));
    for (const [name, field] of Object.entries(this.fields)) field.hidden = !shown.includes(name);
  }
}

function controlsFor(view, kinds, sorted) {
  const kind = kinds > 1 ? ["kind"] : [];
  const head = ["layer", "head"];
  return {
    text: [...kind, ...head, "looking", "merged", "firstToken"],
    heads: [...kind, ...head, ...(sorted ? ["sort"] : []), "zoom"],
    map: [...kind, ...head, "colorMax", "firstToken", "zoom"],
    byhead: [...kind, ...head, "colorMax", "firstToken", "zoom"],
    lines: [...kind, ...head, "threshold", "onlyChosen", "firstToken"],
    predictions: kind,
    rollout: ["rollout", "colorMax", "firstToken", "zoom"],
  }[view] ?? [...kind, ...head];
}

function setOptions(select, options, chosen) {
  const json = JSON.stringify(options);
  if (select.dataset.options !== json) {
    select.replaceChildren(
      ...options.map(([value, text]) => element("option", { value: String(value), textContent: text })),
    );
    select.dataset.options = json;
  }
  select.value = String(chosen);
}
