// Attention of one head for a tile of query rows, in one pass over the keys (Milakov and Gimelshein 2018 for the running
// softmax; Dao 2022 for the tiling).
//
//   s[i,j] = scale * sum_d q[i,d] k[j,d]        lse[i] = log sum_j exp s[i,j]
//   o[i,d] = sum_j exp(s[i,j] - lse[i]) v[j,d]
//
// The keys come in tiles. With the peak m and the sum z of the keys so far, a tile of a higher peak m' scales what was
// summed by exp(m - m'); at the end o is divided by z and lse = m + log z.
//
// Owner of every sum. A row belongs to LANES neighbouring invocations. s[i,j] is summed by the lane j % LANES, over d
// upwards; o[i,d] by the lane d % LANES, over j upwards; z[i] by every lane of the row alike, over j upwards. The peak is
// a maximum, which no order changes. So the same inputs give the same bits.
//
// Limits. Any number of tokens from 1; head size 1 to 128; ROWS * LANES at most 256; at most 16 KiB of workgroup memory.
// Elements of qkv below 2^31.
// Reads, in bytes: 4 B H N D for q and 8 B H N D ceil(N / ROWS) for k and v. Writes 4 B H N (D + 1).

@group(0) @binding(0) var<storage, {{ access }}> qkv: array<f32>;        // (B, N, 3, H, D)
@group(0) @binding(1) var<storage, read_write> output: array<f32>;       // (B, N, H, D)
@group(0) @binding(2) var<storage, read_write> lse: array<f32>;          // (B, H, N)
@group(0) @binding(3) var<storage, read> info: array<u32>;               // tokens, heads, groups, scale; two words each

const D: u32 = {{ head_size }}u;
const ROWS: u32 = {{ rows }}u;                // query rows of a workgroup
const KEYS: u32 = {{ columns }}u;             // keys of a tile
const LANES: u32 = {{ lanes }}u;              // invocations of a row
const THREADS: u32 = {{ threads }}u;          // ROWS * LANES
const PART: u32 = (D + LANES - 1u) / LANES;   // channels of a lane
const WIDTH: u32 = PART * LANES;              // channels of a row in workgroup memory, those past D zero
const PITCH: u32 = WIDTH + 1u;                // odd, so that neighbouring rows start in different banks
const OWN: u32 = KEYS / LANES;                // keys of a lane
// Stands for minus infinity, which WGSL cannot write: no peak is lower, and exp(LOWEST - m) is 0 for any m of use.
const LOWEST: f32 = -3.4028234e38;

var<workgroup> queries: array<f32, ROWS * PITCH>;            // scaled
var<workgroup> tile: array<f32, KEYS * PITCH>;               // keys, then values
var<workgroup> weights: array<f32, ROWS * (KEYS + 1u)>;
var<workgroup> peaks: array<f32, THREADS>;

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
    let step = 3u * heads * D;                     // from a token to the next
    let third = heads * D;                         // from q to k and from k to v
    let base = (pair / heads) * tokens * step + (pair % heads) * D;
    let row = thread / LANES;
    let lane = thread % LANES;

    for (var e = thread; e < ROWS * WIDTH; e += THREADS) {
        let token = start + e / WIDTH;
        let d = e % WIDTH;
        var x = 0.0;
        if (token < tokens && d < D) {
            x = scale * qkv[base + token * step + d];
        }
        queries[(e / WIDTH) * PITCH + d] = x;
    }

    var peak = LOWEST;
    var sum = 0.0;
    var mix: array<f32, PART>;
    for (var i = 0u; i < PART; i++) {
        mix[i] = 0.0;
    }

    for (var first = 0u; first < tokens; first += KEYS) {
        load(base + third, step, first, tokens, thread);
        workgroupBarrier();

        var score: array<f32, OWN>;
        for (var i = 0u; i < OWN; i++) {
            score[i] = 0.0;
        }
        for (var d = 0u; d < D; d++) {
            let x = queries[row * PITCH + d];
            for (var i = 0u; i < OWN; i++) {
                score[i] += x * tile[(lane + i * LANES) * PITCH + d];
            }
        }
        var top = LOWEST;
        for (var i = 0u; i < OWN; i++) {
            if (first + lane + i * LANES < tokens) {
                top = max(top, score[i]);
            }
        }
        peaks[thread] = top;
        workgroupBarrier();

        load(base + 2u * third, step, first, tokens, thread);
        top = peak;
        for (var i = 0u; i < LANES; i++) {
            top = max(top, peaks[row * LANES + i]);
        }
        for (var i = 0u; i < OWN; i++) {
            let j = lane + i * LANES;
            var weight = 0.0;
            if (first + j < tokens) {
                weight = exp(score[i] - top);
            }
            weights[row * (KEYS + 1u) + j] = weight;
        }
        let decay = exp(peak - top);
        peak = top;
        sum *= decay;
        for (var i = 0u; i < PART; i++) {
            mix[i] *= decay;
        }
        workgroupBarrier();

        for (var j = 0u; j < KEYS; j++) {
            let weight = weights[row * (KEYS + 1u) + j];
            sum += weight;
            for (var i = 0u; i < PART; i++) {
                mix[i] += weight * tile[j * PITCH + lane + i * LANES];
            }
        }
        workgroupBarrier();
    }

    let token = start + row;
    if (token < tokens) {
        let place = (((pair / heads) * tokens + token) * heads + pair % heads) * D;
        for (var i = 0u; i < PART; i++) {
            let d = lane + i * LANES;
            if (d < D) {
                output[place + d] = mix[i] / sum;
            }
        }
        if (lane == 0u) {
            lse[pair * tokens + token] = peak + log(sum);
        }
    }
}
