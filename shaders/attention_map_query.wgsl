// The gradient of the student's queries from that of the squared differences of the rows of two networks' head-averaged
// attention, for a tile of query rows of a head; and the number delta of each row that the pass over the keys needs.
//
//   P[i,j]   = exp(scale * sum_d q[i,d] k[j,d] - level[i])      delta[i] = sum_j P[i,j] E[i,j]
//   dS[i,j]  = 2 / H d_rows[i] P[i,j] (E[i,j] - delta[i])       dq[i,d]  = scale * sum_j dS[i,j] k[j,d]
//
// The keys are gone through twice: delta is of the whole row.
//
// Owner of every sum. See tile.wgsl for P. delta is summed by each invocation of a row over its own four keys of every tile,
// over tiles upwards, then over invocations by row_reduce.wgsl. dq[i,d] is summed by invocation (i / 4, d % QUADS) of a gang,
// over j upwards. No other pass writes dq.
//
// Limits. Any number of tokens from 1; head size 1 to 128; 64 invocations; at most 16 KiB of workgroup memory. Elements of each
// buffer below 2^31. Reads, in bytes: B H N (20 D ceil(N / SIDE) + 8 N + 8). Writes 4 B H N (D + 1).

@group(0) @binding(0) var<storage, {{ access }}> qkv: array<f32>;        // (B, N, 3, H, D), the student's
@group(0) @binding(1) var<storage, {{ access }}> lse: array<f32>;        // (B, H, N), its levels
@group(0) @binding(2) var<storage, {{ access }}> map: array<f32>;        // (B, N, N), E
@group(0) @binding(3) var<storage, {{ access }}> d_rows: array<f32>;     // (B, N)
@group(0) @binding(4) var<storage, read_write> d_qkv: array<f32>;        // (B, N, 3, H, D); the first third
@group(0) @binding(5) var<storage, read_write> delta: array<f32>;        // (B, H, N)
@group(0) @binding(6) var<storage, read> info: array<u32>;               // tokens, heads, tiles in all, scale; two words each

alias Number = vec4<f32>;                     // of the four rows of an invocation
const LANES: u32 = QUADS;

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
    let pair = unit / tiles;                       // (image, head), head fastest
    let start = (unit % tiles) * SIDE;
    let image = pair / heads;
    let step = 3u * heads * D;                     // from a token to the next
    let base = image * tokens * step + (pair % heads) * D;
    let queries = Rows(0u, base, step);
    let keys = Rows(0u, base + heads * D, step);
    let r = (thread % GANG) / QUADS;
    let c = thread % QUADS;

    var level = vec4(0.0);
    for (var i = 0u; i < 4u; i++) {
        let token = start + 4u * r + i;
        if (token < tokens) {
            level[i] = lse[pair * tokens + token];
        }
    }

    var mean = vec4(0.0);
    for (var first = 0u; first < tokens; first += SIDE) {
        var s = products(queries, keys, D, start, first, tokens, thread);
        var e = tile_of_map(image, start, first, tokens, thread);
        let mask = present(first, tokens, thread);
        for (var i = 0u; i < 4u; i++) {
            mean[i] += dot(select(vec4(0.0), exp(scale * s[i] - level[i]), mask), e[i]);
        }
    }
    mean = over_row(mean, thread, span);

    var gradient: array<mat4x4<f32>, SLICES>;
    for (var i = 0u; i < SLICES; i++) {
        gradient[i] = mat4x4<f32>();
    }
    for (var first = 0u; first < tokens; first += SIDE) {
        var s = products(queries, keys, D, start, first, tokens, thread);
        var e = tile_of_map(image, start, first, tokens, thread);
        let mask = present(first, tokens, thread);
        for (var i = 0u; i < 4u; i++) {
            s[i] = select(vec4(0.0), exp(scale * s[i] - level[i]) * (e[i] - mean[i]), mask);
        }
        put(s, thread);
        for (var slice = 0u; slice < SLICES; slice++) {
            workgroupBarrier();
            load(RIGHT, keys, D, slice * SLICE, first, tokens, thread);
            workgroupBarrier();
            gradient[slice] += combine(RIGHT, thread);
        }
    }

    for (var i = 0u; i < 4u; i++) {
        let token = start + 4u * r + i;
        if (token < tokens && wanted == unit) {
            let factor = 2.0 / f32(heads) * scale * d_rows[image * tokens + token];
            write_row(base + token * step, &gradient, i, factor, c);
            if (c == 0u) {
                delta[pair * tokens + token] = mean[i];
            }
        }
    }
}
