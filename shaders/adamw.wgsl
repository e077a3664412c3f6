// One AdamW update of flat vectors (Loshchilov and Hutter, 2019). The gradient is scaled to a largest norm.
//
//   f = min(1, limit / (sqrt(sum of partial) + 1e-6))        g' = f g + pull * decayed * p        f = 1 without a limit
//   m = b1 m + (1 - b1) g'     v = b2 v + (1 - b2) g'^2      p' = p - a m / (sqrt(v / c) + eps) - decay * decayed * p
//
// Owner of every sum. Each workgroup adds the sums of squares.wgsl itself. An invocation adds those at thread, thread + 256, ..
// upwards, and row_reduce.wgsl adds these. So every workgroup has the same bits of f.
//
// The moments are overwritten. The parameters are not, since the network may still read them.
//
// Limits. Fewer than 2^31 elements; 256 invocations, 1 KiB of workgroup memory. There are seven storage buffers, so the scalars
// are a uniform. Reads, in bytes: 20 for each element, and for each group the sums from a cache. Writes 12 for each element.

@group(0) @binding(0) var<storage, {{ access }}> parameters: array<f32>;
@group(0) @binding(1) var<storage, read_write> first: array<f32>;        // m
@group(0) @binding(2) var<storage, read_write> second: array<f32>;       // v
@group(0) @binding(3) var<storage, {{ access }}> gradient: array<f32>;
@group(0) @binding(4) var<storage, {{ access }}> decayed: array<f32>;    // 1 if the parameter decays, otherwise 0
@group(0) @binding(5) var<storage, read_write> updated: array<f32>;
//@ if clip
@group(0) @binding(6) var<storage, {{ access }}> partial: array<f32>;
@group(0) @binding(7) var<uniform> info: array<vec4<u32>, 5>;
//@ else
@group(0) @binding(6) var<uniform> info: array<vec4<u32>, 5>;
//@ end
// Scalar i is component x or z of info[i / 2]: elements, groups, b1, b2, eps, a, c, decay, limit, pull.

const THREADS: u32 = {{ threads }}u;
const EACH: u32 = {{ each }}u;                // numbers of an invocation
//@ if clip
alias Number = f32;
const LANES: u32 = THREADS;
//@ end

fn work(unit: u32, thread: u32, span: u32) {
    if (unit >= info[0].z) {
        return;
    }
    let b1 = bitcast<f32>(info[1].x);
    let b2 = bitcast<f32>(info[1].z);
    let epsilon = bitcast<f32>(info[2].x);
    let a = bitcast<f32>(info[2].z);
    let inverse = 1.0 / bitcast<f32>(info[3].x);
    let decay = bitcast<f32>(info[3].z);
    let pull = bitcast<f32>(info[4].z);
    var factor = 1.0;
//@ if clip
    var sum = 0.0;
    for (var i = thread; i < info[0].z; i += THREADS) {
        sum += partial[i];
    }
    let wanted = bitcast<f32>(info[4].x) / (sqrt(over_row(sum, thread, span)) + 1e-6);
    // A comparison keeps a NaN; min may not.
    if (!(wanted >= 1.0)) {
        factor = wanted;
    }
//@ end
    for (var i = 0u; i < EACH; i++) {
        let place = (unit * EACH + i) * THREADS + thread;
        if (place < info[0].x) {
            let p = parameters[place];
            let held = decayed[place];
            let g = factor * gradient[place] + pull * held * p;
            let m = b1 * first[place] + (1.0 - b1) * g;
            let v = b2 * second[place] + (1.0 - b2) * g * g;
            first[place] = m;
            second[place] = v;
            updated[place] = p - a * m / (sqrt(v * inverse) + epsilon) - p * (held * decay);
        }
    }
}
