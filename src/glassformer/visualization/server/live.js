// A person types, steps through what the model writes, switches heads off, and sees what that changes.

import { paletteOf } from "./colours.js";
import { percent, visible } from "./labels.js";
import { element } from "./panel.js";
import { showGuesses } from "./bars.js";
import { Switches } from "./switches.js";

const PAUSE = 350; // milliseconds without a key after which a text is read
const at = (id) => document.getElementById(id);

class Live {
  constructor(about) {
    Object.assign(this, { about, written: [], going: false, drawing: false, last: "" });
    const [size, unit] = [[1e9, "G"], [1e6, "M"], [1e3, "k"], [1, ""]].find(([least]) => about.parameters >= least);
    at("title").textContent = `${visible(about.name)} - ${about.family}, ${Number((about.parameters / size).toPrecision(3))} ${unit} parameters`;
    at("about").textContent = `Reads at most ${about.longest} tokens. Everything is computed on the machine that serves this page.`;
    document.title = `${visible(about.name)} - glassformer`;
    at("guesses-title").textContent = about.says ? `What the model expects: ${about.says}` : "This model has no head that guesses tokens";
    for (const id of ["guesses-box", "writing"]) at(id).hidden = !about.says;
    at("how").options[1].textContent = `its mean over ${about.mean_over}`;
    at("text").value = about.example;
    this.switches = new Switches(at("switches"), about, () => this.changed());
    this.listen();
    this.ready = this.look();
  }

  listen() {
    at("text").addEventListener("input", () => {
      this.stop();
      this.written = [];
      clearTimeout(this.pause);
      this.pause = setTimeout(() => this.look(), PAUSE);
    });
    const does = { next: () => this.step(), go: () => (this.going ? this.stop() : this.go()), undo: () => this.take(this.written.length - 1),
      clear: () => this.take(0), "all-on": () => this.switches.allOn(), explore: () => this.explore() };
    for (const [id, act] of Object.entries(does)) at(id).addEventListener("click", act);
    at("how").addEventListener("change", () => this.changed());
    document.addEventListener("write", ({ detail }) => this.write(detail));
    document.addEventListener("keydown", (event) => {
      const inField = /^(TEXTAREA|INPUT)$/.test(event.target.tagName);
      if (!event.ctrlKey && !event.metaKey) return;
      if (event.key === "Enter") this.step();
      else if (event.key === "Backspace" && !inField) this.take(this.written.length - 1);
      else return;
      event.preventDefault();
    });
  }

  // ---- what is asked

  get question() {
    return { text: at("text").value, written: this.written, off: [...this.switches.off], how: at("how").value };
  }

