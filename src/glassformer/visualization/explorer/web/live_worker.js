// Where the forward pass runs: in a worker, or in the page itself if the browser allows no workers.

import { Products } from "./live_products.js";
import { ForwardPass } from "./live_forward.js";

/** What the worker does; its source text is the end of the worker's program. */
function serve() {
  let forward;
  onmessage = ({ data: { architecture, tensors, ids } }) => {
    if (architecture) {
      forward = new ForwardPass(architecture, tensors);
      return;
    }
    const result = forward.run(ids);
    const arrays = [...result.attention, ...(result.logits ? [result.logits] : [])];
    postMessage(result, arrays.map(({ buffer }) => buffer));
  };
  postMessage("ready");
}

/** A function from token ids to the promise of the result of ForwardPass.run. */
export async function startForwardPass(architecture, tensors) {
  const worker = await startWorker();
  if (!worker) {
    const forward = new ForwardPass(architecture, tensors);
    return async (ids) => {
      await new Promise((done) => setTimeout(done, 30)); // so that the page can say that it computes
      return forward.run(ids);
    };
  }
  worker.postMessage({ architecture, tensors }, Object.values(tensors).map(({ values }) => values.buffer));
  return (ids) =>
    new Promise((done, fail) => {
      worker.onmessage = ({ data }) => done(data);
      worker.onerror = ({ message }) => fail(new Error(message));
      worker.postMessage({ ids });
    });
}

/** A worker that is ready, or null if the browser does not allow one here. */
function startWorker() {
  const program = `${Products}\n${ForwardPass}\n(${serve})();`;
  const address = URL.createObjectURL(new Blob([program], { type: "text/javascript" }));
  return new Promise((done) => {
    try {
      const worker = new Worker(address);
      worker.onmessage = () => done(worker);
      worker.onerror = (event) => {
        event.preventDefault();
        done(null);
      };
    } catch {
      done(null);
    }
  }).finally(() => URL.revokeObjectURL(address));
}
