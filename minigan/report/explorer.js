// The explorer of a run: what the reader does becomes a z, and a worker makes its image.
"use strict";

const $ = (id) => document.getElementById(id);
const run = JSON.parse($("run").textContent);
const [H, W, C] = run.image;
const create = (tag, properties = {}, ...children) => {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
};

// ---- the worker: it unpacks the weights once, and then makes one image after the other

function work() { // is sent to the worker as text, after generator.js
  const unpacked = ({ type, data }) => {
    const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
    return type === "float32" ? new Float32Array(bytes.buffer) : Float32Array.from(new Uint16Array(bytes.buffer), half);
  };
  const half = (bits) => { // a float16: sign, 5 bits of exponent, 10 of fraction
    const sign = bits & 0x8000 ? -1 : 1, exponent = (bits >> 10) & 31, fraction = (bits & 1023) / 1024;
    return sign * (exponent ? (1 + fraction) * 2 ** (exponent - 15) : fraction * 2 ** -14);
  };
  let layers;
  onmessage = ({ data: { model, id, z, label } }) => {
    if (model) {
      layers = model.map((layer) => Object.fromEntries(Object.entries(layer).map(
        ([name, value]) => [name, value && value.data ? unpacked(value) : value])));
      return;
    }
    const start = performance.now();
    const image = generate(layers, z, label);
    postMessage({ id, image, ms: performance.now() - start });
  };
}

const source = `${$("generator").textContent}\n(${work})();`;
const worker = new Worker(URL.createObjectURL(new Blob([source], { type: "text/javascript" })));
worker.postMessage({ model: run.layers });
const waiting = new Map();
let requests = 0;
worker.onmessage = ({ data }) => {
  waiting.get(data.id)(data);
  waiting.delete(data.id);
};

function imageOf(z, label) { // -> promise of { image, ms }
  const id = requests++;
  worker.postMessage({ id, z, label });
  return new Promise((resolve) => waiting.set(id, resolve));
}

function paint(canvas, image) { // numbers from run.black to 1 -> pixels from 0 to 255, as in Python
  const pixels = new ImageData(W, H);
  for (let i = 0; i < H * W; i++) {
    for (let c = 0; c < 3; c++) {
      const value = (image[i * C + (C === 1 ? 0 : c)] - run.black) / (1 - run.black);
      pixels.data[4 * i + c] = value * 255; // the array rounds and clamps
    }
    pixels.data[4 * i + 3] = 255;
  }
  canvas.getContext("2d").putImageData(pixels, 0, 0);
}

// ---- z: what is shown is base + Σ (slider of direction k)·(direction k)

let base = run.start[0].slice();
let shownImage, shownNumbers;
const label = () => (run.classes.length ? $("class").selectedIndex : 0);
const sliders = run.directions.map((_, k) => {
  const input = create("input", { type: "range", min: -4, max: 4, step: 0.05, value: 0, id: `direction${k}` });
  input.addEventListener("input", show);
  $("directions").append(create("label", {}, `direction ${k + 1}`, input));
  return input;
});

function currentZ() {
  return base.map((value, i) => run.directions.reduce((sum, d, k) => sum + sliders[k].value * d[i], value));
}

function setZ(z) {
  base = Array.from(z);
  for (const slider of sliders) slider.value = 0;
  showNumber();
  show();
}

function randomZ() {
  if (run.z === "uniform") return run.start[0].map(() => 2 * Math.random() - 1);
  const normal = () => Math.sqrt(-2 * Math.log(1 - Math.random())) * Math.cos(2 * Math.PI * Math.random());
  return run.start[0].map(normal);
}

let busy = false, stale = false;
async function show() { // one image at a time; if z changed meanwhile, again
  if (busy) { stale = true; return; }
  busy = true;
  const { image, ms } = await imageOf(currentZ(), label());
  shownNumbers = image;
  paint($("image"), image);
  $("time").textContent = `${ms.toFixed(ms < 10 ? 1 : 0)} ms`;
  busy = false;
  if (stale) { stale = false; show(); }
}

