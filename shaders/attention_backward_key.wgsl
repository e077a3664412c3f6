// The gradients of attention's keys and values, for a tile of key rows (Dao 2022, appendix B.2). Runs after the pass over
// the queries, which leaves delta. Probabilities are computed again from lse; nothing of N x N is stored.
//
//   p[i,j]  = exp(scale * sum_d q[i,d] k[j,d] - lse[i])   dp[i,j] = sum_d do[i,d] v[j,d]
//   ds[i,j] = p[i,j] (dp[i,j] - delta[i])
//   dk[j,d] = scale * sum_i ds[i,j] q[i,d]                dv[j,d] = sum_i p[i,j] do[i,d]
//
// Owner of every sum. A key row belongs to LANES neighbouring invocations. p, dp and ds of query i are the lane
// i % LANES's, summed over d upwards; dk[j,d] and dv[j,d] are the lane d % LANES's, summed over i upwards. No other pass
// writes dk or dv.
//
// The queries come in tiles, each loaded three times (q, do, q), since 16 KiB do not hold q and do beside k and v at
// head size 128.
//
// Limits. Any number of tokens from 1; head size 1 to 128; ROWS * LANES at most 256; at most 16 KiB of workgroup memory.
// Elements of qkv below 2^31.
// Reads, in bytes: 8 B H N D for k and v and B H N (12 D + 8) ceil(N / ROWS) for q, do, lse and delta. Writes 8 B H N D.

@group(0) @binding(0) var<storage, {{ access }}> qkv: array<f32>;        // (B, N, 3, H, D)
@group(0) @binding(1) var<storage, {{ access }}> lse: array<f32>;        // (B, H, N)
@group(0) @binding(2) var<storage, {{ access }}> d_output: array<f32>;   // (B, N, H, D)
@group(0) @binding(3) var<storage, {{ access }}> delta: array<f32>;      // (B, H, N)
@group(0) @binding(4) var<storage, read_write> d_qkv: array<f32>;        // (B, N, 3, H, D); the last two thirds
@group(0) @binding(5) var<storage, read> info: array<u32>;               // tokens, heads, groups, scale; two words each

const D: u32 = {{ head_size }}u;
const ROWS: u32 = {{ rows }}u;                // key rows of a workgroup
const QUERIES: u32 = {{ columns }}u;          // queries of a tile
const LANES: u32 = {{ lanes }}u;              // invocations of a row
const THREADS: u32 = {{ threads }}u;          // ROWS * LANES
const PART: u32 = (D + LANES - 1u) / LANES;   // channels of a lane
const WIDTH: u32 = PART * LANES;              // channels of a row in workgroup memory, those past D zero
const PITCH: u32 = WIDTH + 1u;                // odd, so that neighbouring rows start in different banks
const OWN: u32 = QUERIES / LANES;             // queries of a lane

var<workgroup> keys: array<f32, ROWS * PITCH>;
var<workgroup> values: array<f32, ROWS * PITCH>;
var<workgroup> tile: array<f32, QUERIES * PITCH>;                // q, do, q
var<workgroup> weights: array<f32, ROWS * (QUERIES + 1u)>;       // p, then ds

// Fills the tile with q of QUERIES tokens from `first`; tokens past the last are zero.
fn load_queries(base: u32, step: u32, first: u32, tokens: u32, thread: u32) {
    for (var e = thread; e < QUERIES * WIDTH; e += THREADS) {
        let token = first + e / WIDTH;
        let d = e % WIDTH;
        var x = 0.0;
        if (token < tokens && d < D) {
            x = qkv[base + token * step + d];
        }
        tile[(e / WIDTH) * PITCH + d] = x;
    }
}

// The same of do.
fn load_grads(place: u32, step: u32, first: u32, tokens: u32, thread: u32) {
    for (var e = thread; e < QUERIES * WIDTH; e += THREADS) {
        let token = first + e / WIDTH;
        let d = e % WIDTH;
        var x = 0.0;
        if (token < tokens && d < D) {
            x = d_output[place + token * step + d];
        }
        tile[(e / WIDTH) * PITCH + d] = x;
    }
}

