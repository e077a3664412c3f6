// The page in Firefox, on the CPU path. Driven through Marionette, Firefox's own protocol for tests, since playwright
// drives only Firefoxes of its own.
import { execFileSync, spawn } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { connect, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { assert, skip, test } from "./harness.mjs";

/** The system's Firefox, or nothing. */
function firefox() {
  const known = process.env.POTSTILL_FIREFOX ? [process.env.POTSTILL_FIREFOX] : ["firefox-esr", "firefox"];
  return known.find((name) => {
    try {
      return execFileSync(name, ["--version"], { stdio: "pipe" });
    } catch {
      return false;
    }
  });
}

const pause = (milliseconds) => new Promise((done) => setTimeout(done, milliseconds));

async function freePort() {
  const server = createServer();
  await new Promise((listening) => server.listen(0, "127.0.0.1", listening));
  const { port } = server.address();
  await new Promise((closed) => server.close(closed));
  return port;
}

/** A session: messages are `length:json`, commands `[0, id, name, parameters]`, answers `[1, id, error, result]`. */
async function marionette(port) {
  let socket;
  for (let attempt = 0; !socket; attempt += 1) {
    socket = await new Promise((done) => {
      const trial = connect(port, "127.0.0.1", () => done(trial));
      trial.once("error", () => done(undefined));
    });
    if (!socket) {
      if (attempt > 300) throw new Error("Firefox does not listen");
      await pause(200);
    }
  }
  let buffer = Buffer.alloc(0);
  let next = 1;
  const waiting = new Map();
  socket.on("data", (data) => {
    buffer = Buffer.concat([buffer, data]);
    for (;;) {
      const colon = buffer.indexOf(":");
      const length = Number(buffer.subarray(0, colon));
      if (colon < 0 || buffer.length < colon + 1 + length) return;
      const message = JSON.parse(buffer.subarray(colon + 1, colon + 1 + length));
      buffer = buffer.subarray(colon + 1 + length);
      if (!Array.isArray(message)) continue;
      const [, id, error, result] = message;
      const [done, failed] = waiting.get(id);
      waiting.delete(id);
      if (error) failed(new Error(`${error.error}: ${error.message}`));
      else done(result);
    }
  });
  const send = (name, parameters = {}) =>
    new Promise((done, failed) => {
      waiting.set(next, [done, failed]);
      const text = JSON.stringify([0, next, name, parameters]);
      next += 1;
      socket.write(`${Buffer.byteLength(text)}:${text}`);
    });
  await send("WebDriver:NewSession", { capabilities: { alwaysMatch: {} } });
  return { send, end: () => socket.destroy() };
}

test("Firefox shows the views and trains 20 steps", async ({ site }) => {
  const name = firefox();
  if (!name) skip("there is no Firefox; run: sudo apt-get install firefox-esr");
  const profile = mkdtempSync(join(tmpdir(), "potstill-firefox-"));
  const port = await freePort();
  writeFileSync(
    join(profile, "user.js"),
    [`"marionette.port", ${port}`, `"app.update.enabled", false`, `"browser.shell.checkDefaultBrowser", false`, `"network.captive-portal-service.enabled", false`]
      .map((line) => `user_pref(${line});\n`)
      .join(""),
  );
  const child = spawn(name, ["--headless", "--no-remote", "--marionette", "--profile", profile], { stdio: "ignore" });
  let session;
  try {
    session = await marionette(port);
    const script = async (text, ...args) => (await session.send("WebDriver:ExecuteScript", { script: text, args })).value;
    const until = async (text, what, seconds = 120) => {
      for (const end = Date.now() + seconds * 1000; Date.now() < end; await pause(200)) if (await script(text)) return;
      throw new Error(`${what}; the page says: ${await script("return document.querySelector('main').innerText.slice(0, 600)")}`);
    };
    await session.send("WebDriver:Navigate", { url: `${site.origin}/?device=cpu#distil?depth=1&width=16&batch=16&samples=320&steps=20` });
    await until("return document.documentElement.hasAttribute('data-ready')", "the page does not start");
    await script("document.querySelector('#start').click()");
    await until("return document.querySelector('#run-state').textContent === 'Finished after 20 steps.'", "20 steps are not trained", 240);
    const loss = await script("return document.querySelector('#loss-table tbody td').textContent");
    assert(Number.isFinite(Number(loss)), `the loss is ${loss}`);
    for (const [view, shown] of [
      ["compare", ".opinion.baseline"],
      ["classify", "#classifier-choice option"],
      ["lesson", "#lesson-steps li"],
      ["distil", "#accuracy-plot canvas"],
    ]) {
      await script("document.querySelector(arguments[0]).click()", `#tab-${view}`);
      await until(`return document.querySelector("#view-${view}:not([hidden]) ${shown}") !== null`, `${view} is not shown`);
    }
    const problems = await script("return [...document.querySelectorAll('#messages span')].map((line) => line.textContent)");
    assert(problems.length === 0, problems.join("\n"));
  } finally {
    session?.end();
    child.kill();
    await new Promise((ended) => (child.exitCode === null ? child.once("exit", ended) : ended()));
    rmSync(profile, { recursive: true, force: true, maxRetries: 5 });
  }
});
