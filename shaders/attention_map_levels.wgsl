// Log-sum-exps of the rows of two networks' attention, for a tile of query rows of one head: what the passes over the
// head-averaged maps need to compute a probability on its own.
//
//   s[i,j] = scale * sum_d q[i,d] k[j,d]        level[i] = log sum_j exp s[i,j]
//
// Owner of every sum. See tile.wgsl for s. An invocation sums its own four keys of every tile, over tiles upwards,
// scaled to the highest score it has seen; the first invocation of a row adds those sums, over invocations upwards.
//
// Limits. Any number of tokens from 1, any heads and head sizes; 64 invocations; 15.5 KiB of workgroup memory. Elements of
// each qkv below 2^31.
// Reads, in bytes: 8 B H N D ceil(N / 32) for each network. Writes 4 B N (H_S + H_T).

@group(0) @binding(0) var<storage, {{ access }}> student: array<f32>;        // (B, N, 3, H_S, D_S)
@group(0) @binding(1) var<storage, {{ access }}> teacher: array<f32>;        // (B, N, 3, H_T, D_T)
@group(0) @binding(2) var<storage, read_write> statistics: array<f32>;       // (B, N, 2 H_S + H_T)
@group(0) @binding(3) var<storage, read> info: array<u32>;                   // tokens, groups, heads, size, scale of each

// Stands for minus infinity, which WGSL cannot write: no peak is lower, and exp(LOWEST - m) is 0 for any m of use.
const LOWEST: f32 = -3.4028234e38;

var<workgroup> peaks: array<vec4<f32>, THREADS>;
var<workgroup> sums: array<vec4<f32>, THREADS>;

@compute @workgroup_size({{ threads }})
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let tokens = info[0];
    let unit = group.x + group.y * groups.x;
    if (unit >= info[2]) {
        return;
    }
    let tiles = (tokens + SIDE - 1u) / SIDE;
    let both = info[4] + info[10];
    let image = unit / (tiles * both);
    var head = (unit / tiles) % both;                // the student's heads, then the teacher's
    let query = (unit % tiles) * SIDE;
    var net = student_network();
    if (head >= net.heads) {
        head -= net.heads;
        net = teacher_network();
    }

    var peak = vec4(LOWEST);
    var sum = vec4(0.0);
    for (var key = 0u; key < tokens; key += SIDE) {
        var s = scores(net, image, head, query, key, tokens, thread);
        let mask = present(key, tokens, thread);
        for (var i = 0u; i < 4u; i++) {
            let seen = select(vec4(LOWEST), s[i], mask);
            let top = max(max(max(seen.x, seen.y), max(seen.z, seen.w)), peak[i]);
            let weights = select(vec4(0.0), exp(s[i] - top), mask);
            sum[i] = sum[i] * exp(peak[i] - top) + (weights.x + weights.y + weights.z + weights.w);
            peak[i] = top;
        }
    }
    peaks[thread] = peak;
    sums[thread] = sum;
    workgroupBarrier();

    if (thread % QUADS == 0u) {
        for (var i = 1u; i < QUADS; i++) {
            peak = max(peak, peaks[thread + i]);
        }
        sum = vec4(0.0);
        for (var i = 0u; i < QUADS; i++) {
            sum += sums[thread + i] * exp(peaks[thread + i] - peak);
        }
        let level = peak + log(sum);
        for (var i = 0u; i < 4u; i++) {
            let token = query + 4u * (thread / QUADS) + i;
            if (token < tokens) {
                statistics[(image * tokens + token) * row_length() + net.level + head] = level[i];
            }
        }
    }
}
