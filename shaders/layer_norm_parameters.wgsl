// The gradients of layer normalisation's gain and shift, from the sums that the workgroups of layer_norm_backward.wgsl wrote.
//
//   d_gamma[c] = sum_groups partial[group, 0, c]        d_beta[c] = sum_groups partial[group, 1, c]
//   d_bias[c] = sum_groups partial[group, 2, c]         at the end of a residual branch
//
// Owner of every sum. Each of the SUMS C columns belongs to 8 invocations of a workgroup. Invocation k adds groups k, k + 8, ..
// upwards, and the first invocation adds these sums upwards.
//
// Limits. Any number of groups and channels; 256 invocations and 1 KiB of workgroup memory.
// Reads, in bytes: 4 SUMS C groups. Writes 4 SUMS C.

@group(0) @binding(0) var<storage, {{ access }}> partial: array<f32>;    // (groups, SUMS, C)
@group(0) @binding(1) var<storage, read_write> d_gamma: array<f32>;      // (C)
@group(0) @binding(2) var<storage, read_write> d_beta: array<f32>;       // (C)
//@ if branch
@group(0) @binding(3) var<storage, read_write> d_bias: array<f32>;       // (C)
@group(0) @binding(4) var<storage, read> info: array<u32>;               // groups, C; two words each

const SUMS: u32 = 3u;
//@ else
@group(0) @binding(3) var<storage, read> info: array<u32>;               // groups, C; two words each

const SUMS: u32 = 2u;
//@ end
const COLUMNS: u32 = 32u;                     // columns of a workgroup
const LANES: u32 = 8u;                        // invocations of a column

var<workgroup> parts: array<f32, {{ threads }}>;

fn work(unit: u32, thread: u32, span: u32) {
    let columns = info[2];
    let all = SUMS * columns;
    let column = unit * COLUMNS + thread % COLUMNS;
    let lane = thread / COLUMNS;
    var sum = 0.0;
    if (column < all) {
        for (var i = lane; i < info[0]; i += LANES) {
            sum += partial[i * all + column];
        }
    }
    parts[thread] = sum;
    workgroupBarrier();
    if (lane == 0u && column < all) {
        sum = 0.0;
        for (var i = 0u; i < LANES; i++) {
            sum += parts[i * COLUMNS + thread];
        }
        if (column < columns) {
            d_gamma[column] = sum;
        } else if (column < 2u * columns) {
            d_beta[column - columns] = sum;
        }
//@ if branch
        if (column >= 2u * columns) {
            d_bias[column - 2u * columns] = sum;
        }
//@ end
    }
}
