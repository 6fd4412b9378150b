// The explorer's page of the text as it is now: asked for, waited for, given up, grown old.

import { fetched } from "./ask.js";
import { element } from "./panel.js";

const at = (id) => document.getElementById(id);

export class Exploring {
  /** about: the model; question: gives what is asked now; changed: called when it begins or ends to wait. */
  constructor(about, question, changed) {
    Object.assign(this, { question, changed, asking: null });
    const made = about.says ? "logit lens, rollout and scores in parts" : "rollout and scores in parts";
    const most = about.analysed < about.longest ? `, for ${about.analysed.toLocaleString("en")} tokens at most` : "";
    at("analyses-label").textContent = `with ${made} (slower${most})`;
    at("explore").addEventListener("click", () => this.start());
    at("cancel").addEventListener("click", () => this.asking?.abort());
  }

  async start() {
    if (this.asking) return;
    const [asking, question] = [new AbortController(), this.question()];
    this.wait(asking);
    try {
      const answer = await fetched("/api/explore", { ...question, analyses: at("analyses").checked }, asking.signal);
      this.explored = JSON.stringify(question);
      this.end("");
      this.show(answer.page);
    } catch (error) {
      this.end(error.name === "AbortError" ? "Stopped." : error.message);
    }
    this.age();
  }

  wait(asking) {
    const began = performance.now();
    this.asking = asking;
    const tell = () => (at("elapsed").textContent = `Reading … ${Math.round((performance.now() - began) / 1000)} s. All else waits for it.`);
    tell();
    this.ticking = setInterval(tell, 1000);
    at("reading").textContent = "";
    this.swap(true);
  }

  end(words) {
    clearInterval(this.ticking);
    this.asking = null;
    at("elapsed").textContent = "";
    at("reading").textContent = words;
    this.swap(false);
  }

  /** One button for the other, and the focus with it. */
  swap(waiting) {
    const [shown, hidden] = waiting ? [at("cancel"), at("explore")] : [at("explore"), at("cancel")];
    const focused = document.activeElement === hidden;
    shown.hidden = false;
    if (focused) shown.focus();
    hidden.hidden = true;
    at("analyses").disabled = waiting;
    this.changed();
  }

  show(page) {
    at("frame").replaceChildren(
      element("a", { href: page, target: "_blank", rel: "noopener", textContent: "Open it in its own tab" }),
      element("iframe", { title: "Attention of every head", src: page, sandbox: "allow-scripts allow-downloads", allow: "clipboard-write" }),
    );
  }

  /** Say so where the page below is of another text, or of other heads. */
  age() {
    at("stale").hidden = !this.explored || this.explored === JSON.stringify(this.question());
  }
}
