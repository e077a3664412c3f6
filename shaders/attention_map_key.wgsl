// The gradient of the student's keys from that of the squared differences of the rows of two networks' head-averaged attention,
// for a tile of key rows of a head. Runs after the pass over the queries, which leaves delta.
//
//   P[i,j]  = exp(scale * sum_d q[i,d] k[j,d] - level[i])
//   dS[i,j] = 2 / H d_rows[i] P[i,j] (E[i,j] - delta[i])        dk[j,d] = scale * sum_i dS[i,j] q[i,d]
//
// Owner of every sum. See tile.wgsl for P. dk[j,d] is summed by invocation (j / 4, d % QUADS) of a gang, over i upwards. No
// other pass writes dk, or the zeros that are the gradient of the values.
//
// Limits. Any number of tokens from 1; head size 1 to 128; 64 invocations; at most 16 KiB of workgroup memory. Elements of each
// buffer below 2^31. Reads, in bytes: B H N ((12 D + 12) ceil(N / SIDE) + 4 N). Writes 8 B H N D.

@group(0) @binding(0) var<storage, {{ access }}> qkv: array<f32>;        // (B, N, 3, H, D), the student's
@group(0) @binding(1) var<storage, {{ access }}> lse: array<f32>;        // (B, H, N), its levels
@group(0) @binding(2) var<storage, {{ access }}> map: array<f32>;        // (B, N, N), E
@group(0) @binding(3) var<storage, {{ access }}> d_rows: array<f32>;     // (B, N)
@group(0) @binding(4) var<storage, {{ access }}> delta: array<f32>;      // (B, H, N)
@group(0) @binding(5) var<storage, read_write> d_qkv: array<f32>;        // (B, N, 3, H, D); the last two thirds
@group(0) @binding(6) var<storage, read> info: array<u32>;               // tokens, heads, tiles in all, scale; two words each

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
    let image = pair / heads;
    let step = 3u * heads * D;                     // from a token to the next
    let third = heads * D;
    let base = image * tokens * step + (pair % heads) * D;
    let queries = Rows(0u, base, step);
    let keys = Rows(0u, base + third, step);
    let r = (thread % GANG) / QUADS;               // of queries, while a tile is compared
    let c = thread % QUADS;                        // of keys

    var d_key: array<mat4x4<f32>, SLICES>;
    for (var i = 0u; i < SLICES; i++) {
        d_key[i] = mat4x4<f32>();
    }
    for (var first = 0u; first < tokens; first += SIDE) {
        var s = products(queries, keys, D, first, start, tokens, thread);
        var e = tile_of_map(image, first, start, tokens, thread);
        for (var i = 0u; i < 4u; i++) {
            let query = first + 4u * r + i;
            if (query < tokens) {
                let level = lse[pair * tokens + query];
                let factor = 2.0 / f32(heads) * d_rows[image * tokens + query];
                s[i] = factor * exp(scale * s[i] - level) * (e[i] - delta[pair * tokens + query]);
            } else {
                s[i] = vec4(0.0);
            }
        }
        put_turned(s, thread);
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
            for (var d = c; d < D; d += QUADS) {
                d_qkv[base + 2u * third + token * step + d] = 0.0;
            }
        }
    }
}
