// Products, norms and activations of the forward pass, over rows of numbers: token by token.
// The source text of this class is also run in a worker, so it uses nothing from outside.

export class Products {
  /** x W^T + b: (token, columns) -> (token, rows). Four rows at a time are read once for all tokens. */
  static linear(x, { shape: [rows, columns], values: w }, bias) {
    const tokens = x.length / columns;
    const y = new Float32Array(tokens * rows);
    let row = 0;
    for (; row + 4 <= rows; row += 4) {
      const [w0, w1, w2, w3] = [row * columns, (row + 1) * columns, (row + 2) * columns, (row + 3) * columns];
      for (let token = 0; token < tokens; token++) {
        const start = token * columns;
        let [a, b, c, d] = [0, 0, 0, 0];
        for (let i = 0; i < columns; i++) {
          const value = x[start + i];
          a += value * w[w0 + i];
          b += value * w[w1 + i];
          c += value * w[w2 + i];
          d += value * w[w3 + i];
        }
        const end = token * rows + row;
        y[end] = a;
        y[end + 1] = b;
        y[end + 2] = c;
        y[end + 3] = d;
      }
    }
    for (; row < rows; row++)
      for (let token = 0; token < tokens; token++) {
        let sum = 0;
        for (let i = 0; i < columns; i++) sum += x[token * columns + i] * w[row * columns + i];
        y[token * rows + row] = sum;
      }
    if (bias) for (let i = 0; i < y.length; i++) y[i] += bias.values[i % rows];
    return y;
  }

  /** The sum of two arrays, element by element. */
  static add(x, y) {
    const sum = new Float32Array(x.length);
    for (let i = 0; i < x.length; i++) sum[i] = x[i] + y[i];
    return sum;
  }

  /** LayerNorm: (x - mean) / sqrt(variance + eps) * weight + bias. */
  static layerNorm(x, weight, bias, eps) {
    const width = weight.values.length;
    const y = new Float32Array(x.length);
    for (let start = 0; start < x.length; start += width) {
      let [mean, variance] = [0, 0];
      for (let i = 0; i < width; i++) mean += x[start + i] / width;
      for (let i = 0; i < width; i++) variance += (x[start + i] - mean) ** 2 / width;
      const factor = 1 / Math.sqrt(variance + eps);
      for (let i = 0; i < width; i++)
        y[start + i] = (x[start + i] - mean) * factor * weight.values[i] + (bias ? bias.values[i] : 0);
    }
    return y;
  }

  /** RMSNorm: x / sqrt(mean(x^2) + eps) * weight. */
  static rmsNorm(x, weight, eps) {
    const width = weight.values.length;
    const y = new Float32Array(x.length);
    for (let start = 0; start < x.length; start += width) {
      let square = 0;
      for (let i = 0; i < width; i++) square += x[start + i] ** 2 / width;
      const factor = 1 / Math.sqrt(square + eps);
      for (let i = 0; i < width; i++) y[start + i] = x[start + i] * factor * weight.values[i];
    }
    return y;
  }

  /** The softmax of part of an array, in place. */
  static softmax(values, start, end) {
    let [largest, sum] = [-Infinity, 0];
    for (let i = start; i < end; i++) if (values[i] > largest) largest = values[i];
    for (let i = start; i < end; i++) sum += values[i] = Math.exp(values[i] - largest);
    for (let i = start; i < end; i++) values[i] /= sum;
  }

  /** An activation function by its name in a model's configuration; of gated ones, that of the gate. */
  static activation(name) {
    const gelu = (x) => 0.5 * x * (1 + Products.erf(x * Math.SQRT1_2));
    const geluTanh = (x) => 0.5 * x * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3)));
    const relu = (x) => Math.max(0, x);
    const silu = (x) => x / (1 + Math.exp(-x));
    const functions = { gelu, gelu_tanh: geluTanh, relu, silu, swiglu: silu, geglu: gelu, geglu_tanh: geluTanh, reglu: relu };
    return functions[name];
  }

  /** The error function, within 1.5e-7 (Abramowitz and Stegun 1964, formula 7.1.26). */
  static erf(x) {
    const t = 1 / (1 + 0.3275911 * Math.abs(x));
    const polynomial =
      t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))));
    return Math.sign(x) * (1 - polynomial * Math.exp(-x * x));
  }
}
