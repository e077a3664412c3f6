// Sums of squares of a vector, one for each workgroup. Together they give the global norm.
//
//   partial[group] = sum over the group's numbers of x^2
//
// Owner of every sum. An invocation adds the squares at thread, thread + 256, .. of its group upwards, and row_reduce.wgsl adds
// these sums.
//
// Limits. Fewer than 2^31 elements; 256 invocations, 1 KiB of workgroup memory. Reads, in bytes: 4 for each element. Writes 4 for
// each group.

@group(0) @binding(0) var<storage, {{ access }}> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> partial: array<f32>;      // (groups)
@group(0) @binding(2) var<storage, read> info: array<u32>;               // elements, groups; two words each

alias Number = f32;

const THREADS: u32 = {{ threads }}u;
const LANES: u32 = THREADS;                   // a group is one row
const EACH: u32 = {{ each }}u;                // numbers of an invocation

fn work(unit: u32, thread: u32, span: u32) {
    if (unit >= info[2]) {
        return;
    }
    var sum = 0.0;
    for (var i = 0u; i < EACH; i++) {
        let place = (unit * EACH + i) * THREADS + thread;
        if (place < info[0]) {
            sum += x[place] * x[place];
        }
    }
    sum = over_row(sum, thread, span);
    if (thread == 0u) {
        partial[unit] = sum;
    }
}
