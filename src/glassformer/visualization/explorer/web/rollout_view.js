// Attention rollout through all layers, as a heat map.

import { makeMapView } from "./map_view.js";

export const rolloutView = makeMapView({
  name: "rollout",
  panel: ["cell", "row", "column"],
  intro: "Attention through all layers together: each row is an output, darker cells are the inputs that it takes from.",
  introOf: ({ rollout }) => IN_WORDS[verdict(rollout)],
  title: "Rollout",
  description: "Attention through all layers: how much each output takes from each input.",
  available: (contents) => contents.rollouts.length > 0,
  transform: (scene) => ({ ...scene, stripesLabel: "out of reach" }),
  matrix: (scene) => scene.rolloutMatrix,
  titleAndNote: ({ rollout, contents, attention }) => [
    `Through all layers: ${rollout.name}`,
    describeFaithfulness(rollout, contents.rollouts, attention.queries),
  ],
});

/** What a verdict means for the reader. */
const IN_WORDS = {
  "better than random orders": "Tested: without the inputs that it ranks first, the prediction falls faster than in random orders.",
  "no better than random orders": "Tested: it explains the prediction no better than a random order of the inputs.",
  "worse than random orders": "Tested: it explains the prediction worse than a random order of the inputs.",
  "not measured": "Not tested: whether it explains the prediction is not known.",
};

const rounded = (value) => String(Number(value.toPrecision(2))).replace("-", "−");

/** Whether the score differs from random orders: 0 lies outside the 95 % interval of the difference. */
export function verdict({ faithfulness, low, high }) {
  if (faithfulness == null) return "not measured";
  if (low > 0) return "better than random orders";
  return high < 0 ? "worse than random orders" : "no better than random orders";
}

const inNumbers = ({ faithfulness, low, high }) =>
  faithfulness == null ? "" : ` (${rounded(faithfulness)}; ${rounded(low)} to ${rounded(high)})`;

/** The faithfulness of this method, of the others, and how it is measured. */
function describeFaithfulness(rollout, rollouts, tokens) {
  const others = rollouts.filter((other) => other !== rollout);
  const row = rollout.query == null ? "" : ` of the row “${tokens[rollout.query]}” (${rollout.query})`;
  const results = [rollout, ...others].map((one) =>
    [one === rollout ? `faithfulness${row}` : one.name, `${verdict(one)}${inNumbers(one)}`].join(": "),
  );
  return `${results.join(". ")}. ${rollout.note.replace(/^faithfulness: /, "Faithfulness is ")}.`;
}
