// What the backward passes of attention share, and of attention maps (`map`), two each, joined to their texts: the rows they
// read, and the writing of a gradient.


//@ if map
fn element(source: u32, place: u32) -> f32 {
    return qkv[place];
}

// The own queries (columns of the matrix) and keys of an image's map, of the tile at `query` and `key`; zero past the last.
fn tile_of_map(image: u32, query: u32, key: u32, tokens: u32, thread: u32) -> mat4x4<f32> {
    let row = query + 4u * ((thread % GANG) / QUADS);
    let column = key + 4u * (thread % QUADS);
    var e = mat4x4<f32>();
    for (var i = 0u; i < 4u; i++) {
        for (var k = 0u; k < 4u; k++) {
            if (row + i < tokens && column + k < tokens) {
                e[i][k] = map[(image * tokens + row + i) * tokens + column + k];
            }
        }
    }
    return e;
}
//@ else
fn element(source: u32, place: u32) -> f32 {
    if (source == 0u) {
        return qkv[place];
    }
    return d_output[place];
}
//@ end

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
