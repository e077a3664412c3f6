// Starts the page's program. A file of its own, since the page's policy allows no script inside the page.
import init from "./page.js";

try {
  await init();
} catch (error) {
  document.querySelector("#device").textContent = `the page's program cannot start: ${error.message}`;
  throw error;
}
if ("serviceWorker" in navigator) {
  // Works offline from the second visit on; without it the page works all the same.
  navigator.serviceWorker.register("sw.js", { updateViaCache: "none" }).catch((error) => console.info(`not kept for use offline: ${error.message}`));
}
