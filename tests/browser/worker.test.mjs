// The worker alone in Chromium, on WebAssembly's CPU path and on WebGPU, held against the native program.
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { assert, close, curves, needPotstill, opened, potstill, program, root, scratch, test, worker } from "./harness.mjs";

const teacherPath = join(root, "web", "weights", "digits_teacher.safetensors");
const teacher = readFileSync(teacherPath);

// A small run whose steps are whole epochs, so that the native program can be told to take the same ones.
const small = { trainSamples: 320, labels: null, alpha: 0.5, temperature: 2, batch: 16, depth: 1, width: 16, steps: 20, seed: 3 };
const smallest = { trainSamples: 80, labels: null, batch: 4, depth: 1, width: 4, seed: 5 };

const open = (w, device, fault = null) => w.ask({ do: "open", device, fault });
const prepare = (w, recipe) => w.ask({ do: "prepare", recipe }, [teacher]);
const run = (w, steps = null) => w.ask({ do: "run", steps });

/** Runs to the end, and gives the curves of all news so far. */
async function finish(w, seconds = 300) {
  const stopped = await w.until("stopped", seconds);
  assert(typeof stopped.reason === "string", `it failed: ${JSON.stringify(stopped.reason)}`);
  return curves(await w.events());
}

async function trained(browser, site, device, recipe, seconds) {
  const w = await opened(browser, site, device);
  await prepare(w, recipe);
  await run(w);
  const told = await finish(w, seconds);
  return { w, told };
}

const folder = scratch();

// The same run made longer, so that its first 20 steps end before all held-out samples are looked at: on an adapter that is a
// program, that would take far longer than the steps.
const longer = { ...small, steps: 200 };
// And with what a student may be told of its samples: few labels, some of them wrong, and no 3s.
const told = { ...longer, labels: 100, labelNoise: 0.3, omit: [3], alpha: 0.9, temperature: 4 };

// The losses of `potstill train` with a recipe: { student, baseline }.
const native = new Map();
async function nativeLosses(recipe = longer) {
  needPotstill();
  const key = JSON.stringify(recipe);
  if (!native.has(key))
    native.set(
      key,
      (async () => {
        const name = `native-${native.size}`;
        const keys = {
          "student.vit.depth": recipe.depth,
          "student.vit.width": recipe.width,
          "student.vit.class_token": true,
          "student.vit.pool": "class",
          "distillation.alpha": recipe.alpha,
          "distillation.temperature": recipe.temperature.toFixed(1),
        };
        const sets = Object.entries(keys).flatMap(([key, value]) => ["--set", `${key}=${value}`]);
        const line = ["train", "--device", "cpu", "--dataset", "digits", "--teacher", teacherPath, "--lr", "3e-3"];
        const samples = recipe.trainSamples * (recipe.omit ? 0.9 : 1);
        line.push("--epochs", Math.ceil(recipe.steps / Math.floor(samples / recipe.batch)));
        line.push("--train-samples", recipe.trainSamples, "--batch-size", recipe.batch, "--seed", recipe.seed);
        if (recipe.omit) line.push("--labels", recipe.labels, "--label-noise", recipe.labelNoise, "--omit", ...recipe.omit);
        await program(potstill, [...line.map(String), ...sets, "--logdir", folder, "--name", name]);
        const lines = readFileSync(join(folder, name, "metrics.jsonl"), "utf8").trim().split("\n").map((text) => JSON.parse(text));
        const losses = (stage) => lines.filter((line) => line.stage === stage && "loss" in line).map((line) => line.loss);
        return { name, student: losses("student"), baseline: losses("baseline") };
      })(),
    );
  return native.get(key);
}

for (const [device, where] of [["cpu", "WebAssembly"], ["software", "WebGPU"]])
  test(`twenty steps on ${where} are those of the native program`, async ({ browser, site }) => {
    const expected = await nativeLosses();
    assert(expected.student.length === longer.steps, `the native program took ${expected.student.length} steps`);
    const w = await opened(browser, site, device);
    await prepare(w, longer);
    await run(w, 20);
    const told = await finish(w, 400);
    assert(told.steps.length === 20, `it took ${told.steps.length} steps`);
    close(told.studentLoss, expected.student.slice(0, 20), 1e-3, "the student's losses");
    close(told.baselineLoss, expected.baseline.slice(0, 20), 1e-3, "the baseline's losses");
  });

