// The gradient of attention's queries, for a tile of query rows, and the number delta of each row, which the pass over the keys
// needs (Dao 2022, appendix B.2). Probabilities are computed again from lse, so nothing of size N x N is stored.
//
//   p[i,j]  = exp(scale * sum_d q[i,d] k[j,d] - lse[i])
//   dp[i,j] = sum_d do[i,d] v[j,d]                        delta[i] = sum_d do[i,d] o[i,d]
//   ds[i,j] = p[i,j] (dp[i,j] - delta[i])                 dq[i,d]  = scale * sum_j ds[i,j] k[j,d]
//
// Owner of every sum. See tile.wgsl for p and dp. Invocation (i / 4, d % QUADS) of a gang sums dq[i,d] over j upwards. For delta,
// each invocation of a row sums over its own channels, and row_reduce.wgsl sums over the invocations. No other pass writes dq.
//
// Limits. Any number of tokens from 1; head size 1 to 128; 64 invocations; at most 16 KiB of workgroup memory. Fewer than 2^31
// elements in qkv. Reads, in bytes: 20 B H N D ceil(N / SIDE). Writes 4 B H N (D + 1).

@group(0) @binding(0) var<storage, {{ access }}> qkv: array<f32>;        // (B, N, 3, H, D)
@group(0) @binding(1) var<storage, {{ access }}> output: array<f32>;     // (B, N, H, D)
@group(0) @binding(2) var<storage, {{ access }}> lse: array<f32>;        // (B, H, N)
@group(0) @binding(3) var<storage, {{ access }}> d_output: array<f32>;   // (B, N, H, D)
@group(0) @binding(4) var<storage, read_write> d_qkv: array<f32>;        // (B, N, 3, H, D); the first third
@group(0) @binding(5) var<storage, read_write> delta: array<f32>;        // (B, H, N)
@group(0) @binding(6) var<storage, read> info: array<u32>;               // tokens, heads, tiles in all, scale; two words each

alias Number = vec4<f32>;                     // of the four rows of an invocation
const LANES: u32 = QUADS;

fn work(unit: u32, thread: u32, span: u32) {
    let sizes = read_sizes();
    let at = place_of(unit, thread);
    let image = at.pair / sizes.heads;
    let head = at.pair % sizes.heads;
    let queries = part_of_qkv(0u, image, head);
    let keys = part_of_qkv(1u, image, head);
    let values = part_of_qkv(2u, image, head);
    let row = sizes.heads * D;                        // from one token of o and do to the next
    let place = image * sizes.tokens * row + head * D;
    let grads = Rows(1u, place, row);

    var own_lse = vec4(0.0);
    var dot = vec4(0.0);
    for (var i = 0u; i < 4u; i++) {
        let token = at.start + 4u * at.r + i;
        if (token < sizes.tokens) {
            own_lse[i] = lse[at.pair * sizes.tokens + token];
            for (var d = at.c; d < D; d += QUADS) {
                dot[i] += d_output[place + token * row + d] * output[place + token * row + d];
            }
        }
    }
    dot = over_row(dot, thread, span);

    var gradient: array<mat4x4<f32>, SLICES>;
    for (var i = 0u; i < SLICES; i++) {
        gradient[i] = mat4x4<f32>();
    }
    for (var first = 0u; first < sizes.tokens; first += SIDE) {
        var slope = products(grads, values, D, at.start, first, sizes.tokens, thread);
        var s = products(queries, keys, D, at.start, first, sizes.tokens, thread);
        let mask = present(first, sizes.tokens, thread);
        for (var i = 0u; i < 4u; i++) {
            s[i] = select(vec4(0.0), exp(sizes.scale * s[i] - own_lse[i]) * (slope[i] - dot[i]), mask);
        }
        put(s, thread);
        for (var slice = 0u; slice < SLICES; slice++) {
            workgroupBarrier();
            load(RIGHT, keys, D, slice * SLICE, first, sizes.tokens, thread);
            workgroupBarrier();
            gradient[slice] += combine(RIGHT, thread);
        }
    }

    for (var i = 0u; i < 4u; i++) {
        let token = at.start + 4u * at.r + i;
        if (token < sizes.tokens && at.kept) {
            write_row(queries.base + token * queries.step, &gradient, i, sizes.scale, at.c);
            if (at.c == 0u) {
                delta[at.pair * sizes.tokens + token] = dot[i];
            }
        }
    }
}
