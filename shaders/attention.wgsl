// Attention of one head for a tile of query rows, in one pass over the keys. The running softmax is that of Milakov and
// Gimelshein 2018, the tiling that of Dao 2022.
//
//   s[i,j] = scale * sum_d q[i,d] k[j,d]        lse[i] = log sum_j exp s[i,j]
//   o[i,d] = sum_j exp(s[i,j] - lse[i]) v[j,d]
//
// The keys come in tiles. m is the maximum and z the sum over the keys so far. If a tile has a higher maximum m', the sums so far
// are multiplied by exp(m - m'). At the end o is divided by z, and lse = m + log z.
//
// Owner of every sum. See tile.wgsl for s. Invocation (i / 4, d % QUADS) of a gang sums o[i,d] over j upwards. For z[i], each
// invocation of the row sums over its own keys, over tiles upwards. At the end row_reduce.wgsl sums over the invocations. It also
// finds the maximum, which does not depend on the order. So the same inputs give the same bits.
//
// Limits. Any number of tokens from 1; head size 1 to 128; 64 invocations; at most 16 KiB of workgroup memory. Fewer than 2^31
// elements in qkv. Reads, in bytes: 12 B H N D ceil(N / SIDE). Writes 4 B H N (D + 1). With f16 for qkv and o it is half of that,
// and every sum is f32.

//@ if half
enable f16;

alias Element = f16;
//@ else
alias Element = f32;
//@ end

@group(0) @binding(0) var<storage, {{ access }}> qkv: array<Element>;    // (B, N, 3, H, D)
@group(0) @binding(1) var<storage, read_write> output: array<Element>;   // (B, N, H, D)
@group(0) @binding(2) var<storage, read_write> lse: array<f32>;          // (B, H, N)
@group(0) @binding(3) var<storage, read> info: array<u32>;               // tokens, heads, tiles in all, scale; two words each

// In place of minus infinity, which WGSL has no literal for. No maximum is lower, and exp(LOWEST - m) is 0 for any useful m.
const LOWEST: f32 = -3.4028234e38;

alias Number = vec4<f32>;                     // of the four rows of an invocation
const LANES: u32 = QUADS;

fn element(source: u32, place: u32) -> f32 {
    return f32(qkv[place]);
}

fn work(unit: u32, thread: u32, span: u32) {
    let sizes = read_sizes();
    let at = place_of(unit, thread);
    let image = at.pair / sizes.heads;
    let head = at.pair % sizes.heads;
    let queries = part_of_qkv(0u, image, head);
    let keys = part_of_qkv(1u, image, head);
    let values = part_of_qkv(2u, image, head);

    var peak = vec4(LOWEST);
    var sum = vec4(0.0);
    var mix: array<mat4x4<f32>, SLICES>;
    for (var i = 0u; i < SLICES; i++) {
        mix[i] = mat4x4<f32>();
    }

    for (var first = 0u; first < sizes.tokens; first += SIDE) {
        var s = products(queries, keys, D, at.start, first, sizes.tokens, thread);
        let mask = present(first, sizes.tokens, thread);
        var top = vec4(LOWEST);
        for (var i = 0u; i < 4u; i++) {
            s[i] *= sizes.scale;
            let seen = select(vec4(LOWEST), s[i], mask);
            top[i] = max(max(seen.x, seen.y), max(seen.z, seen.w));
        }
        top = max(peak, highest_of_row(top, thread, span));
        let decay = exp(peak - top);
        peak = top;
        for (var i = 0u; i < 4u; i++) {
            s[i] = select(vec4(0.0), exp(s[i] - top[i]), mask);
            sum[i] = sum[i] * decay[i] + (s[i].x + s[i].y + s[i].z + s[i].w);
        }
        put(s, thread);
        for (var slice = 0u; slice < SLICES; slice++) {
            workgroupBarrier();
            load(RIGHT, values, D, slice * SLICE, first, sizes.tokens, thread);
            workgroupBarrier();
            let more = combine(RIGHT, thread);
            for (var i = 0u; i < 4u; i++) {
                mix[slice][i] = mix[slice][i] * decay[i] + more[i];
            }
        }
    }

    workgroupBarrier();
    sum = over_row(sum, thread, span);
    for (var i = 0u; i < 4u; i++) {
        let token = at.start + 4u * at.r + i;
        if (token < sizes.tokens && at.kept) {
            let place = ((image * sizes.tokens + token) * sizes.heads + head) * D;
            for (var slice = 0u; slice < SLICES; slice++) {
                for (var k = 0u; k < 4u; k++) {
                    let d = slice * SLICE + at.c + k * QUADS;
                    if (d < D) {
                        output[place + d] = Element(mix[slice][i][k] / sum[i]);
                    }
                }
            }
            if (at.c == 0u) {
                lse[at.pair * sizes.tokens + token] = peak[i] + log(sum[i]);
            }
        }
    }
}