test("what a student is told of its samples is told as by the native program", async ({ browser, site }) => {
  // As many whole epochs as the native program takes, since the rate follows from their number.
  const perEpoch = Math.floor((told.trainSamples * 0.9) / told.batch);
  const recipe = { ...told, steps: Math.ceil(told.steps / perEpoch) * perEpoch };
  const expected = await nativeLosses(told);
  assert(expected.student.length === recipe.steps, `the native program took ${expected.student.length} steps`);
  const w = await opened(browser, site, "cpu");
  await prepare(w, recipe);
  await run(w, 100);
  const heard = await finish(w);
  close(heard.studentLoss, expected.student.slice(0, 100), 1e-3, "the student's losses");
  close(heard.baselineLoss, expected.baseline.slice(0, 100), 1e-3, "the baseline's losses");
});

test("a run saved by the page has the same accuracy in the native program, and the other way round", async ({ browser, site }) => {
  needPotstill();
  const { w } = await trained(browser, site, "cpu", small);
  const { answer } = await w.ask({ do: "evaluate" });
  const saved = (await w.ask({ do: "snapshot" })).buffers[0];
  const path = join(folder, "saved.safetensors");
  writeFileSync(path, saved);
  const limit = String(answer.samples);
  const evaluate = async (...network) =>
    JSON.parse(await program(potstill, ["eval", ...network, "--device", "cpu", "--dataset", "digits", "--limit", limit, "--json"]));
  const student = answer.models.find((m) => m.model === "student").accuracy;
  const found = (await evaluate(path)).accuracy;
  assert(Math.round(found * limit) === Math.round(student * limit), `native ${found}, page ${student}`);
  // The native student of the other test, as a teacher here: any network for digits can be one.
  const other = join(folder, (await nativeLosses()).name, "student.safetensors");
  await w.ask({ do: "prepare", recipe: small }, [readFileSync(other)]);
  const page = (await w.ask({ do: "evaluate" })).answer.models.find((m) => m.model === "teacher").accuracy;
  const there = (await evaluate(other)).accuracy;
  assert(Math.round(there * limit) === Math.round(page * limit), `native ${there}, page ${page}`);
});

test("a run that is paused, saved and loaded after a reload has the losses of one that never was", async ({ browser, site }) => {
  // Long enough that the pause arrives before the end on any machine.
  const steps = 1500;
  const long = { ...smallest, steps };
  const { w: whole, told: expected } = await trained(browser, site, "cpu", long);
  await whole.close();
  const w = await worker(browser, site);
  await open(w, "cpu");
  await prepare(w, long);
  await run(w);
  await w.until("progress");
  await w.ask({ do: "pause" });
  const saved = (await w.ask({ do: "snapshot" })).buffers[0];
  const before = curves(await w.events());
  assert(before.steps.length > 0 && before.steps.length < steps, `it paused after ${before.steps.length} steps`);
  await w.close();
  const later = await worker(browser, site);
  await open(later, "cpu");
  const { answer } = await later.ask({ do: "restore" }, [saved, teacher]);
  assert(answer.step === before.steps.length, `it stands at step ${answer.step}`);
  await run(later);
  const after = await finish(later);
  close([...before.studentLoss, ...after.studentLoss], expected.studentLoss, 0, "the student's losses");
  close([...before.baselineLoss, ...after.baselineLoss], expected.baselineLoss, 0, "the baseline's losses");
});

// What it leaves is a worker with an open device again, as it found it.
test("a lost device is told, and a new worker goes on from the snapshot", async ({ browser, site }) => {
  const w = await opened(browser, site, "software");
  await prepare(w, small);
  await run(w, 2);
  await w.until("stopped", 200);
  await w.ask({ do: "snapshot" }, [], "saved");
  await run(w);
  await w.ask({ do: "lose-device" });
  const lost = await w.until("device-lost", 60);
  assert(typeof lost.message === "string", JSON.stringify(lost));
  await w.restart();
  assert((await open(w, "software")).answer.gpu, "a new worker opens the device anew");
  const { answer: back } = await w.ask({ do: "restore" }, [{ kept: "saved" }, teacher]);
  assert(back.step === 2, `it stands at step ${back.step}`);
  await run(w, 1);
  const told = await finish(w, 200);
  assert(told.steps[0] === 3, `it took step ${told.steps[0]}`);
});

