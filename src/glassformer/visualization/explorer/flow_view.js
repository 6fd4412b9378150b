// Attention through all layers, as a heat map of its own.

import { makeMapView } from "./map_view.js";

export const flowView = makeMapView({
  name: "flow",
  title: "Rollout",
  about: "Attention followed through all layers: what each output takes from each input.",
  available: (contents) => contents.flows.length > 0,
  of: (scene) => ({ ...scene, hides: "out of reach" }),
  matrix: (scene) => scene.flowMatrix,
  words: ({ flow, contents, attention }) => [
    `Through all layers: ${flow.name}`,
    scored(flow, contents.flows, attention.queries),
  ],
});

const rounded = (value) => String(Number(value.toPrecision(2))).replace("-", "−");

/** Better than chance, worse, or neither: where 95 % of random orders leave the score. */
export function verdict({ faithfulness, low, high }) {
  if (faithfulness == null) return "not measured";
  if (low > 0) return "better than random orders";
  return high < 0 ? "worse than random orders" : "no better than random orders";
}

const inNumbers = ({ faithfulness, low, high }) =>
  faithfulness == null ? "" : ` (${rounded(faithfulness)}; ${rounded(low)} to ${rounded(high)})`;

/** The verdict on this method, on the others, and what the numbers are. */
function scored(flow, flows, tokens) {
  const others = flows.filter((other) => other !== flow);
  const row = flow.query == null ? "" : ` of the row “${tokens[flow.query]}” (${flow.query})`;
  const said = [flow, ...others].map((one) =>
    [one === flow ? `faithfulness${row}` : one.name, `${verdict(one)}${inNumbers(one)}`].join(": "),
  );
  return `${said.join(". ")}. ${flow.note.replace(/^faithfulness: /, "Faithfulness is ")}.`;
}
