// The Classify view's worker held against `potstill predict`: the same weights and pictures, the same numbers.
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { assert, needPotstill, opened, potstill, program, root, scratch, test, worker } from "./harness.mjs";

const folder = scratch();

/** Pictures that are hard to read alike: odd sizes, EXIF rotation, transparency, grey, PNG and JPEG; drawn by the browser. */
async function pictures(page) {
  const made = await page.evaluate(async () => {
    const picture = async (width, height, type, paint) => {
      const canvas = new OffscreenCanvas(width, height);
      const context = canvas.getContext("2d");
      paint(context, width, height);
      const blob = await canvas.convertToBlob({ type, quality: 0.9 });
      return Array.from(new Uint8Array(await blob.arrayBuffer()));
    };
    const scene = (context, width, height) => {
      const gradient = context.createLinearGradient(0, 0, width, height);
      gradient.addColorStop(0, "#1040c0");
      gradient.addColorStop(1, "#f0c020");
      context.fillStyle = gradient;
      context.fillRect(0, 0, width, height);
      context.fillStyle = "#20a040";
      context.beginPath();
      context.arc(width / 3, height / 2, height / 4, 0, 7);
      context.fill();
    };
    const ghost = (context, width, height) => {
      context.globalAlpha = 0.4;
      scene(context, width / 2, height);
    };
    const grey = (context, width, height) => {
      context.fillStyle = "#777";
      context.fillRect(0, 0, width, height);
      context.fillStyle = "#ddd";
      context.fillRect(width / 4, height / 4, width / 2, height / 3);
    };
    return {
      "odd.png": await picture(301, 127, "image/png", scene),
      "odd.jpg": await picture(97, 211, "image/jpeg", scene),
      "ghost.png": await picture(150, 100, "image/png", ghost),
      "grey.png": await picture(64, 64, "image/png", grey),
    };
  });
  // The same JPEG, with an orientation: a TIFF with one entry (0x0112, 6: turned by 90 degrees) after the start of the file.
  const jpeg = Buffer.from(made["odd.jpg"]);
  const exif = Buffer.concat([
    Buffer.from([0xff, 0xe1, 0, 34]),
    Buffer.from("Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0", "latin1"),
  ]);
  made["turned.jpg"] = [...jpeg.subarray(0, 2), ...exif, ...jpeg.subarray(2)];
  return Object.entries(made).map(([name, bytes]) => {
    const path = join(folder, name);
    writeFileSync(path, Buffer.from(bytes));
    return path;
  });
}

async function predicted(weights, paths) {
  needPotstill();
  const images = paths.flatMap((path) => ["--image", path]);
  const text = await program(potstill, ["predict", weights, ...images, "--device", "cpu", "--json"]);
  return text.trim().split("\n").map((line) => JSON.parse(line).logits);
}

for (const [device, where] of [["cpu", "WebAssembly"], ["software", "WebGPU"]])
  test(`pictures give the same logits on ${where} and natively`, async ({ browser, site }) => {
    const w = await opened(browser, site, device);
    const paths = await pictures(w.page);
    const weights = join(root, "web", "weights", "digits_teacher.safetensors");
    const expected = await predicted(weights, paths);
    const { answer } = await w.ask({ do: "classifier", name: "digits" }, [readFileSync(weights)]);
    assert(answer.side === 28 && answer.classNames.length === 10, JSON.stringify(answer));
    for (const [index, path] of paths.entries()) {
      const { answer: found, buffers } = await w.ask({ do: "classify", readout: "class" }, [readFileSync(path)]);
      assert(found.logits.length === expected[index].length, `${path}: ${found.logits.length} logits`);
      found.logits.forEach((x, i) => assert(Math.abs(x - expected[index][i]) <= 1e-3, `${path}: ${x}, ${expected[index][i]}`));
      assert(buffers[0].length === 28 * 28 * 4 && buffers[1].length === found.layers * 28 * 28 * 4, "picture and maps");
    }
    for (const broken of [Buffer.from("no picture"), readFileSync(paths[0]).subarray(0, 200)]) {
      const line = await w.ask({ do: "classify", readout: "class" }, [broken]).then(() => "", (error) => error.message);
      assert(line && !line.includes("\n"), JSON.stringify(line));
    }
  });
