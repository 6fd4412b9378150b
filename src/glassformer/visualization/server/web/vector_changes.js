// For a model without a language modeling head: how heads that are off change each token's last hidden state.

import { element, formatNumber, visibleText } from "./explorer_modules.js";

const MAX_ROWS = 12;

/** Fills the table with the tokens that change most. Without cosines, no head is off. */
export function showVectorChanges(page, { tokens, cosines }) {
  const table = page.querySelector(".vector-changes");
  const order = cosines.map((cosine, position) => ({ cosine, position })).sort((a, b) => a.cosine - b.cosine);
  const max = Math.max(1 - (order[0]?.cosine ?? 1), 1e-9);
  table.hidden = !cosines.length;
  table.tBodies[0].replaceChildren(...order.slice(0, MAX_ROWS).map(({ cosine, position }) => row(tokens[position], position, cosine, (1 - cosine) / max)));
  const mean = cosines.reduce((sum, cosine) => sum + cosine, 0) / cosines.length;
  page.querySelector("#summary").textContent = cosines.length
    ? `The last hidden states with and without these heads have a mean cosine of ${digits(mean)} (1 is no change). ` +
      `A bar is 1 minus the cosine; the longest is ${formatNumber(max)}.`
    : "Turn heads off to see how they change the last hidden state of each token.";
}

const digits = (cosine) => cosine.toFixed(4);

function row(label, position, cosine, share) {
  const bar = element("span", { className: "bar after", "aria-hidden": "true" });
  bar.style.setProperty("--share", share);
  const token = element("span", { className: "name", dir: "auto", textContent: visibleText(label) });
  return element("tr", {}, element("th", { scope: "row" }, token, element("span", { className: "soft", textContent: ` (${position})` })),
    element("td", {}, bar), element("td", { className: "numeric", textContent: digits(cosine) }));
}
