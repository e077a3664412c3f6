// The gradient of the student's keys, for a tile of key rows of a head. It is computed from the gradient of each row's squared
// difference between two networks' head-averaged attention. It runs after the pass over the queries, which writes delta.
//
//   P[i,j]  = exp(scale * sum_d q[i,d] k[j,d] - lse[i])
//   dS[i,j] = 2 / H d_rows[i] P[i,j] (E[i,j] - delta[i])        dk[j,d] = scale * sum_i dS[i,j] q[i,d]
//
// Owner of every sum. See tile.wgsl for P. Invocation (j / 4, d % QUADS) of a gang sums dk[j,d] over i upwards. No other pass
// writes dk, or the zeros that are the gradient of the values.
//
// Limits. Any number of tokens from 1; head size 1 to 128; 64 invocations; at most 16 KiB of workgroup memory. Fewer than 2^31
// elements in each buffer. Reads, in bytes: B H N ((12 D + 12) ceil(N / SIDE) + 4 N). Writes 8 B H N D.

@group(0) @binding(0) var<storage, {{ access }}> qkv: array<f32>;        // (B, N, 3, H, D), the student's
@group(0) @binding(1) var<storage, {{ access }}> lse: array<f32>;        // (B, H, N), its log-sum-exps
@group(0) @binding(2) var<storage, {{ access }}> map: array<f32>;        // (B, N, N), E
@group(0) @binding(3) var<storage, {{ access }}> d_rows: array<f32>;     // (B, N)
@group(0) @binding(4) var<storage, {{ access }}> delta: array<f32>;      // (B, H, N)
@group(0) @binding(5) var<storage, read_write> d_qkv: array<f32>;        // (B, N, 3, H, D); the last two thirds
@group(0) @binding(6) var<storage, read> info: array<u32>;               // tokens, heads, tiles in all, scale; two words each

fn work(unit: u32, thread: u32, span: u32) {
    let sizes = read_sizes();
    let at = place_of(unit, thread);
    let image = at.pair / sizes.heads;
    let head = at.pair % sizes.heads;
    let queries = part_of_qkv(0u, image, head);
    let keys = part_of_qkv(1u, image, head);
    let values = part_of_qkv(2u, image, head);

    var d_key: array<mat4x4<f32>, SLICES>;
    for (var i = 0u; i < SLICES; i++) {
        d_key[i] = mat4x4<f32>();
    }
    for (var first = 0u; first < sizes.tokens; first += SIDE) {
        var s = products(queries, keys, D, first, at.start, sizes.tokens, thread);
        var e = tile_of_map(image, first, at.start, sizes.tokens, thread);
        for (var i = 0u; i < 4u; i++) {
            let query = first + 4u * at.r + i;
            if (query < sizes.tokens) {
                let row_lse = lse[at.pair * sizes.tokens + query];
                let factor = 2.0 / f32(sizes.heads) * d_rows[image * sizes.tokens + query];
                s[i] = factor * exp(sizes.scale * s[i] - row_lse) * (e[i] - delta[at.pair * sizes.tokens + query]);
            } else {
                s[i] = vec4(0.0);
            }
        }
        put_turned(s, thread);
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
            for (var d = at.c; d < D; d += QUADS) {
                d_qkv[values.base + token * values.step + d] = 0.0;
            }
        }
    }
}
