// The rows of a map of all heads: one for each layer, or one or more for each kind of head.

import { MEAN } from "./state.js";

const UNLABELED = "no label";

/** The numbers of all heads; a layer from which heads were pruned has gaps. */
const headNumbers = ({ attention }) => [...new Set(attention.heads.flat())].sort((a, b) => a - b);

/** Whether heads can be sorted by what they do. */
export const hasKinds = ({ headLabels }) => headLabels.length > 0;

/**
 * The rows of the map: { columns, names, rows } with the names of the columns, and rows of
 * { label, layer, cells: [{ layer, head, index, row } or null] }. index is the place of a head in its layer, and row
 * that of its layer among the layers.
 */
export function rowsOf(scene) {
  const { state, compact } = scene;
  const byKind = state.view === "heads" && state.sort === "kind" && hasKinds(scene) && !compact;
  return byKind ? rowsByKind(scene) : rowsByLayer(scene);
}

function rowsByLayer(scene) {
  const { attention, compact } = scene;
  const numbers = headNumbers(scene);
  const rows = attention.layers.map((layer, row) => {
    const heads = attention.heads[row];
    const cells = numbers.map((head) => (heads.includes(head) ? { layer, head, index: heads.indexOf(head), row } : null));
    cells.push({ layer, head: MEAN, index: heads.length, row });
    return { label: compact ? String(layer) : `layer ${layer}`, layer, cells };
  });
  return { columns: numbers.length + 1, names: [...numbers.map(String), "mean"], rows };
}

/** Heads with the same best label, most certain first; the kinds with the most heads first, unlabeled heads last. */
function rowsByKind(scene) {
  const { attention, headLabelsOf } = scene;
  const kinds = new Map();
  attention.layers.forEach((layer, row) =>
    attention.heads[row].forEach((head, index) => {
      const [label] = headLabelsOf(layer, head);
      const kind = label?.name ?? UNLABELED;
      if (!kinds.has(kind)) kinds.set(kind, []);
      kinds.get(kind).push({ layer, head, index, row, score: label?.score ?? 0 });
    }),
  );
  const columns = headNumbers(scene).length + 1;
  const order = [...kinds].sort(
    ([a, heads], [b, others]) => (a === UNLABELED) - (b === UNLABELED) || others.length - heads.length,
  );
  const rows = order.flatMap(([kind, heads]) => {
    heads.sort((a, b) => b.score - a.score || a.row - b.row || a.index - b.index);
    return Array.from({ length: Math.ceil(heads.length / columns) }, (_, number) => ({
      label: number ? "" : `${kind} (${heads.length})`,
      cells: heads.slice(number * columns, (number + 1) * columns),
    }));
  });
  return { columns, names: [], rows };
}
