// A person types, steps through what the model writes, switches heads off, and sees what that changes.

import { paletteOf } from "./colours.js";
import { percent, visible } from "./labels.js";
import { fetched } from "./ask.js";
import { moveAmong, showGuesses } from "./bars.js";
import { showChanges } from "./changes.js";
import { Exploring } from "./exploring.js";
import { showTokens } from "./strip.js";
import { Switches } from "./switches.js";

const PAUSE = 350; // milliseconds without a key after which a text is read
const AGAIN = 2000; // milliseconds after which a server that did not answer is asked again
const FEW = 13; // layers of all kinds of attention that leave room beside them
const at = (id) => document.getElementById(id);
const LOOK = "/api/look";
const STEP = "/api/step";

class Live {
  constructor(about) {
    Object.assign(this, { about, written: [], going: false, asking: null, pause: null });
    const [size, unit] = [[1e9, "G"], [1e6, "M"], [1e3, "k"], [1, ""]].find(([least]) => about.parameters >= least);
    at("title").textContent = `${visible(about.name)} - ${about.family}, ${Number((about.parameters / size).toPrecision(3))} ${unit} parameters`;
    at("about").textContent = `${about.limit[0].toUpperCase()}${about.limit.slice(1)}. Everything is computed on the machine that serves this page.`;
    document.title = `${visible(about.name)} - glassformer`;
    at("guesses-title").textContent = about.says ? `What the model expects: ${about.says}` : "What heads change";
    at("legend").textContent = about.says ? "" : "This model has no head over a vocabulary, so it guesses no tokens.";
    at("writing").hidden = !about.says;
    at("how").options[1].textContent = `its mean over ${about.mean_over}`;
    at("text").value = about.example;
    this.switches = new Switches(at("switches"), about, () => this.changed());
    at("pair").classList.toggle("few", this.switches.grid.length <= FEW);
    this.exploring = new Exploring(about, () => this.question, () => this.busy());
    this.listen();
    at("all").disabled = false;
    this.ready = this.look();
  }

