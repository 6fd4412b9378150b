// Attention through all layers, as a heat map of its own.

import { makeMapView } from "./map_view.js";

export const flowView = makeMapView({
  name: "flow",
  title: "Rollout",
  about: "Attention followed through all layers: what each output takes from each input.",
  available: (contents) => contents.flows.length > 0,
  matrix: (scene) => scene.flowMatrix,
  words: ({ flow }) => [`Through all layers: ${flow.name}`, scored(flow)],
});

/** The note, with the score of the deletion test and its interval where the note explains them. */
function scored({ note, faithfulness, low, high }) {
  if (faithfulness == null) return ["faithfulness not measured", note].filter(Boolean).join("; ");
  const [score, least, most] = [faithfulness, low, high].map((value) => Number(value.toPrecision(2)));
  return `faithfulness ${score} (${least} to ${most})${note.replace(/^faithfulness/, "")}`;
}
