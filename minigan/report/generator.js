// The forward pass of G, layer by layer, as in minigan/layers. It runs in a worker of the page that
// minigan/report/explorer.py writes.
//
// A map is an array of h·w·c numbers, channels last: the number of pixel (i, j) and channel c is at
// (i·w + j)·c_in + c. A vector is a map of one pixel. Every function: (layer, x) -> y, one image.
// W is laid out as in Python.
"use strict";

function withBias(size, b) { // -> y, filled with the bias of each channel, or 0
  const y = new Float64Array(size);
  if (b) for (let i = 0; i < size; i++) y[i] = b[i % b.length];
  return y;
}

const forward = {
  Linear({ W, b, out }, x) { // y = x·W + b       W (in, out)
    const y = withBias(out, b);
    for (let i = 0; i < x.length; i++)
      for (let o = 0; o < out; o++) y[o] += x[i] * W[i * out + o];
    return y;
  },

  // y[p, q, o] = Σ x[p·s + i - top, q·s + j - left, c]·W[i, j, c, o] + b[o]       W (k, k, c_in, c_out)
  Conv2d({ W, b, x: [h, w, cin], y: [hOut, wOut, cout], k: [kh, kw], s: [sh, sw], top, left }, x) {
    const y = withBias(hOut * wOut * cout, b);
    for (let p = 0; p < hOut; p++) for (let q = 0; q < wOut; q++)
      for (let i = 0; i < kh; i++) for (let j = 0; j < kw; j++) {
        const row = p * sh + i - top, column = q * sw + j - left;
        if (row < 0 || row >= h || column < 0 || column >= w) continue; // padding
        const from = (row * w + column) * cin, to = (p * wOut + q) * cout;
        for (let c = 0; c < cin; c++) {
          const value = x[from + c], at = ((i * kw + j) * cin + c) * cout;
          for (let o = 0; o < cout; o++) y[to + o] += value * W[at + o];
        }
      }
    return y;
  },

  // y[p·s + i - top, q·s + j - left, o] += x[p, q, c]·W[i, j, o, c]       W (k, k, c_out, c_in)
  ConvTranspose2d({ W, b, x: [h, w, cin], y: [hOut, wOut, cout], k: [kh, kw], s: [sh, sw], top, left }, x) {
    const y = withBias(hOut * wOut * cout, b);
    for (let p = 0; p < h; p++) for (let q = 0; q < w; q++)
      for (let i = 0; i < kh; i++) for (let j = 0; j < kw; j++) {
        const row = p * sh + i - top, column = q * sw + j - left;
        if (row < 0 || row >= hOut || column < 0 || column >= wOut) continue; // cropped
        const from = (p * w + q) * cin, to = (row * wOut + column) * cout;
        for (let o = 0; o < cout; o++) {
          const at = ((i * kw + j) * cout + o) * cin;
          let sum = 0;
          for (let c = 0; c < cin; c++) sum += x[from + c] * W[at + c];
          y[to + o] += sum;
        }
      }
    return y;
  },

  // with fixed statistics BatchNorm is y = scale·x + shift for each channel
  BatchNorm: ({ scale, shift }, x) => x.map((v, i) => v * scale[i % scale.length] + shift[i % scale.length]),
  ReLU: (layer, x) => x.map((v) => (v > 0 ? v : 0)),
  LeakyReLU: ({ slope }, x) => x.map((v) => (v > 0 ? v : slope * v)),
  Tanh: (layer, x) => x.map(Math.tanh),
  Sigmoid: (layer, x) => x.map((v) => 1 / (1 + Math.exp(-v))),

  Upsample({ x: [h, w, c], scale: s }, x) { // y[p, q] = x[p // s, q // s]
    const y = new Float64Array(h * s * w * s * c);
    for (let p = 0; p < h * s; p++) for (let q = 0; q < w * s; q++) {
      const from = (Math.floor(p / s) * w + Math.floor(q / s)) * c;
      y.set(x.subarray(from, from + c), (p * w * s + q) * c);
    }
    return y;
  },

  AppendLabels({ channels: c, classes }, x, label) { // to every pixel: 1 in the place of its class, else 0
    const y = new Float64Array((x.length / c) * (c + classes));
    for (let pixel = 0; pixel < x.length / c; pixel++) {
      y.set(x.subarray(pixel * c, (pixel + 1) * c), pixel * (c + classes));
      y[pixel * (c + classes) + c + label] = 1;
    }
    return y;
  },
};

function generate(layers, z, label) { // -> the image, h·w·c numbers as G gives them
  return layers.reduce((x, layer) => forward[layer.kind](layer, x, label), Float64Array.from(z));
}
