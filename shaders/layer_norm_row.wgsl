// The shared part of layer normalisation's two passes, which is added to their texts. A row belongs to LANES invocations, and
// each keeps its channels. The pass declares `info`, whose word 2 is epsilon, and channel(), which reads a number. Each number is
// read once.

alias Number = f32;

const C: u32 = {{ columns }}u;
const LANES: u32 = {{ lanes }}u;              // invocations of a row
const THREADS: u32 = {{ threads }}u;
const PART: u32 = (C + LANES - 1u) / LANES;   // channels of a lane: lane, lane + LANES, ..

// Writes (x - m) r for the lane's channels to `own`, and returns r. If the row is not `real`, it reads nothing. Every invocation
// of the workgroup must call it.
fn standardise(own: ptr<function, array<f32, PART>>, start: u32, real: bool, thread: u32, span: u32) -> f32 {
    let lane = thread % LANES;
    var sum = 0.0;
    for (var i = 0u; i < PART; i++) {
        let c = lane + i * LANES;
        (*own)[i] = 0.0;
        if (real && c < C) {
            (*own)[i] = channel(start, c);
        }
        sum += (*own)[i];
    }
    let mean = over_row(sum, thread, span) / f32(C);
    sum = 0.0;
    for (var i = 0u; i < PART; i++) {
        (*own)[i] -= mean;
        if (lane + i * LANES < C) {
            sum += (*own)[i] * (*own)[i];
        }
    }
    let inverse = 1.0 / sqrt(over_row(sum, thread, span) / f32(C) + bitcast<f32>(info[2]));
    for (var i = 0u; i < PART; i++) {
        (*own)[i] *= inverse;
    }
    return inverse;
}
