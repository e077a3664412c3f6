// The gradient of the student's queries, for a tile of query rows of a head, and the number delta of each row, which the pass
// over the keys needs. The gradient is computed from the gradient of each row's squared difference between two networks'
// head-averaged attention.
//
//   P[i,j]   = exp(scale * sum_d q[i,d] k[j,d] - lse[i])      delta[i] = sum_j P[i,j] E[i,j]
//   dS[i,j]  = 2 / H d_rows[i] P[i,j] (E[i,j] - delta[i])       dq[i,d]  = scale * sum_j dS[i,j] k[j,d]
//
// There are two loops over the keys, since delta is a sum over the whole row.
//
// Owner of every sum. See tile.wgsl for P. For delta, each invocation of a row sums over its own four keys of every tile, over
// tiles upwards, and row_reduce.wgsl sums over the invocations. Invocation (i / 4, d % QUADS) of a gang sums dq[i,d] over j
// upwards. No other pass writes dq.
//
// Limits. Any number of tokens from 1; head size 1 to 128; 64 invocations; at most 16 KiB of workgroup memory. Fewer than 2^31
// elements in each buffer. Reads, in bytes: B H N (20 D ceil(N / SIDE) + 8 N + 8). Writes 4 B H N (D + 1).

@group(0) @binding(0) var<storage, {{ access }}> qkv: array<f32>;        // (B, N, 3, H, D), the student's
@group(0) @binding(1) var<storage, {{ access }}> lse: array<f32>;        // (B, H, N), its log-sum-exps
@group(0) @binding(2) var<storage, {{ access }}> map: array<f32>;        // (B, N, N), E
@group(0) @binding(3) var<storage, {{ access }}> d_rows: array<f32>;     // (B, N)
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

    var own_lse = vec4(0.0);
    for (var i = 0u; i < 4u; i++) {
        let token = at.start + 4u * at.r + i;
        if (token < sizes.tokens) {
            own_lse[i] = lse[at.pair * sizes.tokens + token];
        }
    }

    var mean = vec4(0.0);
    for (var first = 0u; first < sizes.tokens; first += SIDE) {
        var s = products(queries, keys, D, at.start, first, sizes.tokens, thread);
        var e = tile_of_map(image, at.start, first, sizes.tokens, thread);
        let mask = present(first, sizes.tokens, thread);
        for (var i = 0u; i < 4u; i++) {
            mean[i] += dot(select(vec4(0.0), exp(sizes.scale * s[i] - own_lse[i]), mask), e[i]);
        }
    }
    mean = over_row(mean, thread, span);

    var gradient: array<mat4x4<f32>, SLICES>;
    for (var i = 0u; i < SLICES; i++) {
        gradient[i] = mat4x4<f32>();
    }
    for (var first = 0u; first < sizes.tokens; first += SIDE) {
        var s = products(queries, keys, D, at.start, first, sizes.tokens, thread);
        var e = tile_of_map(image, at.start, first, sizes.tokens, thread);
        let mask = present(first, sizes.tokens, thread);
        for (var i = 0u; i < 4u; i++) {
            s[i] = select(vec4(0.0), exp(sizes.scale * s[i] - own_lse[i]) * (e[i] - mean[i]), mask);
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
            let factor = 2.0 / f32(sizes.heads) * sizes.scale * d_rows[image * sizes.tokens + token];
            write_row(queries.base + token * queries.step, &gradient, i, factor, at.c);
            if (at.c == 0u) {
                delta[at.pair * sizes.tokens + token] = mean[i];
            }
        }
    }
}
