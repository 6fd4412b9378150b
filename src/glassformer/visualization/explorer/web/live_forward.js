// The forward pass of a GPT or BERT, for texts that are typed into the page.
// The source text of this class is also run in a worker, so it uses nothing from outside but Products.

import { Products } from "./live_products.js";

export class ForwardPass {
  /** architecture: as described by live_architecture.py; tensors: { shape, values } by name. */
  constructor(architecture, tensors) {
    Object.assign(this, { architecture, tensors });
  }

  /** The attention of each layer, (head, query, key), zero where masked; and the logits, (token, token of the vocabulary), or null. */
  run(ids) {
    const { architecture } = this;
    const attention = [];
    let x = this.embed(ids);
    if (architecture.positions.kind === "rotary") this.rotation = this.cosSin(ids.length);
    for (let layer = 0; layer < architecture.num_layers; layer++) {
      const weights = new Float32Array(architecture.num_heads * ids.length ** 2);
      x = this.block(x, `blocks.${layer}.`, ids.length, weights);
      attention.push(weights);
    }
    if (this.tensors["norm.weight"]) x = this.norm(x, "norm");
    return { attention, logits: this.logits(x) };
  }

  /** (token, d_model). */
  embed(ids) {
    const { tensors } = this;
    const x = Products.add(this.rowsOf("token_embedding.weight", ids), this.positionsAt(ids));
    if (!tensors["embedding_norm.weight"]) return x;
    const types = this.rowsOf("token_type_embedding.weight", ids.map(() => 0));
    return this.norm(Products.add(x, types), "embedding_norm");
  }

  rowsOf(name, indices) {
    const { shape, values } = this.tensors[name];
    const x = new Float32Array(indices.length * shape[1]);
    indices.forEach((row, index) => x.set(values.subarray(row * shape[1], (row + 1) * shape[1]), index * shape[1]));
    return x;
  }

  /** What is added to the embeddings of tokens. */
  positionsAt(ids) {
    const { kind, theta } = this.architecture.positions;
    if (kind === "learned") return this.rowsOf("positions.embedding.weight", [...ids.keys()]);
    const width = this.tensors["token_embedding.weight"].shape[1];
    const x = new Float32Array(ids.length * width);
    if (kind !== "sinusoidal") return x;
    for (let i = 0; i < x.length; i++) {
      const [position, column] = [Math.floor(i / width), i % width];
      const angle = position * theta ** (-2 * Math.floor(column / 2) / width);
      x[i] = column % 2 ? Math.cos(angle) : Math.sin(angle);
    }
    return x;
  }

  /** One block, which also writes its attention weights. */
  block(x, name, tokens, weights) {
    const { residual } = this.architecture;
    const attend = (input) => this.scaled(this.attend(input, `${name}attention.`, tokens, weights), `${name}scales.0`);
    const feed = (input) => this.scaled(this.feedForward(input, `${name}feed_forward.`), `${name}scales.1`);
    if (residual === "post") {
      x = this.norm(Products.add(x, attend(x)), `${name}norm1`);
      return this.norm(Products.add(x, feed(x)), `${name}norm2`);
    }
    const normalized = this.norm(x, `${name}norm1`);
    const attended = attend(normalized);
    if (residual === "parallel_shared") return Products.add(x, Products.add(attended, feed(normalized)));
    if (residual === "parallel") return Products.add(x, Products.add(attended, feed(this.norm(x, `${name}norm2`))));
    x = Products.add(x, attended);
    return Products.add(x, feed(this.norm(x, `${name}norm2`)));
  }

  linear(x, name) {
    return Products.linear(x, this.tensors[`${name}.weight`], this.tensors[`${name}.bias`]);
  }

  norm(x, name) {
    const { norm, norm_eps: eps } = this.architecture;
    const [weight, bias] = [this.tensors[`${name}.weight`], this.tensors[`${name}.bias`]];
    return norm === "rms" ? Products.rmsNorm(x, weight, eps) : Products.layerNorm(x, weight, bias, eps);
  }

  /** LayerScale, if the model has it. */
  scaled(x, name) {
    const scale = this.tensors[`${name}.weight`]?.values;
    return scale ? x.map((value, index) => value * scale[index % scale.length]) : x;
  }

