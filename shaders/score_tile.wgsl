// What the passes over attention maps share: a tile of SIDE queries by SIDE keys of one head, scores and probabilities,
// BLOCK by BLOCK in the registers of each invocation. Joined to the text of the pass, which declares `student`, `teacher`,
// `statistics` and `info`.
//
// Owner of every sum. Invocation (r, c) = (thread / 8, thread % 8) owns queries 4 r to 4 r + 3 and keys 4 c to 4 c + 3 of the
// tile. A score is summed by its owner, over channels upwards.
//
// The channels come in slices, turned so that one read of workgroup memory gives four tokens: 16 multiply-adds for two
// reads. Loading a turned slice, neighbouring invocations take neighbouring channels of a token.

const SIDE: u32 = 32u;                        // queries, and keys, of a tile
const QUADS: u32 = SIDE / 4u;                 // invocations along a side
const THREADS: u32 = QUADS * QUADS;
const SLICE: u32 = 32u;                       // channels in workgroup memory at a time
const PITCH: u32 = QUADS + 1u;                // odd, so that neighbouring channels start in different banks

var<workgroup> queries: array<vec4<f32>, SLICE * PITCH>;     // at d * PITCH + i / 4, four tokens
var<workgroup> keys: array<vec4<f32>, SLICE * PITCH>;

struct Network {
    taught: bool,                             // the student
    heads: u32,
    size: u32,                                // channels of a head
    scale: f32,
    level: u32,                               // first place of its log-sum-exps in a row of statistics
}

fn student_network() -> Network {
    return Network(true, info[4], info[6], bitcast<f32>(info[8]), 0u);
}

fn teacher_network() -> Network {
    return Network(false, info[10], info[12], bitcast<f32>(info[14]), 2u * info[4]);
}

// Places in a row of statistics: student's log-sum-exps, the deltas, the teacher's log-sum-exps.
fn row_length() -> u32 {
    return 2u * info[4] + info[10];
}

// One channel of the four tokens from `first`, zero past the last.
fn quad(net: Network, channel: u32, first: u32, tokens: u32) -> vec4<f32> {
    var x = vec4<f32>();
    let step = 3u * net.heads * net.size;
    for (var i = 0u; i < 4u; i++) {
        if (first + i < tokens) {
            let place = channel + (first + i) * step;
            if (net.taught) {
                x[i] = student[place];
            } else {
                x[i] = teacher[place];
            }
        }
    }
    return x;
}

// Where part 0 (queries), 1 (keys) or 2 (values) of a head begins for token 0 of an image.
fn origin(net: Network, image: u32, head: u32, part: u32, tokens: u32) -> u32 {
    return ((image * tokens * 3u + part) * net.heads + head) * net.size;
}

fn load_queries(net: Network, base: u32, slice: u32, first: u32, tokens: u32, thread: u32) {
    for (var e = thread; e < SLICE * QUADS; e += THREADS) {
        let d = e % SLICE;
        var x = vec4<f32>();
        if (slice + d < net.size) {
            x = quad(net, base + slice + d, first + 4u * (e / SLICE), tokens);
        }
        queries[d * PITCH + e / SLICE] = x;
    }
}

fn load_keys(net: Network, base: u32, slice: u32, first: u32, tokens: u32, thread: u32) {
    for (var e = thread; e < SLICE * QUADS; e += THREADS) {
        let d = e % SLICE;
        var x = vec4<f32>();
        if (slice + d < net.size) {
            x = quad(net, base + slice + d, first + 4u * (e / SLICE), tokens);
        }
        keys[d * PITCH + e / SLICE] = x;
    }
}

// Scores of the own queries (columns of the matrix) with the own keys (its rows), of the tile at `query` and `key`.
fn scores(net: Network, image: u32, head: u32, query: u32, key: u32, tokens: u32, thread: u32) -> mat4x4<f32> {
    var s = mat4x4<f32>();
    for (var slice = 0u; slice < net.size; slice += SLICE) {
        workgroupBarrier();
        load_queries(net, origin(net, image, head, 0u, tokens), slice, query, tokens, thread);
        load_keys(net, origin(net, image, head, 1u, tokens), slice, key, tokens, thread);
        workgroupBarrier();
        for (var d = 0u; d < min(SLICE, net.size - slice); d++) {
            let q = queries[d * PITCH + thread / QUADS];
            let k = keys[d * PITCH + thread % QUADS];
            s[0] += q.x * k;
            s[1] += q.y * k;
            s[2] += q.z * k;
            s[3] += q.w * k;
        }
    }
    return s * net.scale;
}

// Which of the own keys are tokens.
fn present(key: u32, tokens: u32, thread: u32) -> vec4<bool> {
    let first = key + 4u * (thread % QUADS);
    return vec4(first, first + 1u, first + 2u, first + 3u) < vec4(tokens);
}

// The place of an own query's row of statistics, or of the last token's where there is no such query.
fn row_of(image: u32, query: u32, i: u32, tokens: u32, thread: u32) -> u32 {
    return image * tokens + min(query + 4u * (thread / QUADS) + i, tokens - 1u);
}
