// What attention's two backward passes share, joined to their texts: the rows they read, and the writing of a gradient.

const D: u32 = {{ head_size }}u;
const SLICES: u32 = (D + SLICE - 1u) / SLICE;

fn element(source: u32, place: u32) -> f32 {
    if (source == 0u) {
        return qkv[place];
    }
    return d_output[place];
}

// Writes number i of an invocation's four rows: its channels c, c + QUADS, .. of every slice, at `place` for channel 0.
fn write_row(place: u32, sums: ptr<function, array<mat4x4<f32>, SLICES>>, i: u32, factor: f32, c: u32) {
    for (var slice = 0u; slice < SLICES; slice++) {
        for (var k = 0u; k < 4u; k++) {
            let d = slice * SLICE + c + k * QUADS;
            if (d < D) {
                d_qkv[place + d] = factor * (*sums)[slice][i][k];
            }
        }
    }
}