// ---- single numbers of z

function showNumber() {
  const i = Math.min(Math.max(0, $("index").value | 0), base.length - 1);
  $("number").value = base[i];
}
$("index").max = base.length - 1;
$("index").addEventListener("input", showNumber);
$("number").addEventListener("input", () => {
  base[Math.min(Math.max(0, $("index").value | 0), base.length - 1)] = Number($("number").value);
  show();
});

// ---- random, class, save

$("random").addEventListener("click", () => setZ(randomZ()));
$("zero").addEventListener("click", () => setZ(base.map(() => 0)));
$("save").addEventListener("click", () => {
  create("a", { href: $("image").toDataURL("image/png"), download: `${run.name}.png` }).click();
});
for (const name of run.classes) $("class").append(create("option", {}, name));
$("class").parentElement.hidden = !run.classes.length;
$("class").addEventListener("change", () => { show(); drawGrid(); });

// ---- a grid to choose from

const choices = run.start.map((z, i) => {
  const canvas = create("canvas", { width: W, height: H });
  const button = create("button", { type: "button", ariaLabel: `choose image ${i + 1}` }, canvas);
  button.addEventListener("click", () => setZ(choices[i].z));
  $("grid").append(button);
  return { canvas, z };
});
async function drawGrid() {
  for (const { canvas, z } of choices) {
    const { image } = await imageOf(z, label());
    paint(canvas, image);
  }
}
$("more").addEventListener("click", () => {
  for (const choice of choices) choice.z = randomZ();
  drawGrid();
});

// ---- arithmetic A - B + C, and the walk from A to B

const places = Object.fromEntries(["A", "B", "C"].map((name, i) => {
  const place = { canvas: $(`image${name}`), z: run.start[(i + 1) % run.start.length] };
  $(`set${name}`).addEventListener("click", () => { place.z = currentZ(); drawPlace(place); });
  return [name, place];
}));
async function drawPlace(place) { paint(place.canvas, (await imageOf(place.z, label())).image); }
$("calculate").addEventListener("click", () => {
  const { A, B, C } = places;
  setZ(A.z.map((a, i) => a - B.z[i] + C.z[i]));
});

function between(a, b, t) { // on a line, or on the sphere on which normal z lie
  if (run.z === "uniform") return a.map((value, i) => (1 - t) * value + t * b[i]);
  const dot = (x, y) => x.reduce((sum, value, i) => sum + value * y[i], 0);
  const cosine = dot(a, b) / Math.sqrt(dot(a, a) * dot(b, b)), angle = Math.acos(Math.min(1, Math.max(-1, cosine)));
  if (!(Math.sin(angle) > 1e-6)) return a.map((value, i) => (1 - t) * value + t * b[i]);
  const [from, to] = [Math.sin((1 - t) * angle), Math.sin(t * angle)].map((s) => s / Math.sin(angle));
  return a.map((value, i) => from * value + to * b[i]);
}
$("walk").addEventListener("input", () => setZ(between(places.A.z, places.B.z, $("walk").value / 100)));
$("play").addEventListener("click", async () => {
  const start = performance.now();
  for (let t = 0; t < 1;) { // four seconds, as many images as there is time for
    t = Math.min(1, (performance.now() - start) / 4000);
    $("walk").value = 100 * t;
    base = between(places.A.z, places.B.z, t);
    const { image, ms } = await imageOf(base, label());
    paint($("image"), image);
    $("time").textContent = `${ms.toFixed(1)} ms`;
    await new Promise(requestAnimationFrame);
  }
  setZ(places.B.z);
});

for (const canvas of document.querySelectorAll("canvas")) Object.assign(canvas, { width: W, height: H });
setZ(base);
for (const place of Object.values(places)) drawPlace(place);
drawGrid();
