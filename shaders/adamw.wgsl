// One AdamW update of flat vectors (Loshchilov and Hutter, 2019), the gradient scaled to a largest norm.
//
//   f = min(1, limit / (sqrt(sum of partial) + 1e-6))        g' = f g + pull * decayed * p        without a limit f = 1
//   m = b1 m + (1 - b1) g'     v = b2 v + (1 - b2) g'^2      p' = p - a m / (sqrt(v / c) + eps) - decay * decayed * p
//
// Owner of every sum. Each workgroup adds squares.wgsl's sums for itself: an invocation those at thread, thread + 256, ..
// upwards, then row_reduce.wgsl. So every group has the same bits of f.
//
// The moments are overwritten; the parameters are not, since the network may still be reading them.
//
// Limits. Elements below 2^31; 256 invocations, 1 KiB of workgroup memory. Seven storage buffers, so the scalars are a
// uniform. Reads, in bytes: 20 an element, and the sums a group from a cache. Writes 12 an element.

@group(0) @binding(0) var<storage, {{ access }}> parameters: array<f32>;
@group(0) @binding(1) var<storage, read_write> first: array<f32>;        // m
@group(0) @binding(2) var<storage, read_write> second: array<f32>;       // v
@group(0) @binding(3) var<storage, {{ access }}> gradient: array<f32>;
@group(0) @binding(4) var<storage, {{ access }}> decayed: array<f32>;    // 1 where a parameter decays, else 0
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
    // A comparison, and not min, lets a NaN through.
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