  /** An answer of the server; null where it was overtaken, or refused, which the page then says. */
  async ask(path, question) {
    this.asking?.abort();
    const asking = (this.asking = new AbortController());
    try {
      const response = await fetch(path, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(question), signal: asking.signal });
      const answer = await response.json();
      this.problem(response.ok ? "" : answer.error);
      if (!response.ok && path === "/api/look" && asking === this.asking) this.nothing(response.status === 400);
      return response.ok && asking === this.asking ? answer : null;
    } catch (error) {
      if (error.name !== "AbortError") this.problem("The server does not answer any more.");
      return null;
    }
  }

  problem(words) {
    at("problem").textContent = words;
    at("problem").hidden = !words;
  }

  // ---- what a person does

  async look() {
    clearTimeout(this.pause);
    this.busy(true);
    const answer = await this.ask("/api/look", this.question);
    if (answer) this.show(answer);
    this.busy(false);
  }

  async step() {
    if (this.drawing || !this.about.says) return false;
    const [temperature, top_k] = [at("temperature").valueAsNumber, Math.trunc(at("top-k").valueAsNumber)];
    if (Number.isNaN(temperature) || Number.isNaN(top_k)) {
      this.problem(`${Number.isNaN(temperature) ? "Temperature" : "Top k"} must be a number.`);
      return false;
    }
    clearTimeout(this.pause);
    this.drawing = true;
    this.busy(true);
    const answer = await this.ask("/api/step", { ...this.question, temperature, top_k });
    this.drawing = false;
    this.busy(false);
    if (!answer) return false;
    this.show(answer);
    if (answer.token === null) this.say(this.full());
    return answer.token !== null && !answer.ended;
  }

  full() {
    return this.about.says.includes("[MASK]") ? "No [MASK] is open: put one into the text where a token is to be guessed." : `The model reads no more than ${this.about.longest} tokens: nothing can be added.`;
  }

  async go() {
    this.going = true;
    this.mark();
    while (this.going && (await this.step()));
    this.stop();
  }

  stop() {
    this.going = false;
    this.mark();
  }

  mark() {
    at("go").textContent = this.going ? "Stop" : "Go on";
    at("go").setAttribute("aria-pressed", this.going);
  }

  write(token) {
    this.stop();
    this.written = [...this.written, token];
    return this.look();
  }

  take(count) {
    if (count < 0) return;
    this.stop();
    this.written = this.written.slice(0, count);
    this.look();
  }

  changed() {
    this.disable({ "all-on": !this.switches.off.size }, this.switches.here);
    at("count").textContent = this.switches.off.size ? `${this.switches.off.size} off` : "";
    if (!this.going) this.look(); // else the next step asks with these switches
  }

  async explore() {
    this.stop();
    this.busy(true);
    at("explore").textContent = "Reading …";
    const question = this.question;
    const answer = await this.ask("/api/explore", { ...question, analyses: at("analyses").checked });
    at("explore").textContent = "Show every head on this text";
    this.busy(false);
    if (!answer) return;
    this.explored = JSON.stringify(question);
    at("frame").replaceChildren(
      element("a", { href: answer.page, target: "_blank", rel: "noopener", textContent: "Open it in its own tab" }),
      element("iframe", { title: "Attention of every head", src: answer.page, sandbox: "allow-scripts allow-downloads", allow: "clipboard-write" }),
    );
    this.age();
  }

  // ---- what is shown

  busy(now) {
    document.body.setAttribute("aria-busy", now);
  }

  show(answer) {
    this.written = answer.written.map(({ id }) => id);
    const chip = (label, kind) => element("span", { className: kind, textContent: visible(label) });
    at("tokens").replaceChildren(...answer.tokens.map((label) => chip(label, "")), ...answer.written.map(({ label }) => chip(label, "new")));
    if (answer.written.length) at("tokens").scrollTop = at("tokens").scrollHeight;
    at("notes").textContent = answer.notes.map(visible).join("; ");
    at("notes").hidden = !answer.notes.length;
    showGuesses(document, answer, this.switches.off.size > 0);
    const missing = this.about.says && !answer.guesses.length;
    if (missing) at("legend").textContent = this.full();
    const [none, full] = [!this.written.length, Boolean(missing)];
    this.disable({ undo: none, clear: none, next: full, go: full }, at(full ? "undo" : "next"));
    this.age();
    const [best] = answer.guesses;
    if (best) this.say(`Tokens written: ${answer.written.length}. Likeliest: ${visible(best.label)}, ${percent(this.switches.off.size ? best.after : best.before)}`);
  }

  /** What is shown is of a text that is not there any more. */
  nothing(refused) {
    for (const id of ["tokens", "guesses", "legend", "divergence", "notes"]) at(id).replaceChildren();
    at("notes").hidden = document.querySelector(".guesses").hidden = true;
    this.disable({ next: refused, go: refused }, at("text"));
  }

  /** Buttons by id that do nothing now, or do again; the focus of one that does nothing goes to another. */
  disable(buttons, instead) {
    const focused = document.activeElement;
    for (const [id, disabled] of Object.entries(buttons)) at(id).disabled = disabled;
    if (focused?.disabled) (instead.disabled ? at("text") : instead).focus();
  }

  age() {
    at("stale").hidden = !this.explored || this.explored === JSON.stringify(this.question);
  }

  say(words) {
    at("spoken").textContent = words;
  }
}

function paint() {
  const palette = paletteOf(matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
  const { style } = document.documentElement;
  style.colorScheme = palette.theme;
  for (const name of ["paper", "card", "ink", "soft", "line", "accent", "mark", "wash"]) style.setProperty(`--${name}`, palette[name]);
}

paint();
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", paint);
const answer = await fetch("/api/model");
window.glassformer = new Live(await answer.json());
