// What the passes over attention maps share beside tile.wgsl: the two networks, and the scores, the probabilities and the
// difference of a tile. Joined to the text of the pass, which declares `student`, `teacher`, `statistics` and `info`.
//
// Tiles are of 32 rows, so a workgroup is one gang. Invocation (r, c) = (thread / QUADS, thread % QUADS) owns queries 4 r to
// 4 r + 3 and keys 4 c to 4 c + 3.

struct Network {
    source: u32,                              // 0, the student; 1, the teacher
    heads: u32,
    size: u32,                                // channels of a head
    scale: f32,
    level: u32,                               // first place of its log-sum-exps in a row of statistics
}

fn student_network() -> Network {
    return Network(0u, info[4], info[6], bitcast<f32>(info[8]), 0u);
}

fn teacher_network() -> Network {
    return Network(1u, info[10], info[12], bitcast<f32>(info[14]), 2u * info[4]);
}

fn element(source: u32, place: u32) -> f32 {
    if (source == 0u) {
        return student[place];
    }
    return teacher[place];
}

// Places in a row of statistics: student's log-sum-exps, the deltas, the teacher's log-sum-exps.
fn row_length() -> u32 {
    return 2u * info[4] + info[10];
}

// Part 0 (queries), 1 (keys) or 2 (values) of a head of an image.
fn rows_of(net: Network, image: u32, head: u32, part: u32, tokens: u32) -> Rows {
    return Rows(net.source, ((image * tokens * 3u + part) * net.heads + head) * net.size, 3u * net.heads * net.size);
}

// Scores of the own queries (columns of the matrix) with the own keys (its rows), of the tile at `query` and `key`.
fn scores(net: Network, image: u32, head: u32, query: u32, key: u32, tokens: u32, thread: u32) -> mat4x4<f32> {
    let queries = rows_of(net, image, head, 0u, tokens);
    let keys = rows_of(net, image, head, 1u, tokens);
    return products(queries, keys, net.size, query, key, tokens, thread) * net.scale;
}

// The place of an own query's row of statistics, or of the last token's where there is no such query.
fn row_of(image: u32, query: u32, i: u32, tokens: u32, thread: u32) -> u32 {
    return image * tokens + min(query + 4u * (thread / QUADS) + i, tokens - 1u);
}

// Probabilities from the log-sum-exps of the rows; zero past the last key.
fn probabilities(net: Network, image: u32, head: u32, query: u32, key: u32, tokens: u32, thread: u32) -> mat4x4<f32> {
    var p = scores(net, image, head, query, key, tokens, thread);
    let mask = present(key, tokens, thread);
    for (var i = 0u; i < 4u; i++) {
        let level = statistics[row_of(image, query, i, tokens, thread) * row_length() + net.level + head];
        p[i] = select(vec4(0.0), exp(p[i] - level), mask);
    }
    return p;
}

// The difference of the networks' means of the probabilities over heads.
fn difference(image: u32, query: u32, key: u32, tokens: u32, thread: u32) -> mat4x4<f32> {
    let pupil = student_network();
    let model = teacher_network();
    var a = mat4x4<f32>();
    for (var h = 0u; h < model.heads; h++) {
        a += probabilities(model, image, h, query, key, tokens, thread);
    }
    var b = mat4x4<f32>();
    for (var h = 0u; h < pupil.heads; h++) {
        b += probabilities(pupil, image, h, query, key, tokens, thread);
    }
    return b * (1.0 / f32(pupil.heads)) - a * (1.0 / f32(model.heads));
}
