// Starts the worker's program; the page makes a worker of this file.
import init from "./worker.js";

await init();
