// The gradient of the student's queries, or of its keys, from that of the squared differences of the rows of two networks'
// head-averaged attention; for a tile of query rows, or of keys, of an image. Everything of N x N is computed again.
//
//   dS_h[i,j] = 2 / H_S * d_rows[i] * P_h[i,j] (E[i,j] - delta_h[i])
//   dq_h[i,d] = scale * sum_j dS_h[i,j] k_h[j,d]        dk_h[j,d] = scale * sum_i dS_h[i,j] q_h[i,d]
//
// Owner of every sum. See tile.wgsl for the scores and map_tile.wgsl for E. Of a gradient, invocation (r, c)
// owns tokens 4 r to 4 r + 3 of the tile and channels c, c + 8, c + 16 and c + 24 of every slice; it sums over the other
// side's tokens in order, tile after tile, and keeps the running sum in d_student, whose elements have no other writer.
//
// Limits. Any number of tokens from 1, any heads and head sizes; 64 invocations; 13.5 KiB of workgroup memory. Elements of
// each qkv below 2^31.
// Reads, in bytes: 4 B N ceil(N / 32) (2 H_T D_T + 6 H_S D_S). Writes 4 B N ceil(N / 32) H_S D_S; the pass over keys also
// 4 B N H_S D_S of zeros, the gradient of the values.

@group(0) @binding(0) var<storage, {{ access }}> student: array<f32>;        // (B, N, 3, H_S, D_S)
@group(0) @binding(1) var<storage, {{ access }}> teacher: array<f32>;        // (B, N, 3, H_T, D_T)
@group(0) @binding(2) var<storage, {{ access }}> statistics: array<f32>;     // (B, N, 2 H_S + H_T)
@group(0) @binding(3) var<storage, {{ access }}> d_rows: array<f32>;         // (B, N)
@group(0) @binding(4) var<storage, read_write> d_student: array<f32>;        // (B, N, 3, H_S, D_S)
@group(0) @binding(5) var<storage, read> info: array<u32>;                   // tokens, groups, heads, size, scale of each

// The part of a row of the student that has the gradient, and the side of a tile that holds the other one.
//@ if keys
const OWNED: u32 = 1u;
const OTHER: u32 = LEFT;
//@ else
const OWNED: u32 = 0u;
const OTHER: u32 = RIGHT;
//@ end

@compute @workgroup_size({{ threads }})
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let tokens = info[0];
    let unit = group.x + group.y * groups.x;
    if (unit >= info[2]) {
        return;
    }
    let tiles = (tokens + SIDE - 1u) / SIDE;
    let image = unit / tiles;
    let own = (unit % tiles) * SIDE;
    let net = student_network();
    let r = thread / QUADS;
    let c = thread % QUADS;

    for (var other = 0u; other < tokens; other += SIDE) {
//@ if keys
        let query = other;
        let key = own;
//@ else
        let query = own;
        let key = other;
//@ end
        var e = difference(image, query, key, tokens, thread);
        for (var head = 0u; head < net.heads; head++) {
            let owned = rows_of(net, image, head, OWNED, tokens);
            let others = rows_of(net, image, head, 1u - OWNED, tokens);
            var p = probabilities(net, image, head, query, key, tokens, thread);
            var slope = mat4x4<f32>();
            for (var i = 0u; i < 4u; i++) {
                // A query past the last has no gradient.
                if (query + 4u * r + i < tokens) {
                    let row = row_of(image, query, i, tokens, thread);
                    let delta = statistics[row * row_length() + net.heads + head];
                    slope[i] = (2.0 * net.scale / f32(net.heads) * d_rows[row]) * p[i] * (e[i] - delta);
                }
            }
//@ if keys
            put_turned(slope, thread);
//@ else
            put(slope, thread);
//@ end
            for (var slice = 0u; slice < net.size; slice += SLICE) {
                workgroupBarrier();
                load(OTHER, others, net.size, slice, other, tokens, thread);
                workgroupBarrier();
                let gradient = combine(OTHER, thread);
                for (var i = 0u; i < 4u; i++) {
                    for (var k = 0u; k < 4u; k++) {
                        let token = own + 4u * r + i;
                        let d = slice + c + QUADS * k;
                        if (token < tokens && d < net.size) {
                            let place = owned.base + token * owned.step + d;
                            if (other == 0u) {
                                d_student[place] = gradient[i][k];
                            } else {
                                d_student[place] += gradient[i][k];
                            }
                        }
                    }
                }
            }
            workgroupBarrier();
        }
    }
//@ if keys

    // The values take no part. Those of a token lie together.
    let values = rows_of(net, image, 0u, 2u, tokens);
    for (var e = thread; e < SIDE * net.heads * net.size; e += THREADS) {
        let token = own + e / (net.heads * net.size);
        if (token < tokens) {
            d_student[values.base + token * values.step + e % (net.heads * net.size)] = 0.0;
        }
    }
//@ end
}