@compute @workgroup_size({{ threads }})
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let tokens = info[0];
    let heads = info[2];
    let scale = bitcast<f32>(info[6]);
    let unit = group.x + group.y * groups.x;
    if (unit >= info[4]) {
        return;
    }
    let tiles = (tokens + ROWS - 1u) / ROWS;
    let pair = unit / tiles;                       // (image, head), head fastest
    let start = (unit % tiles) * ROWS;
    let step = 3u * heads * D;                     // from a token of qkv to the next
    let third = heads * D;                         // from q to k and from k to v, and from a token of do to the next
    let base = (pair / heads) * tokens * step + (pair % heads) * D;
    let place = (pair / heads) * tokens * third + (pair % heads) * D;
    let row = thread / LANES;
    let lane = thread % LANES;
    let owner = start + row;

    for (var e = thread; e < ROWS * WIDTH; e += THREADS) {
        let token = start + e / WIDTH;
        let d = e % WIDTH;
        var k = 0.0;
        var v = 0.0;
        if (token < tokens && d < D) {
            k = qkv[base + third + token * step + d];
            v = qkv[base + 2u * third + token * step + d];
        }
        keys[(e / WIDTH) * PITCH + d] = k;
        values[(e / WIDTH) * PITCH + d] = v;
    }

    var d_key: array<f32, PART>;
    var d_value: array<f32, PART>;
    for (var i = 0u; i < PART; i++) {
        d_key[i] = 0.0;
        d_value[i] = 0.0;
    }

    for (var first = 0u; first < tokens; first += QUERIES) {
        load_queries(base, step, first, tokens, thread);
        workgroupBarrier();
        var weight: array<f32, OWN>;               // s, then p, then ds
        for (var i = 0u; i < OWN; i++) {
            weight[i] = 0.0;
        }
        for (var d = 0u; d < D; d++) {
            let k = keys[row * PITCH + d];
            for (var i = 0u; i < OWN; i++) {
                weight[i] += k * tile[(lane + i * LANES) * PITCH + d];
            }
        }
        for (var i = 0u; i < OWN; i++) {
            let query = first + lane + i * LANES;
            var p = 0.0;
            if (query < tokens && owner < tokens) {
                p = exp(scale * weight[i] - lse[pair * tokens + query]);
            }
            weight[i] = p;
            weights[row * (QUERIES + 1u) + lane + i * LANES] = p;
        }
        workgroupBarrier();

        load_grads(place, third, first, tokens, thread);
        workgroupBarrier();
        var slope: array<f32, OWN>;
        for (var i = 0u; i < OWN; i++) {
            slope[i] = 0.0;
        }
        for (var d = 0u; d < D; d++) {
            let v = values[row * PITCH + d];
            for (var i = 0u; i < OWN; i++) {
                slope[i] += v * tile[(lane + i * LANES) * PITCH + d];
            }
        }
        for (var j = 0u; j < QUERIES; j++) {
            let p = weights[row * (QUERIES + 1u) + j];
            for (var i = 0u; i < PART; i++) {
                d_value[i] += p * tile[j * PITCH + lane + i * LANES];
            }
        }
        workgroupBarrier();

        load_queries(base, step, first, tokens, thread);
        for (var i = 0u; i < OWN; i++) {
            let query = first + lane + i * LANES;
            var ds = 0.0;
            if (query < tokens && owner < tokens) {
                ds = weight[i] * (slope[i] - delta[pair * tokens + query]);
            }
            weights[row * (QUERIES + 1u) + lane + i * LANES] = ds;
        }
        workgroupBarrier();
        for (var j = 0u; j < QUERIES; j++) {
            let ds = weights[row * (QUERIES + 1u) + j];
            for (var i = 0u; i < PART; i++) {
                d_key[i] += ds * tile[j * PITCH + lane + i * LANES];
            }
        }
        workgroupBarrier();
    }

    if (owner < tokens) {
        for (var i = 0u; i < PART; i++) {
            let d = lane + i * LANES;
            if (d < D) {
                d_qkv[base + third + owner * step + d] = scale * d_key[i];
                d_qkv[base + 2u * third + owner * step + d] = d_value[i];
            }
        }
    }
}
