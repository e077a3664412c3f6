// Starts the worker's program; the page makes a worker of this file. The program is by far the largest file, so the page is
// told how much of it is there.
import init from "./worker.js";

// Written by finish.mjs: the program's size, since a compressed answer does not say it, and the version of all files.
const build = { bytes: 0, version: "" };
self.build = build;

const tell = (event) => self.postMessage([JSON.stringify({ event })]);
const megabytes = (bytes) => (bytes / 1e6).toFixed(1);

async function program() {
  const answer = await fetch(new URL("worker_bg.wasm", import.meta.url));
  if (!answer.ok) throw new Error(`the server answered ${answer.status}`);
  let have = 0;
  const count = new TransformStream({
    transform(part, controller) {
      have += part.byteLength;
      const what = `Loading the program: ${megabytes(have)} of ${megabytes(build.bytes)} MB`;
      tell({ is: "busy", what, fraction: Math.min(1, have / build.bytes) });
      controller.enqueue(part);
    },
  });
  return new Response(answer.body.pipeThrough(count), { headers: { "content-type": "application/wasm" } });
}

try {
  await init({ module_or_path: program() });
} catch (error) {
  tell({ is: "unloaded", message: error.message });
}
