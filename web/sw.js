// Keeps the page for use without a network. The build writes precache.js: a version, which is a digest of all files, and
// the files that every visit needs. Networks and sample pictures are kept when they are first fetched.
importScripts("precache.js");

const cacheName = `potstill-${self.precache.version}`;

self.addEventListener("install", (event) => {
  event.waitUntil(caches.open(cacheName).then((cache) => cache.addAll(self.precache.files)));
});

self.addEventListener("activate", (event) => {
  const old = (name) => name.startsWith("potstill-") && name !== cacheName;
  event.waitUntil(
    caches
      .keys()
      .then((names) => Promise.all(names.filter(old).map((name) => caches.delete(name))))
      // The first visit is controlled at once, so that what it fetches is kept.
      .then(() => self.clients.claim()),
  );
});

self.addEventListener("fetch", (event) => {
  const { request } = event;
  // An address that a person typed is none of ours to keep.
  if (request.method !== "GET" || !request.url.startsWith(self.registration.scope)) return;
  event.respondWith(fromCacheOrNetwork(request));
});

async function fromCacheOrNetwork(request) {
  const cache = await caches.open(cacheName);
  // The address' options do not change the file.
  const kept = await cache.match(request, { ignoreSearch: true });
  if (kept) return kept;
  const response = await fetch(request);
  // Whole files of this origin only.
  if (response.status === 200 && response.type === "basic") await cache.put(request, response.clone());
  return response;
}
