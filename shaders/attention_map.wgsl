// The difference of two networks' head-averaged attention, for a tile of queries and keys of an image: written out, or its
// squares added along each row.
//
//   P_h[i,j] = exp(scale * sum_d q[i,d] k[j,d] - level_h[i])       A = mean_h P_h of each network
//   E = A_S - A_T        rows[i] = sum_j E[i,j]^2 over the keys of the tile
//
// The levels are the log-sum-exps that attention left.
//
// Owner of every sum. See tile.wgsl for the scores. E is summed by its owner, over the teacher's heads upwards, then the
// student's. A row's squares are added by each invocation over its own four keys, then over invocations by row_reduce.wgsl;
// the tiles of a row are added elsewhere.
//
// Limits. Any number of tokens from 1, any heads and head sizes; 64 invocations; at most 11.5 KiB of workgroup memory. Elements
// of each buffer below 2^31. Reads, in bytes: 8 B N ceil(N / SIDE) (H_T D_T + H_S D_S). Writes 4 B N ceil(N / SIDE), or
// 4 B N^2.

@group(0) @binding(0) var<storage, {{ access }}> student: array<f32>;            // (B, N, 3, H_S, D_S)
@group(0) @binding(1) var<storage, {{ access }}> teacher: array<f32>;            // (B, N, 3, H_T, D_T)
@group(0) @binding(2) var<storage, {{ access }}> student_levels: array<f32>;     // (B, H_S, N)
@group(0) @binding(3) var<storage, {{ access }}> teacher_levels: array<f32>;     // (B, H_T, N)
@group(0) @binding(4) var<storage, read_write> result: array<f32>;               // E, (images, N, N); or (images, tiles, N)
@group(0) @binding(5) var<storage, read> info: array<u32>;
// info, two words each: tokens, tiles in all, first image, heads, size and scale of the student, of the teacher.

alias Number = vec4<f32>;                     // of the four rows of an invocation
const LANES: u32 = QUADS;

struct Network {
    source: u32,                              // 0, the student; 1, the teacher
    heads: u32,
    size: u32,                                // channels of a head
    scale: f32,
}

fn element(source: u32, place: u32) -> f32 {
    if (source == 0u) {
        return student[place];
    }
    return teacher[place];
}

fn level(source: u32, place: u32) -> f32 {
    if (source == 0u) {
        return student_levels[place];
    }
    return teacher_levels[place];
}

// The mean of the own probabilities over a network's heads; zero past the last key.
fn mean(net: Network, image: u32, query: u32, key: u32, tokens: u32, thread: u32) -> mat4x4<f32> {
    let row = query + 4u * ((thread % GANG) / QUADS);
    let step = 3u * net.heads * net.size;
    let mask = present(key, tokens, thread);
    var sum = mat4x4<f32>();
    for (var h = 0u; h < net.heads; h++) {
        let base = image * tokens * step + h * net.size;
        let queries = Rows(net.source, base, step);
        let keys = Rows(net.source, base + net.heads * net.size, step);
        var s = products(queries, keys, net.size, query, key, tokens, thread);
        let levels = (image * net.heads + h) * tokens;
        for (var i = 0u; i < 4u; i++) {
            // Of a query past the last, which nothing reads, the last one's.
            let top = level(net.source, levels + min(row + i, tokens - 1u));
            sum[i] += select(vec4(0.0), exp(net.scale * s[i] - top), mask);
        }
    }
    return sum * (1.0 / f32(net.heads));
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
    let tiles = (tokens + SIDE - 1u) / SIDE;
    // A gang past the last tile does the last one's work and keeps nothing.
    let wanted = (group.x + group.y * groups.x) * UNITS + thread / GANG;
    let unit = min(wanted, info[2] - 1u);
    let image = unit / (tiles * tiles);            // of the result
    let query = (unit / tiles) % tiles * SIDE;
    let key = unit % tiles * SIDE;
    let taught = Network(0u, info[6], info[8], bitcast<f32>(info[10]));
    let model = Network(1u, info[12], info[14], bitcast<f32>(info[16]));

    let others = mean(model, info[4] + image, query, key, tokens, thread);
    var e = mean(taught, info[4] + image, query, key, tokens, thread) - others;
    let row = query + 4u * ((thread % GANG) / QUADS);
//@ if squares
    var square = vec4<f32>();
    for (var i = 0u; i < 4u; i++) {
        square[i] = dot(e[i], e[i]);
    }
    square = over_row(square, thread, span);
    for (var i = 0u; i < 4u; i++) {
        if (row + i < tokens && thread % QUADS == 0u && wanted == unit) {
            result[(image * tiles + key / SIDE) * tokens + row + i] = square[i];
        }
    }
//@ else
    let column = key + 4u * (thread % QUADS);
    for (var i = 0u; i < 4u; i++) {
        for (var k = 0u; k < 4u; k++) {
            if (row + i < tokens && column + k < tokens && wanted == unit) {
                result[(image * tokens + row + i) * tokens + column + k] = e[i][k];
            }
        }
    }
//@ end
}
