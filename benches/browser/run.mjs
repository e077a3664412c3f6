// A ViT-Ti's forward pass on one 224 x 224 picture: the page's worker beside ONNX Runtime Web, in turns, in one browser.
//
//   benches/browser/export.py FOLDER               the network, once
//   npm ci --prefix benches/browser                ONNX Runtime Web
//   node benches/browser/run.mjs FOLDER [--device cpu|software] [--repeats N]
//
// Needs a built page (web/setup, then trunk build in web/) and Chromium. `cpu` is WebAssembly on one thread on both sides;
// `software` is WebGPU on SwiftShader on both. Both sides get the same pixels, a time is from the input's numbers to the
// logits' numbers, and the logits are compared first. What is printed last is a table in Markdown.
import { readFileSync } from "node:fs";
import { loadavg, cpus } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { assert, barePage, dist, launch, serve, worker } from "../../tests/browser/harness.mjs";

const { values: options, positionals } = parseArgs({
  allowPositionals: true,
  options: { device: { type: "string", default: "cpu" }, repeats: { type: "string", default: "20" } },
});
if (positionals.length !== 1 || !["cpu", "software"].includes(options.device)) {
  console.error("usage: node benches/browser/run.mjs FOLDER [--device cpu|software] [--repeats N]");
  process.exit(2);
}
const name = "vit_tiny_patch16_224";
const file = (ending) => readFileSync(join(positionals[0], `${name}.${ending}`));
const provider = options.device === "cpu" ? "wasm" : "webgpu";
const warmup = 3;

const other = `<!doctype html><title>ONNX Runtime Web</title><script type="module">
  import * as ort from "./ort.${provider}.min.mjs";
  ort.env.wasm.numThreads = 1;
  const bytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  window.load = async (model) => {
    window.session = await ort.InferenceSession.create(bytes(model), { executionProviders: ["${provider}"], graphOptimizationLevel: "all" });
  };
  window.classify = async (numbers) => {
    const picture = new ort.Tensor("float32", Float32Array.from(numbers), [1, 3, 224, 224]);
    const start = performance.now();
    const { logits } = await window.session.run({ picture });
    const data = Array.from(await logits.getData());
    return { logits: data, milliseconds: performance.now() - start };
  };
  window.ready = true;
</script>`;

/** A picture with something in it, as a PNG. */
const picture = (page) =>
  page.evaluate(async () => {
    const canvas = new OffscreenCanvas(224, 224);
    const context = canvas.getContext("2d");
    const gradient = context.createLinearGradient(0, 0, 224, 224);
    gradient.addColorStop(0, "#1040c0");
    gradient.addColorStop(1, "#f0c020");
    context.fillStyle = gradient;
    context.fillRect(0, 0, 224, 224);
    context.fillStyle = "#20a040";
    context.arc(90, 120, 60, 0, 7);
    context.fill();
    const blob = await canvas.convertToBlob({ type: "image/png" });
    return Array.from(new Uint8Array(await blob.arrayBuffer()));
  });

const median = (times) => [...times].sort((a, b) => a - b)[times.length >> 1];

const browser = await launch();
const site = await serve(dist, barePage);
const runtime = await serve(fileURLToPath(new URL("node_modules/onnxruntime-web/dist", import.meta.url)), { "/bench.html": other });
try {
  const w = await worker(browser, site);
  const { answer: device } = await w.ask({ do: "open", device: options.device, fault: null });
  assert(device.gpu === (options.device === "software"), device.reason);
  await w.ask({ do: "classifier", name }, [file("safetensors")]);
  const png = Buffer.from(await picture(w.page));
  const ours = () => w.ask({ do: "classify", readout: "class" }, [png]);

  const page = await browser.context.newPage();
  page.on("pageerror", (error) => console.error(error.message));
  await page.goto(`${runtime.origin}/bench.html`);
  await page.waitForFunction(() => window.ready);
  await page.evaluate((model) => window.load(model), file("onnx").toString("base64"));

  // The pixels as the worker prepared them, normalised as the worker does it for this network.
  const first = await ours();
  const rgba = first.buffers[0];
  const numbers = [0, 1, 2].flatMap((channel) => Array.from({ length: 224 * 224 }, (_, at) => (rgba[4 * at + channel] / 255 - 0.5) / 0.5));
  const theirs = () => page.evaluate((numbers) => window.classify(numbers), numbers);
  const difference = Math.max(...(await theirs()).logits.map((x, i) => Math.abs(x - first.answer.logits[i])));
  const largest = Math.max(...first.answer.logits.map(Math.abs));
  console.log(`logits differ by at most ${difference.toExponential(1)}; the largest is ${largest.toFixed(2)}`);
  assert(difference < 1e-3 * Math.max(1, largest), "both sides compute the same");

  const times = { potstill: [], onnx: [] };
  for (let repeat = -warmup; repeat < Number(options.repeats); repeat += 1) {
    const pair = [(await ours()).answer.milliseconds, (await theirs()).milliseconds];
    if (repeat >= 0) (times.potstill.push(pair[0]), times.onnx.push(pair[1]));
  }
  const [a, b] = [median(times.potstill), median(times.onnx)];
  const version = await page.evaluate(() => /Chrome\/[\d.]+/.exec(navigator.userAgent)[0]);
  console.log(`${version}, ${cpus()[0].model}, load ${loadavg()[0].toFixed(1)}, ${options.repeats} repeats in turns\n`);
  console.log(`| ViT-Ti 224, one picture | median | least |\n|---|--:|--:|`);
  const row = (what, list) => console.log(`| ${what} | ${median(list).toFixed(0)} ms | ${Math.min(...list).toFixed(0)} ms |`);
  row(`Potstill, ${options.device === "cpu" ? "Flex in WebAssembly" : "WebGPU on SwiftShader"}`, times.potstill);
  row(`ONNX Runtime Web, ${provider}${provider === "wasm" ? ", one thread" : " on SwiftShader"}`, times.onnx);
  console.log(`| ONNX Runtime's time over Potstill's | ${(b / a).toFixed(2)} | ${(Math.min(...times.onnx) / Math.min(...times.potstill)).toFixed(2)} |`);
} finally {
  await browser.close();
  await Promise.all([site.close(), runtime.close()]);
}
