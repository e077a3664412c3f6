// The shared part of the two backward passes of attention and the two of attention maps (`map`). It is added to their texts. It
// reads rows and writes gradients.


//@ if map
fn element(source: u32, place: u32) -> f32 {
    return qkv[place];
}

// The invocation's part of an image's map: its queries (columns of the matrix) and keys, in the tile at `query` and `key`. It is
// zero past the last token.
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

// Writes number i of each of the invocation's four rows: channels c, c + QUADS, .. of every slice. `place` is that of channel 0.
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
