// Six vectors copied into one, each to a place of its own.
//
//   joined[start_k + i] = x_k[i]
//
// The numbers of all six are counted through; an invocation copies those at thread, thread + 256, .. of its group's. Vectors
// of no length are among them where there are fewer than six.
//
// Limits. Elements below 2^31; 256 invocations. Seven storage buffers, so the scalars are a uniform. Reads and writes, in
// bytes: 4 an element.

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
        // Within the numbers of the vectors that are left; past the last, nothing is copied.
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
