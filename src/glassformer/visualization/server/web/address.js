// The page's part of the URL's hash: texts, generated tokens, heads and options. The explorer adds the view.

const NAMES = ["text", "text2", "at2", "chat", "generated", "off", "by", "temperature", "top", "all"];
const byId = (id) => document.getElementById(id);

/** What differs from a page that was just opened. */
export function toAddress(page) {
  const { example } = page.model;
  const values = {
    text: [byId("text").value, example],
    text2: [page.comparing ? byId("text-2").value : null, null],
    at2: [page.attention.secondCell, ""],
    chat: [byId("chat").checked ? "1" : "", ""],
    generated: [page.generated.join("."), ""],
    off: [[...page.heads.off].join("~"), ""],
    by: [byId("ablation").value, "zero"],
    temperature: [byId("temperature").value, byId("temperature").defaultValue],
    top: [byId("top-k").value, byId("top-k").defaultValue],
    all: [byId("analyses").checked ? "1" : "", ""],
  };
  const changed = NAMES.filter((name) => values[name][0] !== values[name][1]);
  return new URLSearchParams(changed.map((name) => [name, values[name][0]])).toString();
}

/** Whether a hash says the same about the texts and the heads as the page shows. */
export function isShown(page, hash) {
  const params = new URLSearchParams(hash.replace(/^#/, ""));
  const shown = new URLSearchParams(toAddress(page));
  return NAMES.filter((name) => name !== "at2").every((name) => params.get(name) === shown.get(name));
}

/** Fill a field with a number, or with its first value. */
function setNumber(field, value) {
  field.value = value ?? "";
  if (field.value === "") field.value = field.defaultValue;
}

/** Fill the fields of the page from a hash; the server checks the values. Returns the generated tokens and the heads. */
export function fromAddress(page, hash) {
  const params = new URLSearchParams(hash.replace(/^#/, ""));
  const value = (name, initial) => params.get(name) ?? initial;
  byId("text").value = value("text", page.model.example);
  byId("compare").checked = params.has("text2");
  if (params.has("text2")) byId("text-2").value = params.get("text2");
  byId("chat").checked = page.model.has_chat_template && value("chat", "") === "1";
  byId("ablation").value = value("by", "") === "mean" ? "mean" : "zero";
  setNumber(byId("temperature"), params.get("temperature"));
  setNumber(byId("top-k"), params.get("top"));
  byId("analyses").checked = value("all", "") === "1";
  const list = (name, separator) => value(name, "").split(separator).filter(Boolean);
  return { generated: list("generated", ".").filter((id) => /^\d{1,9}$/.test(id)).map(Number), off: list("off", "~") };
}
