// The gradients of attention's keys and values, for a tile of key rows (Dao 2022, appendix B.2). It runs after the pass over the
// queries, which writes delta. Probabilities are computed again from lse, so nothing of size N x N is stored.
//
//   p[i,j]  = exp(scale * sum_d q[i,d] k[j,d] - lse[i])   dp[i,j] = sum_d do[i,d] v[j,d]
//   ds[i,j] = p[i,j] (dp[i,j] - delta[i])
//   dk[j,d] = scale * sum_i ds[i,j] q[i,d]                dv[j,d] = sum_i p[i,j] do[i,d]
//
// Owner of every sum. See tile.wgsl for p and dp. Invocation (j / 4, d % QUADS) of a gang sums dk[j,d] and dv[j,d] over i
// upwards. No other pass writes dk or dv.
//
// Limits. Any number of tokens from 1; head size 1 to 128; 64 invocations; at most 16 KiB of workgroup memory. Fewer than 2^31
// elements in qkv. Reads, in bytes: B H N (24 D + 8) ceil(N / SIDE). Writes 8 B H N D.

@group(0) @binding(0) var<storage, {{ access }}> qkv: array<f32>;        // (B, N, 3, H, D)
@group(0) @binding(1) var<storage, {{ access }}> lse: array<f32>;        // (B, H, N)
@group(0) @binding(2) var<storage, {{ access }}> d_output: array<f32>;   // (B, N, H, D)
@group(0) @binding(3) var<storage, {{ access }}> delta: array<f32>;      // (B, H, N)
@group(0) @binding(4) var<storage, read_write> d_qkv: array<f32>;        // (B, N, 3, H, D); the last two thirds
@group(0) @binding(5) var<storage, read> info: array<u32>;               // tokens, heads, tiles in all, scale; two words each

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

    var d_key: array<mat4x4<f32>, SLICES>;
    var d_value: array<mat4x4<f32>, SLICES>;
    for (var i = 0u; i < SLICES; i++) {
        d_key[i] = mat4x4<f32>();
        d_value[i] = mat4x4<f32>();
    }
    for (var first = 0u; first < sizes.tokens; first += SIDE) {
        var p = products(queries, keys, D, first, at.start, sizes.tokens, thread);
        for (var i = 0u; i < 4u; i++) {
            let query = first + 4u * at.r + i;
            if (query < sizes.tokens) {
                p[i] = exp(sizes.scale * p[i] - lse[at.pair * sizes.tokens + query]);
            } else {
                p[i] = vec4(0.0);
            }
        }
        put_turned(p, thread);
        for (var slice = 0u; slice < SLICES; slice++) {
            workgroupBarrier();
            load(LEFT, grads, D, slice * SLICE, first, sizes.tokens, thread);
            workgroupBarrier();
            d_value[slice] += combine(LEFT, thread);
        }
        var slope = products(grads, values, D, first, at.start, sizes.tokens, thread);
        for (var i = 0u; i < 4u; i++) {
            let query = first + 4u * at.r + i;
            if (query < sizes.tokens) {
                slope[i] = p[i] * (slope[i] - delta[at.pair * sizes.tokens + query]);
            } else {
                slope[i] = vec4(0.0);
            }
        }
        put_turned(slope, thread);
        for (var slice = 0u; slice < SLICES; slice++) {
            workgroupBarrier();
            load(LEFT, queries, D, slice * SLICE, first, sizes.tokens, thread);
            workgroupBarrier();
            d_key[slice] += combine(LEFT, thread);
        }
    }

    for (var i = 0u; i < 4u; i++) {
        let token = at.start + 4u * at.r + i;
        if (token < sizes.tokens && at.kept) {
            write_row(keys.base + token * keys.step, &d_key, i, sizes.scale, at.c);
            write_row(values.base + token * values.step, &d_value, i, 1.0, at.c);
        }
    }
}
