// The head-averaged attention of an image, for a tile of its queries and keys. With `against`, it is the difference from another
// network's map, and the squares of the difference are added along each row.
//
//   P_h[i,j] = exp(scale * sum_d q[i,d] k[j,d] - lse_h[i])         A = mean_h P_h
//   E = A - target        rows[i] = sum_j E[i,j]^2 over the keys of the tile
//
// Owner of every sum. See tile.wgsl for the scores. The owner of a number of A sums it over heads upwards. Each invocation adds
// the squares of a row over its own four keys, and row_reduce.wgsl adds over the invocations. The tiles of a row are added
// outside this shader.
//
// Limits. Any number of tokens from 1, any heads, head size 1 to 128; 64 invocations; at most 11 KiB of workgroup memory. Fewer
// than 2^31 elements in each buffer. Reads, in bytes: 4 B N ceil(N / SIDE) H (2 D + 1), and 4 B N^2 for a target. Writes 4 B N^2,
// and 4 B N ceil(N / SIDE) for sums.

@group(0) @binding(0) var<storage, {{ access }}> qkv: array<f32>;        // (B, N, 3, H, D)
@group(0) @binding(1) var<storage, {{ access }}> lse: array<f32>;        // (B, H, N)
//@ if against
@group(0) @binding(2) var<storage, {{ access }}> another: array<f32>;    // (B, N, N), the target
@group(0) @binding(3) var<storage, read_write> map: array<f32>;          // (B, N, N), E
@group(0) @binding(4) var<storage, read_write> rows: array<f32>;         // (B, tiles, N)
@group(0) @binding(5) var<storage, read> info: array<u32>;               // tokens, heads, tiles in all, scale; two words each
//@ else
@group(0) @binding(2) var<storage, read_write> map: array<f32>;          // (B, N, N), A
@group(0) @binding(3) var<storage, read> info: array<u32>;               // tokens, heads, tiles in all, scale; two words each
//@ end

alias Number = vec4<f32>;                     // of the four rows of an invocation
const LANES: u32 = QUADS;

fn element(source: u32, place: u32) -> f32 {
    return qkv[place];
}

fn work(unit: u32, thread: u32, span: u32) {
    let sizes = read_sizes();
    let at = place_of(unit, thread);
    let image = at.pair / at.tiles;
    let query = at.pair % at.tiles * SIDE;
    let key = at.start;
    let row = query + 4u * at.r;
    let column = key + 4u * at.c;
    let mask = present(key, sizes.tokens, thread);

    var e = mat4x4<f32>();
    for (var h = 0u; h < sizes.heads; h++) {
        let queries = part_of_qkv(0u, image, h);
        let keys = part_of_qkv(1u, image, h);
        var s = products(queries, keys, D, query, key, sizes.tokens, thread);
        for (var i = 0u; i < 4u; i++) {
            // A query past the last uses the number of the last query. Its result is not kept.
            let row_lse = lse[(image * sizes.heads + h) * sizes.tokens + min(row + i, sizes.tokens - 1u)];
            e[i] += select(vec4(0.0), exp(sizes.scale * s[i] - row_lse), mask);
        }
    }

    var square = vec4<f32>();
    for (var i = 0u; i < 4u; i++) {
        for (var k = 0u; k < 4u; k++) {
            if (row + i < sizes.tokens && column + k < sizes.tokens) {
                let place = (image * sizes.tokens + row + i) * sizes.tokens + column + k;
                var x = e[i][k] / f32(sizes.heads);
//@ if against
                x -= another[place];
                square[i] += x * x;
//@ end
                if (at.kept) {
                    map[place] = x;
                }
            }
        }
    }
//@ if against
    square = over_row(square, thread, span);
    for (var i = 0u; i < 4u; i++) {
        if (row + i < sizes.tokens && at.c == 0u && at.kept) {
            rows[(image * at.tiles + key / SIDE) * sizes.tokens + row + i] = square[i];
        }
    }
//@ end
}
