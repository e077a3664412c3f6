// What the browser tests share: a server on the loopback, Chromium with a fresh profile, a worker without the page, and a
// runner that counts.
//
//   test("what is true", async ({ browser, site }) => { ... });
//
// A test gets the running Chromium (see `launch`) and the server of web/dist (see `serve`). It fails by throwing. A test
// that cannot run on this machine calls `skip(reason)`.
import { execFileSync, spawn } from "node:child_process";
import { createReadStream, existsSync, mkdtempSync, rmSync, statSync } from "node:fs";
import { createServer } from "node:http";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { extname, join, normalize, sep } from "node:path";
import { fileURLToPath } from "node:url";

export const root = fileURLToPath(new URL("../../", import.meta.url));
export const dist = join(root, "web", "dist");
// npm's packages are the page's.
export const require = createRequire(join(root, "web", "package.json"));

const types = {
  ".css": "text/css",
  ".html": "text/html; charset=utf-8",
  ".jpg": "image/jpeg",
  ".js": "text/javascript",
  ".json": "application/json",
  ".mjs": "text/javascript",
  ".png": "image/png",
  ".safetensors": "application/octet-stream",
  ".svg": "image/svg+xml",
  ".wasm": "application/wasm",
  ".webmanifest": "application/manifest+json",
};

/**
 * Serves a folder on the loopback, as a static host would. `extra` maps further paths to a text or a `[type, text]`.
 * `requests` lists every path asked for; `close` ends it.
 */
export async function serve(folder = dist, extra = {}) {
  const requests = [];
  const server = createServer((request, response) => {
    const path = decodeURIComponent(new URL(request.url, "http://x").pathname);
    requests.push(path);
    if (path in extra) {
      const [type, text] = Array.isArray(extra[path]) ? extra[path] : ["text/html; charset=utf-8", extra[path]];
      response.writeHead(200, { "content-type": type }).end(text);
      return;
    }
    const file = join(folder, normalize(path.endsWith("/") ? `${path}index.html` : path));
    if (!file.startsWith(folder + sep) || !existsSync(file) || !statSync(file).isFile()) {
      response.writeHead(404, { "content-type": "text/plain" }).end("not found");
      return;
    }
    const type = types[extname(file)] ?? "application/octet-stream";
    response.writeHead(200, { "content-type": type, "content-length": statSync(file).size, "cache-control": "no-cache" });
    createReadStream(file).pipe(response);
  });
  await new Promise((listening) => server.listen(0, "127.0.0.1", listening));
  const origin = `http://127.0.0.1:${server.address().port}`;
  const close = () => new Promise((closed) => (server.closeAllConnections(), server.close(closed)));
  return { origin, requests, close };
}

/** The system's Chromium, or nothing. */
export function chromium() {
  const known = process.env.POTSTILL_CHROMIUM ? [process.env.POTSTILL_CHROMIUM] : ["chromium", "chromium-browser", "google-chrome"];
  for (const name of known) {
    try {
      execFileSync(name, ["--version"], { stdio: "ignore" });
      return execFileSync("/bin/sh", ["-c", 'command -v "$0"', name], { encoding: "utf8" }).trim();
    } catch {
      // Not this one.
    }
  }
  return undefined;
}

/** Chromium with a new, empty profile and a WebGPU adapter that is a program (SwiftShader). `close` removes the profile. */
export async function launch(options = {}) {
  const profile = mkdtempSync(join(tmpdir(), "potstill-browser-"));
  const context = await require("playwright-core").chromium.launchPersistentContext(profile, {
    executablePath: chromium(),
    headless: true,
    args: [
      "--no-sandbox",
      "--enable-unsafe-webgpu",
      "--use-webgpu-adapter=swiftshader",
      // A camera that shows a moving pattern, and nobody asked whether it may.
      "--use-fake-device-for-media-stream",
      "--use-fake-ui-for-media-stream",
      // Else SwiftShader compiles one instruction for each word of workgroup memory that begins as zero: seconds for a
      // shader with 16 KiB of it. Without, Chromium writes a loop into the shader that does the same.
      "--disable-dawn-features=use_vulkan_zero_initialize_workgroup_memory_extension",
      // The gauges of memory collect garbage first.
      "--js-flags=--expose-gc",
      "--disable-quic",
      "--no-first-run",
      "--disable-background-networking",
      "--disable-component-update",
      "--disable-sync",
      ...(options.args ?? []),
    ],
    ...options.context,
  });
  return {
    context,
    close: async () => {
      await context.close();
      rmSync(profile, { recursive: true, force: true });
    },
  };
}

