// Layer normalisation of rows of C numbers (Ba et al., 2016).
//
//   m = sum_c x[c] / C      r = (sum_c (x[c] - m)^2 / C + eps)^-1/2      y[c] = gamma[c] (x[c] - m) r + beta[c]
//
// At the end of a residual branch (f32 only), it normalises the sum x[c] + (branch[c] + bias[c]), and writes the sum over the
// branch.
//
// Owner of every sum. A row belongs to LANES invocations, which read it once and keep it. Each adds its own channels upwards, and
// row_reduce.wgsl adds these sums.
//
// Limits. Any number of rows; C from 1 to 32 LANES; at most 256 invocations and 1 KiB of workgroup memory. Fewer than 2^31
// elements. Reads, in bytes: 4 C rows for x, and 8 C for each row from a cache. Writes 4 C rows. With a branch, it reads 4 C rows
// more and 4 C for each row from a cache, and writes 4 C rows more. With f16 it is half of that, and every sum is f32.

//@ if half
enable f16;

alias Element = f16;
//@ else
alias Element = f32;
//@ end

@group(0) @binding(0) var<storage, {{ access }}> x: array<Element>;          // (rows, C)
@group(0) @binding(1) var<storage, {{ access }}> gamma: array<Element>;      // (C)
@group(0) @binding(2) var<storage, {{ access }}> beta: array<Element>;       // (C)
@group(0) @binding(3) var<storage, read_write> y: array<Element>;            // (rows, C)
//@ if branch
@group(0) @binding(4) var<storage, {{ access }}> bias: array<f32>;           // (C)
@group(0) @binding(5) var<storage, read_write> added: array<f32>;            // (rows, C); first the branch, then the sum
@group(0) @binding(6) var<storage, read> info: array<u32>;               // rows, epsilon; two words each
//@ else
@group(0) @binding(4) var<storage, read> info: array<u32>;               // rows, epsilon; two words each
//@ end

// Channel c of the row at `start`, which is normalised.
fn channel(start: u32, c: u32) -> f32 {
//@ if branch
    let whole = x[start + c] + (added[start + c] + bias[c]);
    added[start + c] = whole;
    return whole;
//@ else
    return f32(x[start + c]);
//@ end
}

fn work(unit: u32, thread: u32, span: u32) {
    let row = unit * (THREADS / LANES) + thread / LANES;
    let lane = thread % LANES;
    let real = row < info[0];
    let start = row * C;

    var own: array<f32, PART>;
    standardise(&own, start, real, thread, span);
    for (var i = 0u; i < PART; i++) {
        let c = lane + i * LANES;
        if (real && c < C) {
            y[start + c] = Element(own[i] * f32(gamma[c]) + f32(beta[c]));
        }
    }
}
