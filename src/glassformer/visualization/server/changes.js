// For a model that guesses no tokens: how far heads that are off turn what its last layer gives for each token.

import { numeral, visible } from "./labels.js";
import { element } from "./panel.js";

const SHOWN = 12;

/** Fills the table with the tokens that changed most. No cosines: all heads are on. */
export function showChanges(page, { tokens, cosines }) {
  const table = page.querySelector(".changes");
  const order = cosines.map((cosine, place) => ({ cosine, place })).sort((a, b) => a.cosine - b.cosine);
  const longest = Math.max(1 - (order[0]?.cosine ?? 1), 1e-9);
  table.hidden = !cosines.length;
  table.tBodies[0].replaceChildren(...order.slice(0, SHOWN).map(({ cosine, place }) => row(tokens[place], place, cosine, (1 - cosine) / longest)));
  const mean = cosines.reduce((sum, cosine) => sum + cosine, 0) / cosines.length;
  page.querySelector("#divergence").textContent = cosines.length
    ? `With and without these heads, the last vectors of the tokens have a cosine of ${digits(mean)} on average: 1 is no change. ` +
      `A bar is 1 minus the cosine; the longest is ${numeral(longest)}.`
    : "Switch heads off to see how far that turns what the last layer gives for each token.";
}

const digits = (cosine) => cosine.toFixed(4);

function row(label, place, cosine, share) {
  const bar = element("span", { className: "bar after", "aria-hidden": "true" });
  bar.style.setProperty("--share", share);
  const token = element("span", { className: "name", dir: "auto", textContent: visible(label) });
  return element("tr", {}, element("th", { scope: "row" }, token, element("span", { className: "soft", textContent: ` (${place})` })),
    element("td", {}, bar), element("td", { className: "weight", textContent: digits(cosine) }));
}
