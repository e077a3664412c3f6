// What layer normalisation's two passes share, joined to their texts: a row belongs to LANES invocations, each of which keeps
// its channels. The pass declares `info`, whose word 2 is epsilon, and channel(), which reads a number and is asked once for each.

alias Number = f32;

const C: u32 = {{ columns }}u;
const LANES: u32 = {{ lanes }}u;              // invocations of a row
const THREADS: u32 = {{ threads }}u;
const PART: u32 = (C + LANES - 1u) / LANES;   // channels of a lane: lane, lane + LANES, ..

// Leaves (x - m) r of the lane's channels in `own`, and gives r. A row that is not `real` reads nothing. Every invocation of
// the workgroup must call it.
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
