// Keeps the page for use without a network. The build writes precache.js: a version, which is a digest of all files, and
// the files that every visit needs. Networks and sample pictures are kept when they are first fetched.
importScripts("precache.js");

// Other pages of this host may be built of the same files.
const own = `potstill ${new URL(self.registration.scope).pathname} `;
const cacheName = own + self.precache.version;

const others = async () => (await caches.keys()).filter((name) => name.startsWith(own) && name !== cacheName);

// No file's name tells its version, so none may come from the browser's own cache.
async function install() {
  const cache = await caches.open(cacheName);
  await cache.addAll(self.precache.files.map((file) => new Request(file, { cache: "reload" })));
  // What the version before kept besides is kept on, as it is now; what is gone needs no place.
  for (const name of await others())
    for (const { url } of await (await caches.open(name)).keys())
      if (!(await cache.match(url))) await cache.add(new Request(url, { cache: "no-cache" })).catch(() => {});
}

self.addEventListener("install", (event) => event.waitUntil(install()));

self.addEventListener("activate", (event) => {
  event.waitUntil(
    others()
      .then((names) => Promise.all(names.map((name) => caches.delete(name))))
      // The first visit is controlled at once, so that what it fetches is kept.
      .then(() => self.clients.claim()),
  );
});

self.addEventListener("fetch", (event) => {
  const { request } = event;
  // An address that a person typed is none of ours to keep.
  if (request.method !== "GET" || !request.url.startsWith(self.registration.scope)) return;
  event.respondWith(fromCacheOrNetwork(event));
});

async function fromCacheOrNetwork(event) {
  const { request } = event;
  const cache = await caches.open(cacheName);
  // The address' options do not change the file.
  const kept = await cache.match(request, { ignoreSearch: true });
  if (kept) return kept;
  const response = await fetch(request);
  // Whole files of this origin only. Where there is no room, the page has its answer all the same.
  if (response.status === 200 && response.type === "basic") event.waitUntil(cache.put(request, response.clone()).catch(() => {}));
  return response;
}