// A page with nothing on it but a worker's other end, so that the worker is tested without the page.
const bare = `<!doctype html><title>worker</title><script type="module">
  const b64 = (buffer) => {
    let text = "";
    const bytes = new Uint8Array(buffer);
    for (let i = 0; i < bytes.length; i += 32768) text += String.fromCharCode(...bytes.subarray(i, i + 32768));
    return btoa(text);
  };
  const bytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0)).buffer;
  window.events = [];
  window.kept = {};
  window.begin = () => new Promise((ready) => {
    const waiting = (window.waiting = {});
    const worker = (window.worker = new Worker("./bare-worker.js", { type: "module" }));
    worker.onerror = (event) => window.events.push({ is: "broken", message: event.message });
    worker.onmessage = ({ data: [text, ...buffers] }) => {
      const { event, reply } = JSON.parse(text);
      if (reply) {
        waiting[reply.id]([reply.result, buffers]);
      } else {
        if (event.is === "ready") ready();
        if (event.is === "checkpoint") window.kept.checkpoint = buffers[0];
        event.at = performance.now();
        window.events.push(event);
      }
    };
  });
  let id = 0;
  // Buffers come as base64, or as { kept } for one that stayed here under a name.
  window.ask = async (command, buffers, keep) => {
    const moved = buffers.map((buffer) => (buffer.kept ? window.kept[buffer.kept].slice(0) : bytes(buffer)));
    id += 1;
    const answered = new Promise((answer) => (window.waiting[id] = answer));
    window.worker.postMessage([JSON.stringify({ id, command }), ...moved], moved);
    const [result, answers] = await answered;
    if (keep) window.kept[keep] = answers[0];
    return { result, buffers: keep ? [] : answers.map(b64) };
  };
</script>`;

// The worker's program with two gauges: WebAssembly's memory, and the bytes of all GPU buffers neither destroyed nor, as wgpu
// leaves most of them, collected as garbage.
const gauged = `
  let bytes = 0;
  self.gpuBytes = async () => {
    for (let round = 0; round < 3; round += 1) {
      gc();
      await new Promise((collected) => setTimeout(collected, 50));
    }
    return bytes;
  };
  if (self.GPUDevice) {
    const { createBuffer } = GPUDevice.prototype;
    const { destroy } = GPUBuffer.prototype;
    const dropped = new FinalizationRegistry((size) => (bytes -= size));
    GPUDevice.prototype.createBuffer = function (descriptor) {
      const buffer = createBuffer.call(this, descriptor);
      bytes += descriptor.size;
      dropped.register(buffer, descriptor.size, buffer);
      return buffer;
    };
    GPUBuffer.prototype.destroy = function () {
      if (dropped.unregister(this)) bytes -= this.size;
      return destroy.call(this);
    };
  }
  const { default: init } = await import("./worker.js");
  self.memory = (await init()).memory;`;

/** Paths for `serve`: a page without the page, and its worker. */
export const barePage = { "/bare.html": bare, "/bare-worker.js": ["text/javascript", gauged] };

/**
 * A worker of its own in a new tab. `ask(command, buffers)` gives `{ answer, buffers }` or throws the worker's line;
 * `events()` all news so far, `forget()` drops them; `until(is)` waits for news of a kind; `restart()` ends the worker and starts another.
 */
export async function worker(browser, site) {
  const page = await browser.context.newPage();
  const console = [];
  page.on("console", (message) => console.push(`${message.type()}: ${message.text()}`));
  await page.goto(`${site.origin}/bare.html`);
  await page.evaluate(() => window.begin());
  const ask = async (command, buffers = [], keep = "") => {
    const sent = buffers.map((buffer) => (buffer.kept ? buffer : Buffer.from(buffer).toString("base64")));
    const { result, buffers: back } = await page.evaluate(([c, b, k]) => window.ask(c, b, k), [command, sent, keep]);
    if ("Err" in result) throw new Error(result.Err);
    return { answer: result.Ok, buffers: back.map((text) => Buffer.from(text, "base64")) };
  };
  const events = () => page.evaluate(() => window.events);
  const until = async (is, seconds = 120) => {
    await page.waitForFunction((is) => window.events.some((event) => event.is === is), is, { timeout: seconds * 1000 });
    return (await events()).find((event) => event.is === is);
  };
  const forget = () => page.evaluate(() => (window.events = []));
  const restart = async () => {
    await page.evaluate(() => (window.worker.terminate(), (window.events = []), window.begin()));
  };
  return { page, console, ask, events, until, forget, restart, close: () => page.close() };
}

let onWebgpu;

/**
 * A worker whose device is open, and no news. On WebGPU all tests share one: its device is tested as it always is, which
 * takes longer than most tests on an adapter that is a program.
 */