for (const [device, fault, words] of [
  ["auto", null, "simulated"],
  ["cpu", null, "asked for"],
  ["software", "no-webgpu", "no WebGPU"],
  ["software", "limits", "too small"],
  ["software", "selftest", "did not pass"],
])
  test(`with ${device}${fault ? ` and the fault ${fault}` : ""} the worker says why it takes the processor`, async ({ browser, site }) => {
    const w = await worker(browser, site);
    const { answer } = await open(w, device, fault);
    assert(!answer.gpu && answer.reason.includes(words), JSON.stringify(answer));
    await prepare(w, small);
    await run(w, 2);
    const told = await finish(w);
    assert(told.steps.length === 2, "it trains");
    const news = await w.events();
    assert(!news.some((event) => event.is === "device-lost" || event.is === "broken"), JSON.stringify(news));
  });

test("broken files and nonsense are one line each, and the worker goes on", async ({ browser, site }) => {
  const w = await worker(browser, site);
  const refused = async (command, buffers = []) => {
    const line = await w.ask(command, buffers).then(() => "", (error) => error.message);
    assert(line && !line.includes("\n"), `${JSON.stringify(command)}: ${JSON.stringify(line)}`);
    return line;
  };
  assert((await refused({ do: "evaluate" })).includes("no device"), "nothing before the device");
  await open(w, "cpu");
  const lying = Buffer.from(teacher);
  lying.writeBigUInt64LE(2n ** 63n);
  await refused({ do: "prepare", recipe: {} }, [lying]);
  await refused({ do: "prepare", recipe: {} }, [teacher.subarray(0, 9000)]);
  await refused({ do: "prepare", recipe: { width: 65 } }, [teacher]);
  await refused({ do: "restore" }, [Buffer.from("no file of ours")]);
  await refused({ do: "data", data: "mnist", names: ["a.gz"] }, [Buffer.from([0x1f, 0x8b, 8, 0, 0])]);
  const header = Buffer.from([0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 28, 0, 0, 0, 28]);
  const labels = Buffer.from([0, 0, 8, 1, 0, 0, 0, 2, 1, 2]);
  const more = Buffer.from([0, 0, 8, 1, 0, 0, 0, 1, 2]);
  const one = Buffer.concat([Buffer.from([0, 0, 8, 3, 0, 0, 0, 1, 0, 0, 0, 28, 0, 0, 0, 28]), Buffer.alloc(784)]);
  const names = ["cut", "labels", "more", "one"];
  assert((await refused({ do: "data", data: "mnist", names }, [header, labels, more, one])).includes("cut"), "it names the file");
  const large = await w.page.evaluate(async () => {
    window.kept.large = new ArrayBuffer(600 << 20);
    const { result } = await window.ask({ do: "restore" }, [{ kept: "large" }]);
    return result.Err;
  });
  assert(large.includes("MiB"), large);
  await prepare(w, small);
  await run(w, 1);
  await finish(w);
});

// An adapter that is a program takes a quarter of a second for a step, so there are fewer unless the environment asks for as
// many. It has filled its caches after a few looks at held-out samples.
const onWebGpu = Number(process.env.POTSTILL_WEBGPU_STEPS ?? 620);
for (const [device, where, warm, steps] of [["cpu", "WebAssembly", 200, 2000], ["software", "WebGPU", 220, onWebGpu]])
  test(`memory stays flat over ${steps} steps of the smallest network on ${where}`, async ({ browser, site }) => {
    const w = await opened(browser, site, device);
    await prepare(w, { ...smallest, steps: 2000 });
    const inUse = () => w.page.workers()[0].evaluate(async () => [self.memory.buffer.byteLength, await self.gpuBytes()]);
    await run(w, warm);
    await w.until("stopped", 300);
    const [heap, gpu] = await inUse();
    await w.forget();
    await run(w, steps - warm);
    await finish(w, 1800);
    const [heapAfter, gpuAfter] = await inUse();
    console.log(`  heap ${heap} to ${heapAfter}, GPU ${gpu} to ${gpuAfter} bytes`);
    assert(heapAfter <= heap + (1 << 20), `WebAssembly's heap grew from ${heap} to ${heapAfter}`);
    assert(gpuAfter <= gpu * 1.05 + (1 << 20), `the GPU's buffers grew from ${gpu} to ${gpuAfter}`);
  });

test("nothing was asked of another origin", async ({ browser, site }) => {
  const foreign = [];
  browser.context.on("request", (request) => {
    if (!request.url().startsWith(site.origin) && !request.url().startsWith("blob:")) foreign.push(request.url());
  });
  const w = await worker(browser, site);
  await open(w, "cpu");
  await prepare(w, smallest);
  await run(w, 3);
  await finish(w);
  assert(foreign.length === 0, foreign.join(" "));
});
