// The head-averaged attention of an image, for a tile of its queries and keys; or (`against`) the difference from another
// network's, with the squares of the difference added along each row.
//
//   P_h[i,j] = exp(scale * sum_d q[i,d] k[j,d] - lse_h[i])         A = mean_h P_h
//   E = A - target        rows[i] = sum_j E[i,j]^2 over the keys of the tile
//
// Owner of every sum. See tile.wgsl for the scores. A is summed by its owner, over heads upwards. A row's squares are added by
// each invocation over its own four keys, then over invocations by row_reduce.wgsl; the tiles of a row are added elsewhere.
//
// Limits. Any number of tokens from 1, any heads, head size 1 to 128; 64 invocations; at most 11 KiB of workgroup memory.
// Elements of each buffer below 2^31. Reads, in bytes: 4 B N ceil(N / SIDE) H (2 D + 1), and 4 B N^2 of a target. Writes
// 4 B N^2, and 4 B N ceil(N / SIDE) of sums.

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
const D: u32 = {{ head_size }}u;

fn element(source: u32, place: u32) -> f32 {
    return qkv[place];
}

@compute @workgroup_size({{ threads }})
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
//@ if subgroups
    @builtin(subgroup_size) size: u32,
    @builtin(subgroup_invocation_id) position: u32,
//@ end
) {
//@ if subgroups
    let span = neighbours(thread, size, position);
//@ else
    let span = 0u;
//@ end
    let tokens = info[0];
    let heads = info[2];
    let scale = bitcast<f32>(info[6]);
    let tiles = (tokens + SIDE - 1u) / SIDE;
    // A gang past the last tile does the last one's work and keeps nothing.
    let wanted = (group.x + group.y * groups.x) * UNITS + thread / GANG;
    let unit = min(wanted, info[4] - 1u);
    let image = unit / (tiles * tiles);
    let query = (unit / tiles) % tiles * SIDE;
    let key = unit % tiles * SIDE;
    let row = query + 4u * ((thread % GANG) / QUADS);
    let column = key + 4u * (thread % QUADS);
    let step = 3u * heads * D;                     // from a token to the next
    let mask = present(key, tokens, thread);

    var e = mat4x4<f32>();
    for (var h = 0u; h < heads; h++) {
        let base = image * tokens * step + h * D;
        var s = products(Rows(0u, base, step), Rows(0u, base + heads * D, step), D, query, key, tokens, thread);
        for (var i = 0u; i < 4u; i++) {
            // Of a query past the last, which nothing keeps, the last one's.
            let level = lse[(image * heads + h) * tokens + min(row + i, tokens - 1u)];
            e[i] += select(vec4(0.0), exp(scale * s[i] - level), mask);
        }
    }

    var square = vec4<f32>();
    for (var i = 0u; i < 4u; i++) {
        for (var k = 0u; k < 4u; k++) {
            if (row + i < tokens && column + k < tokens) {
                let place = (image * tokens + row + i) * tokens + column + k;
                var x = e[i][k] / f32(heads);
//@ if against
                x -= another[place];
                square[i] += x * x;
//@ end
                if (wanted == unit) {
                    map[place] = x;
                }
            }
        }
    }
//@ if against
    square = over_row(square, thread, span);
    for (var i = 0u; i < 4u; i++) {
        if (row + i < tokens && thread % QUADS == 0u && wanted == unit) {
            rows[(image * tiles + key / SIDE) * tokens + row + i] = square[i];
        }
    }
//@ end
}