export async function opened(browser, site, device) {
  const open = async () => {
    const w = await worker(browser, site);
    const { answer } = await w.ask({ do: "open", device, fault: null });
    assert(answer.gpu === (device === "software"), `${device}: ${answer.reason}`);
    return w;
  };
  if (device !== "software") return open();
  onWebgpu ??= open();
  const w = await onWebgpu;
  await w.forget();
  return w;
}

/** The curves that a worker's news tell, as one history. */
export function curves(events) {
  const progress = events.filter((event) => event.is === "progress");
  const told = (model, quantity) =>
    progress.flatMap((event) => event.history.curves.filter((curve) => curve.model === model && curve.quantity === quantity));
  const whole = (model, quantity) => told(model, quantity).flatMap((curve) => curve.values);
  return {
    steps: told("student", "loss").flatMap((curve) => curve.steps),
    studentLoss: whole("student", "loss"),
    baselineLoss: whole("baseline", "loss"),
    studentAccuracy: whole("student", "accuracy"),
    teacherAccuracy: whole("teacher", "accuracy"),
  };
}

/** Throws unless `condition` holds. */
export function assert(condition, message) {
  if (!condition) throw new Error(message);
}

/** Throws unless two lists have the same length and differ by at most `tolerance`, relative to the second. */
export function close(found, expected, tolerance, what) {
  assert(found.length === expected.length, `${what}: ${found.length} numbers, and ${expected.length} were expected`);
  found.forEach((x, i) => {
    const bound = tolerance * Math.max(Math.abs(expected[i]), 1e-30);
    assert(Math.abs(x - expected[i]) <= bound, `${what}: number ${i} is ${x}, and ${expected[i]} was expected`);
  });
}

const target = process.env.CARGO_TARGET_DIR ?? join(root, "target");
/** The native program. */
export const potstill = process.env.POTSTILL ?? join(target, "release", "potstill");

/** Skips a test that asks the native program where that is not built. */
export function needPotstill() {
  if (!existsSync(potstill)) skip(`there is no ${potstill}; run: cargo build --release`);
}

/** Runs a program to its end; its standard output, or an error with its standard error. */
export function program(path, args, { input, environment } = {}) {
  return new Promise((done, failed) => {
    const child = spawn(path, args, { cwd: root, env: { ...process.env, ...environment } });
    let [out, err] = ["", ""];
    child.stdout.on("data", (data) => (out += data));
    child.stderr.on("data", (data) => (err += data));
    child.on("error", failed);
    child.on("close", (code) => (code === 0 ? done(out) : failed(new Error(`${path} ${args.join(" ")}: ${code}: ${err}`))));
    child.stdin.end(input ?? "");
  });
}

/** A folder that is removed when the process ends. */
export function scratch() {
  const folder = mkdtempSync(join(tmpdir(), "potstill-test-"));
  process.on("exit", () => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

class Skipped extends Error {}

/** Ends a test that cannot run here. */
export function skip(reason) {
  throw new Skipped(reason);
}

const tests = [];

/** Registers a test. */
export function test(name, run) {
  tests.push({ name, run });
}

// A test that hangs is a failure, and does not keep the others from running.
async function within(work, seconds) {
  let timer;
  const late = new Promise((_, refuse) => {
    timer = setTimeout(() => refuse(new Error(`it did not end within ${seconds} s`)), seconds * 1000);
  });
  try {
    await Promise.race([work, late]);
  } finally {
    clearTimeout(timer);
  }
}

/** Runs the registered tests whose names contain `filter`, one after the other, and prints what cargo would print. */
export async function runTests(filter = "") {
  const chosen = tests.filter(({ name }) => name.includes(filter));
  const counts = { passed: 0, failed: 0, ignored: 0 };
  let browser, site;
  const begin = async () => {
    browser ??= await launch();
    site ??= await serve(dist, barePage);
  };
  for (const { name, run } of chosen) {
    const start = Date.now();
    const seconds = () => `${((Date.now() - start) / 1000).toFixed(1)} s`;
    try {
      await begin();
      await within(run({ browser, site }), 600);
      counts.passed += 1;
      console.log(`test ${name} ... ok (${seconds()})`);
    } catch (error) {
      if (error instanceof Skipped) {
        counts.ignored += 1;
        console.log(`test ${name} ... ignored, ${error.message}`);
      } else {
        counts.failed += 1;
        console.log(`test ${name} ... FAILED (${seconds()})\n  ${error.stack ?? error}`);
      }
    }
    const kept = (await onWebgpu?.catch(() => {}))?.page;
    for (const page of browser?.context.pages() ?? []) if (page !== kept) await page.close().catch(() => {});
  }
  await browser?.close();
  await site?.close();
  const verdict = counts.failed === 0 ? "ok" : "FAILED";
  console.log(`\ntest result: ${verdict}. ${counts.passed} passed; ${counts.failed} failed; ${counts.ignored} ignored;`);
  return counts.failed === 0;
}
