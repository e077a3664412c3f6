// The gradient of layer normalisation's input, and the gradients of gain and shift, summed over the BLOCK rows of a workgroup.
// The mean m and the reciprocal standard deviation r are computed again.
//
//   n[c] = (x[c] - m) r      g[c] = gamma[c] dy[c]      dx[c] = r (g[c] - sum_c g[c] / C - n[c] sum_c g[c] n[c] / C)
//   partial[group, 0, c] = sum_rows dy[c] n[c]          partial[group, 1, c] = sum_rows dy[c]
//
// At the end of a residual branch, x is the sum that was normalised. Others read it too, and their gradient is d_added:
//
//   dx[c] = d_added[c] + r (..)                         partial[group, 2, c] = sum_rows dx[c], the branch's bias
//
// Owner of every sum. A row belongs to LANES invocations. Each adds its own channels upwards, and row_reduce.wgsl adds these sums.
// THREADS / LANES rows are processed at a time. An invocation adds gain and shift of its channels over its rows upwards. Then the
// invocations of the first row add those of the other rows, upwards. layer_norm_parameters.wgsl adds the workgroups.
//
// Limits. Any number of rows; C from 1 to 32 LANES; at most 256 invocations and 1 KiB of workgroup memory. Fewer than 2^31
// elements. Reads, in bytes: 8 C rows, and 4 C for each row from a cache. Writes 4 C (rows + 2 groups). With a branch, it reads 4
// C rows more and writes 4 C groups more.

@group(0) @binding(0) var<storage, {{ access }}> x: array<f32>;          // (rows, C)
@group(0) @binding(1) var<storage, {{ access }}> gamma: array<f32>;      // (C)
@group(0) @binding(2) var<storage, {{ access }}> dy: array<f32>;         // (rows, C)
@group(0) @binding(3) var<storage, read_write> dx: array<f32>;           // (rows, C)
@group(0) @binding(4) var<storage, read_write> partial: array<f32>;      // (groups, SUMS, C)
//@ if branch
@group(0) @binding(5) var<storage, {{ access }}> d_added: array<f32>;    // (rows, C)
@group(0) @binding(6) var<storage, read> info: array<u32>;               // rows, epsilon, groups; two words each

const SUMS: u32 = 3u;
//@ else
@group(0) @binding(5) var<storage, read> info: array<u32>;               // rows, epsilon, groups; two words each

const SUMS: u32 = 2u;
//@ end

const BLOCK: u32 = {{ block }}u;              // rows of a workgroup
const ROWS: u32 = THREADS / LANES;            // rows that are processed at a time

fn channel(start: u32, c: u32) -> f32 {
    return x[start + c];
}

fn work(unit: u32, thread: u32, span: u32) {
    if (unit >= info[4]) {
        return;
    }
    let lane = thread % LANES;
    var d_gamma: array<f32, PART>;
    var d_beta: array<f32, PART>;
    for (var i = 0u; i < PART; i++) {
        d_gamma[i] = 0.0;
        d_beta[i] = 0.0;
    }
//@ if branch
    var d_bias: array<f32, PART>;
    for (var i = 0u; i < PART; i++) {
        d_bias[i] = 0.0;
    }
//@ end

    for (var first = 0u; first < BLOCK; first += ROWS) {
        let row = unit * BLOCK + first + thread / LANES;
        let real = row < info[0];
        let start = row * C;
        var normal: array<f32, PART>;              // n
        var slope: array<f32, PART>;               // g
        let inverse = standardise(&normal, start, real, thread, span);
        var along = 0.0;
        var across = 0.0;
        for (var i = 0u; i < PART; i++) {
            let c = lane + i * LANES;
            slope[i] = 0.0;
            if (real && c < C) {
                let gradient = dy[start + c];
                slope[i] = gradient * gamma[c];
                d_gamma[i] += gradient * normal[i];
                d_beta[i] += gradient;
                along += slope[i] * normal[i];
                across += slope[i];
            }
        }
        along = over_row(along, thread, span) / f32(C);
        across = over_row(across, thread, span) / f32(C);
        for (var i = 0u; i < PART; i++) {
            let c = lane + i * LANES;
            if (real && c < C) {
                let gradient = inverse * (slope[i] - across - normal[i] * along);
//@ if branch
                let whole = d_added[start + c] + gradient;
                d_bias[i] += whole;
                dx[start + c] = whole;
//@ else
                dx[start + c] = gradient;
//@ end
            }
        }
    }

    for (var i = 0u; i < PART; i++) {
        let c = lane + i * LANES;
        for (var which = 0u; which < SUMS; which++) {
            var own = select(d_beta[i], d_gamma[i], which == 0u);
//@ if branch
            own = select(own, d_bias[i], which == 2u);
//@ end
            workgroupBarrier();
            parts[thread] = own;
            workgroupBarrier();
            if (thread < LANES && c < C) {
                var sum = 0.0;
                for (var r = 0u; r < ROWS; r++) {
                    sum += parts[r * LANES + thread];
                }
                partial[(unit * SUMS + which) * C + c] = sum;
            }
        }
    }
}
