// The gradients of attention's keys and values, for a tile of key rows (Dao 2022, appendix B.2). Runs after the pass over
// the queries, which leaves delta. Probabilities are computed again from lse; nothing of N x N is stored.
//
//   p[i,j]  = exp(scale * sum_d q[i,d] k[j,d] - lse[i])   dp[i,j] = sum_d do[i,d] v[j,d]
//   ds[i,j] = p[i,j] (dp[i,j] - delta[i])
//   dk[j,d] = scale * sum_i ds[i,j] q[i,d]                dv[j,d] = sum_i p[i,j] do[i,d]
//
// Owner of every sum. See tile.wgsl for p and dp. dk[j,d] and dv[j,d] are summed by invocation (j / 4, d % QUADS) of a gang,
// over i upwards. No other pass writes dk or dv.
//
// Limits. Any number of tokens from 1; head size 1 to 128; 64 invocations; at most 16 KiB of workgroup memory. Elements of qkv
// below 2^31. Reads, in bytes: B H N (24 D + 8) ceil(N / SIDE). Writes 8 B H N D.

@group(0) @binding(0) var<storage, {{ access }}> qkv: array<f32>;        // (B, N, 3, H, D)
@group(0) @binding(1) var<storage, {{ access }}> lse: array<f32>;        // (B, H, N)
@group(0) @binding(2) var<storage, {{ access }}> d_output: array<f32>;   // (B, N, H, D)
@group(0) @binding(3) var<storage, {{ access }}> delta: array<f32>;      // (B, H, N)
@group(0) @binding(4) var<storage, read_write> d_qkv: array<f32>;        // (B, N, 3, H, D); the last two thirds
@group(0) @binding(5) var<storage, read> info: array<u32>;               // tokens, heads, tiles in all, scale; two words each

@compute @workgroup_size({{ threads }})
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let tokens = info[0];
    let heads = info[2];
    let scale = bitcast<f32>(info[6]);
    let tiles = (tokens + SIDE - 1u) / SIDE;
    // A gang past the last tile does the last one's work and keeps nothing.
    let wanted = (group.x + group.y * groups.x) * UNITS + thread / GANG;
    let unit = min(wanted, info[4] - 1u);
    let pair = unit / tiles;                       // (image, head), head fastest
    let start = (unit % tiles) * SIDE;
    let step = 3u * heads * D;                     // from a token of qkv to the next
    let third = heads * D;                         // from q to k and from k to v, and from a token of do to the next
    let base = (pair / heads) * tokens * step + (pair % heads) * D;
    let queries = Rows(0u, base, step);
    let keys = Rows(0u, base + third, step);
    let values = Rows(0u, base + 2u * third, step);
    let grads = Rows(1u, (pair / heads) * tokens * third + (pair % heads) * D, third);
    let r = (thread % GANG) / QUADS;               // of queries, while a tile is compared
    let c = thread % QUADS;                        // of keys

    var d_key: array<mat4x4<f32>, SLICES>;
    var d_value: array<mat4x4<f32>, SLICES>;
    for (var i = 0u; i < SLICES; i++) {
        d_key[i] = mat4x4<f32>();
        d_value[i] = mat4x4<f32>();
    }
    for (var first = 0u; first < tokens; first += SIDE) {
        var p = products(queries, keys, D, first, start, tokens, thread);
        for (var i = 0u; i < 4u; i++) {
            let query = first + 4u * r + i;
            if (query < tokens) {
                p[i] = exp(scale * p[i] - lse[pair * tokens + query]);
            } else {
                p[i] = vec4(0.0);
            }
        }
        put_turned(p, thread);
        for (var slice = 0u; slice < SLICES; slice++) {
            workgroupBarrier();
            load(LEFT, grads, D, slice * SLICE, first, tokens, thread);
            workgroupBarrier();
            d_value[slice] += combine(LEFT, thread);
        }
        var slope = products(grads, values, D, first, start, tokens, thread);
        for (var i = 0u; i < 4u; i++) {
            let query = first + 4u * r + i;
            if (query < tokens) {
                slope[i] = p[i] * (slope[i] - delta[pair * tokens + query]);
            } else {
                slope[i] = vec4(0.0);
            }
        }
        put_turned(slope, thread);
        for (var slice = 0u; slice < SLICES; slice++) {
            workgroupBarrier();
            load(LEFT, queries, D, slice * SLICE, first, tokens, thread);
            workgroupBarrier();
            d_key[slice] += combine(LEFT, thread);
        }
    }

    for (var i = 0u; i < 4u; i++) {
        let token = start + 4u * r + i;
        if (token < tokens && wanted == unit) {
            write_row(base + third + token * step, &d_key, i, scale, c);
            write_row(base + 2u * third + token * step, &d_value, i, 1.0, c);
        }
    }
}
