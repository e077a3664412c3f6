// The exact GELU (Hendrycks and Gimpel, 2016), or its gradient, number by number.
//
//   e = exp(-x^2 / 2)     t = 1 / (1 + 0.32 |x|)     Phi(-|x|) = e t P(t)     y = x Phi(x)
//   dx = dy (Phi(x) + x e / sqrt(2 pi))
//
// P has degree 9 and a relative error of 3e-8. The CPU's loop uses the same P.
//
// Limits. Fewer than 2^31 elements; 256 invocations, four numbers each. Reads, in bytes: 4 for each element, backward 8. Writes 4.

@group(0) @binding(0) var<storage, {{ access }}> x: array<f32>;
//@ if backward
@group(0) @binding(1) var<storage, {{ access }}> dy: array<f32>;
@group(0) @binding(2) var<storage, read_write> dx: array<f32>;
@group(0) @binding(3) var<storage, read> info: array<u32>;               // elements, in two words
//@ else
@group(0) @binding(1) var<storage, read_write> y: array<f32>;
@group(0) @binding(2) var<storage, read> info: array<u32>;               // elements, in two words
//@ end

const THREADS: u32 = {{ threads }}u;
const EACH: u32 = {{ each }}u;

fn work(unit: u32, thread: u32, span: u32) {
    let first = unit * THREADS * EACH + thread;
    for (var i = 0u; i < EACH; i++) {
        let place = first + i * THREADS;
        if (place >= info[0]) {
            return;
        }
        let value = x[place];
        let size = abs(value);
        let e = exp(-0.5 * size * size);
        let t = 1.0 / (1.0 + 0.32 * size);
        var p = -0.02107817;
        p = p * t + 0.09540726;
        p = p * t - 0.14670745;
        p = p * t + 0.06532801;
        p = p * t - 0.009377556;
        p = p * t + 0.05865396;
        p = p * t + 0.0878291;
        p = p * t + 0.11462236;
        p = p * t + 0.12766095;
        p = p * t + 0.12766153;
        // Beyond 27 the tail is not a normal number, and t may come from 0 / infinity.
        let tail = select(0.0, e * t * p, e > 0.0);
        let share = select(1.0 - tail, tail, value < 0.0);
//@ if backward
        dx[place] = dy[place] * (share + 0.3989423 * value * e);
//@ else
        y[place] = value * share;
//@ end
    }
}
