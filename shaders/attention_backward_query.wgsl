// The gradient of attention's queries, for a tile of query rows, and the number delta of each row that the pass over
// the keys needs (Dao 2022, appendix B.2). Probabilities are computed again from lse; nothing of N x N is stored.
//
//   p[i,j]  = exp(scale * sum_d q[i,d] k[j,d] - lse[i])
//   dp[i,j] = sum_d do[i,d] v[j,d]                        delta[i] = sum_d do[i,d] o[i,d]
//   ds[i,j] = p[i,j] (dp[i,j] - delta[i])                 dq[i,d]  = scale * sum_j ds[i,j] k[j,d]
//
// Owner of every sum. A row belongs to LANES neighbouring invocations. p, dp and ds of key j are the lane j % LANES's,
// summed over d upwards; dq[i,d] is the lane d % LANES's, summed over j upwards. delta is summed by each lane over its own
// channels, then over lanes upwards. No other pass writes dq.
//
// Limits. Any number of tokens from 1; head size 1 to 128; ROWS * LANES at most 256; at most 16 KiB of workgroup memory.
// Elements of qkv below 2^31.
// Reads, in bytes: 4 B H N (3 D + 1) for q, o, do and lse and 8 B H N D ceil(N / ROWS) for k and v. Writes 4 B H N (D + 1).

@group(0) @binding(0) var<storage, {{ access }}> qkv: array<f32>;        // (B, N, 3, H, D)
@group(0) @binding(1) var<storage, {{ access }}> output: array<f32>;     // (B, N, H, D)
@group(0) @binding(2) var<storage, {{ access }}> lse: array<f32>;        // (B, H, N)
@group(0) @binding(3) var<storage, {{ access }}> d_output: array<f32>;   // (B, N, H, D)
@group(0) @binding(4) var<storage, read_write> d_qkv: array<f32>;        // (B, N, 3, H, D); the first third
@group(0) @binding(5) var<storage, read_write> delta: array<f32>;        // (B, H, N)
@group(0) @binding(6) var<storage, read> info: array<u32>;               // tokens, heads, groups, scale; two words each

const D: u32 = {{ head_size }}u;
const ROWS: u32 = {{ rows }}u;                // query rows of a workgroup
const KEYS: u32 = {{ columns }}u;             // keys of a tile
const LANES: u32 = {{ lanes }}u;              // invocations of a row
const THREADS: u32 = {{ threads }}u;          // ROWS * LANES
const PART: u32 = (D + LANES - 1u) / LANES;   // channels of a lane
const WIDTH: u32 = PART * LANES;              // channels of a row in workgroup memory, those past D zero
const PITCH: u32 = WIDTH + 1u;                // odd, so that neighbouring rows start in different banks
const OWN: u32 = KEYS / LANES;                // keys of a lane

var<workgroup> queries: array<f32, ROWS * PITCH>;
var<workgroup> grads: array<f32, ROWS * PITCH>;              // do
var<workgroup> tile: array<f32, KEYS * PITCH>;               // values, then keys
var<workgroup> slopes: array<f32, ROWS * (KEYS + 1u)>;       // ds
var<workgroup> parts: array<f32, THREADS>;                   // of delta

// Fills the tile with KEYS tokens from `first`; tokens past the last are zero.
fn load(base: u32, step: u32, first: u32, tokens: u32, thread: u32) {
    for (var e = thread; e < KEYS * WIDTH; e += THREADS) {
        let token = first + e / WIDTH;
        let d = e % WIDTH;
        var x = 0.0;
        if (token < tokens && d < D) {
            x = qkv[base + token * step + d];
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
    let third = heads * D;                         // from q to k and from k to v, and from a token of o to the next
    let base = (pair / heads) * tokens * step + (pair % heads) * D;
    let place = (pair / heads) * tokens * third + (pair % heads) * D;
    let row = thread / LANES;
    let lane = thread % LANES;
    let owner = start + row;

    for (var e = thread; e < ROWS * WIDTH; e += THREADS) {
        let token = start + e / WIDTH;
        let d = e % WIDTH;
        var q = 0.0;
        var g = 0.0;
        if (token < tokens && d < D) {
            q = qkv[base + token * step + d];
            g = d_output[place + token * third + d];
        }
        queries[(e / WIDTH) * PITCH + d] = q;
        grads[(e / WIDTH) * PITCH + d] = g;
    }
    workgroupBarrier();

    var level = 0.0;
    var dot = 0.0;
    if (owner < tokens) {
        level = lse[pair * tokens + owner];
        for (var d = lane; d < D; d += LANES) {
            dot += grads[row * PITCH + d] * output[place + owner * third + d];
        }
    }
    parts[thread] = dot;
    workgroupBarrier();
    dot = 0.0;
    for (var i = 0u; i < LANES; i++) {
        dot += parts[row * LANES + i];
    }

    var gradient: array<f32, PART>;
    for (var i = 0u; i < PART; i++) {
        gradient[i] = 0.0;
    }

    for (var first = 0u; first < tokens; first += KEYS) {
        load(base + 2u * third, step, first, tokens, thread);
        workgroupBarrier();
        var slope: array<f32, OWN>;
        for (var i = 0u; i < OWN; i++) {
            slope[i] = 0.0;
        }
        for (var d = 0u; d < D; d++) {
            let g = grads[row * PITCH + d];
            for (var i = 0u; i < OWN; i++) {
                slope[i] += g * tile[(lane + i * LANES) * PITCH + d];
            }
        }
        workgroupBarrier();

        load(base + third, step, first, tokens, thread);
        workgroupBarrier();
        var score: array<f32, OWN>;
        for (var i = 0u; i < OWN; i++) {
            score[i] = 0.0;
        }
        for (var d = 0u; d < D; d++) {
            let q = queries[row * PITCH + d];
            for (var i = 0u; i < OWN; i++) {
                score[i] += q * tile[(lane + i * LANES) * PITCH + d];
            }
        }
        for (var i = 0u; i < OWN; i++) {
            let j = lane + i * LANES;
            var ds = 0.0;
            if (first + j < tokens && owner < tokens) {
                ds = exp(scale * score[i] - level) * (slope[i] - dot);
            }
            slopes[row * (KEYS + 1u) + j] = ds;
        }
        workgroupBarrier();

        for (var j = 0u; j < KEYS; j++) {
            let ds = slopes[row * (KEYS + 1u) + j];
            for (var i = 0u; i < PART; i++) {
                gradient[i] += ds * tile[j * PITCH + lane + i * LANES];
            }
        }
        workgroupBarrier();
    }

    if (owner < tokens) {
        for (var i = 0u; i < PART; i++) {
            let d = lane + i * LANES;
            if (d < D) {
                d_qkv[base + owner * step + d] = scale * gradient[i];
            }
        }
        if (lane == 0u) {
            delta[pair * tokens + owner] = dot;
        }
    }
}
