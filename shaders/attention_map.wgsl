// The squared difference of two networks' head-averaged attention, row by row, for a tile of query rows of an image.
//
//   P_h[i,j] = exp(scale * sum_d q[i,d] k[j,d] - level_h[i])       A = mean_h P_h of each network
//   E = A_S - A_T        rows[i] = sum_j E[i,j]^2        delta_h[i] = sum_j P_h[i,j] E[i,j] of the student's heads
//
// E of a tile lives in registers and is dropped; delta is what the gradient of a row's softmax needs of the whole row.
//
// Owner of every sum. See tile.wgsl for the scores. E is summed by its owner, over the teacher's heads upwards, then
// the student's. rows and delta are summed by each invocation over its own four keys of every tile, over tiles upwards;
// the first invocation of a row adds those sums, over invocations upwards.
//
// Limits. Any number of tokens from 1 and any head sizes; at most 64 heads of the student, whose sums are private; 64
// invocations; 14.5 KiB of workgroup memory. Elements of each qkv below 2^31.
// Reads, in bytes: 8 B N ceil(N / 32) (H_T D_T + 2 H_S D_S). Writes 4 B N (1 + H_S).

@group(0) @binding(0) var<storage, {{ access }}> student: array<f32>;        // (B, N, 3, H_S, D_S)
@group(0) @binding(1) var<storage, {{ access }}> teacher: array<f32>;        // (B, N, 3, H_T, D_T)
@group(0) @binding(2) var<storage, read_write> statistics: array<f32>;       // (B, N, 2 H_S + H_T); the deltas
@group(0) @binding(3) var<storage, read_write> rows: array<f32>;             // (B, N)
@group(0) @binding(4) var<storage, read> info: array<u32>;                   // tokens, groups, heads, size, scale of each

const HEADS: u32 = {{ heads }}u;              // of the student

var<workgroup> sums: array<vec4<f32>, THREADS>;

// The sum of `own` over the invocations of a row, in the first of them.
fn over_row(own: vec4<f32>, thread: u32) -> vec4<f32> {
    workgroupBarrier();
    sums[thread] = own;
    workgroupBarrier();
    var sum = vec4<f32>();
    if (thread % QUADS == 0u) {
        for (var i = 0u; i < QUADS; i++) {
            sum += sums[thread + i];
        }
    }
    return sum;
}

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
    let query = (unit % tiles) * SIDE;

    var square = vec4<f32>();
    var delta: array<vec4<f32>, HEADS>;
    for (var h = 0u; h < HEADS; h++) {
        delta[h] = vec4(0.0);
    }
    for (var key = 0u; key < tokens; key += SIDE) {
        let e = difference(image, query, key, tokens, thread);
        square += vec4(dot(e[0], e[0]), dot(e[1], e[1]), dot(e[2], e[2]), dot(e[3], e[3]));
        for (var h = 0u; h < HEADS; h++) {
            let p = probabilities(student_network(), image, h, query, key, tokens, thread);
            delta[h] += vec4(dot(p[0], e[0]), dot(p[1], e[1]), dot(p[2], e[2]), dot(p[3], e[3]));
        }
    }

    let owner = thread % QUADS == 0u;
    let sum = over_row(square, thread);
    for (var i = 0u; i < 4u; i++) {
        let token = query + 4u * (thread / QUADS) + i;
        if (owner && token < tokens) {
            rows[image * tokens + token] = sum[i];
        }
    }
    for (var h = 0u; h < HEADS; h++) {
        let sum = over_row(delta[h], thread);
        for (var i = 0u; i < 4u; i++) {
            let token = query + 4u * (thread / QUADS) + i;
            if (owner && token < tokens) {
                statistics[(image * tokens + token) * row_length() + HEADS + h] = sum[i];
            }
        }
    }
}