  feedForward(x, name) {
    const activation = Products.activation(this.architecture.activation);
    const isGated = Boolean(this.tensors[`${name}gate_proj.weight`]);
    const hidden = this.linear(x, `${name}up_proj`);
    const gate = isGated ? this.linear(x, `${name}gate_proj`) : hidden;
    for (let i = 0; i < hidden.length; i++) hidden[i] = isGated ? activation(gate[i]) * hidden[i] : activation(hidden[i]);
    return this.linear(hidden, `${name}down_proj`);
  }

  attend(x, name, tokens, weights) {
    const { num_heads: heads, num_kv_heads: kvHeads, d_head: width } = this.architecture;
    const [q, k, v] = ["q_proj", "k_proj", "v_proj"].map((part) => this.linear(x, name + part));
    if (this.rotation) [q, k].forEach((part) => this.rotate(part, tokens));
    const output = new Float32Array(tokens * heads * width);
    for (let head = 0; head < heads; head++) {
      const kvHead = Math.floor((head * kvHeads) / heads);
      for (let query = 0; query < tokens; query++) {
        const row = (head * tokens + query) * tokens;
        const [first, end] = this.keysOf(query, tokens);
        const from = (query * heads + head) * width;
        for (let key = first; key < end; key++) {
          const to = (key * kvHeads + kvHead) * width;
          let score = 0;
          for (let i = 0; i < width; i++) score += q[from + i] * k[to + i];
          weights[row + key] = score * this.architecture.scale + this.bias(head, key - query);
        }
        Products.softmax(weights, row + first, row + end);
        for (let key = first; key < end; key++) {
          const [weight, to] = [weights[row + key], (key * kvHeads + kvHead) * width];
          for (let i = 0; i < width; i++) output[from + i] += weight * v[to + i];
        }
      }
    }
    return this.linear(output, `${name}out_proj`);
  }

  /** The keys from the first, up to but without the last, to which a query may attend. */
  keysOf(query, tokens) {
    const { is_causal: isCausal, window } = this.architecture;
    return isCausal ? [window ? Math.max(0, query - window + 1) : 0, query + 1] : [0, tokens];
  }

  /** The position bias of a score. */
  bias(head, distance) {
    const table = this.tensors.position_bias;
    if (!table) return 0;
    const columns = table.shape[1];
    return table.values[head * columns + (columns - 1) / 2 + distance];
  }

  /** Cosines and sines of the rotary angles, (token, pair) each. */
  cosSin(tokens) {
    const { frequencies, attention_factor: factor } = this.architecture.positions;
    const pairs = frequencies.length;
    const [cos, sin] = [new Float32Array(tokens * pairs), new Float32Array(tokens * pairs)];
    for (let i = 0; i < cos.length; i++) {
      const angle = Math.floor(i / pairs) * frequencies[i % pairs];
      cos[i] = Math.cos(angle) * factor;
      sin[i] = Math.sin(angle) * factor;
    }
    return { cos, sin, pairs };
  }

  /** Rotate queries or keys, (token, head, d_head), in place. */
  rotate(x, tokens) {
    const { cos, sin, pairs } = this.rotation;
    const width = this.architecture.d_head;
    const isHalf = this.architecture.positions.pairing === "half";
    const heads = x.length / tokens / width;
    for (let start = 0; start < x.length; start += width) {
      const angles = Math.floor(start / (heads * width)) * pairs;
      for (let pair = 0; pair < pairs; pair++) {
        const one = start + (isHalf ? pair : 2 * pair);
        const two = isHalf ? one + pairs : one + 1;
        const [a, b, c, s] = [x[one], x[two], cos[angles + pair], sin[angles + pair]];
        x[one] = a * c - b * s;
        x[two] = b * c + a * s;
      }
    }
  }

  logits(x) {
    const { tensors } = this;
    const { task, activation } = this.architecture;
    const embedding = tensors["token_embedding.weight"];
    if (task === "causal_lm") return Products.linear(x, tensors["lm_head.weight"] ?? embedding);
    if (task !== "masked_lm") return null;
    const hidden = this.linear(x, "head.dense").map(Products.activation(activation));
    return Products.linear(this.norm(hidden, "head.norm"), embedding, tensors["head.decoder.bias"]);
  }
}
