// Copies six vectors into one, each to its own place.
//
//   joined[start_k + i] = x_k[i]
//
// The numbers of all six vectors are numbered consecutively. An invocation copies those at thread, thread + 256, .. of its
// workgroup's part. If there are fewer than six vectors, the others are empty.
//
// Limits. Fewer than 2^31 elements; 256 invocations. There are seven storage buffers, so the scalars are a uniform. Reads and
// writes, in bytes: 4 for each element.

@group(0) @binding(0) var<storage, {{ access }}> a: array<f32>;
@group(0) @binding(1) var<storage, {{ access }}> b: array<f32>;
@group(0) @binding(2) var<storage, {{ access }}> c: array<f32>;
@group(0) @binding(3) var<storage, {{ access }}> d: array<f32>;
@group(0) @binding(4) var<storage, {{ access }}> e: array<f32>;
@group(0) @binding(5) var<storage, {{ access }}> f: array<f32>;
@group(0) @binding(6) var<storage, read_write> joined: array<f32>;
@group(0) @binding(7) var<uniform> info: array<vec4<u32>, 6>;            // of a vector: x, its start; z, its length

const THREADS: u32 = {{ threads }}u;
const EACH: u32 = {{ each }}u;                // numbers of an invocation

fn element(vector: u32, place: u32) -> f32 {
    switch (vector) {
        case 0u: { return a[place]; }
        case 1u: { return b[place]; }
        case 2u: { return c[place]; }
        case 3u: { return d[place]; }
        case 4u: { return e[place]; }
        default: { return f[place]; }
    }
}

fn work(unit: u32, thread: u32, span: u32) {
    let first = unit * THREADS * EACH + thread;
    for (var i = 0u; i < EACH; i++) {
        // The index within the remaining vectors. Past the last one, nothing is copied.
        var place = first + i * THREADS;
        for (var k = 0u; k < 6u; k++) {
            let length = info[k].z;
            if (place < length) {
                joined[info[k].x + place] = element(k, place);
                break;
            }
            place -= length;
        }
    }
}