  listen() {
    at("text").addEventListener("input", () => this.typed());
    const does = { next: () => this.step(), go: () => (this.going ? this.stop() : this.go()), undo: () => this.take(this.written.length - 1),
      clear: () => this.take(0), "all-on": () => this.switches.allOn() };
    for (const [id, act] of Object.entries(does)) at(id).addEventListener("click", act);
    at("how").addEventListener("change", () => this.changed());
    at("guesses").addEventListener("keydown", moveAmong);
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

  /** Whether the switches stand as they did when this was asked. */
  same({ off, how }) {
    return how === at("how").value && off.length === this.switches.off.size && off.every((head) => this.switches.off.has(head));
  }

  get drawing() {
    return this.asking?.path === STEP;
  }

  /** An answer of the server; null where it was overtaken, is of another text, or was refused: the page says so. */
  async ask(path, question) {
    this.overtake();
    const asking = (this.asking = { path, stop: new AbortController() });
    this.busy();
    try {
      const answer = await fetched(path, question, asking.stop.signal);
      if (asking !== this.asking || question.text !== at("text").value) return null;
      problem("");
      return answer;
    } catch (error) {
      if (asking !== this.asking) return null;
      problem(error.message);
      if (path === LOOK) this.nothing(error.status === 400);
      return null;
    } finally {
      if (asking === this.asking) this.asking = null;
      this.busy();
    }
  }

  /** Wait no more for what was asked. */
  overtake() {
    this.asking?.stop.abort();
    this.asking = null;
    clearTimeout(this.pause);
    this.pause = null;
  }

  // ---- what a person does

  /** What is on its way is of another text, and so is what was written. */
  typed() {
    this.stop();
    this.overtake();
    this.written = [];
    this.disable({ undo: true, clear: true }, at("text"));
    this.pause = setTimeout(() => this.look(), PAUSE);
    this.busy();
    this.exploring.age();
  }

  async look() {
    const question = this.question;
    const answer = await this.ask(LOOK, question);
    if (answer && this.same(question)) this.show(answer, question);
  }

  /** Whether there may be another step after it. */
  async step() {
    if (this.drawing || !this.about.says) return false;
    const [temperature, top_k] = [at("temperature").valueAsNumber, Math.trunc(at("top-k").valueAsNumber)];
    if (Number.isNaN(temperature) || Number.isNaN(top_k)) {
      problem(`${Number.isNaN(temperature) ? "Temperature" : "Top k"} must be a number.`);
      return false;
    }
    const question = this.question;
    const answer = await this.ask(STEP, { ...question, temperature, top_k });
    if (answer && this.same(question)) this.show(answer, question);
    else if (answer) this.keep(answer); // the bars would be of other switches than those on the page
    if (!this.going) this.refresh();
    if (answer?.token === null) this.say(answer.why);
    return Boolean(answer) && answer.token !== null && !answer.ended;
  }

  async go() {
    this.going = true;
    this.mark();
    while (this.going && (await this.step()));
    this.stop();
    this.refresh();
  }

  /** Look again where the bars are of other switches, and nothing is on its way. */
  refresh() {
    if (!this.asking && !this.pause && this.shown && !this.same(this.shown)) this.look();
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
    const { size } = this.switches.off;
    this.disable({ "all-on": !size }, this.switches.here);
    at("count").textContent = size ? `${size} off` : "";
    this.exploring.age();
    if (!this.going && !this.drawing) this.look(); // else the page looks again after the step
  }

  // ---- what is shown

  busy() {
    document.body.setAttribute("aria-busy", Boolean(this.asking || this.pause || this.exploring?.asking));
  }

  show(answer, question) {
    const off = question.off.length > 0;
    this.shown = question;
    this.keep(answer);
    at("notes").textContent = answer.notes.map(visible).join("; ");
    at("notes").hidden = !answer.notes.length;
    if (!this.about.says) return showChanges(document, answer);
    showGuesses(document, answer, off);
    const full = !answer.guesses.length;
    this.disable({ next: full, go: full }, at(full ? "undo" : "next"));
    const [best] = answer.guesses;
    if (best) this.say(`Tokens written: ${answer.written.length}. Likeliest: ${visible(best.label)}, ${percent(off ? best.after : best.before)}`);
  }

  /** The tokens of an answer. */
  keep(answer) {
    this.written = answer.written.map(({ id }) => id);
    showTokens(at("tokens"), answer, this.about.two_texts);
    const none = !this.written.length;
    this.disable({ undo: none, clear: none }, at("next"));
    this.exploring.age();
  }

  /** What is shown is of a text that is not there any more. */
  nothing(refused) {
    for (const id of ["tokens", "guesses", "changes", "divergence", "notes", ...(this.about.says ? ["legend"] : [])]) at(id).replaceChildren();
    for (const hidden of [at("notes"), ...document.querySelectorAll("table")]) hidden.hidden = true;
    const none = !this.written.length;
    this.disable({ next: refused, go: refused, undo: none, clear: none }, at("text"));
  }

  /** Buttons by id that do nothing now, or do again; the focus of one that does nothing goes to another. */
  disable(buttons, instead) {
    const focused = document.activeElement;
    for (const [id, disabled] of Object.entries(buttons)) at(id).disabled = disabled;
    if (focused?.disabled) (instead.disabled ? at("text") : instead).focus();
  }

  say(words) {
    at("spoken").textContent = words;
  }
}

function problem(words) {
  at("problem").textContent = words;
  at("problem").hidden = !words;
}

function paint() {
  const palette = paletteOf(matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
  const { style } = document.documentElement;
  style.colorScheme = palette.theme;
  for (const name of ["paper", "card", "ink", "soft", "line", "accent", "mark", "wash"]) style.setProperty(`--${name}`, palette[name]);
}

/** What the server says of its model, asked until it says it. */
async function model() {
  for (;;) {
    try {
      const about = await fetched("/api/model");
      problem("");
      return about;
    } catch (error) {
      problem(`${error.message.replace(/\.?$/, ".")} The page asks again.`);
      await new Promise((resolve) => setTimeout(resolve, AGAIN));
    }
  }
}

paint();
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", paint);
window.glassformer = new Live(await model());
